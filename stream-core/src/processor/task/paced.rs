//! A task's inputs that are held back until the rest of the group has come as far (see [`Pace`]).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use tokio::time::Sleep;

use crate::processor::env::Env;
use crate::processor::pace::{PATIENCE, Pace};

pub(super) struct Paced {
    pace: Option<Arc<Pace>>,
    known: i64,
    /// Records of paced inputs up to this time may be dispatched.
    pub(super) limit: i64,
    looking: Option<LocalBoxFuture<'static, ()>>,
    patience: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    pub(super) fn new(pace: Option<Arc<Pace>>) -> Self {
        let limit = if pace.is_some() { i64::MIN } else { i64::MAX };
        Self { pace, known: i64::MIN, limit, looking: None, patience: None }
    }

    /// Nothing is held, or nothing more is read: whoever looks in vain keeps others from it.
    pub(super) fn rest(&mut self) {
        (self.looking, self.patience) = (None, None);
    }

    /// The next record of a paced input has this time, beyond the limit. Ready once the limit is beyond that.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, env: &Arc<Env>, head: i64) -> Poll<()> {
        let Some(pace) = &self.pace else { return Poll::Ready(()) };
        loop {
            let known = pace.known();
            if known != self.known {
                (self.known, self.limit) = (known, pace.limit(known));
            }
            if head <= self.limit {
                self.rest();
                return Poll::Ready(());
            }
            let patience = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(PATIENCE)));
            if patience.as_mut().poll(cx).is_ready() {
                self.limit = pace.limit(head);
                continue;
            }
            let look = || Arc::clone(pace).look(Arc::clone(env), known, head).boxed_local();
            ready!(self.looking.get_or_insert_with(look).as_mut().poll(cx));
            self.looking = None;
        }
    }
}
