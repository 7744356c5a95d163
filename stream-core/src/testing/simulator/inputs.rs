//! Faults of the inputs and of the groups' positions in them: old records are deleted, a topic is recreated, a
//! tool sets offsets back. After each of these it is known of every record whether it must be processed, and how often.
//!
//! These faults must never be drawn together for one group: what one of them makes of a record, another would change again.

use std::sync::Arc;

use super::world::World;
use crate::log::{OffsetAndMetadata, TopicPartition};
use crate::processor::tagged_id;

impl World {
    /// An input that nobody in the simulation writes to, but for the workload, drawn.
    fn input(&mut self) -> Option<Arc<str>> {
        let mut inputs: Vec<Arc<str>> = self.plan.workload.iter().map(|p| Arc::clone(&p.topic)).collect();
        inputs.sort();
        inputs.dedup();
        self.random.pick(&inputs).cloned()
    }

    fn partitions_of(&self, topic: &Arc<str>) -> Vec<TopicPartition> {
        (0..self.plan.partitions).map(|p| TopicPartition::new(Arc::clone(topic), p)).collect()
    }

    /// Below this everything is committed by every group that reads it.
    fn committed(&self, of: &TopicPartition) -> i64 {
        let readers = self.graphs.iter().filter(|g| g.input_topics().any(|t| *t == of.topic));
        let id = self.embedded.id_of(&of.topic);
        let committed = |group: &str| {
            let committed = self.embedded.committed(group);
            // One of a topic that was deleted says nothing of this one.
            let of_this = |at: &&OffsetAndMetadata| tagged_id(&at.metadata).is_none_or(|of| Some(of) == id.as_deref());
            committed.get(of).filter(of_this).map_or(0, |at| at.offset)
        };
        readers.map(|g| committed(g.name())).min().unwrap_or_default()
    }

    /// Retention deletes records of an input from the start of each partition.
    pub(super) fn expire_records(&mut self) {
        let Some(topic) = self.input() else { return };
        for of in self.partitions_of(&topic) {
            let (records, committed) = (self.embedded.records(&of), self.committed(&of));
            let Some((first, last)) = records.first().zip(records.last()).map(|(f, l)| (f.0, l.0)) else { continue };
            if self.random.chance(300) {
                continue;
            }
            let below = first + i64::try_from(self.random.index(records.len() + 1)).unwrap_or_default();
            self.trace.note("log", format_args!("deletes {of} up to {below} of {}, committed {committed}", last + 1));
            self.embedded.delete_below(&of, below);
            for (_, value) in records.into_iter().filter(|(offset, _)| (committed..below).contains(offset)) {
                self.fates.entry((Arc::clone(&topic), value)).or_default().may_be_missing = true;
            }
        }
    }

    /// An input is deleted with what is in it, and recreated.
    pub(super) fn recreate_input(&mut self) {
        let Some(topic) = self.input() else { return };
        let mut committed: Vec<Vec<u8>> = Vec::new();
        for of in self.partitions_of(&topic) {
            let below = self.committed(&of);
            let records = self.embedded.records(&of).into_iter();
            committed.extend(records.filter(|(offset, _)| *offset < below).map(|(_, value)| value));
        }
        // The brokers forget the group's offsets some moments after they have deleted the topic.
        let forget = self.random.chance(500);
        self.trace.note("log", format_args!("recreates {topic}, and forgets its offsets: {forget}"));
        self.embedded.recreate_topic(&topic, forget);
        let earlier = self.recreated.insert(Arc::clone(&topic), self.written).unwrap_or_default();
        let workload = self.plan.workload.iter().enumerate().skip(earlier);
        for (index, planned) in workload.filter(|(_, p)| p.topic == topic) {
            let fate = self.fates.entry((Arc::clone(&topic), planned.value.clone())).or_default();
            // An instance may read the new topic at its old position before it sees that it is a new one.
            fate.may_repeat |= index >= self.written;
            fate.may_be_missing |= index < self.written && !committed.contains(&planned.value);
        }
    }

    /// All instances of a group die, and before others come, a tool sets its offsets back.
    pub(super) fn reset_group(&mut self) {
        let group = self.random.index(self.graphs.len());
        let Some(graph) = self.graphs.get(group).cloned() else { return };
        self.end_group(group);
        for node in self.nodes.iter().filter(|n| n.group == group) {
            node.forget_graves();
        }
        for member in self.embedded.member_ids(graph.name()) {
            self.embedded.faults().expire_member(graph.name(), &member);
        }
        let mut to = Vec::new();
        for (of, at) in self.embedded.committed(graph.name()) {
            if at.offset > 0 && graph.input_topics().any(|t| *t == of.topic) && self.random.chance(700) {
                let back = i64::try_from(self.random.below(at.offset.unsigned_abs() + 1)).unwrap_or_default();
                to.push((of, at.offset - back, at.offset));
            }
        }
        // The tool refuses while a transaction that is not decided has offsets of the group.
        if !self.embedded.reset_offsets(graph.name(), to.iter().map(|(of, to, _)| (of.clone(), *to)).collect()) {
            return;
        }
        for (of, to, from) in to {
            self.trace.note("tool", format_args!("sets {of} of {} back from {from} to {to}", graph.name()));
            for (_, value) in self.embedded.records(&of).into_iter().filter(|(offset, _)| (to..from).contains(offset)) {
                self.fates.entry((Arc::clone(&of.topic), value)).or_default().again += 1;
            }
        }
    }
}
