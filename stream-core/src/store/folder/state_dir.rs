//! The state directory: who may use it, where each store is in it, and how a store is removed.
//!
//! ```text
//! <state directory>/
//!   ~lock                     held exclusively as long as a backend or one of its stores lives
//!   <table's topic>/
//!     <partition>/            one database, of the backend
//!     ~gone-<partition>/      one being removed
//! ```
//!
//! `~` is in no topic's name, so that none of this can meet a table. A store is renamed before it is removed: a crash in
//! the middle must never leave half of a database behind that still opens and has its checkpoint.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::damage::refused;
use crate::store::{StoreError, StoreId};

/// A state directory that this process holds.
#[derive(Debug)]
pub(super) struct StateDir {
    path: PathBuf,
    /// Held, never read: the lock ends with it.
    _lock: File,
}

impl StateDir {
    /// Makes the directory if need be and locks it.
    pub(super) fn lock(path: PathBuf) -> Result<Self, StoreError> {
        let refused = |error: io::Error| refused(&path, &error);
        fs::create_dir_all(&path).map_err(refused)?;
        let lock =
            File::options().create(true).truncate(false).write(true).open(path.join("~lock")).map_err(refused)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::Locked { path }),
            Err(TryLockError::Error(error)) => return Err(refused(error)),
        }
        let dir = Self { path, _lock: lock };
        dir.finish_removals()?;
        Ok(dir)
    }

    /// The path of the state.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory's own name, made up at the first call.
    pub(super) fn instance_id(&self) -> Result<String, StoreError> {
        let path = self.path.join("~instance-id");
        match fs::read_to_string(&path) {
            Ok(id) if !id.trim().is_empty() => return Ok(id.trim().to_owned()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(refused(&path, &error)),
            _ => {}
        }
        let id = crate::store::new_instance_id();
        // Whole or not at all: a half-written name would be another one after a crash.
        let half = self.path.join("~instance-id.new");
        let written = fs::write(&half, &id).and_then(|()| File::open(&half)?.sync_all());
        written.and_then(|()| fs::rename(&half, &path)).map_err(|e| refused(&path, &e))?;
        Ok(id)
    }

    /// The path of a store.
    pub(super) fn store(&self, id: &StoreId) -> Result<PathBuf, StoreError> {
        if !is_topic(&id.table) || id.partition < 0 {
            return Err(StoreError::Failed {
                path: self.path.clone(),
                reason: format!("partition {} of {:?} is no partition of a topic", id.partition, id.table),
            });
        }
        Ok(self.path.join(&*id.table).join(id.partition.to_string()))
    }

    /// Removes a store. It must be closed.
    pub(super) fn remove(&self, id: &StoreId) -> Result<(), StoreError> {
        let from = self.store(id)?;
        let gone = from.with_file_name(format!("~gone-{}", id.partition));
        let refused = |error: io::Error| refused(&from, &error);
        if gone.exists() {
            fs::remove_dir_all(&gone).map_err(refused)?;
        }
        match fs::rename(&from, &gone) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(refused)?,
        }
        fs::remove_dir_all(&gone).map_err(refused)?;
        if let Some(table) = from.parent() {
            // Fails when it holds other partitions, which is as good.
            let _ = fs::remove_dir(table);
        }
        Ok(())
    }

    /// The stores that exist, in order.
    pub(super) fn list(&self) -> Result<Vec<StoreId>, StoreError> {
        let mut found = Vec::new();
        for (table, path) in self.tables()? {
            for (name, _) in directories(&path)? {
                let partition = name.parse().ok().filter(|n: &i32| *n >= 0 && n.to_string() == name);
                found.extend(partition.map(|partition| StoreId::new(table.as_str(), partition)));
            }
        }
        found.sort();
        Ok(found)
    }

    fn tables(&self) -> Result<Vec<(String, PathBuf)>, StoreError> {
        let mut tables = directories(&self.path)?;
        tables.retain(|(name, _)| is_topic(name));
        Ok(tables)
    }

    /// Removes what an earlier process was about to.
    fn finish_removals(&self) -> Result<(), StoreError> {
        for (_, table) in self.tables()? {
            for (name, path) in directories(&table)? {
                if name.starts_with("~gone-") {
                    fs::remove_dir_all(&path).map_err(|error| refused(&path, &error))?;
                }
            }
        }
        Ok(())
    }
}

/// Whether Kafka takes this as a topic's name. All of them are safe as the name of a directory.
fn is_topic(name: &str) -> bool {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(safe)
}

/// Names and paths of the directories in a directory.
fn directories(path: &Path) -> Result<Vec<(String, PathBuf)>, StoreError> {
    let unread = |error: io::Error| refused(path, &error);
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(unread)? {
        let entry = entry.map_err(unread)?;
        if let Ok(name) = entry.file_name().into_string()
            && entry.file_type().map_err(unread)?.is_dir()
        {
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_kafka_takes_are_tables() {
        for good in ["a", "orders-table", "A.b_c-9", "...", &"x".repeat(249)] {
            assert!(is_topic(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "../x", "~lock", "a\\b", "ä", "a b", &"x".repeat(250)] {
            assert!(!is_topic(bad), "{bad}");
        }
    }

    #[test]
    fn an_interrupted_removal_is_finished_and_never_listed() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("t/~gone-3");
        fs::create_dir_all(&gone).unwrap();
        fs::write(gone.join("db"), "half of it").unwrap();
        fs::create_dir_all(dir.path().join("t/4")).unwrap();
        fs::create_dir_all(dir.path().join("t/05")).unwrap();
        let state = StateDir::lock(dir.path().to_owned()).unwrap();
        assert!(!gone.exists());
        assert_eq!(state.list().unwrap(), [StoreId::new("t", 4)]);
        state.remove(&StoreId::new("t", 4)).unwrap();
        state.remove(&StoreId::new("t", 4)).unwrap();
        assert_eq!(state.list().unwrap(), []);
    }
}
