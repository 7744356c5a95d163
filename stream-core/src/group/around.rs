//! Middleware: code of the user's around every callback of a group.
//!
//! A handler owns the [`Layer`] that `build` gave it, and passes its callback through it once the value is decoded and stream
//! time has arrived. This module must never turn an error into a success: only a callback that has returned `Ok` makes a
//! [`Ran`].

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::LocalBoxFuture;

use crate::context::Ctx;
use crate::topology::{CallbackError, CallbackResult};

/// The kind of a [`Call`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Called {
    /// The callback of an input, for one record; also that of a loop and of a join's match.
    Record,
    /// The callback of a batch input, for some records at a time.
    Records,
    /// The callback of a timer.
    Timer,
    /// The callback of a window that closes.
    Window,
    /// The callback of a session that closes.
    Session,
    /// The callback of a batch that closes.
    Batch,
    /// The callback of a join, for a record that has stayed without a match.
    Unmatched,
    /// A visitor, for one key of the table.
    Visitor,
}

/// The callback that is about to be called, as [`GroupBuilder::around`](crate::group::GroupBuilder::around) sees it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Call<'a> {
    /// The group's name.
    pub group: &'a str,
    /// The kind of the callback.
    pub called: Called,
    /// The topic of a record; else the name of the timer, window, session, batch, join or visitor.
    pub name: &'a str,
    /// The partition of the task.
    pub partition: i32,
    /// The record's offset, that of the last record of a batch input; `None` if it is not called for a record.
    pub offset: Option<i64>,
    /// The key that it is called for; `None` if there is none, and for a batch input.
    pub key: Option<&'a [u8]>,
    /// Event time in milliseconds since the epoch, as [`Ctx::timestamp`] has it in the callback.
    pub timestamp: i64,
}

/// The callback behind a middleware. If it is not run, the middleware can only return an error.
pub struct Next<'a>(Pin<&'a mut dyn Future<Output = CallbackResult>>);

/// The callback has returned `Ok`. Only [`Next::run`] makes one, so that a middleware can't hide an error.
#[derive(Debug)]
pub struct Ran(());

impl Next<'_> {
    /// Runs the callback to its end.
    ///
    /// # Errors
    /// The callback's. A panic of the callback passes through the middleware.
    pub async fn run(self) -> Result<Ran, CallbackError> {
        self.0.await.map(|()| Ran(()))
    }
}

impl fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").finish_non_exhaustive()
    }
}

/// What a handler knows of a middleware.
pub(crate) trait Around: Send + Sync {
    fn call<'a>(&'a self, call: Call<'a>, next: Next<'a>) -> LocalBoxFuture<'a, Result<Ran, CallbackError>>;
}

/// A closure as a middleware.
struct Closure<F>(F);

/// A middleware without its type.
pub(super) fn of<F>(middleware: F) -> Arc<dyn Around>
where
    F: AsyncFn(Call<'_>, Next<'_>) -> Result<Ran, CallbackError> + Send + Sync + 'static,
{
    Arc::new(Closure(middleware))
}

impl<F> Around for Closure<F>
where
    F: AsyncFn(Call<'_>, Next<'_>) -> Result<Ran, CallbackError> + Send + Sync,
{
    fn call<'a>(&'a self, call: Call<'a>, next: Next<'a>) -> LocalBoxFuture<'a, Result<Ran, CallbackError>> {
        Box::pin(async move { (self.0)(call, next).await })
    }
}

/// A middleware around another one.
pub(super) fn nested(outer: Arc<dyn Around>, inner: Arc<dyn Around>) -> Arc<dyn Around> {
    Arc::new(Nested { outer, inner })
}

/// Two middlewares, one around the other.
struct Nested {
    outer: Arc<dyn Around>,
    inner: Arc<dyn Around>,
}

impl Around for Nested {
    fn call<'a>(&'a self, call: Call<'a>, next: Next<'a>) -> LocalBoxFuture<'a, Result<Ran, CallbackError>> {
        let (outer, inner): (&'a dyn Around, &'a dyn Around) = (&*self.outer, &*self.inner);
        Box::pin(async move {
            let within = pin!(async move { inner.call(call, next).await.map(drop) });
            outer.call(call, Next(within)).await
        })
    }
}

/// The middleware around one callback.
#[derive(Clone)]
pub(crate) struct Layer {
    around: Arc<dyn Around>,
    called: Called,
    /// The name of what is no record.
    name: Option<Arc<str>>,
}

impl Layer {
    pub(super) fn new(around: &Arc<dyn Around>, called: Called, name: Option<&Arc<str>>) -> Self {
        Self { around: Arc::clone(around), called, name: name.cloned() }
    }

    fn describe<'a, S>(&'a self, ctx: &Ctx<'a, S>) -> Call<'a> {
        let is_record = self.name.is_none();
        Call {
            group: ctx.group(),
            called: self.called,
            name: self.name.as_deref().unwrap_or(ctx.topic()),
            partition: ctx.partition(),
            offset: is_record.then_some(ctx.offset()),
            key: ctx.key(),
            timestamp: ctx.timestamp(),
        }
    }

    /// Calls a callback that does not await.
    pub(crate) fn call<'a, S>(
        layer: Option<&'a Self>,
        ctx: &mut Ctx<'a, S>,
        callback: impl FnOnce(&mut Ctx<'a, S>) -> CallbackResult,
    ) -> CallbackResult {
        let Some(layer) = layer else { return callback(ctx) };
        let call = layer.describe(ctx);
        let next = pin!(async { callback(ctx) });
        let called = layer.around.call(call, Next(next)).now_or_never();
        let awaits = || CallbackError::msg("around() awaits something besides a callback that does not await itself");
        called.unwrap_or_else(|| Err(awaits())).map(drop)
    }

    /// Calls a callback that awaits.
    pub(crate) async fn call_async<'a, S>(
        layer: Option<&'a Self>,
        ctx: &mut Ctx<'a, S>,
        callback: impl AsyncFnOnce(&mut Ctx<'a, S>) -> CallbackResult,
    ) -> CallbackResult {
        let Some(layer) = layer else { return callback(ctx).await };
        let call = layer.describe(ctx);
        let next = pin!(callback(ctx));
        layer.around.call(call, Next(next)).await.map(drop)
    }
}
