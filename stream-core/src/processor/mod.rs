//! Processors: a group graph at work.
//!
//! ```text
//! Processor::run ── start ──► Instance (one future: membership, assignment, commits)
//!      ▲                          │ one task for each partition
//!      └── restart on failure     ▼
//!                             worker threads: Task (one future a partition: callbacks, table, effects)
//! ```
//!
//! Who owns what: the **instance** owns the group membership and decides what is committed; a **task** owns its
//! partition's inputs, table and unreleased effects and shares them with nobody; a **worker** is a thread with a runtime
//! for its tasks. They talk by messages only; nothing is synchronised a record.

mod alignment;
mod batch_limits;
mod budget;
mod counters;
mod egress;
mod env;
mod error;
mod faults;
mod gate;
mod handle;
mod instance;
mod left_out;
mod lookups;
mod memory;
mod options;
mod placement;
mod positions;
mod producer_id;
pub(crate) mod progress;
mod query;
mod restore;
mod run;
mod settings;
mod standby;
mod status;
mod stop;
mod task;
mod transactions;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use tokio::sync::{mpsc, watch};

pub(crate) use self::counters::Counters;
pub use self::error::{ProcessorError, ProcessorResult};
#[cfg_attr(not(feature = "testing"), allow(unused_imports))]
pub(crate) use self::faults::{CallbackFaults, Moment};
pub use self::handle::Handle;
use self::handle::Request;
use self::options::Options;
pub use self::options::{Guarantee, OnFailure, OnLostPosition, OnPositionMismatch, Standbys};
#[cfg(feature = "testing")]
pub(crate) use self::positions::tagged_id;
pub use self::query::{ReadError, TablePage, TableRange, TableRow};
pub use self::status::{Rebalance, StandbyState, State, Status, TaskState, Waiting};
use self::stop::Stop;
pub use self::stop::stop_signal;
use crate::chain::panic_text;
use crate::group::GroupGraph;
use crate::log::LogHandle;
use crate::store::StoreBackend;
use crate::workers::Workers;

/// Runs a group. Made with defaults, set by its methods, then [`run`](Self::run).
///
/// ```no_run
/// # use stream_core::{group::Group, codec::Text, log::embedded::InMemory, processor::Processor};
/// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
/// # let mut g = Group::define("echo");
/// # g.input("words", Text, |_, _| Ok(()));
/// let log = InMemory::new();
/// let processor = Processor::new(g.build()?, log).state_dir("state");
/// let handle = processor.handle();
/// processor.run_until_signal().await?; // Ctrl-C or SIGTERM, or handle.stop()
/// # Ok(())
/// # }
/// ```
///
/// Each method that sets something says what the default is:
///
/// ```
/// # use stream_core::prelude::*;
/// # use stream_core::processor::{OnFailure, OnLostPosition, Standbys};
/// # use stream_core::topics::TopicOptions;
/// # use std::time::Duration;
/// # let mut g = Group::define("echo");
/// # g.input("words", Text, |_, _| Ok(()));
/// let processor = Processor::new(g.build()?, InMemory::new())
///     .guarantee(Guarantee::ExactlyOnce)
///     .commit_interval(Duration::from_millis(200))
///     .standbys(Standbys::All)
///     .on_failure(OnFailure::Restart { backoff: Duration::from_secs(1), attempts: 10 })
///     .on_lost_position(OnLostPosition::Earliest)
///     .topics(TopicOptions::new().partitions(8))
///     .workers(2)
///     .on_state(|status| println!("{:?}", status.state));
/// # Ok::<(), BuildError>(())
/// ```
pub struct Processor {
    graph: Arc<GroupGraph>,
    log: LogHandle,
    options: Options,
    stores: Option<Arc<dyn StoreBackend>>,
    state_dir: PathBuf,
    listeners: Listeners,
    status: watch::Sender<Status>,
    handle: Handle,
    requests: mpsc::UnboundedReceiver<Request>,
    batches: Arc<batch_limits::BatchLimits>,
    counters: Arc<Counters>,
    failure: Arc<OnceLock<ProcessorError>>,
    faults: CallbackFaults,
}

