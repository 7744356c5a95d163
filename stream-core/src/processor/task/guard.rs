//! Panics of callbacks, as errors.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::chain::panic_text;
use crate::group::{CallbackError, CallbackResult, Failure};

/// Calls a callback; a panic is an error too (semantics D6).
pub(super) fn guarded(call: impl FnOnce() -> CallbackResult) -> CallbackResult {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| Err(panicked(&panic)))
}

pub(super) fn panicked(panic: &Box<dyn Any + Send>) -> CallbackError {
    CallbackError::of(Failure::Panic(panic_text(&**panic)))
}
