//! A broker of the test's own, which can be stopped, killed and started again.
//!
//! The script that runs it is the project's `docker/kafka.sh`; its data lies in a folder of the test's own.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};

pub struct Broker {
    script: PathBuf,
    port: u16,
    state: tempfile::TempDir,
}

impl Broker {
    /// A broker that was never started, on a free port.
    pub fn new(name: &str) -> Self {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docker/kafka.sh");
        let state = tempfile::Builder::new().prefix(name).tempdir().unwrap();
        Self { script, port: free_port(), state }
    }

    pub async fn started(name: &str) -> Self {
        let broker = Self::new(name);
        broker.start().await;
        broker
    }

    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns once it is ready.
    pub async fn start(&self) {
        self.run("up").await;
    }

    /// Lets it shut down in order.
    pub async fn stop(&self) {
        self.run("stop").await;
    }

    /// Kills it at once.
    pub async fn kill(&self) {
        self.run("kill").await;
    }

    async fn run(&self, what: &'static str) {
        let mut command = self.command(what);
        let ended = tokio::task::spawn_blocking(move || command.status()).await.unwrap().unwrap();
        assert!(ended.success(), "the broker's script failed to {what}: {ended}");
    }

    fn command(&self, what: &str) -> Command {
        let mut command = Command::new("bash");
        command.arg(&self.script).arg(what).stdin(Stdio::null()).stdout(Stdio::null());
        command.env("KAFKA_PORT", self.port.to_string()).env("STREAM_STATE", self.state.path());
        command
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.command("down").stderr(Stdio::null()).status();
    }
}

/// A port with room for the broker's other listeners around it.
fn free_port() -> u16 {
    (0..200)
        .find_map(|_| {
            let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
            let around = [port.checked_sub(2)?, port.checked_sub(1)?, port, port.checked_add(1)?, port.checked_add(2)?];
            around.iter().all(|p| TcpListener::bind(("127.0.0.1", *p)).is_ok()).then_some(port)
        })
        .expect("a free port")
}
