//! The next event of a task: one question at a time, in a fixed order.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::stream::Stream;

use super::fire::Firing;
use super::input::{Next, choose, held};
use super::outbox::weight;
use super::place::read_error;
use super::{Checkpointing, Task, TaskEvent};
use crate::processor::error::{ProcessorError, ProcessorResult};
use crate::table::Step;

impl Task {
    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<ProcessorResult<TaskEvent>> {
        self.pulse.listen();
        if let Poll::Ready(command) = self.commands.poll_recv(cx) {
            return Poll::Ready(Ok(TaskEvent::Command(command)));
        }
        // Demands from outside and the task's own work take turns.
        let was_demand = std::mem::take(&mut self.was_demand);
        if !was_demand && let Poll::Ready(Some(demand)) = self.demands.poll_recv(cx) {
            return Poll::Ready(Ok(TaskEvent::Demand(demand)));
        }
        self.pulse.hurry(!self.demands.is_empty());
        match self.poll_own(cx) {
            Poll::Pending if was_demand => match self.demands.poll_recv(cx) {
                Poll::Ready(Some(demand)) => Poll::Ready(Ok(TaskEvent::Demand(demand))),
                // The instance has ended, or nothing is demanded.
                Poll::Ready(None) | Poll::Pending => Poll::Pending,
            },
            turn => turn,
        }
    }

    /// The next event but demands; where there is none, late acknowledgements are noticed.
    fn poll_own(&mut self, cx: &mut Context<'_>) -> Poll<ProcessorResult<TaskEvent>> {
        let turn = self.poll_next(cx);
        if turn.is_pending() {
            self.poll_stall(cx);
        }
        turn
    }

