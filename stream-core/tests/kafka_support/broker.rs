//! A broker of the test's own, which can be stopped, killed and started again.
//!
//! The script that runs it is the project's `docker/kafka.sh`; `STREAM_TEST_KAFKA_SCRIPT` names another one. It takes
//! `start` and `stop`, the port by `KAFKA_PORT` and the name of its files by `KAFKA_NAME`.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};

pub struct Broker {
    script: PathBuf,
    port: u16,
    name: String,
}

impl Broker {
    /// A broker that was never started, on a free port.
    pub fn new(name: &str) -> Self {
        let script = std::env::var_os("STREAM_TEST_KAFKA_SCRIPT")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docker/kafka.sh"), PathBuf::from);
        assert!(script.exists(), "{} does not exist: STREAM_TEST_KAFKA_SCRIPT names the script", script.display());
        Self { script, port: free_port(), name: super::unique(name) }
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
        self.run("start").await;
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
        command.env("KAFKA_PORT", self.port.to_string()).env("KAFKA_NAME", &self.name);
        command
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        for what in ["stop", "wipe"] {
            let _ = self.command(what).stderr(Stdio::null()).status();
        }
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
