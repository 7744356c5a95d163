//! Operations of a callback on windows.

use crate::codec::encode_state;
use crate::context::Ctx;
use crate::topology::{CallbackError, Failure, TableId, WindowHandle, typed};
use crate::window::{Window, Windows, keys};

impl<S> Ctx<'_, S> {
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
        to: WindowHandle<A>,
        mut fold: impl FnMut(Option<A>) -> A,
    ) -> Result<Vec<(Window, A)>, CallbackError> {
        let (windows, table) = self.window_edge(&to)?;
        let key = self.record.key.ok_or_else(|| CallbackError::of(Failure::NoKey("aggregate()")))?;
        let core = self.core;
        let foreign = || CallbackError::of(Failure::ForeignHandle("window"));
        let edge = core.graph.tables.get(table).ok_or_else(foreign)?;
        let codec = typed::<A>(&edge.codec).ok_or_else(foreign)?;
        let (mut all, mut late) = (Vec::new(), 0);
        self.all_or_nothing(|ctx| {
            for window in windows.at(ctx.record.timestamp) {
                if windows.closes(window) <= ctx.stage.time {
                    late += 1;
                    continue;
                }
                let place = keys::window(window.start, key);
                let value = fold(ctx.accumulator(table, &place)?);
                ctx.stage_encoded(table, &place, |out| {
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
    pub fn window_value<A: 'static>(&mut self, of: WindowHandle<A>, start: i64) -> Result<Option<A>, CallbackError> {
        let (_, table) = self.window_edge(&of)?;
        let key = self.record.key.ok_or_else(|| CallbackError::of(Failure::NoKey("window_value()")))?;
        self.accumulator(table, &keys::window(start, key))
    }
}

impl<S> Ctx<'_, S> {
    fn window_edge<A>(&self, window: &WindowHandle<A>) -> Result<(Windows, TableId), CallbackError> {
        let edge = self.core.graph.windows.get(window.index).filter(|_| window.graph == self.core.graph.id);
        let edge = edge.ok_or_else(|| CallbackError::of(Failure::ForeignHandle("window")))?;
        Ok((edge.windows, edge.table))
    }
}
