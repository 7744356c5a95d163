//! How a processor learns that it is to stop.

use std::collections::VecDeque;
use std::pin::Pin;

use tokio::sync::mpsc;

use super::handle::Request;

/// How an instance learns that it should stop.
pub(super) struct Stop {
    requests: mpsc::UnboundedReceiver<Request>,
    signal: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// A stop was requested: a failure from now on is not followed by a restart.
    pub(super) asked: bool,
    /// Requests that came while no instance was there to serve them.
    queued: VecDeque<Request>,
}

impl Stop {
    pub(super) fn new(
        requests: mpsc::UnboundedReceiver<Request>,
        signal: Pin<Box<dyn Future<Output = ()> + Send>>,
    ) -> Self {
        Self { requests, signal, asked: false, queued: VecDeque::new() }
    }

    /// Resolves when it should stop; other requests wait for the next instance. Cancel-safe.
    pub(super) async fn asked(&mut self) {
        while !self.asked {
            match self.receive().await {
                visit @ Request::Visit { .. } => self.queued.push_back(visit),
                // No instance is there to answer, which the caller learns at once.
                Request::Stop | Request::Read { .. } => {}
            }
        }
    }

    /// The next request for the instance. Cancel-safe.
    pub(super) async fn request(&mut self) -> Request {
        match self.queued.pop_front() {
            Some(request) => request,
            None => self.receive().await,
        }
    }

    async fn receive(&mut self) -> Request {
        let request = tokio::select! {
            biased;
            () = self.signal.as_mut(), if !self.asked => {
                tracing::info!("stopping: what is under way is finished first");
                Request::Stop
            }
            // The processor's own handle keeps the channel open: all others gone is no reason to stop.
            request = self.requests.recv() => request.unwrap_or(Request::Stop),
        };
        self.asked |= matches!(request, Request::Stop);
        request
    }
}

/// Resolves on Ctrl-C or, on Unix, SIGTERM.
pub async fn stop_signal() {
    #[cfg(unix)]
    {
        let mut term = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(term) => term,
            Err(error) => {
                tracing::error!(%error, "SIGTERM can't be listened to");
                return std::future::pending().await;
            }
        };
        tokio::select! {
            biased;
            _ = term.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    }
    #[cfg(not(unix))]
    {
        _ = tokio::signal::ctrl_c().await;
    }
}
