//! The plan of a simulation: groups, workload and settings, the same for the run with faults and the one without.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::random::Random;
use super::workload::Planned;
use crate::group::{BuildError, GroupGraph};
use crate::log::{FetchLimits, LogHandle, TopicConfig};
use crate::processor::{Guarantee, OnFailure, Processor, Standbys};

/// Builds a group's graph for each start of an instance.
pub(super) type MakeGraph = Rc<dyn Fn() -> Result<Arc<GroupGraph>, BuildError>>;

pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) groups: Vec<MakeGraph>,
    pub(super) instances: usize,
    pub(super) partitions: i32,
    pub(super) guarantee: Guarantee,
    pub(super) session: Duration,
    /// How long the inputs are written to.
    pub(super) within: Duration,
    pub(super) workload: Vec<Planned>,
    /// Failures after the end of all faults, above which the instances count as failing for good.
    pub(super) failures: usize,
    /// Topics that are there before the groups.
    pub(super) topics: Vec<(Arc<str>, TopicConfig)>,
    pub(super) set: Rc<dyn Fn(Processor) -> Processor>,
}

impl Plan {
    /// The topics whose content is compared: what the groups write for others.
    pub(super) fn outputs(&self, graphs: &[Arc<GroupGraph>]) -> Vec<Arc<str>> {
        let inputs: BTreeSet<Arc<str>> = self.workload.iter().map(|p| Arc::clone(&p.topic)).collect();
        let own = |g: &Arc<GroupGraph>| {
            let own: Vec<Arc<str>> = g.own_topics().chain(g.table_topics()).cloned().collect();
            g.written().filter(|t| !own.contains(t)).cloned().collect::<Vec<_>>()
        };
        let outputs: BTreeSet<Arc<str>> = graphs.iter().flat_map(own).filter(|t| !inputs.contains(t)).collect();
        outputs.into_iter().collect()
    }

    pub(super) fn tables(graphs: &[Arc<GroupGraph>]) -> Vec<Arc<str>> {
        graphs.iter().flat_map(|g| g.table_topics()).cloned().collect()
    }

    /// An instance, with settings that are drawn: small bounds show what large ones hide.
    pub(super) fn processor(
        &self,
        graph: Arc<GroupGraph>,
        log: LogHandle,
        name: &str,
        calm: bool,
        random: &mut Random,
    ) -> Processor {
        let ms = |random: &mut Random, of: &[u64]| Duration::from_millis(random.pick(of).copied().unwrap_or_default());
        let small = |random: &mut Random, small: usize, large: usize| if random.chance(300) { small } else { large };
        let few = 1 + random.index(7);
        let records = small(random, few, 2000);
        let mut processor = Processor::new(graph, log)
            .guarantee(self.guarantee)
            .session_timeout(self.session)
            .max_ahead(None)
            .commit_interval(ms(random, &[40, 150, 500]))
            .checkpoint_interval(ms(random, &[100, 500, 2000]))
            .checkpoint_chunk(small(random, 1, 256))
            .max_task_idle(ms(random, &[0, 50, 1000]))
            .drain_timeout(ms(random, &[1000, 3000, 10_000]))
            .buffer_bytes(small(random, 700, 64 << 20))
            .in_flight_bytes(small(random, 300, 8 << 20))
            .fetch_limits(FetchLimits { records, bytes: 1 << 20 });
        if calm {
            // Nothing here depends on how often.
            let rarely = Duration::from_secs(1);
            processor = processor.commit_interval(rarely).checkpoint_interval(rarely);
        }
        processor = processor.state_cleanup_delay(ms(random, &[200, 3000, 600_000]));
        if random.chance(400) {
            processor = processor.standbys(Standbys::All);
        }
        if random.chance(250) {
            processor = processor.instance_id(name);
        }
        if random.chance(500) {
            processor = processor.on_failure(OnFailure::Restart { backoff: Duration::from_millis(100), attempts: 3 });
        }
        (self.set)(processor)
    }
}
