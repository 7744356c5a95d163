//! How a binary starts, fails and ends: one runtime, one line on stderr, one exit code.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use crate::console;

/// Why a binary ends without success. Any error turns into one by `?`, with exit code 1.
#[derive(Debug)]
pub struct Exit {
    code: u8,
    message: String,
}

impl Exit {
    /// It was called wrongly: exit code 2, as for a flag that does not exist.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self { code: 2, message: message.to_string() }
    }

    /// It failed: exit code 1.
    pub fn failed(message: impl fmt::Display) -> Self {
        Self { code: 1, message: message.to_string() }
    }
}

impl<E: Error> From<E> for Exit {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            message.push_str(": ");
            message.push_str(&error.to_string());
            source = error.source();
        }
        Self { code: 1, message }
    }
}

/// Runs a binary's future to its end and turns it into an exit code. An error is printed on stderr.
pub fn run(main: impl Future<Output = Result<(), Exit>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return end(Err(Exit::failed(format_args!("the runtime can't be started: {error}")))),
    };
    end(runtime.block_on(main))
}

fn end(result: Result<(), Exit>) -> ExitCode {
    // First, so that the message's lines begin where lines begin.
    console::restore();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => {
            eprintln!("error: {}", exit.message);
            ExitCode::from(exit.code)
        }
    }
}
