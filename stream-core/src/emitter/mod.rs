//! Emitters: writing to a topic from outside of a processor.
//!
//! ```no_run
//! # use stream_core::{codec::Text, emitter::Emitter, log::embedded::InMemory};
//! # async fn f() -> Result<(), Box<dyn std::error::Error>> {
//! # let log = InMemory::new();
//! let words = Emitter::new("words", Text, log).await?;
//! let ack = words.emit("a-key", "hello").await?; // taken: it goes out from here on
//! ack.await?; // acknowledged
//! words.emit("a-key", "bye").await?; // its failure would be reported by flush() or close()
//! words.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Delivery is at-least-once from the caller's point of view: a record that failed may still have been written (its
//! acknowledgement was lost), and one that is emitted again is written twice. Records of one key that are emitted one
//! after the other are written in that order.
//!
//! Who owns what: callers append to a queue; one task, the sender, takes batches out of it and owns the producer.

mod ack;
mod builder;
mod error;
mod queue;
mod sender;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

pub use self::ack::Ack;
pub use self::builder::EmitterBuilder;
pub use self::error::EmitError;
use self::queue::Queue;
use crate::codec::{Codec, ValueOf};
use crate::context::Emit;
use crate::key::Key;
use crate::log::LogHandle;

/// Writes values of `M` to a topic. Clones are the same emitter.
///
/// Dropping the last clone does not lose what was taken: it goes out as long as the runtime lives, and a warning is
/// logged for what fails. [`close`](Self::close) waits for it and says so.
///
/// ```
/// use stream_core::context::Emit;
/// use stream_core::prelude::*;
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
/// # runtime.block_on(async {
/// let words = Emitter::builder("words", Text, InMemory::new()).create(4).open().await?;
/// words.emit("apple", "red").await?; // goes out from here on
/// words.emit("apple", "green").await?.await?; // and is acknowledged
/// words.emit_acknowledged("pear", format!("{} words", 2)).await?; // the same
/// words.emit_with("pear", "old", Emit::new().timestamp(0)).await?;
/// words.emit_tombstone("apple").await?;
/// let acknowledged = words.try_emit("plum", "blue")?; // never waits for room
/// acknowledged.await?;
/// words.flush().await?; // says what failed, of the records that nobody awaited
/// println!("wrote to {}", words.topic());
/// words.close().await
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Emitter<M> {
    handle: Arc<Handle>,
    codec: Arc<dyn Codec<M>>,
}

/// The part of an emitter that its clones share.
struct Handle {
    queue: Arc<Queue>,
    /// Resolves once everything is done; `None` if somebody awaits it.
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.close(false);
    }
}

impl<M: 'static> Emitter<M> {
    /// Opens an emitter with the defaults.
    ///
    /// # Errors
    /// When the topic does not exist, or the log can't be reached.
    pub async fn new(topic: impl Into<Arc<str>>, codec: impl Codec<M>, log: LogHandle) -> Result<Self, EmitError> {
        Self::builder(topic, codec, log).open().await
    }

    /// An emitter to be set up.
    pub fn builder(topic: impl Into<Arc<str>>, codec: impl Codec<M>, log: LogHandle) -> EmitterBuilder<M> {
        EmitterBuilder::new(topic.into(), Arc::new(codec), log)
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        self.handle.queue.topic()
    }

    /// Takes a record, once there is room. From then on it goes out; the [`Ack`] resolves with the outcome.
    ///
    /// # Errors
    /// When the value can't be encoded or is larger than the topic takes, or the emitter is closed. Then nothing was
    /// taken.
    pub async fn emit(&self, key: impl Key, value: impl ValueOf<M>) -> Result<Ack, EmitError> {
        self.emit_with(key, value, Emit::default()).await
    }

    /// Takes a record with headers, a time or a partition of the caller's. Without a time it gets the present.
    ///
    /// # Errors
    /// As [`emit`](Self::emit).
    pub async fn emit_with(&self, key: impl Key, value: impl ValueOf<M>, with: Emit<'_>) -> Result<Ack, EmitError> {
        self.with_room(|| self.push(key.bytes().as_deref(), Some(&value), &with)).await
    }

    /// Takes a record with a null value, which is a tombstone on a compacted topic.
    ///
    /// # Errors
    /// As [`emit`](Self::emit).
    pub async fn emit_tombstone(&self, key: impl Key) -> Result<Ack, EmitError> {
        self.with_room(|| self.push(key.bytes().as_deref(), None::<&M>, &Emit::default())).await
    }

    /// Takes a record and waits for its acknowledgement.
    ///
    /// # Errors
    /// As [`emit`](Self::emit), or when it was not written.
    pub async fn emit_acknowledged(&self, key: impl Key, value: impl ValueOf<M>) -> Result<(), EmitError> {
        self.emit(key, value).await?.await
    }

    /// Takes a record if there is room, without waiting.
    ///
    /// # Errors
    /// As [`emit`](Self::emit), and [`EmitError::Full`] if there is no room.
    pub fn try_emit(&self, key: impl Key, value: impl ValueOf<M>) -> Result<Ack, EmitError> {
        self.push(key.bytes().as_deref(), Some(&value), &Emit::default())
    }

    /// Takes a record if there is room, without waiting; with `None`, a null value.
    ///
    /// # Errors
    /// As [`try_emit`](Self::try_emit).
    #[allow(clippy::needless_pass_by_value, reason = "keys are references already")]
    pub fn try_emit_with(&self, key: impl Key, value: Option<&M>, with: Emit<'_>) -> Result<Ack, EmitError> {
        self.push(key.bytes().as_deref(), value, &with)
    }

    /// Resolves once everything taken before the call is written or failed.
    ///
    /// # Errors
    /// [`EmitError::Unacknowledged`] for failures, since the last call, of records whose [`Ack`] nobody awaited.
    pub async fn flush(&self) -> Result<(), EmitError> {
        self.handle.queue.flush().await
    }

    /// Flushes and closes. Emits by other clones are [`EmitError::Closed`] from now on.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub async fn close(self) -> Result<(), EmitError> {
        self.handle.queue.close(true);
        let ended = self.handle.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ended) = ended {
            // An error means the same: the sender has ended.
            _ = ended.await;
        }
        self.handle.queue.flush().await
    }

    fn push(&self, key: Option<&[u8]>, value: Option<&impl ValueOf<M>>, with: &Emit<'_>) -> Result<Ack, EmitError> {
        let value = value.filter(|value| !ValueOf::is_null_by(*value, &*self.codec));
        let encode = value.map(|value| |out: &mut Vec<u8>| value.encode_by(&*self.codec, out));
        self.handle.queue.push(key, with, encode)
    }

    async fn with_room(&self, take: impl Fn() -> Result<Ack, EmitError>) -> Result<Ack, EmitError> {
        loop {
            // Before the attempt, so that room made right after it is not missed.
            let room = self.handle.queue.room.notified();
            match take() {
                Err(EmitError::Full { .. }) => room.await,
                taken => return taken,
            }
        }
    }
}

impl<M> Clone for Emitter<M> {
    fn clone(&self) -> Self {
        Self { handle: Arc::clone(&self.handle), codec: Arc::clone(&self.codec) }
    }
}

impl<M> fmt::Debug for Emitter<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Emitter({})", self.handle.queue.topic())
    }
}
