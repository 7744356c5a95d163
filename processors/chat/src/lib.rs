//! Chat: messages taken over HTTP, grouped by their sender, kept as a history, and shown as they come.
//!
//! ```text
//! chat-api ─► chat_messages ─┬─► chat-aggregator ─► chat_messages_grouped ─► chat-api: live feed
//!     │                      └─► chat-history ────► chat_history ──────────► chat-api: pages
//!     └─────► chats ───────────────────────────────────────────────────────► chat-api: who may read
//! ```
//!
//! | binary | what it does |
//! |---|---|
//! | `chat-api` | accounts, chats, messages, history and the live feed over HTTP; it runs the group `chat-history` as well |
//! | `chat-aggregator` | groups what one user writes to one chat: ten messages, or those before a gap of three seconds |
//! | `chat-topics` | makes and deletes the topics |
//! | `demo-chat` | all of it in one process, on the embedded log, with a page to chat on |
//!
//! The binaries are thin; what they do is here, one concern a module: [`message`] (what a message and a group are),
//! [`aggregator`] and [`open`] (which messages are a group), [`room`] (what a chat is), [`history`], [`feed`],
//! [`accounts`], [`token`], [`time_id`], [`api`], [`topics`] (names).

// Library code meets bad data with an error, never with a panic.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

pub mod accounts;
pub mod aggregator;
pub mod api;
pub mod feed;
pub mod history;
pub mod message;
pub mod open;
pub mod room;
pub mod time_id;
pub mod token;
pub mod topics;

pub use self::message::{Message, MessageGroup};
pub use self::room::Room;
