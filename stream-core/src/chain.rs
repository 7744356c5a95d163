//! Errors in words, with their causes.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// An error and its causes in one line, the outermost first.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text and the causes come from code of the user's, too.
        match catch_unwind(AssertUnwindSafe(|| joined(self.0))) {
            Ok(text) => f.write_str(&text),
            Err(_) => f.write_str("an error that panicked when it was to be shown"),
        }
    }
}

fn joined(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    for cause in causes(error).skip(1).map(ToString::to_string) {
        // Some errors have the text of their cause in their own, after a colon or alone.
        let before = text.strip_suffix(cause.as_str());
        if !before.is_some_and(|before| before.is_empty() || before.ends_with(": ") || cause.is_empty()) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// An error and its causes, the outermost first.
pub(crate) fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

/// The outermost error of a type among an error and its causes.
pub(crate) fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    causes(error).find_map(|error| error.downcast_ref())
}

/// The message of a panic.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

/// `Debug` as the error with its causes, in words: the form in which `main` prints an error that it returns.
macro_rules! debug_as_chain {
    ($($error:ty),+) => {$(
        impl std::fmt::Debug for $error {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&$crate::chain::Chain(self), f)
            }
        }
    )+};
}
pub(crate) use debug_as_chain;
