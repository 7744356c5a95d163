//! What every store must do, whatever it is made of.
//!
//! A test here gets a [`World`]: a place for stores, which can be left and come back to as by another process. It must
//! not know which kind of store it has.
#![allow(unreachable_pub, dead_code, reason = "shared: not every test binary uses all of it")]

mod backends;
mod checkpoints;
mod models;
mod scans;
mod values;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use stream_core::store::{Direction, KeyRange, Pair, Store, StoreBackend};

pub use self::backends::*;
pub use self::checkpoints::*;
pub use self::models::*;
pub use self::scans::*;
pub use self::values::*;
use crate::store_support::{FINGERPRINT, id, pairs};

/// A place for stores.
pub trait World {
    /// The backend as it is.
    fn backend(&self) -> &dyn StoreBackend;
    /// Another process, after the first one ended.
    fn restart(&mut self);
}

/// Makes a test of each function of the suite.
macro_rules! store_suite {
    ($kind:ident, $world:expr) => {
        mod $kind {
            use super::*;
            store_suite!(@tests $world;
                reads_what_was_written
                empty_keys_and_values
                large_values
                values_of_every_length_replace_each_other
                keys_that_look_like_metadata
                ranges_of_every_kind
                ranges_that_end_before_they_begin
                prefixes
                scans_are_lazy
                scans_while_writing
                a_scan_of_a_store_can_be_written_into_it
                checkpoints_survive_with_their_data
                without_a_checkpoint_nothing_survives
                later_writes_never_move_the_checkpoint
                what_an_unfinished_checkpoint_left_is_deleted
                sorted_batches_with_deletions_match_a_model
                another_fingerprint_is_refused
                an_open_store_is_shared
                destroy_removes_closed_stores_only
                lists_the_stores
                clear_leaves_nothing
                size_grows
                random_operations_match_a_model
            );
        }
    };
    (@tests $world:expr; $($name:ident)*) => {
        $(#[test]
        fn $name() {
            crate::store_suite::$name(&mut $world);
        })*
    };
}

pub fn open(world: &dyn World) -> Arc<dyn Store> {
    world.backend().open(&id(), FINGERPRINT).unwrap()
}

/// Compares a scan with the model's.
fn check_range(store: &dyn Store, model: &BTreeMap<Vec<u8>, Vec<u8>>, from: Bound<&[u8]>, to: Bound<&[u8]>) {
    let range = KeyRange { from, to };
    let mut expected: Vec<Pair> = if range.is_empty() {
        Vec::new()
    } else {
        model.range::<[u8], _>((from, to)).map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    assert_eq!(pairs(store.range(range, Direction::Forward)), expected, "forward {range:?}");
    expected.reverse();
    assert_eq!(pairs(store.range(range, Direction::Reverse)), expected, "reverse {range:?}");
}
