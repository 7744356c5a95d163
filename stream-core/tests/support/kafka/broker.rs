//! A broker of the test's own, which can be stopped, killed and started again: one that `docker/kafka.sh` runs, on a
//! free port, with its data in a directory of the test's.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Semaphore;

/// So many Java processes start at a time: all tests' at once would take minutes each, longer than what tests wait for.
static STARTING: Semaphore = Semaphore::const_new(2);

pub struct Broker {
    script: PathBuf,
    port: u16,
    dir: tempfile::TempDir,
    /// Variables of the script's.
    set: Vec<(&'static str, String)>,
}

impl Broker {
    /// A broker that was never started.
    pub fn new() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docker/kafka.sh");
        Self { script, port: free_port(), dir: tempfile::tempdir().unwrap(), set: Vec::new() }
    }

    /// With further lines of its configuration.
    pub fn configured(mut self, lines: &str) -> Self {
        self.set.push(("KAFKA_EXTRA", lines.to_owned()));
        self
    }

    /// As the second broker of another one's cluster.
    pub fn joining(mut self, first: &Self) -> Self {
        self.set.push(("KAFKA_JOIN", (first.port + 3).to_string()));
        self
    }

    /// With one more listener, whose clients come back by a proxy's port. Returns the port that the proxy leads to.
    pub fn proxied(mut self, proxy: u16) -> (Self, u16) {
        let listener = self.port + 5;
        self.set.push(("KAFKA_PROXIED", format!("{listener}:{proxy}")));
        (self, listener)
    }

    pub async fn started() -> Self {
        let broker = Self::new();
        broker.start().await;
        broker
    }

    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns once it is ready.
    pub async fn start(&self) {
        let _turn = STARTING.acquire().await.unwrap();
        self.run("up").await;
    }

    /// Lets it shut down in order.
    pub async fn stop(&self) {
        self.run("stop").await;
    }

    /// Kills it at once; returns when it is gone, and its ports are free.
    pub async fn kill(&self) {
        self.run("kill").await;
    }

    /// Runs one of Kafka's command-line tools, by its class.
    pub async fn tool(&self, class: &str, arguments: &[&str]) {
        let _turn = STARTING.acquire().await.unwrap();
        let mut command = self.command("tool");
        command.arg(class).args(arguments);
        let ended = tokio::task::spawn_blocking(move || command.status()).await.unwrap().unwrap();
        assert!(ended.success(), "{class} {arguments:?}: {ended}");
    }

    async fn run(&self, what: &'static str) {
        let mut command = self.command(what);
        let ended = tokio::task::spawn_blocking(move || command.status()).await.unwrap().unwrap();
        assert!(ended.success(), "the broker's script failed to {what}: {ended}");
    }

    fn command(&self, what: &str) -> Command {
        let mut command = Command::new("bash");
        command.arg(&self.script).arg(what).stdin(Stdio::null()).stdout(Stdio::null());
        command.env("KAFKA_PORT", self.port.to_string()).env("STREAM_STATE", self.dir.path()).env_remove("TLS");
        command.envs(self.set.iter().map(|(name, value)| (name, value)));
        command
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.command("down").stderr(Stdio::null()).status();
    }
}

/// A port with room for the broker's other listeners above it. It is none of those that clients get: a client that tries
/// to reach a broker that is away might be given the broker's own port, and keep it.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    (0..1_000)
        .find_map(|_| {
            let nth = std::process::id().wrapping_mul(7) + NEXT.fetch_add(1, Ordering::Relaxed);
            let port = 20_000 + u16::try_from(nth % 1_200).ok()? * 10;
            (port..=port + 5).all(free).then_some(port)
        })
        .expect("a free port")
}
