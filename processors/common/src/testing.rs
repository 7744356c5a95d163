//! For the systems' tests: a system of a test's own on a real Kafka, its binaries as processes, and what they wrote and
//! answer. The shipped binaries must never be built with this.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use stream_core::log::{FetchLimits, Fetched, Isolation, LogHandle, RecordBatch, TopicPartition};

/// Against hanging only.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// What comes of a future, which must not hang.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited for {PATIENCE:?}: {what}"))
}

/// Waits for a condition that nothing announces.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    within(what, async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

/// A system under names of its own.
#[cfg(feature = "kafka")]
pub struct System {
    /// The log that it works on.
    pub log: LogHandle,
    /// Where its tables are.
    pub state: tempfile::TempDir,
    brokers: String,
    prefix: String,
    env: Vec<(&'static str, String)>,
}

#[cfg(feature = "kafka")]
impl System {
    /// On the Kafka of `STREAM_TEST_KAFKA`. The names of its topics and groups go to its binaries in these variables.
    pub fn new(test: &str, names: &[(&'static str, &str)]) -> Self {
        use std::time::{SystemTime, UNIX_EPOCH};
        use stream_core::log::kafka::{Kafka, KafkaOptions};
        let brokers = std::env::var("STREAM_TEST_KAFKA").expect("STREAM_TEST_KAFKA=HOST:PORT says where the Kafka is");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let log: LogHandle = Kafka::connect(KafkaOptions::new(brokers.as_str())).unwrap();
        let (state, prefix) = (tempfile::tempdir().unwrap(), format!("{test}-{now}"));
        let env = names.iter().map(|(variable, name)| (*variable, format!("{prefix}-{name}"))).collect();
        Self { log, state, brokers, prefix, env }
    }

    /// Sets one more variable for its binaries.
    #[must_use]
    pub fn env(mut self, variable: &'static str, value: &str) -> Self {
        self.env.push((variable, value.to_owned()));
        self
    }

    /// The whole name of a topic or a group.
    pub fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// How one of its binaries is started.
    pub fn command(&self, binary: &str, args: &[&str]) -> Command {
        let mut command = Command::new(binary);
        command.args(args).args(["--commit-interval", "100ms", "--state-dir"]).arg(self.state.path());
        command.env("KAFKA_BROKERS", &self.brokers).envs(self.env.iter().cloned()).stdin(Stdio::null());
        command
    }

    /// Runs one of its binaries to its good end; returns what it said.
    pub fn run(&self, binary: &str, args: &[&str]) -> String {
        let done = self.command(binary, args).output().unwrap();
        assert!(done.status.success(), "{binary} {args:?}: {done:?}");
        String::from_utf8(done.stdout).unwrap()
    }

    /// Every committed record of one of its topics, see [`records`].
    pub async fn records(&self, name: &str) -> Vec<Written> {
        records(&self.log, &self.name(name)).await
    }
}

/// A record as it is in a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are a record's")]
pub struct Written {
    pub timestamp: i64,
    pub key: String,
    pub value: Option<Vec<u8>>,
}

/// Every committed record of a topic, by partition and in order; none if there is no such topic.
pub async fn records(log: &LogHandle, topic: &str) -> Vec<Written> {
    let topic = Arc::<str>::from(topic);
    let Some(info) = log.topics(vec![Arc::clone(&topic)]).await.unwrap().remove(0) else { return Vec::new() };
    let reader = log.reader(Isolation::ReadCommitted).unwrap();
    let mut all = Vec::new();
    for partition in 0..info.partitions {
        let mut fetch = reader.read(TopicPartition::new(Arc::clone(&topic), partition), 0).await.unwrap();
        let mut batch = RecordBatch::new();
        while let Fetched::Records =
            poll_fn(|cx| fetch.poll_fetch(cx, &mut batch, FetchLimits::default())).await.unwrap()
        {
            let key = |key: Option<&[u8]>| String::from_utf8(key.unwrap().to_vec()).unwrap();
            let written =
                |key, timestamp, value: Option<&[u8]>| Written { timestamp, key, value: value.map(<[u8]>::to_vec) };
            all.extend(batch.iter().map(|r| written(key(r.key), r.timestamp, r.value)));
        }
    }
    all
}

/// A process that ends with the test, however that ends.
pub struct Process(Child);

impl Process {
    /// Starts it.
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    /// The address that it says in its first line, as `NAME: http://HOST:PORT/...`. Its output must be piped.
    pub fn address(&mut self, name: &str) -> String {
        let mut said = String::new();
        BufReader::new(self.0.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let url = said.strip_prefix(&format!("{name}: http://")).unwrap_or_else(|| panic!("{said}"));
        url.split_once('/').unwrap().0.to_owned()
    }

    /// Its input, which must be piped.
    pub fn input(&mut self) -> ChildStdin {
        self.0.stdin.take().unwrap()
    }

    /// Kills it, and waits for that.
    pub fn kill(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }

    /// Asks it to end, and waits for that.
    pub fn end(mut self) {
        let asked = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status().unwrap();
        assert!(asked.success());
        let ended = self.0.wait().unwrap();
        assert!(ended.success(), "{ended}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How a process ended.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "they are a process's")]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a binary to its end, with nothing but `env` in its environment, and nobody to type anything.
pub fn run(binary: &str, args: &[&str], env: &[(&str, &str)]) -> Ended {
    let mut command = Command::new(binary);
    let done = command.args(args).env_clear().envs(env.iter().copied()).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: done.status.code(), stdout: text(done.stdout), stderr: text(done.stderr) }
}

/// Asserts that all of a system's binaries, each with the arguments that it needs, take the flags that are common to all,
/// say what they lack, and show examples.
pub fn assert_take_common_flags(binaries: &[(&str, &[&str])]) {
    let processing = ["--state-dir", "x", "--commit-interval", "500ms", "--guarantee", "exactly-once"];
    let common = [&processing[..], &["--instance-id", "i", "--partitions", "3"]].concat();
    for (binary, args) in binaries {
        // Refused for the missing broker, not for a flag.
        let Ended { code, stderr, .. } = run(binary, &[&common[..], args].concat(), &[]);
        assert!(code == Some(2) && stderr.contains("no Kafka broker"), "{binary}: {stderr}");
        let Ended { code, stdout, .. } = run(binary, &["--help"], &[]);
        let all = ["Examples:", "KAFKA_BROKERS"].iter().all(|part| stdout.contains(part));
        assert!(code == Some(0) && all, "{binary}: {stdout}");
    }
}

/// The counts in the last line of a demo's output.
pub fn counts(output: &str) -> BTreeMap<&str, u64> {
    let last = output.lines().last().and_then(|l| l.strip_prefix("demo: ")).unwrap_or_else(|| panic!("{output}"));
    last.split(' ').map(|part| part.split_once('=').unwrap()).map(|(k, v)| (k, v.parse().unwrap())).collect()
}

/// Sends a request, as `GET /path`, with more headers, each a line; the answer is to be read.
pub fn send(address: &str, request: &str, headers: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {}", body.len());
    write!(stream, "{head}\r\n\r\n{body}").unwrap();
    stream
}

/// Sends a request; returns the status and the body of the answer.
pub fn ask(address: &str, request: &str, headers: &str, body: &str) -> (u16, String) {
    let mut answer = String::new();
    send(address, request, headers, body).read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}
