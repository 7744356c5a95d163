//! Settings of a processor, each with its unit and its default.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Processor;
#[cfg(feature = "testing")]
use super::faults::CallbackFaults;
use super::options::{Guarantee, LEAST_INTERVAL, OnFailure, OnLostPosition, OnPositionMismatch, Standbys};
use super::status::{Rebalance, Status};
use crate::log::{AutoOffsetReset, FetchLimits, Partitioner};
use crate::store::StoreBackend;
use crate::topics::TopicOptions;
use crate::topology::limit_ms;

impl Processor {
    /// Where the stores lie: in a folder of the group's name below this directory. One process at a time may use it.
    /// Default: `state`.
    #[must_use]
    pub fn state_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.state_dir = dir.into();
        self
    }

    /// Stores of another kind, such as [`MemoryStores`](crate::store::MemoryStores).
    #[must_use]
    pub fn stores(mut self, stores: Arc<dyn StoreBackend>) -> Self {
        self.stores = Some(stores);
        self
    }

    /// Worker threads; default one a core. Partitions are spread over them.
    #[must_use]
    pub fn workers(mut self, threads: usize) -> Self {
        self.options.workers = threads;
        self
    }

    /// The delivery guarantee for a record's effects when something fails; default [`Guarantee::AtLeastOnce`].
    #[must_use]
    pub fn guarantee(mut self, guarantee: Guarantee) -> Self {
        self.options.guarantee = guarantee;
        self
    }

    /// How often offsets are committed; default 1 s, for exactly-once 100 ms. With at-least-once delivery, up to this much is
    /// processed again after a crash. With exactly-once delivery, others see effects up to this much later, and the interval
    /// can be 5 min at most, because brokers end longer transactions. At least 1 ms.
    #[must_use]
    pub fn commit_interval(mut self, every: Duration) -> Self {
        self.options.commit_interval = Some(every.max(LEAST_INTERVAL));
        self
    }

    /// How often positions that do not move are committed again; default 30 minutes. A broker forgets offsets that are not
    /// committed for `offsets.retention.minutes` (a week by default): keep this well below it. At least 1 ms.
    #[must_use]
    pub fn recommit_interval(mut self, every: Duration) -> Self {
        self.options.recommit_interval = every.max(LEAST_INTERVAL);
        self
    }

    /// How often the write buffer goes to the store; default 10 s. After a crash, up to this much of the changelog is
    /// read again. Nothing depends on it but the time of a restart. At least 1 ms.
    #[must_use]
    pub fn checkpoint_interval(mut self, every: Duration) -> Self {
        self.options.checkpoint_interval = every.max(LEAST_INTERVAL);
        self
    }

    /// Whether this instance keeps warm copies of the partitions that others have; default [`Standbys::None`].
    #[must_use]
    pub fn standbys(mut self, standbys: Standbys) -> Self {
        self.options.standbys = standbys;
        self
    }

    /// How long the stores of a partition that moved away stay, so that its return needs only what was written
    /// meanwhile; default 10 min, as `state.cleanup.delay.ms` of Kafka Streams. With standbys, none is removed.
    #[must_use]
    pub fn state_cleanup_delay(mut self, delay: Duration) -> Self {
        self.options.state_cleanup_delay = delay;
        self
    }

    /// What this instance may take of memory for records and state, in bytes: fetched records, write buffers, what is on its
    /// way to the log, the caches of its stores, and restores. See [Memory](crate::guarantees#memory) for the shares, and for what
    /// is not in it. Default: not bounded as a whole; then the settings of each part count alone.
    ///
    /// # Errors
    /// [`run`](Processor::run) ends with [`ProcessorError::Memory`](super::ProcessorError::Memory) when it is too little for the
    /// partitions that the instance may get.
    #[must_use]
    pub fn memory(mut self, bytes: usize) -> Self {
        self.options.memory = Some(bytes);
        self
    }

    /// Bytes of a partition's write buffer above which it goes to the store early; default 64 MiB.
    #[must_use]
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.options.buffer_bytes = bytes;
        self
    }

    /// Bytes on their way to the log above which a partition waits for acknowledgements; default 8 MiB. One batch
    /// is always let through.
    #[must_use]
    pub fn in_flight_bytes(mut self, bytes: usize) -> Self {
        self.options.in_flight_bytes = bytes.max(1);
        self
    }

    /// Most that is taken from a partition at once; default 2,000 records or 1 MiB.
    #[must_use]
    pub fn fetch_limits(mut self, limits: FetchLimits) -> Self {
        self.options.fetch = limits;
        self
    }

    /// How long a record waits for an earlier one that another input may still bring
    /// ([D4](crate::semantics#d4-one-order-per-partition)); default 1 s.
    #[must_use]
    pub fn max_task_idle(mut self, wait: Duration) -> Self {
        self.options.max_task_idle = wait;
        self
    }

    /// How far a record's event time may be ahead of this host's clock; `None` for any. One that is further ahead is an error
    /// of its record, and stream time does not jump there. Default: an hour, which is what Kafka 4 takes. An input's
    /// [`max_ahead`](crate::group::Input::max_ahead) comes first.
    #[must_use]
    pub fn max_ahead(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.options.max_ahead = limit_ms(limit.into());
        self
    }

    /// Closes what is open in a partition once the partition is quiet: its inputs have been read to their ends, and no record
    /// has come for so long by the wall clock. Its stream time goes on to the end and grace of the last window, session or
    /// record that a join keeps; stream-time timers that are due until then fire, later ones stay. Records that come after
    /// that with earlier times are late. Never by default: a window of a quiet partition stays open until its next record.
    #[must_use]
    pub fn idle_close(mut self, after: Duration) -> Self {
        self.options.idle_close = Some(i64::try_from(after.as_millis()).unwrap_or(i64::MAX));
        self
    }

    /// Bound on finishing what is under way when partitions move or the processor stops; default 30 s.
    #[must_use]
    pub fn drain_timeout(mut self, bound: Duration) -> Self {
        self.options.drain_timeout = bound;
        self
    }

    /// `session.timeout.ms`; default 45 s. Records not acknowledged within two thirds of it fail and are written again.
    #[must_use]
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.options.session_timeout = timeout;
        self
    }

    /// `group.instance.id`: static membership, so that a restart within the session moves no partition.
    #[must_use]
    pub fn instance_id(mut self, id: impl Into<Arc<str>>) -> Self {
        self.options.instance_id = Some(id.into());
        self
    }

    /// `group.protocol=consumer` (KIP-848). All members of the group must use it; the session time-out is the broker's.
    #[must_use]
    pub fn new_group_protocol(mut self, on: bool) -> Self {
        self.options.new_protocol = on;
        self
    }

    /// Where to start on a partition without a committed offset; default the earliest record.
    #[must_use]
    pub fn auto_offset_reset(mut self, reset: AutoOffsetReset) -> Self {
        self.options.reset = reset;
        self
    }

    /// How the keys of emitted records choose partitions; default as Java clients do.
    #[must_use]
    pub fn partitioner(mut self, partitioner: Partitioner) -> Self {
        self.options.partitioner = partitioner;
        self
    }

    /// The reaction to a failure of the instance; default [`OnFailure::Stop`].
    #[must_use]
    pub fn on_failure(mut self, then: OnFailure) -> Self {
        self.options.on_failure = then;
        self
    }

    /// Where to go on in a partition whose position is lost; default [`OnLostPosition::Fail`].
    #[must_use]
    pub fn on_lost_position(mut self, then: OnLostPosition) -> Self {
        self.options.on_lost_position = then;
        self
    }

    /// Which position counts with exactly-once if the committed offset differs from the position in the group's state;
    /// default [`OnPositionMismatch::Fail`].
    #[must_use]
    pub fn on_position_mismatch(mut self, then: OnPositionMismatch) -> Self {
        self.options.on_position_mismatch = then;
        self
    }

    /// How missing topics are made.
    #[must_use]
    pub fn topics(mut self, options: TopicOptions) -> Self {
        self.options.topics = options;
        self
    }

    /// How often topics are looked at for a change of their partition count; default 30 s. At least
    /// 1 ms.
    #[must_use]
    pub fn topic_check_interval(mut self, every: Duration) -> Self {
        self.options.topic_check_interval = every.max(LEAST_INTERVAL);
        self
    }

    /// Calls a listener with each new status. It must not block.
    #[must_use]
    pub fn on_state(mut self, listener: impl Fn(&Status) + Send + Sync + 'static) -> Self {
        self.listeners.states.push(Box::new(listener));
        self
    }

    /// Calls a listener with each change of the assignment. It must not block.
    #[must_use]
    pub fn on_rebalance(mut self, listener: impl Fn(&Rebalance) + Send + Sync + 'static) -> Self {
        self.listeners.rebalances.push(Box::new(listener));
        self
    }

    /// Writes of a checkpoint between two looks at other work: few show what comes in between.
    #[cfg(feature = "testing")]
    #[must_use]
    pub(crate) fn checkpoint_chunk(mut self, writes: usize) -> Self {
        self.options.checkpoint_chunk = writes;
        self
    }

    /// Lets callbacks fail on purpose.
    #[cfg(feature = "testing")]
    #[must_use]
    pub(crate) fn callback_faults(mut self, faults: CallbackFaults) -> Self {
        self.faults = faults;
        self
    }
}
