//! The terminal: output that appears above a prompt instead of within what is being typed.
//!
//! Invariant: while a prompt is open, everything goes through its printer; the prompt's thread alone writes to the
//! terminal then. A terminal that was changed for line editing is put back by [`restore`], however the binary ends.

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustyline::ExternalPrinter;

/// What prints above the prompt, if there is one.
static PRINTER: Mutex<Option<Box<dyn ExternalPrinter + Send>>> = Mutex::new(None);

#[cfg(unix)]
static TERMINAL: Mutex<Option<nix::sys::termios::Termios>> = Mutex::new(None);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Prints a line on stdout, above the prompt if one is open.
pub fn say(line: impl std::fmt::Display) {
    let text = format!("{line}\n");
    if print_above(&text) {
        return;
    }
    // Who reads us may be gone, as `head` when it has enough; that is no reason to fail.
    _ = io::stdout().lock().write_all(text.as_bytes());
}

/// Prints above an open prompt; says whether there was one.
fn print_above(text: &str) -> bool {
    let mut printer = lock(&PRINTER);
    printer.as_mut().is_some_and(|p| p.print(text.to_owned()).is_ok())
}

/// A line editor is about to change the terminal: remembers how it was.
pub(crate) fn remember() {
    #[cfg(unix)]
    {
        *lock(&TERMINAL) = nix::sys::termios::tcgetattr(io::stdin()).ok();
    }
}

/// From now on output goes through a prompt's printer.
pub(crate) fn print_through(printer: Box<dyn ExternalPrinter + Send>) {
    *lock(&PRINTER) = Some(printer);
}

/// Puts the terminal back as it was. Harmless when nothing was changed.
pub(crate) fn restore() {
    let had_prompt = lock(&PRINTER).take().is_some();
    #[cfg(unix)]
    if let Some(was) = lock(&TERMINAL).take() {
        use nix::sys::termios::{SetArg, tcsetattr};
        _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &was);
        if had_prompt {
            // The prompt's line stays as it is; what follows begins on its own.
            _ = io::stdout().lock().write_all(b"\r\x1b[K");
        }
    }
    #[cfg(not(unix))]
    let _ = had_prompt;
    _ = io::stdout().flush();
}

/// Where logs go: stderr, or above the prompt.
pub(crate) struct LogLines(Vec<u8>);

impl LogLines {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }
}

impl Write for LogLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogLines {
    fn drop(&mut self) {
        if !print_above(&String::from_utf8_lossy(&self.0)) {
            _ = io::stderr().lock().write_all(&self.0);
        }
    }
}
