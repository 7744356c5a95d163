//! Opening a store by fjall: what of it only fjall has.

use fjall::{Database, Error, KeyspaceCreateOptions};

use super::db::FjallStore;
use super::options::FjallOptions;
use crate::store::folder::{Engine, Place, Recorded, Trouble, when_unlocked};

/// The smallest bound on its journals that fjall takes.
const JOURNALS: u64 = 64 << 20;

impl Engine for FjallStore {
    type Options = FjallOptions;
    type Error = Error;

    /// How keys are spelled, what the metadata looks like.
    const FORMAT: &'static str = "fjall-1";
    const FORMATS_BEFORE: &'static [&'static str] = &[];

    fn bounded(options: &FjallOptions, cache: u64) -> FjallOptions {
        options.clone().cache_bytes(options.cache_bytes.min(cache))
    }

    fn open_files(place: Place, options: &FjallOptions) -> Result<(Self, Option<&'static str>), Trouble> {
        let (db, tree) = when_unlocked(place.path(), || -> Result<_, Error> {
            // One thread a store, and no write to the system for each record.
            let builder = Database::builder(place.path()).worker_threads(1).manual_journal_persist(true);
            let db = builder.cache_size(options.cache_bytes).max_journaling_size(JOURNALS).open()?;
            let memtable = options.memtable_bytes;
            let tree = db.keyspace("table", || {
                KeyspaceCreateOptions::default().max_memtable_size(memtable).manual_journal_persist(true)
            })?;
            Ok((db, tree))
        })?;
        Ok((Self::new(db, tree, place), None))
    }

    fn place(&self) -> &Place {
        self.place()
    }

    fn recorded(&self) -> Result<Recorded, Error> {
        self.recorded()
    }

    fn record_fingerprint(&self) -> Result<(), Error> {
        self.record_fingerprint()
    }
}
