//! The definition of a group's middleware.

use super::around::{Call, Next, Ran, nested, of};
use super::builder::GroupBuilder;
use crate::topology::CallbackError;

impl<S: 'static> GroupBuilder<S> {
    /// Surrounds every callback of the group, wherever in the definition this is called: to time it, to trace it, or to turn
    /// its error into another one. It gets a description of the call, and `next`, whose [`run`](Next::run) calls the callback.
    ///
    /// An error that it returns counts as one of the callback: what was staged is discarded, and the policy applies. It
    /// can't turn an error into a success. Each retry is a call. A value that can't be decoded reaches no callback, and so
    /// does not come here. Of several, the first is the outermost.
    ///
    /// It is an `async` closure for callbacks of both kinds. Around one that does not await (all but
    /// [`input_async`](Self::input_async) and [`input_batch`](Self::input_batch)), it must not await anything but `next`:
    /// the call fails then. Around one that awaits, it may be dropped while it awaits, when the task ends.
    ///
    /// ```
    /// use std::time::Instant;
    ///
    /// use stream_core::prelude::*;
    ///
    /// let mut g = Group::define("counts").table(Int64);
    /// g.input("words", Text, |ctx, _word| {
    ///     let n = ctx.value()?.unwrap_or(0);
    ///     ctx.set(n + 1)
    /// });
    /// g.around(async |call, next| {
    ///     let begun = Instant::now();
    ///     let result = next.run().await;
    ///     println!("{:?} {}: {:?}", call.called, call.name, begun.elapsed());
    ///     result.map_err(|error| CallbackError::msg(format!("{} failed: {error:#}", call.name)))
    /// });
    /// # g.build()?;
    /// # Ok::<(), BuildError>(())
    /// ```
    ///
    /// # Panics
    /// Never. A panic in the closure is an error of what it was called for, as one in the callback is.
    pub fn around<F>(&mut self, middleware: F) -> &mut Self
    where
        F: AsyncFn(Call<'_>, Next<'_>) -> Result<Ran, CallbackError> + Send + Sync + 'static,
    {
        self.edges();
        let inner = of(middleware);
        self.around = Some(match self.around.take() {
            Some(outer) => nested(outer, inner),
            None => inner,
        });
        self
    }
}
