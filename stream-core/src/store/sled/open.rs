//! Opening a store by sled: what of it only sled has.

use sled::{Config, Error};

use super::db::SledStore;
use super::options::SledOptions;
use super::{length, log_check};
use crate::store::folder::{Engine, Place, Recorded, Trouble, guarded, trouble, when_unlocked};

impl Engine for SledStore {
    type Options = SledOptions;
    type Error = Error;

    /// The trees, how keys are spelled, what the metadata looks like.
    const FORMAT: &'static str = "sled-2";
    /// `sled-1` stored large values whole, as files of sled's own.
    const FORMATS_BEFORE: &'static [&'static str] = &["sled-1"];

    fn bounded(options: &SledOptions, cache: u64) -> SledOptions {
        options.clone().cache_bytes(options.cache_bytes.min(cache))
    }

    fn open_files(place: Place, options: &SledOptions) -> Result<(Self, Option<&'static str>), Trouble> {
        let path = place.path().to_owned();
        let trouble = |error: Error| trouble(&path, &error);
        log_check::remove_half_snapshots(&path).map_err(|error| trouble(error.into()))?;
        let log = log_check::look(&path).map_err(|error| trouble(error.into()))?;
        if let Some(damage) = log.damage {
            return Err(Trouble::Damaged(damage.into()));
        }
        let config = Config::new().path(&path).cache_capacity(options.cache_bytes).flush_every_ms(None);
        let db = when_unlocked(&path, || config.open())?;
        // Only now: an earlier handle that was still closing has lowered it.
        let is_cut = log.has_gaps && log.length < length::recorded(&path);
        let store = guarded(|| Self::new(db, place)).map_err(trouble)?;
        Ok((store, is_cut.then_some("its log is shorter than at its checkpoint, and a part of it is missing")))
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

    fn sweep(&self) -> Result<(), Error> {
        self.sweep()
    }
}
