//! What a callback can do with time: timers and windows.
//!
//! Both are entries of the library's own tables. As everything else, their writes are staged.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::Ctx;
use crate::codec::encode_state;
use crate::context::Obstacle;
use crate::group::graph::TimerEdge;
use crate::group::handler::{CodecOf, typed};
use crate::group::{CallbackError, CallbackResult, Failure, Timer, Windowed};
use crate::window::keys;
use crate::window::{Window, Windows};

/// The state table of stream time and timers.
const TIME: usize = 0;

impl<S> Ctx<'_, S> {
    /// Stream time of the partition, the record's own event time included, in milliseconds since the epoch. `None` in a group
    /// without timers and windows, which does not keep it.
    pub fn stream_time(&self) -> Option<i64> {
        (!self.core.graph.state.is_empty() && self.stage.time > i64::MIN).then_some(self.stage.time)
    }

    /// Sets the key's timer to a time in milliseconds since the epoch, or moves it there, with a value for its callback. One
    /// that is due already fires right after this callback.
    ///
    /// # Errors
    /// When the record has no key, the time is below zero, or the value can't be encoded or is larger than the topic takes.
    pub fn set_timer<T: 'static>(&mut self, timer: Timer<T>, at: i64, value: &T) -> CallbackResult {
        let (edge, key) = self.timer_edge(&timer, "set_timer()")?;
        let codec = typed::<T>(&edge.codec).ok_or_else(|| CallbackError::of(Failure::ForeignHandle("timer")))?;
        let (place, due) = (keys::timer(&edge.name, key), keys::due(edge.by, at, &edge.name, key));
        if at < 0 {
            return Err(CallbackError::of(Failure::Negative { at }));
        }
        let old = self.due_at(&place)?.filter(|old| *old != at);
        self.all_or_nothing(|ctx| {
            if let Some(old) = old {
                ctx.stage_state(TIME, &keys::due(edge.by, old, &edge.name, key), None);
            }
            ctx.stage_state(TIME, &place, Some(&keys::time(at)));
            ctx.stage_encoded(TIME, &due, |out| {
                encode_state(&**codec, value, out).map_err(|error| {
                    CallbackError::of(Failure::Encode { edge: format!("timer {:?}", edge.name), error })
                })
            })
        })
    }

    /// Cancels the key's timer. One that is not set is no error.
    ///
    /// # Errors
    /// When the record has no key, or the store fails.
    pub fn cancel_timer<T: 'static>(&mut self, timer: Timer<T>) -> CallbackResult {
        let (edge, key) = self.timer_edge(&timer, "cancel_timer()")?;
        let place = keys::timer(&edge.name, key);
        if let Some(at) = self.due_at(&place)? {
            self.stage_state(TIME, &place, None);
            self.stage_state(TIME, &keys::due(edge.by, at, &edge.name, key), None);
        }
        Ok(())
    }

    /// When the key's timer is due; `None` if it is not set.
    ///
    /// # Errors
    /// When the record has no key, or the store fails.
    pub fn timer<T: 'static>(&mut self, timer: Timer<T>) -> Result<Option<i64>, CallbackError> {
        let (edge, key) = self.timer_edge(&timer, "timer()")?;
        self.due_at(&keys::timer(&edge.name, key))
    }

    /// Folds the record into the accumulator of each window that its event time belongs to, for its key, and gives the
    /// windows with their new accumulators, the earliest first. A window that has closed already is left out, and counted
    /// ([W2](crate::semantics#w2-late-records)).
    ///
    /// With at-least-once delivery, a record that is processed again after a crash may find its window closed although the
    /// window was open the first time: its first effect is then in the window's result.
    ///
    /// # Errors
    /// When the record has no key, an accumulator can't be decoded or encoded or is larger than the topic takes, or the
    /// store fails.
    pub fn aggregate<A: 'static>(
        &mut self,
        to: Windowed<A>,
        mut fold: impl FnMut(Option<A>) -> A,
    ) -> Result<Vec<(Window, A)>, CallbackError> {
        let (windows, state) = self.window_edge(&to)?;
        let key = self.record.key.ok_or_else(|| CallbackError::of(Failure::NoKey("aggregate()")))?;
        let core = self.core;
        let foreign = || CallbackError::of(Failure::ForeignHandle("window"));
        let edge = core.graph.state.get(state).ok_or_else(foreign)?;
        let codec = typed::<A>(&edge.codec).ok_or_else(foreign)?;
        let (mut all, mut late) = (Vec::new(), 0);
        self.all_or_nothing(|ctx| {
            for window in windows.at(ctx.record.timestamp) {
                if windows.closes(window) <= ctx.stage.time {
                    late += 1;
                    continue;
                }
                let place = keys::window(window.start, key);
                let value = fold(ctx.accumulator(state, &place)?);
                ctx.stage_encoded(state, &place, |out| {
                    encode_state(&**codec, &value, out).map_err(|error| {
                        CallbackError::of(Failure::Encode { edge: format!("table {:?}", edge.topic), error })
                    })
                })?;
                all.push((window, value));
            }
            Ok(())
        })?;
        self.stage.left_out.late += late;
        Ok(all)
    }

    /// The key's accumulator of the window that starts there; `None` if there is none, or it has closed.
    ///
    /// # Errors
    /// When the record has no key, the accumulator can't be decoded, or the store fails.
    pub fn window_value<A: 'static>(&mut self, of: Windowed<A>, start: i64) -> Result<Option<A>, CallbackError> {
        let (_, state) = self.window_edge(&of)?;
        let key = self.record.key.ok_or_else(|| CallbackError::of(Failure::NoKey("window_value()")))?;
        self.accumulator(state, &keys::window(start, key))
    }

    /// Takes back what was staged if it fails or panics, for the callback may go on.
    pub(super) fn all_or_nothing(&mut self, stage: impl FnOnce(&mut Self) -> CallbackResult) -> CallbackResult {
        let (before, voids) = (self.stage.state.savepoint(), self.stage.void.len());
        let done = catch_unwind(AssertUnwindSafe(|| stage(self)));
        if !matches!(done, Ok(Ok(()))) {
            self.stage.state.truncate(before);
            self.stage.void.truncate(voids);
        }
        done.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Keeps the newest value of a key in a state table as it came; a null deletes it.
    pub(crate) fn keep(&mut self, state: usize, key: &[u8], value: Option<&[u8]>) -> CallbackResult {
        let Some(value) = value else {
            self.stage_state(state, key, None);
            return Ok(());
        };
        self.stage_encoded(state, key, |out| {
            out.extend_from_slice(value);
            Ok(())
        })
    }

    /// The value that a state table has for a key.
    pub(crate) fn kept<A: 'static>(&mut self, state: usize, key: &[u8]) -> Result<Option<A>, CallbackError> {
        self.accumulator(state, key)
    }

    fn accumulator<A: 'static>(&mut self, state: usize, place: &[u8]) -> Result<Option<A>, CallbackError> {
        let Some(edge) = self.core.graph.state.get(state) else { return Ok(None) };
        let bytes = self.state_value(state, place)?;
        self.decode_table(&edge.topic, &edge.codec, CodecOf::State(state), bytes.as_deref())
    }

    fn due_at(&mut self, place: &[u8]) -> Result<Option<i64>, CallbackError> {
        let value = self.state_value(TIME, place)?;
        Ok(value.and_then(|value| keys::read_time(&value).map(|(at, _)| at)))
    }

    /// What a callback sees of a state table: what it has staged itself, else what the table has.
    pub(crate) fn state_value(&mut self, state: usize, place: &[u8]) -> Result<Option<Vec<u8>>, CallbackError> {
        let staged = self.stage.state.of(state).rev().find(|(key, _)| *key == place);
        let staged = staged.map(|(_, value)| value.map(<[u8]>::to_vec));
        match staged {
            Some(value) => Ok(value),
            None => self.core.state_value(state, place).map_err(|error| {
                self.stage.obstacle = Some(Obstacle::Store(error.clone()));
                CallbackError::of(Failure::Store(error))
            }),
        }
    }

    pub(crate) fn stage_state(&mut self, state: usize, place: &[u8], value: Option<&[u8]>) {
        self.stage.state.push(self.core, state, self.record.timestamp, place, value);
    }

    pub(crate) fn stage_encoded(
        &mut self,
        state: usize,
        place: &[u8],
        encode: impl FnOnce(&mut Vec<u8>) -> CallbackResult,
    ) -> CallbackResult {
        self.stage.state.push_with(self.core, state, self.record.timestamp, place, encode)
    }
}

impl<'a, S> Ctx<'a, S> {
    fn timer_edge<T>(&self, timer: &Timer<T>, what: &'static str) -> Result<(&'a TimerEdge, &'a [u8]), CallbackError> {
        let edge = self.core.graph.timers.get(timer.index).filter(|_| timer.graph == self.core.graph.id);
        let edge = edge.ok_or_else(|| CallbackError::of(Failure::ForeignHandle("timer")))?;
        Ok((edge, self.record.key.ok_or_else(|| CallbackError::of(Failure::NoKey(what)))?))
    }

    fn window_edge<A>(&self, window: &Windowed<A>) -> Result<(Windows, usize), CallbackError> {
        let edge = self.core.graph.windows.get(window.index).filter(|_| window.graph == self.core.graph.id);
        let edge = edge.ok_or_else(|| CallbackError::of(Failure::ForeignHandle("window")))?;
        Ok((edge.windows, edge.state))
    }
}
