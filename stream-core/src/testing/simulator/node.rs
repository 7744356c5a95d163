//! A machine: a place for an instance of a group, with stores that outlive it.
//!
//! Each instance has its own [`LocalSet`]. Dropping that is its death; not polling it is its standstill.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::Instant;

use super::client::Client;
use super::life::Life;
use super::owners::Owners;
use super::random::Random;
use super::trace::Trace;
use crate::log::LogHandle;
use crate::processor::{CallbackFaults, Handle, Processor, ProcessorError, ProcessorResult};
use crate::store::{MemoryStores, Survivors};

/// How a machine is.
pub(super) struct Node {
    pub(super) group: usize,
    pub(super) name: String,
    random: Random,
    trace: Arc<Trace>,
    owners: Arc<Owners>,
    pub(super) stores: MemoryStores,
    /// How often its disk was replaced.
    disks: u32,
    lives: u32,
    pub(super) running: Option<Running>,
    /// The remains of earlier lives: the log may still wait for them.
    graves: Vec<Arc<Life>>,
    /// When the next life begins, if one is to.
    pub(super) start_at: Option<Instant>,
    /// The instance stands still until then.
    pub(super) frozen_until: Option<Instant>,
    /// Whether there is something for it to do.
    woken: Arc<Woken>,
}

/// A machine's waker: only who has something to do is polled.
#[derive(Default)]
struct Woken {
    here: AtomicBool,
    world: AtomicWaker,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.here.store(true, Ordering::Release);
        self.world.wake();
    }
}

/// An instance at work.
pub(super) struct Running {
    local: LocalSet,
    run: JoinHandle<ProcessorResult<()>>,
    pub(super) handle: Handle,
    pub(super) life: Arc<Life>,
    pub(super) faults: CallbackFaults,
    pub(super) stopping: bool,
}

/// The result of polling a machine.
pub(super) enum Ended {
    /// It died.
    Crashed,
    /// It was asked to stop, and its bound passed before its work was done.
    Undrained,
    /// Its processor returned.
    Returned(ProcessorResult<()>),
}

impl Node {
    pub(super) fn new(group: usize, name: String, trace: Arc<Trace>, owners: Arc<Owners>, random: Random) -> Self {
        let stores = MemoryStores::crashable().named(format!("{name}-disk0"));
        Self {
            group,
            name,
            random,
            trace,
            owners,
            stores,
            disks: 0,
            lives: 0,
            running: None,
            graves: Vec::new(),
            start_at: None,
            frozen_until: None,
            woken: Arc::default(),
        }
    }

    /// Begins a life.
    pub(super) fn start(&mut self, log: &LogHandle, slow: bool, make: impl FnOnce(LogHandle) -> Processor) {
        self.lives += 1;
        self.start_at = None;
        // In earnest a start takes longer than what is left in a dead process's connections (seed 1050).
        self.forget_graves();
        let name = format!("{}.{}", self.name, self.lives);
        let (trace, owners) = (Arc::clone(&self.trace), Arc::clone(&self.owners));
        let life = Life::new((self.group, name), trace, owners, self.random.fork(), slow);
        life.note(format_args!("starts"));
        let client: LogHandle = Arc::new(Client::new(Arc::clone(log), Arc::clone(&life)));
        let faults = CallbackFaults::settable();
        let processor = make(client).stores(Arc::new(self.stores.clone())).callback_faults(faults.clone());
        let handle = processor.handle();
        let local = LocalSet::new();
        let run = local.spawn_local(processor.run_here());
        self.running = Some(Running { local, run, handle, life, faults, stopping: false });
        self.woken.wake_by_ref();
    }

    /// Nothing comes any more of what earlier lives had on its way.
    pub(super) fn forget_graves(&self) {
        for life in &self.graves {
            life.forget_producers();
        }
    }

    /// It goes on after a standstill.
    pub(super) fn thaw(&mut self) {
        self.frozen_until = None;
        self.woken.wake_by_ref();
    }

    /// Lets the instance go on, if it is not standing still.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Option<Ended> {
        if self.frozen_until.is_some() {
            return None;
        }
        let running = self.running.as_mut()?;
        self.woken.world.register(cx.waker());
        if !self.woken.here.swap(false, Ordering::AcqRel) {
            return None;
        }
        let waker = Waker::from(Arc::clone(&self.woken));
        let cx = &mut Context::from_waker(&waker);
        // The set is never done before the instance is.
        _ = Pin::new(&mut running.local).poll(cx);
        if running.life.is_dead() {
            self.bury();
            return Some(Ended::Crashed);
        }
        let Poll::Ready(result) = Pin::new(&mut running.run).poll(cx) else { return None };
        running.life.forget_producers();
        let stopping = running.stopping;
        self.running = None;
        self.stores.crash_never();
        // Nobody aborts it, and a panic of the library's is one of the simulation's.
        match result {
            // Asked to stop, it gave up what was under way: its bound is shorter than what it may wait for.
            Ok(Err(ProcessorError::DrainTimeout { .. })) if stopping => Some(Ended::Undrained),
            Ok(result) => Some(Ended::Returned(result)),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Some(Ended::Crashed),
            },
        }
    }

    /// Dies now.
    pub(super) fn crash(&mut self) {
        if let Some(running) = &self.running {
            running.life.note(format_args!("dies"));
            running.life.kill();
            self.bury();
        }
    }

    fn bury(&mut self) {
        let Some(Running { local, life, .. }) = self.running.take() else { return };
        self.frozen_until = None;
        drop(local);
        if self.random.chance(500) {
            life.forget_producers();
        } else {
            life.forget_producers_soon();
        }
        self.graves.push(life);
        let survivors = match self.random.below(4) {
            0 => Survivors::All,
            1 => Survivors::Checkpointed,
            _ => Survivors::Some(self.random.next()),
        };
        self.stores.crash_never();
        self.stores.restart(survivors);
    }

    /// The disk is replaced by an empty one.
    pub(super) fn lose_stores(&mut self) {
        self.disks += 1;
        self.stores = MemoryStores::crashable().named(format!("{}-disk{}", self.name, self.disks));
    }

    /// The instance dies in one of the next steps of its stores.
    pub(super) fn crash_in_store(&mut self) {
        let Some(running) = &self.running else { return };
        let (life, mut left) = (Arc::clone(&running.life), self.random.below(12));
        self.stores.crash_when(move |store, point| {
            let dies = left == 0;
            left = left.saturating_sub(1);
            if dies {
                life.note(format_args!("dies in its store {store:?} at {point:?}"));
                life.kill();
            }
            dies
        });
    }

    /// No crash is to come any more.
    pub(super) fn spare(&self) {
        self.stores.crash_never();
        if let Some(running) = &self.running {
            running.life.die_after(u64::MAX);
            running.life.set_slow(false);
            running.faults.set(|_, _| None);
        }
    }
}
