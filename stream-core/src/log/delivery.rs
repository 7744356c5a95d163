//! The outcome of a batch.

use super::LogError;

/// The outcome of a batch.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Delivery {
    /// The highest offset written for each entry of [`ProduceBatch::topics`](super::ProduceBatch::topics), in that
    /// order; of the topic's partition that the last record went to, so of use where all go to one partition.
    pub last_offsets: Vec<Option<i64>>,
    /// The records that failed, by index. Empty when all went well.
    pub failed: Vec<FailedRecord>,
}

/// A record that could not be written.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FailedRecord {
    /// Its index in the batch.
    pub index: usize,
    /// Why.
    pub error: LogError,
}
