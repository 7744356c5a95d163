//! How long a store's log file was last, in a file beside it: a log that was cut since (an interrupted copy, a repaired
//! disk) lacks pages, and sled would not say so.
//!
//! sled makes its file shorter when the last segments are free, on a thread of its pool. Therefore the length is recorded at
//! each checkpoint, and lowered when sled has closed the file; if it is not known whether sled has, there is no record. When a
//! process dies after sled has cut the file and before the next record, a sound store is thrown away, which costs a restore and
//! loses nothing. For the same reason the record need not be on the disk at once, and one that can't be written is no error.
//!
//! Must never: leave a length that is larger than the file's.

use std::fs::{self, File, TryLockError};
use std::io;
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
        // Some network file systems lock only files that are open for writing.
        let log = File::options().read(true).write(true).open(store.join("db"))?;
        Ok(Self { log, record: record_of(store), recorded: Mutex::new(recorded(store)) })
    }

    /// Records how long the log is now.
    pub(super) fn record(&self) {
        let Ok(log) = self.log.metadata() else { return self.write(0) };
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        if *recorded != log.len() {
            self.write(log.len());
            *recorded = log.len();
        }
    }

    fn write(&self, length: u64) {
        let written = if length > 0 { fs::write(&self.record, length.to_string()) } else { Ok(()) };
        if let Err(error) = &written {
            tracing::debug!(record = %self.record.display(), %error, "the length of a store's log can't be recorded");
        }
        if length == 0 || written.is_err() {
            // One that is not there is as good.
            let _ = fs::remove_file(&self.record);
        }
    }

    /// Waits until sled has closed the file, for a little while. Returns whether it has.
    fn closed(&self) -> bool {
        for _ in 0..CLOSED_TRIES {
            match self.log.try_lock() {
                Ok(()) => return true,
                Err(TryLockError::WouldBlock) => thread::sleep(CLOSED_PAUSE),
                Err(TryLockError::Error(_)) => return false,
            }
        }
        false
    }
}

impl Drop for LogLength {
    /// To be dropped after the database. Only lowers the record: by now it may be that of a new store in the same place.
    fn drop(&mut self) {
        let length = if self.closed() { self.log.metadata().map_or(0, |log| log.len()) } else { 0 };
        if length < recorded_at(&self.record) {
            self.write(length);
        }
    }
}

/// The recorded length; 0 when there is none, or none that can be read.
pub(super) fn recorded(store: &Path) -> u64 {
    recorded_at(&record_of(store))
}

fn recorded_at(record: &Path) -> u64 {
    fs::read_to_string(record).ok().and_then(|length| length.parse().ok()).unwrap_or(0)
}

fn record_of(store: &Path) -> PathBuf {
    store.join("log-length")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store whose log has ten bytes, with a record that says so.
    fn store() -> (tempfile::TempDir, LogLength) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("db"), [0; 10]).unwrap();
        let length = LogLength::open(dir.path()).unwrap();
        length.record();
        assert_eq!(recorded(dir.path()), 10);
        (dir, length)
    }

    #[test]
    fn a_log_that_became_shorter_while_it_was_closed_is_recorded_so() {
        let (dir, length) = store();
        length.log.set_len(4).unwrap();
        drop(length);
        assert_eq!(recorded(dir.path()), 4);
    }

    #[test]
    fn there_is_no_record_when_it_is_not_known_whether_the_log_is_closed() {
        let (dir, length) = store();
        let held = File::open(dir.path().join("db")).unwrap();
        held.lock().unwrap();
        drop(length);
        assert_eq!(recorded(dir.path()), 0);
    }

    #[test]
    fn the_end_of_a_store_leaves_the_record_of_its_successor() {
        let (dir, length) = store();
        fs::write(record_of(dir.path()), "3").unwrap();
        drop(length);
        assert_eq!(recorded(dir.path()), 3);
    }

    #[test]
    fn a_record_that_can_not_be_read_is_none() {
        let (dir, length) = store();
        fs::write(record_of(dir.path()), "many").unwrap();
        drop(length);
        assert_eq!(recorded(dir.path()), 0);
    }
}
