//! What the demos share, each of which is a system in one process: how long it lasts, and its groups, with all that they
//! keep in memory.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use stream_core::group::GroupGraph;
use stream_core::log::LogHandle;
use stream_core::processor::{Guarantee, Handle, Processor, ProcessorResult, stop_signal};
use stream_core::store::MemoryStores;
use tokio::task::JoinHandle;

/// How long a demo lasts. Flatten it into its flags.
#[derive(Args, Clone, Copy, Debug)]
#[group(skip)]
pub struct Lasts {
    /// End after this time [default: at Ctrl-C]
    #[arg(long = "for", value_name = "TIME", env = "DEMO_FOR", value_parser = humantime::parse_duration)]
    pub for_: Option<Duration>,
}

impl Lasts {
    /// A sentence that says it.
    pub fn in_words(&self) -> String {
        match self.for_ {
            Some(time) => format!("It ends after {}.", humantime::format_duration(time)),
            None => "Ctrl-C ends it.".to_owned(),
        }
    }

    /// Resolves once it is over, or somebody ends it.
    pub async fn over(&self) {
        tokio::select! {
            biased;
            () = stop_signal() => {}
            () = elapsed(self.for_) => {}
        }
    }
}

/// Resolves after that time, or never.
pub async fn elapsed(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

/// A group at work.
#[derive(Debug)]
pub struct Running {
    handle: Handle,
    task: JoinHandle<ProcessorResult<()>>,
}

impl Running {
    /// Starts it.
    pub fn start(graph: Arc<GroupGraph>, guarantee: Guarantee, log: &LogHandle) -> Self {
        let processor = Processor::new(graph, Arc::clone(log)).stores(Arc::new(MemoryStores::new())).workers(1);
        let processor = processor.guarantee(guarantee);
        Self { handle: processor.handle(), task: tokio::spawn(processor.run()) }
    }

    /// Ends it.
    ///
    /// # Errors
    /// When it has failed.
    pub async fn end(self) -> Result<(), crate::Exit> {
        self.handle.stop();
        Ok(self.task.await??)
    }
}
