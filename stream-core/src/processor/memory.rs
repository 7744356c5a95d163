//! The memory of an instance, if it is bounded: how it is divided among what holds records and state.
//!
//! What is fixed when a client or a store is made is divided among all partitions that the instance may get; the rest
//! among the partitions that it has, again at each assignment. Nothing is dropped at a bound: the partition reads no further
//! until there is room.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::error::ProcessorError;
use super::options::Options;
use crate::table::RestoreMemory;
use crate::topics::TopicFacts;
use crate::topology::Topology;

/// Parts of the whole, in sixteenths.
const FETCHED: usize = 4;
const READERS: usize = 2;
const CLIENT: usize = 1;
const IN_FLIGHT: usize = 1;
const BUFFERS: usize = 4;
const CACHES: usize = 2;
const RESTORES: usize = 2;
const ALL: usize = 16;

/// The least of each part that works, for each of those that divide it, in bytes.
const LEAST_FETCHED: usize = 64 << 10;
const LEAST_READER: usize = 32 << 10;
const LEAST_CLIENT: usize = 1 << 20;
const LEAST_IN_FLIGHT: usize = 64 << 10;
const LEAST_BUFFER: usize = 64 << 10;
const LEAST_CACHE: usize = 64 << 10;
const LEAST_RESTORES: usize = 1 << 20;

/// How many of each there are, at most, on one instance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    /// Partitions of inputs.
    inputs: usize,
    /// Tasks, if it had all of them.
    tasks: usize,
    /// Stores: of own tables, joins and lookups.
    stores: usize,
    /// Bytes that a store takes besides its cache.
    store_bytes: usize,
}

impl Counts {
    pub(super) fn of(graph: &Topology, facts: &TopicFacts, store_bytes: usize) -> Self {
        let partitions =
            |topic: &str| facts.topics.get(topic).map_or(1, |info| info.partitions.max(1).unsigned_abs() as usize);
        let inputs = graph.input_topics().map(|topic| partitions(topic)).sum();
        let tasks = graph.co_partition_topic().map_or(inputs, |lead| partitions(&lead));
        let lookups: usize = graph.lookups.iter().map(|edge| partitions(&edge.topic)).sum();
        let stores = tasks * (graph.tables.iter().count() + graph.joins.len()) + lookups;
        Self { inputs, tasks, stores, store_bytes }
    }

    /// The least memory that works.
    fn least(self) -> usize {
        let parts = [
            (FETCHED, self.inputs * LEAST_FETCHED),
            (READERS, self.stores * LEAST_READER),
            (CLIENT, LEAST_CLIENT),
            (IN_FLIGHT, self.tasks * LEAST_IN_FLIGHT),
            (BUFFERS, self.tasks * LEAST_BUFFER),
            (CACHES, self.stores * LEAST_CACHE),
            (RESTORES, if self.stores > 0 { LEAST_RESTORES } else { 0 }),
        ];
        let divided = parts.iter().map(|(part, least)| (least * ALL).div_ceil(*part)).max().unwrap_or(0);
        self.stores * self.store_bytes + divided
    }
}

/// The shares of an instance.
#[derive(Debug)]
pub(super) struct Memory {
    /// What is divided, if it is bounded.
    divided: Option<usize>,
    counts: Counts,
    /// How many tasks there are now.
    tasks: AtomicUsize,
    /// The settings that count where nothing is bounded.
    buffer_bytes: usize,
    in_flight_bytes: usize,
}

impl Memory {
    /// Divides the memory that the options give.
    pub(super) fn new(group: &str, options: &Options, counts: Counts) -> Result<Self, ProcessorError> {
        let divided = match options.memory {
            None => None,
            Some(bytes) if bytes >= counts.least() => Some(bytes - counts.stores * counts.store_bytes),
            Some(bytes) => {
                return Err(ProcessorError::Memory {
                    group: group.to_owned(),
                    bytes,
                    least: counts.least(),
                    inputs: counts.inputs,
                    stores: counts.stores,
                });
            }
        };
        let (buffer_bytes, in_flight_bytes) = (options.buffer_bytes, options.in_flight_bytes);
        Ok(Self { divided, counts, tasks: AtomicUsize::new(1), buffer_bytes, in_flight_bytes })
    }

    fn share(&self, part: usize, among: usize) -> Option<usize> {
        Some(self.divided? / ALL * part / among.max(1))
    }

    /// So many tasks there are from now on.
    pub(super) fn divide_among(&self, tasks: usize) {
        self.tasks.store(tasks.max(1), Ordering::Relaxed);
    }

    fn of_task(&self, part: usize) -> Option<usize> {
        self.share(part, self.tasks.load(Ordering::Relaxed))
    }

    /// Bytes of each input partition that are fetched ahead.
    pub(super) fn prefetch(&self) -> Option<usize> {
        self.share(FETCHED, self.counts.inputs)
    }

