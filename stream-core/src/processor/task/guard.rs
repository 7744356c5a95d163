//! Panics of callbacks, as errors.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::group::{CallbackError, CallbackResult, Failure};

/// Calls a callback; a panic is an error too (semantics D6).
pub(super) fn guarded(call: impl FnOnce() -> CallbackResult) -> CallbackResult {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| Err(panicked(&panic)))
}

pub(super) fn panicked(panic: &Box<dyn Any + Send>) -> CallbackError {
    CallbackError::of(Failure::Panic(panic_text(&**panic)))
}

/// The message of a panic.
pub(in crate::processor) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
