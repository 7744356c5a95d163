//! Closing of windows, sessions and batches: a callback gets what they held.

use crate::context::Ctx;
use crate::group::GroupBuilder;
use crate::topology::CallbackResult;

/// Keeps [`Closes`] to the handles of this library.
pub(super) mod sealed {
    #[allow(missing_docs, reason = "only a seal")]
    pub trait Sealed {}
}

/// A handle of something that closes: the windows, sessions or batches of a group. [`GroupBuilder::on_close`] takes it.
pub trait Closes: sealed::Sealed {
    /// The callback's argument: a window or a session with its accumulator, or the values of a batch.
    type Closed;

    /// Sets the callback.
    #[doc(hidden)]
    fn set_on_close<S: 'static>(
        self,
        group: &mut GroupBuilder<S>,
        callback: impl Fn(&mut Ctx<'_, S>, Self::Closed) -> CallbackResult + Send + Sync + 'static,
    );
}

impl<S: 'static> GroupBuilder<S> {
    /// Sets the callback that is called once for each key and window, session or batch when it closes.
    ///
    /// | handle of | the callback gets | it closes when | the callback's time |
    /// |---|---|---|---|
    /// | [`window`](Self::window) | `(Window, A)`: the window, its accumulator | stream time is past its end and grace | its last millisecond |
    /// | [`session`](Self::session) | `(Session, A)`: the session, its accumulator | stream time is past its end, gap and grace | its end |
    /// | [`batch`](Self::batch) | `Vec<T>`: the values, in the order of their records | it is full, or by the wall clock | the largest event time among them |
    ///
    /// The final result comes once ([W3](crate::semantics#w3-a-final-result-comes-once)). An error follows
    /// [`on_due_error`](Self::on_due_error): by default it fails the instance, and the window, session or batch closes
    /// again when that is restarted.
    ///
    /// ```
    /// use std::time::Duration;
    /// use stream_core::prelude::*;
    ///
    /// let mut g = Group::define("clicks-per-minute");
    /// let out = g.output("clicks-per-minute", Int64);
    /// let minute = g.window("minute", Windows::tumbling(Duration::from_secs(60)), Int64);
    /// g.input("clicks", Text, move |ctx, _click| {
    ///     ctx.aggregate(minute, |n| n.unwrap_or(0) + 1)?;
    ///     Ok(())
    /// });
    /// g.on_close(minute, move |ctx, (_window, n)| ctx.emit(out, ctx.key(), &n));
    /// # g.build()?;
    /// # Ok::<(), BuildError>(())
    /// ```
    pub fn on_close<H: Closes>(
        &mut self,
        handle: H,
        callback: impl Fn(&mut Ctx<'_, S>, H::Closed) -> CallbackResult + Send + Sync + 'static,
    ) -> &mut Self {
        handle.set_on_close(self, callback);
        self
    }
}
