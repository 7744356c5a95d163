//! Replicas: full copies of a table's partitions that follow its topic, for views, lookups and standbys.
//!
//! [`Copies`] are the stores of the partitions and how complete they are; a [`Keeper`] keeps them up to date. Nothing here may
//! write to a topic.

mod copies;
mod merge;
mod partition;
mod probe;
mod status;
mod updater;
mod updates;

pub(crate) use self::copies::{Copies, CopyError};
pub(crate) use self::merge::{Merge, prefix_bounds};
pub(crate) use self::probe::KeeperOptions;
pub use self::status::{ViewProgress, ViewState, ViewStatus};
pub(crate) use self::updater::Keeper;
pub(crate) use self::updates::{Listener, Listeners, Updates, decode_loading};
