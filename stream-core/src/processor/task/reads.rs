//! Reads from outside at work: one answer a turn, from what is committed.
//!
//! Reads and everything else take turns, so that neither keeps the other waiting; an answer is bounded by the table.

use super::Task;
use crate::processor::read::{Question, ReadError, ReadRequest};
use crate::table::CommittedRows;

impl Task {
    /// Answers the question that has waited longest.
    pub(super) fn answer_read(&mut self) {
        self.was_read = true;
        let Some(ReadRequest { question, done }) = self.reads.pop_front() else { return };
        if done.is_closed() {
            return;
        }
        let Some(table) = &self.core.table else { return };
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