    /// The same for each partition of a table that is read.
    pub(super) fn reader_prefetch(&self) -> Option<usize> {
        self.share(READERS, self.counts.stores)
    }

    /// Bytes in the queue of the producing client.
    pub(super) fn client_queue(&self) -> Option<usize> {
        self.share(CLIENT, 1)
    }

    /// Bytes of pages that each store keeps.
    pub(super) fn cache(&self) -> Option<usize> {
        self.share(CACHES, self.counts.stores)
    }

    /// What all restores may hold back together.
    pub(super) fn restores(&self) -> Option<RestoreMemory> {
        self.share(RESTORES, 1).map(|bytes| RestoreMemory::divided(bytes, self.counts.stores))
    }

    /// Bytes of a task that are on their way to the log.
    pub(super) fn in_flight(&self) -> usize {
        self.of_task(IN_FLIGHT).map_or(self.in_flight_bytes, |share| share.min(self.in_flight_bytes))
    }

    /// What a task's write buffers may have.
    pub(super) fn buffers(&self) -> Buffers {
        match self.of_task(BUFFERS) {
            None => Buffers { of_one: self.buffer_bytes, of_all: usize::MAX, most: usize::MAX },
            Some(share) => Buffers { of_one: self.buffer_bytes, of_all: share / 2, most: share },
        }
    }
}

/// Bytes of a task's write buffers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buffers {
    /// Above this one of them goes to its store.
    pub(super) of_one: usize,
    /// Above this all of them do.
    pub(super) of_all: usize,
    /// Above this nothing is read before there is room, if some is being made.
    pub(super) most: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn memory(bytes: usize, counts: Counts) -> Result<Memory, ProcessorError> {
        let options = Options { memory: Some(bytes), ..Options::default() };
        Memory::new("group", &options, counts)
    }

    /// What everything takes together, with so many tasks.
    fn taken(memory: &Memory, tasks: usize) -> usize {
        memory.divide_among(tasks);
        let counts = memory.counts;
        let shares = [
            memory.prefetch().map(|bytes| bytes * counts.inputs),
            memory.reader_prefetch().map(|bytes| bytes * counts.stores),
            memory.client_queue(),
            Some(memory.in_flight() * tasks),
            Some(memory.buffers().most.saturating_mul(tasks)),
            memory.cache().map(|bytes| bytes * counts.stores),
            memory.restores().map(|restores| restores.most(counts.stores)),
        ];
        shares.iter().map(|share| share.unwrap()).sum::<usize>() + counts.stores * counts.store_bytes
    }

    #[test]
    fn shares_are_no_more_than_the_whole_however_many_there_are() {
        for (inputs, tasks, stores) in [(1, 1, 0), (4, 4, 4), (8, 4, 12), (100, 100, 200), (1000, 1000, 3000)] {
            for store_bytes in [0, MIB] {
                let counts = Counts { inputs, tasks, stores, store_bytes };
                for bytes in [counts.least(), counts.least() + 12_345, 3 * counts.least()] {
                    let memory = memory(bytes, counts).unwrap();
                    for now in [1, tasks.div_ceil(2), tasks] {
                        assert!(taken(&memory, now) <= bytes, "{counts:?}: {} of {bytes}", taken(&memory, now));
                    }
                    assert!(memory.prefetch().unwrap() >= LEAST_FETCHED);
                    assert!(stores == 0 || memory.cache().unwrap() >= LEAST_CACHE);
                    assert!(memory.buffers().most >= LEAST_BUFFER && memory.in_flight() >= LEAST_IN_FLIGHT);
                }
                let error = memory(counts.least() - 1, counts).unwrap_err().to_string();
                assert!(error.contains(&counts.least().to_string()), "{error}");
            }
        }
    }

    #[test]
    fn fewer_tasks_have_more_each() {
        let memory = memory(1024 * MIB, Counts { inputs: 4, tasks: 4, stores: 4, store_bytes: MIB }).unwrap();
        memory.divide_among(4);
        let four = memory.buffers().most;
        memory.divide_among(1);
        assert_eq!(memory.buffers().most / four, 4);
        memory.divide_among(0);
        assert_eq!(memory.buffers().most / four, 4);
    }

    #[test]
    fn without_a_bound_the_settings_count() {
        let counts = Counts { inputs: 100, tasks: 100, stores: 100, store_bytes: MIB };
        let memory = Memory::new("group", &Options::default(), counts).unwrap();
        memory.divide_among(100);
        assert_eq!((memory.prefetch(), memory.cache(), memory.client_queue()), (None, None, None));
        assert_eq!(memory.in_flight(), Options::default().in_flight_bytes);
        assert_eq!(memory.buffers().of_one, Options::default().buffer_bytes);
        assert_eq!(memory.buffers().most, usize::MAX);
    }
}
