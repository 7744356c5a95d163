//! What the processors' binaries share, so that each is only its own logic:
//!
//! - [`CommonArgs`]: the flags that all of them take, and what follows from them: the connection, a processor's options.
//! - [`run`] and [`Exit`]: how a binary starts, fails and ends.
//! - [`Prompt`] and [`say`]: lines typed by somebody or read from a pipe, and output that does not disturb them.
//! - [`topics`]: making and deleting a system's topics.
//! - [`demo`]: a system in one process.
//! - `http`: answers and errors in JSON, and a server's life.
//! - `postgres`: a database.
//! - `testing`: what the systems' tests share; not in a shipped binary.
//!
//! This crate must never know any of the systems.

// Library code meets bad data with an error, never with a panic.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

mod args;
mod connect;
mod console;
pub mod demo;
mod exit;
#[cfg(feature = "http")]
pub mod http;
mod logging;
#[cfg(feature = "postgres")]
pub mod postgres;
mod prompt;
#[cfg(feature = "testing")]
pub mod testing;
pub mod topics;

pub use self::args::{
    CommonArgs, GuaranteeArg, KafkaArgs, LostPositionArg, Mechanism, PROCESSING_FLAGS, PositionMismatchArg,
    ProcessingArgs, REGISTRY_FLAGS, TOPIC_FLAGS, TopicArgs, parse,
};
pub use self::console::say;
pub use self::exit::{Exit, run};
pub use self::logging::start as start_logging;
pub use self::prompt::{Line, Prompt};
