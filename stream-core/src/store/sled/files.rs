//! Brings a database's files to the disk.
//!
//! sled's own flush starts the writing and waits for it, but on Linux leaves out the log file's size and the disk's
//! cache. The files of pages too large for the log, its blobs, it does not sync at all; and a blob that is missing is
//! passed over when the log is replayed, so that a power failure would take data from under a checkpoint.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The files of an open database.
pub(super) struct Files {
    log: File,
    blobs: PathBuf,
    /// The blobs that are on the disk already: they are never written again.
    synced: Mutex<BTreeSet<u64>>,
}

impl Files {
    /// Takes the files of a database that sled has opened.
    pub(super) fn open(database: &Path) -> io::Result<Self> {
        let log = File::open(database.join("db"))?;
        Ok(Self { log, blobs: database.join("blobs"), synced: Mutex::default() })
    }

    /// Returns when everything that sled has flushed is on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.sync_blobs()?;
        self.log.sync_data()
    }

    fn sync_blobs(&self) -> io::Result<()> {
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        let mut present = BTreeSet::new();
        for entry in fs::read_dir(&self.blobs)? {
            // A blob is named by its position in the log. There is nothing else.
            present.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
        }
        if present.is_subset(&synced) {
            return Ok(());
        }
        for new in present.difference(&synced) {
            match File::open(self.blobs.join(new.to_string())) {
                Ok(blob) => blob.sync_data()?,
                // Its page was written again meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        sync_directory(&self.blobs)?;
        *synced = present;
        Ok(())
    }
}

/// Makes the names in a directory durable.
#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Elsewhere a directory is no file that could be synced; the system writes it on its own.
#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}