    /// The next event but demands.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<ProcessorResult<TaskEvent>> {
        if let Poll::Ready((batch, delivery)) = self.outbox.poll_delivered(cx) {
            self.stall = None;
            return Poll::Ready(Ok(TaskEvent::Delivered(batch, delivery)));
        }
        if let Poll::Ready(Some((id, end))) = Pin::new(&mut self.futures).poll_next(cx) {
            return Poll::Ready(Ok(TaskEvent::SlotEnd(id, end)));
        }
        if let Poll::Ready(Some(end)) = self.deferred.poll_recv(cx) {
            return Poll::Ready(Ok(TaskEvent::Deferred(end)));
        }
        // The joins and everything below take turns: a backlog of the one must not keep the other waiting.
        if !self.joined
            && self.ending.is_none()
            && let Poll::Ready(moved) = self.poll_joins(cx)?
        {
            return Poll::Ready(Ok(moved));
        }
        if !self.is_failing()
            && (self.checkpoint == Checkpointing::Writing || self.next_checkpoint.as_mut().poll(cx).is_ready())
        {
            return Poll::Ready(Ok(TaskEvent::Checkpoint));
        }
        let joined = std::mem::take(&mut self.joined);
        match self.poll_work(cx) {
            Poll::Pending if joined && self.ending.is_none() => self.poll_joins(cx),
            turn => turn,
        }
    }

    /// The next event of records.
    fn poll_work(&mut self, cx: &mut Context<'_>) -> Poll<ProcessorResult<TaskEvent>> {
        if self.replay.is_waiting() {
            // Something failed: nothing new before what is on its way has come back.
            return Poll::Pending;
        }
        // An end waits for it only if there is something left to write.
        if (self.ending.is_none() || self.moved || self.recording.due) && self.replay.poll_rest(cx).is_pending() {
            return Poll::Pending;
        }
        if !self.moved && self.in_flight.is_empty() {
            // Nothing came of what was begun.
            self.replay.search.restart();
        }
        self.record_at_the_end();
        // While a culprit is looked for, what was begun together is handed over together.
        let searching = self.replay.search.is_on(&self.inputs);
        let whole = !searching || self.in_flight.is_empty() || !self.replay.search.is_closed();
        // While something is waited for, positions alone would say that it goes on.
        let is_overdue = self.pulse.is_overdue(self.moved) || (self.recording.due && !self.waits);
        if self.stage.out.len() >= self.env.options.batch_records || self.is_full() || (whole && is_overdue) {
            return Poll::Ready(Ok(TaskEvent::Flush));
        }
        if self.ending.is_none() && self.may_dispatch() {
            let firing = self.poll_time(cx);
            if firing == Firing::Now && self.in_flight.is_empty() {
                return Poll::Ready(Ok(TaskEvent::Fire));
            }
            // What is due comes first, once nothing is under way.
            if firing != Firing::No {
            } else if self.poll_visits(cx).is_ready() {
                // Records wait for a visit, else it might never find a moment at which none is under way. It goes with none of
                // them while a culprit is looked for.
                if searching && self.replay.search.has_begun() {
                    self.replay.search.close();
                } else if self.in_flight.is_empty() {
                    return Poll::Ready(Ok(TaskEvent::Visit));
                }
            } else if let Poll::Ready(turn) = self.poll_inputs(cx)? {
                return Poll::Ready(Ok(turn));
            }
        }
        let whole = !searching || self.in_flight.is_empty() || !self.replay.search.is_closed();
        if (self.moved && whole) || self.recording.due {
            return Poll::Ready(Ok(TaskEvent::Flush));
        }
        if self.is_over() {
            return Poll::Ready(Ok(TaskEvent::Drained));
        }
        Poll::Pending
    }

    /// Whether there is room for more work.
    fn may_dispatch(&self) -> bool {
        self.outbox.bytes() < self.env.memory.in_flight()
            && !self.makes_room()
            && !self.in_flight.alone()
            && !self.recording.opening
            && (!self.replay.search.is_on(&self.inputs) || (self.outbox.is_empty() && !self.replay.search.is_closed()))
            // Each batch behind one that is sent alone is sent alone, too: they come to an end.
            && !self.outbox.ends_alone()
    }

    /// Whether what is released should be handed over before more is processed.
    pub(super) fn is_full(&self) -> bool {
        let (released, options) = (&self.stage.out, &self.env.options);
        !released.is_empty()
            && (released.bytes() >= options.batch_bytes.min(self.env.egress.batch_bytes())
                || self.outbox.bytes() + weight(released) >= self.env.memory.in_flight())
    }

    /// The input whose turn it is, if one has a record and nothing earlier may come from another.
    fn poll_inputs(&mut self, cx: &mut Context<'_>) -> Poll<ProcessorResult<TaskEvent>> {
        let limits = self.env.options.fetch;
        for input in &mut self.inputs {
            if let Err(error) = input.poll_fill(cx, limits) {
                return Poll::Ready(Err(read_error(&self.env, &input.partition, error)));
            }
        }
        self.report_alignment();
        while let Some(head) = held(&self.inputs, self.alignment.limit) {
            if self.alignment.poll(cx, &self.env, head).is_pending() {
                break;
            }
        }
        let (input, until) = match choose(&self.inputs, self.alignment.limit) {
            Next::Nothing => {
                self.idle = None;
                self.idle_passed = false;
                return self.poll_quiet(cx).map(|()| {
                    self.time.close_open();
                    Ok(TaskEvent::Fire)
                });
            }
            Next::Input(input, until) => {
                self.is_busy();
                self.idle = None;
                self.idle_passed = false;
                (input, until)
            }
            Next::Unsure(input, until) => {
                self.is_busy();
                if !self.idle_passed {
                    let max = self.env.options.max_task_idle;
                    let idle = self.idle.get_or_insert_with(|| Box::pin(tokio::time::sleep(max)));
                    if idle.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    self.idle = None;
                    self.idle_passed = true;
                }
                (input, until)
            }
        };
        if self.room_for(input) { Poll::Ready(Ok(TaskEvent::Run(input, until))) } else { Poll::Pending }
    }

    /// One step of each join that has something new.
    fn poll_joins(&mut self, cx: &mut Context<'_>) -> Poll<ProcessorResult<TaskEvent>> {
        for join in &mut self.joins {
            match join.poll_step(cx, &mut |_, _| {}) {
                Poll::Pending => {}
                Poll::Ready(Ok(Step::Applied(_) | Step::CaughtUp(_))) => self.joined = true,
                Poll::Ready(Err(error)) => {
                    let error = ProcessorError::follow(self.core.graph.name(), "follow a joined table", error);
                    return Poll::Ready(Err(error));
                }
            }
        }
        if self.joined { Poll::Ready(Ok(TaskEvent::JoinMoved)) } else { Poll::Pending }
    }
}
