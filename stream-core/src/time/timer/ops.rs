//! Operations of a callback on timers.

use crate::codec::{ValueOf, encode_state};
use crate::context::Ctx;
use crate::topology::{CallbackError, CallbackResult, Failure, TableId, Timer, TimerEdge, typed};
use crate::window::keys;

impl<S> Ctx<'_, S> {
    /// Sets the key's timer to a time in milliseconds since the epoch, or moves it there, with a value for its callback. One
    /// that is due already fires right after this callback.
    ///
    /// # Errors
    /// When the record has no key, the time is below zero, or the value can't be encoded or is larger than the topic takes.
    pub fn set_timer<T: 'static>(&mut self, timer: Timer<T>, at: i64, value: impl ValueOf<T>) -> CallbackResult {
        let (edge, key) = self.timer_edge(&timer, "set_timer()")?;
        let codec = typed::<T>(&edge.codec).ok_or_else(|| CallbackError::of(Failure::ForeignHandle("timer")))?;
        let (place, due) = (keys::timer(&edge.name, key), keys::due(edge.by, at, &edge.name, key));
        if at < 0 {
            return Err(CallbackError::of(Failure::Negative { at }));
        }
        let old = self.due_at(&place)?.filter(|old| *old != at);
        self.all_or_nothing(|ctx| {
            if let Some(old) = old {
                ctx.stage_state(TableId::TIME, &keys::due(edge.by, old, &edge.name, key), None);
            }
            ctx.stage_state(TableId::TIME, &place, Some(&keys::time(at)));
            ctx.stage_encoded(TableId::TIME, &due, |out| {
                encode_state(&**codec, &value, out).map_err(|error| {
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
            self.stage_state(TableId::TIME, &place, None);
            self.stage_state(TableId::TIME, &keys::due(edge.by, at, &edge.name, key), None);
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

    fn due_at(&mut self, place: &[u8]) -> Result<Option<i64>, CallbackError> {
        let value = self.state_value(TableId::TIME, place)?;
        Ok(value.and_then(|value| keys::read_time(&value).map(|(at, _)| at)))
    }
}

impl<'a, S> Ctx<'a, S> {
    fn timer_edge<T>(&self, timer: &Timer<T>, what: &'static str) -> Result<(&'a TimerEdge, &'a [u8]), CallbackError> {
        let edge = self.core.graph.timers.get(timer.index).filter(|_| timer.graph == self.core.graph.id);
        let edge = edge.ok_or_else(|| CallbackError::of(Failure::ForeignHandle("timer")))?;
        Ok((edge, self.record.key.ok_or_else(|| CallbackError::of(Failure::NoKey(what)))?))
    }
}
