//! How missing topics are made.

use std::time::Duration;

/// A day in milliseconds, which is also Kafka's default of `delete.retention.ms`.
pub(super) const DAY_MS: i64 = 24 * 3_600_000;

/// How missing topics are made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TopicOptions {
    /// Whether to make them at all (default); else a missing topic is an error.
    pub create: bool,
    /// Partitions of inputs and outputs that are missing; the existing inputs' count, else the broker's default.
    pub partitions: Option<i32>,
    /// Replicas of each partition; the broker's default if not set.
    pub replication: Option<i32>,
    /// `retention.ms` of outputs that are made; the broker's default if not set.
    pub retention_ms: Option<i64>,
    /// `retention.ms` of dead-letter topics that are made; 30 days by default, -1 to keep dead letters for ever.
    pub dead_letter_retention_ms: i64,
    /// How long to wait for joined and looked-up tables, which their own groups make.
    pub wait_for_tables: Duration,
}

impl Default for TopicOptions {
    fn default() -> Self {
        Self {
            create: true,
            partitions: None,
            replication: None,
            retention_ms: None,
            dead_letter_retention_ms: 30 * DAY_MS,
            wait_for_tables: Duration::from_secs(30),
        }
    }
}

impl TopicOptions {
    /// The defaults: missing topics are made.
    ///
    /// ```
    /// use stream_core::topics::TopicOptions;
    ///
    /// let options = TopicOptions::new().partitions(8).replication(3);
    /// assert!(options.create);
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether missing topics are made.
    #[must_use]
    pub fn create(mut self, on: bool) -> Self {
        self.create = on;
        self
    }

    /// Sets the number of partitions of inputs and outputs that are made.
    #[must_use]
    pub fn partitions(mut self, partitions: i32) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// Sets the number of replicas of topics that are made.
    #[must_use]
    pub fn replication(mut self, replicas: i32) -> Self {
        self.replication = Some(replicas);
        self
    }

    /// Sets `retention.ms` of outputs that are made.
    #[must_use]
    pub fn retention_ms(mut self, ms: i64) -> Self {
        self.retention_ms = Some(ms);
        self
    }

    /// Sets `retention.ms` of dead-letter topics that are made; -1 to keep dead letters for ever.
    #[must_use]
    pub fn dead_letter_retention_ms(mut self, ms: i64) -> Self {
        self.dead_letter_retention_ms = ms;
        self
    }

    /// Sets how long to wait for joined and looked-up tables.
    #[must_use]
    pub fn wait_for_tables(mut self, bound: Duration) -> Self {
        self.wait_for_tables = bound;
        self
    }
}
