//! How long a store's log file was last, in a file beside it: a log that was cut since (an interrupted copy, a repaired
//! disk) lacks pages, and sled would not say so.
//!
//! sled makes its file shorter when the last segments are free, on a thread of its pool. Therefore the length is recorded at
//! each checkpoint and once more when sled has closed the file. When a process dies after sled has cut the file and before the
//! next record, a sound store is thrown away, which costs a restore and loses nothing. For the same reason the record need
//! not be on the disk at once.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// How often, and how long between, it is asked whether sled has closed the file.
const CLOSED_TRIES: u32 = 100;
const CLOSED_PAUSE: Duration = Duration::from_millis(2);

/// The record of an open store.
pub(super) struct LogLength {
    log: File,
    record: PathBuf,
    recorded: Mutex<u64>,
}

impl LogLength {
    /// Goes on with the record of a store that sled has opened.
    pub(super) fn open(store: &Path) -> io::Result<Self> {
        let log = File::open(store.join("db"))?;
        Ok(Self { log, record: record_of(store), recorded: Mutex::new(recorded(store)?) })
    }

    /// Records how long the log is now.
    pub(super) fn record(&self) -> io::Result<()> {
        let length = self.log.metadata()?.len();
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        if *recorded != length {
            fs::write(&self.record, length.to_string())?;
            *recorded = length;
        }
        Ok(())
    }

    /// Waits until sled has closed the file, for a little while.
    fn closed(&self) {
        for _ in 0..CLOSED_TRIES {
            if self.log.try_lock().is_ok() {
                return;
            }
            thread::sleep(CLOSED_PAUSE);
        }
    }
}

impl Drop for LogLength {
    /// To be dropped after the database.
    fn drop(&mut self) {
        // A store that is being removed has no record any more.
        if !self.record.exists() {
            return;
        }
        self.closed();
        if let Err(error) = self.record() {
            tracing::debug!(record = %self.record.display(), %error, "the length of a closed log could not be recorded");
        }
    }
}

/// The recorded length; 0 when there is none, or one that was half written.
pub(super) fn recorded(store: &Path) -> io::Result<u64> {
    match fs::read_to_string(record_of(store)) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => Ok(0),
        other => Ok(other?.parse().unwrap_or(0)),
    }
}

fn record_of(store: &Path) -> PathBuf {
    store.join("log-length")
}