type Listener<T> = Box<dyn Fn(&T) + Send + Sync>;

/// The listeners of a user.
#[derive(Default)]
struct Listeners {
    states: Vec<Listener<Status>>,
    rebalances: Vec<Listener<Rebalance>>,
}

impl Listeners {
    fn rebalance(&self, what: &Rebalance) {
        notify(&self.rebalances, what);
    }

    /// Publishes a status if it is a new one.
    fn publish(&self, to: &watch::Sender<Status>, status: Status) {
        let changed = to.send_if_modified(|old| {
            let changed = *old != status;
            if changed {
                old.clone_from(&status);
            }
            changed
        });
        if changed {
            tracing::debug!(state = ?status.state, partitions = status.tasks.len(), "processor state");
            notify(&self.states, &status);
        }
    }
}

/// Calls listeners. A panic of one is its own: the others are called, and the processor goes on.
fn notify<T: fmt::Debug>(listeners: &[Listener<T>], what: &T) {
    for listener in listeners {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| listener(what))) {
            tracing::error!(?what, reason = panic_text(&*panic), "a listener panicked");
        }
    }
}

impl Processor {
    /// A processor of a group on a log, with the defaults: at-least-once delivery, sled stores under `./state`, one worker a
    /// core, commits every second.
    pub fn new(graph: Arc<GroupGraph>, log: LogHandle) -> Self {
        let (status, seen) = watch::channel(Status::of(State::Created));
        let (requests, inbox) = mpsc::unbounded_channel();
        let counters = Arc::<Counters>::default();
        let seen_counters = Arc::clone(&counters);
        let failure = Arc::<OnceLock<ProcessorError>>::default();
        Self {
            handle: Handle {
                graph: Arc::clone(&graph),
                log: Arc::clone(&log),
                status: seen,
                requests,
                counters,
                failure: Arc::clone(&failure),
            },
            graph,
            log,
            options: Options::default(),
            stores: None,
            state_dir: PathBuf::from("state"),
            listeners: Listeners::default(),
            status,
            requests: inbox,
            batches: Arc::default(),
            counters: seen_counters,
            failure,
            faults: CallbackFaults::default(),
        }
    }

    /// Observes and steers the processor while it runs.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    #[cfg(feature = "testing")]
    pub(crate) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Runs until [`Handle::stop`] is called or something fails. Must be polled all the time.
    ///
    /// # Errors
    /// The error that made it fail, after [`OnFailure`] was applied. Everything that was done and acknowledged is committed.
    pub async fn run(self) -> ProcessorResult<()> {
        self.run_until(std::future::pending()).await
    }

    /// Runs until Ctrl-C or, on Unix, SIGTERM.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn run_until_signal(self) -> ProcessorResult<()> {
        self.run_until(stop_signal()).await
    }

    /// Runs until a future resolves.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn run_until(self, stop: impl Future<Output = ()> + Send + 'static) -> ProcessorResult<()> {
        let group = self.graph.name();
        match Workers::threads(group, self.options.workers) {
            Ok(workers) => self.run_on(workers, Box::pin(stop)).await,
            Err(e) => Err(self.failed(ProcessorError::Worker { group: group.to_owned(), error: Arc::new(e) })),
        }
    }

    /// Runs without threads of its own, on the current [`LocalSet`](tokio::task::LocalSet).
    #[cfg(feature = "testing")]
    pub(crate) async fn run_here(self) -> ProcessorResult<()> {
        self.run_on(Workers::Here, Box::pin(std::future::pending())).await
    }
}

impl fmt::Debug for Processor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Processor({} on {})", self.graph.name(), self.log.name())
    }
}
