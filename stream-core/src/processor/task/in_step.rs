//! A task's reports on its partitions, for its group to stay in step.

use super::Task;
use super::in_flight::Work;
use crate::processor::alignment::Seen;

impl Task {
    /// Whether something of what is released from `first` on goes back to the group itself.
    pub(super) fn to_own_topics(&self, first: usize) -> bool {
        let (out, graph) = (&self.stage.out, &self.core.graph);
        let topic = |index: usize| out.topic_of(index).and_then(|topic| out.topics().get(topic));
        (first..out.len()).filter_map(topic).any(|topic| graph.own_topics().any(|own| own == topic))
    }

    /// Says what is not finished, if that has changed.
    pub(super) fn report_alignment(&mut self) {
        let Some(alignment) = &self.alignment.group else { return };
        for (index, input) in self.inputs.iter().enumerate() {
            let under_way = self.in_flight.iter().filter(|slot| slot.input == index);
            let under_way = under_way.filter_map(|slot| match slot.work.as_ref()? {
                Work::One(record) => Some(record.view().timestamp),
                Work::Many(records) => records.iter().map(|record| record.timestamp).min(),
            });
            let begun = self.alignment.begun.get(index).copied();
            let known = under_way.chain(begun).chain(self.outbox.lows(index)).chain(input.low());
            let low = known.min().filter(|low| *low < i64::MAX);
            let own = !input.aligned;
            let seen = Seen { low, at: if own { input.read } else { input.released } };
            if let Some(said) = self.alignment.said.get_mut(index).filter(|said| **said != Some(seen)) {
                *said = Some(seen);
                alignment.report(self.id, &input.partition, own, seen);
            }
        }
    }
}
