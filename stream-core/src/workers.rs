//! Worker threads, each with its own runtime.
//!
//! Processors use them, and views, which take one each.
//!
//! Tasks are futures that need not be `Send`: a task is made on its worker and stays there. In a simulation or a
//! test there are no threads: tasks are spawned on the current [`LocalSet`](tokio::task::LocalSet).

use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::LocalBoxFuture;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

/// Makes a task's future on the thread where it will live.
pub(crate) type Start = Box<dyn FnOnce() -> LocalBoxFuture<'static, ()> + Send>;

/// Where tasks run.
pub(crate) enum Workers {
    /// On threads of this name; whether one was left behind, because something on it does not end.
    Threads { name: String, threads: Vec<mpsc::UnboundedSender<Start>>, hung: AtomicBool },
    /// On the thread that runs the instance.
    #[cfg(feature = "testing")]
    Here,
}

impl Workers {
    /// Starts `n` threads. They end by themselves once this is dropped and their tasks are over.
    pub(crate) fn threads(group: &str, n: usize) -> std::io::Result<Self> {
        let mut workers = Vec::new();
        for i in 0..n.max(1) {
            let (starts, mut inbox) = mpsc::unbounded_channel::<Start>();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            std::thread::Builder::new().name(format!("{group}-{i}")).spawn(move || {
                let local = LocalSet::new();
                let tasks = async {
                    let mut running = tokio::task::JoinSet::new();
                    while let Some(start) = inbox.recv().await {
                        running.spawn_local(start());
                        while running.try_join_next().is_some() {}
                    }
                    while running.join_next().await.is_some() {}
                };
                local.block_on(&runtime, tasks);
            })?;
            workers.push(starts);
        }
        Ok(Self::Threads { name: group.to_owned(), threads: workers, hung: AtomicBool::new(false) })
    }

    /// A copy with as many threads, or another number; in a simulation the same thread.
    pub(crate) fn more(&self, suffix: &str, n: Option<usize>) -> std::io::Result<Self> {
        match self {
            #[cfg(feature = "testing")]
            Self::Here => Ok(Self::Here),
            Self::Threads { name, threads, .. } => {
                Self::threads(&format!("{name}{suffix}"), n.unwrap_or(threads.len()))
            }
        }
    }

    /// Something on these threads does not end, and what is started here later might wait for it for ever.
    pub(crate) fn note_hung(&self) {
        match self {
            #[cfg(feature = "testing")]
            Self::Here => {}
            Self::Threads { hung, .. } => hung.store(true, Ordering::Relaxed),
        }
    }

    pub(crate) fn is_hung(&self) -> bool {
        matches!(self, Self::Threads { hung, .. } if hung.load(Ordering::Relaxed))
    }

    /// Starts a task; those of one partition always go to the same worker.
    pub(crate) fn spawn(&self, partition: i32, start: Start) {
        match self {
            #[cfg(feature = "testing")]
            Self::Here => {
                tokio::task::spawn_local(start());
            }
            Self::Threads { threads: workers, .. } => {
                let at = usize::try_from(partition).unwrap_or_default().checked_rem(workers.len()).unwrap_or_default();
                if let Some(worker) = workers.get(at)
                    && worker.send(start).is_err()
                {
                    tracing::error!(partition, "the worker thread has ended");
                }
            }
        }
    }
}
