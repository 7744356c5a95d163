//! Logs: to stderr, a line each, filtered as by `RUST_LOG`.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::Exit;
use crate::console::LogLines;

/// Starts logging to stderr; once a process.
///
/// # Errors
/// When the filter makes no sense.
pub fn start(filter: &str) -> Result<(), Exit> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|e| Exit::usage(format_args!("--log {filter:?}: {e}; try info, or warn,stream_core=debug")))?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .with_writer(LogLines::new);
    // A second start, in a test, keeps the first.
    _ = subscriber.try_init();
    Ok(())
}
