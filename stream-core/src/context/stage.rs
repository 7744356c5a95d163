//! What one record has done so far, and has not been released.

use crate::group::handler::CodecOf;
use crate::log::ProduceBatch;
use crate::store::StoreError;

/// What a callback did with its key's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Write {
    #[default]
    None,
    Set,
    Delete,
}

/// What kept a callback from getting a value, through no fault of its record's.
#[derive(Clone, Debug)]
pub(crate) enum Obstacle {
    /// A codec wants this to be loaded.
    Load(CodecOf, u32),
    /// A lookup is being restored.
    Lookup(usize),
    /// A lookup has ended.
    LookupEnded(usize, String),
    /// The store failed.
    Store(StoreError),
}

/// The staged effects of one record. Reused from record to record, so that it allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Stage {
    /// Emits. While records are processed one by one this is the task's outbox itself, cut back on an error.
    pub(crate) out: ProduceBatch,
    /// What becomes of the key's value.
    pub(crate) write: Write,
    /// The value, for [`Write::Set`].
    pub(crate) value: Vec<u8>,
    /// Scratch for encoding.
    pub(crate) spare: Vec<u8>,
    /// The slot of a record that deferred work or awaits.
    pub(crate) slot: Option<u64>,
    /// Number of deferred works still open.
    pub(crate) deferred: u32,
    /// What the callback met with.
    pub(crate) obstacle: Option<Obstacle>,
}

impl Stage {
    /// Forgets everything but the emits.
    pub(crate) fn reset(&mut self) {
        self.write = Write::None;
        self.slot = None;
        self.deferred = 0;
        self.obstacle = None;
    }

    /// The value that the table gets: `None` for no write, `Some(None)` for a deletion.
    pub(crate) fn written(&self) -> Option<Option<&[u8]>> {
        match self.write {
            Write::None => None,
            Write::Delete => Some(None),
            Write::Set => Some(Some(&self.value)),
        }
    }
}
