//! Reads of the table: each question goes to the tasks that can answer it.

use std::collections::BTreeSet;

use tokio::sync::oneshot;

use super::Instance;
use crate::processor::query::{Asked, Question, ReadError, ReadRequest};
use crate::processor::status::{State, TaskState};
use crate::processor::task::Demand;

impl Instance<'_> {
    /// Passes a question on. A partition that is going away is not here any more, and one that is being restored can't
    /// be asked: it may not look at its inbox before the restore ends.
    pub(super) fn read(&self, question: Question, done: oneshot::Sender<Result<Asked, ReadError>>) {
        // Who asked may have gone.
        _ = done.send(self.ask(&question));
    }

    fn ask(&self, question: &Question) -> Result<Asked, ReadError> {
        let group = || self.env.graph.name().to_owned();
        let table = self.env.graph.tables.group.as_ref().ok_or_else(|| ReadError::NoTable { group: group() })?;
        if self.stopping || !self.assigned {
            let state = if self.stopping { State::Stopping } else { State::Starting };
            return Err(ReadError::NotRunning { group: group(), state });
        }
        let of = self.facts.topics.get(&table.topic).map_or(0, |t| t.partitions);
        let wanted = match question {
            Question::Key(key) => Some(self.env.options.partitioner.partition(key, of)),
            Question::Rows(_) => None,
        };
        let mut held = BTreeSet::new();
        let mut answers = Vec::new();
        for task in self.tasks.values().filter(|t| t.state != TaskState::Draining) {
            let Some(partition) = task.partitions.first().map(|p| p.partition) else { continue };
            let (done, answer) = oneshot::channel();
            if wanted.is_none_or(|wanted| wanted == partition) {
                if task.state == TaskState::Restoring {
                    _ = done.send(Err(ReadError::Restoring { group: group(), partition }));
                } else {
                    // One that has ended drops the answer's other end, which says so.
                    task.orders.ask(Demand::Read(ReadRequest { question: question.clone(), done }));
                }
                answers.push((partition, answer));
            }
            held.insert(partition);
        }
        answers.sort_by_key(|(partition, _)| *partition);
        match wanted {
            Some(partition) if answers.is_empty() => {
                Err(ReadError::NotHere { group: group(), partition, held: held.into_iter().collect() })
            }
            None if answers.is_empty() => Err(ReadError::NothingHere { group: group() }),
            _ => Ok(Asked { answers, of }),
        }
    }
}
