//! Requests from outside at work: visits begin, and reads are answered from committed values.
//!
//! It takes turns with everything else, so that neither keeps the other waiting; an answer is bounded by the table.

use super::visit::Visit;
use super::{Demand, Task};
use crate::processor::query::{Question, ReadError, ReadRequest};
use crate::table::CommittedRows;

impl Task {
    /// Meets a demand, and more of them for a slice of work.
    pub(super) fn meet(&mut self, first: Demand) {
        self.was_demand = true;
        self.pulse.begin_short();
        let mut next = Some(first);
        while let Some(demand) = next {
            match demand {
                Demand::Visit(request) if self.ending.is_some() => self.visit_ends(Visit::new(request)),
                Demand::Visit(request) => self.visits.push_back(Visit::new(request)),
                Demand::Read(request) => self.answer_read(request),
            }
            next = if self.pulse.is_over() { None } else { self.demands.try_recv().ok() };
        }
    }

    fn answer_read(&self, ReadRequest { question, done }: ReadRequest) {
        if done.is_closed() {
            return;
        }
        let Some(table) = &self.core.tables.group else { return };
        let table = table.borrow();
        let answer = match question {
            Question::Key(key) => table.committed(&key).map(|value| CommittedRows {
                rows: value.map(|value| (key.to_vec(), value)).into_iter().collect(),
                up_to: None,
            }),
            Question::Rows(range) => range.with_bounds(|bounds| table.committed_rows(bounds, range.most())),
        };
        // Who asked may have gone meanwhile.
        _ = done.send(answer.map_err(|error| ReadError::Store { group: self.core.graph.name().to_owned(), error }));
    }
}
