//! Threads for calls of librdkafka that block: they must never run on a caller's thread.

use std::collections::VecDeque;
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::BoxFuture;

use super::context::lock;
use crate::log::{LogError, LogResult};

type Job = Box<dyn FnOnce() + Send>;

/// The number of calls that can wait for a broker at a time; more wait for those.
const THREADS: usize = 8;
const IDLE: Duration = Duration::from_secs(10);

/// Starts a thread of the adapter.
pub(super) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> LogResult<()> {
    let started = thread::Builder::new().name(name.to_owned()).spawn(run);
    started.map(drop).map_err(|e| LogError::Fatal { what: format!("starting thread {name}"), reason: e.to_string() })
}

fn gone(what: &'static str) -> LogError {
    LogError::Closed { what: what.to_owned() }
}

/// A job, and the future of what it returns. It runs whether the future is awaited or not.
fn job<T: Send + 'static>(
    what: &'static str,
    run: impl FnOnce() -> LogResult<T> + Send + 'static,
) -> (Job, BoxFuture<'static, LogResult<T>>) {
    let (tx, rx) = oneshot::channel();
    let job = Box::new(move || {
        // The caller may have gone away meanwhile.
        let _ = tx.send(run());
    });
    (job, rx.map(move |got| got.unwrap_or_else(|_| Err(gone(what)))).boxed())
}

/// A few threads, started when needed and ended when idle.
#[derive(Clone, Default)]
pub(super) struct Pool(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<PoolState>,
    more: Condvar,
}

#[derive(Default)]
struct PoolState {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

impl Pool {
    /// Runs a call that blocks.
    pub(super) fn run<T: Send + 'static>(
        &self,
        what: &'static str,
        run: impl FnOnce() -> LogResult<T> + Send + 'static,
    ) -> BoxFuture<'static, LogResult<T>> {
        let (job, done) = job(what, run);
        let mut state = lock(&self.0.state);
        state.jobs.push_back(job);
        if state.idle < state.jobs.len() && state.threads < THREADS {
            let shared = Arc::clone(&self.0);
            match spawn("kafka-call", move || shared.work()) {
                Ok(()) => state.threads += 1,
                Err(e) if state.threads == 0 => {
                    state.jobs.pop_back();
                    return futures::future::err(e).boxed();
                }
                Err(_) => {}
            }
        }
        drop(state);
        self.0.more.notify_one();
        done
    }
}

impl Shared {
    fn work(&self) {
        let mut state = lock(&self.state);
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                job();
                state = lock(&self.state);
                continue;
            }
            state.idle += 1;
            let (back, waited) = self.more.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = back;
            state.idle -= 1;
            if waited.timed_out() && state.jobs.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
}

/// One thread whose jobs run in the order they were given, until it is dropped.
pub(super) struct Serial(mpsc::Sender<Job>);

impl Serial {
    /// Starts it.
    pub(super) fn start(name: &str) -> LogResult<Self> {
        let (tx, rx) = mpsc::channel::<Job>();
        spawn(name, move || rx.into_iter().for_each(|job| job()))?;
        Ok(Self(tx))
    }

    /// Runs a call that blocks, after those before it.
    pub(super) fn run<T: Send + 'static>(
        &self,
        what: &'static str,
        run: impl FnOnce() -> LogResult<T> + Send + 'static,
    ) -> BoxFuture<'static, LogResult<T>> {
        let (job, done) = job(what, run);
        if self.0.send(job).is_err() {
            return futures::future::err(gone(what)).boxed();
        }
        done
    }
}
