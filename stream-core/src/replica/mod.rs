//! Replicas: full copies of a table's partitions that follow its topic, for views, lookups and standbys.
//!
//! [`TableReplica`] are the stores of the partitions and how complete they are; a [`ReplicaUpdater`] keeps them up to date. Nothing here may
//! write to a topic.

mod merge;
mod partition;
mod probe;
mod status;
mod table;
mod updater;
mod updates;

pub(crate) use self::merge::{Merge, prefix_bounds};
pub(crate) use self::probe::UpdaterOptions;
pub use self::status::{ViewProgress, ViewState, ViewStatus};
pub(crate) use self::table::{ReplicaError, TableReplica};
pub(crate) use self::updater::ReplicaUpdater;
pub(crate) use self::updates::{Listener, Listeners, Updates, decode_loading};
