//! An instance as a separate process: this test binary once more; an environment variable says what to run.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stream_core::processor::{Guarantee, OnFailure, Processor, Standbys};

use super::group::{Names, graph};
use crate::kafka_support::{connect, log_lines};

const ROLE: &str = "STREAM_TEST_CHAOS";

/// What all processes have in common.
pub struct Role {
    pub brokers: String,
    pub names: Names,
    pub guarantee: Guarantee,
    pub session: Duration,
}

impl Role {
    fn line(&self, dir: &Path) -> String {
        let Names { group, input, out, gathered } = &self.names;
        let guarantee = if self.guarantee == Guarantee::ExactlyOnce { "exactly-once" } else { "at-least-once" };
        let (session, dir) = (self.session.as_secs(), dir.to_str().unwrap());
        format!("{} {group} {input} {out} {gathered} {guarantee} {session} {dir}", self.brokers)
    }
}

/// The process's own part. Does nothing unless that variable says what to run.
pub async fn run_role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let [brokers, group, input, out, gathered, guarantee, session, dir] = role.split(' ').collect::<Vec<_>>()[..]
    else {
        panic!("{role}")
    };
    log_lines();
    // One whose parent is gone has no work.
    std::thread::spawn(|| {
        std::io::stdin().lines().for_each(drop);
        std::process::exit(9);
    });
    let names = Names { group: group.to_owned(), input: input.into(), out: out.into(), gathered: gathered.into() };
    // The first keeps no copies, so that partitions are taken over in both ways.
    let standbys = if dir.ends_with("/0") { Standbys::None } else { Standbys::All };
    let ended = Processor::new(graph(&names), connect(brokers))
        .state_dir(dir)
        .standbys(standbys)
        .guarantee(if guarantee == "exactly-once" { Guarantee::ExactlyOnce } else { Guarantee::AtLeastOnce })
        .workers(1)
        .commit_interval(Duration::from_millis(150))
        .checkpoint_interval(Duration::from_millis(300))
        .session_timeout(Duration::from_secs(session.parse().unwrap()))
        .on_failure(OnFailure::Restart { backoff: Duration::from_millis(200), attempts: 1000 })
        .run_until_signal()
        .await;
    if let Err(error) = ended {
        println!("\n{ENDED}{error}");
        std::process::exit(1);
    }
}

const ENDED: &str = "the process ended: ";

/// What the processes say of themselves, counted by what their log's lines contain.
#[derive(Default)]
pub struct Said {
    pub came: AtomicU64,
    pub went: AtomicU64,
    pub lost: AtomicU64,
    pub aborted: AtomicU64,
    /// Writes that failed, so that a partition went back.
    pub went_back: AtomicU64,
    pub restored: AtomicU64,
    pub restarted: AtomicU64,
    /// What made processes end by themselves, and how often.
    pub ended: Mutex<BTreeMap<String, u64>>,
}

impl Said {
    fn line(&self, line: &str) {
        let lines = [
            (" partitions came ", &self.came),
            (" partitions go to another instance ", &self.went),
            (" partitions are lost: ", &self.lost),
            (" a transaction is aborted: ", &self.aborted),
            (" a write failed: going back ", &self.went_back),
            (" restored ", &self.restored),
            (" the processor failed and is started again ", &self.restarted),
        ];
        for (text, count) in lines {
            if line.contains(text) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
        if let Some(why) = line.strip_prefix(ENDED) {
            *self.ended.lock().unwrap().entry(why.to_owned()).or_default() += 1;
        }
    }
}

/// A process under way. It does not outlive this.
pub struct Process {
    child: Child,
    reading: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts one whose stores lie in a directory, beside the file that its log goes to.
    pub fn start(role: &Role, dir: &Path, said: &Arc<Said>) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kafka_chaos::child", "--ignored", "--nocapture"])
            .env(ROLE, role.line(dir))
            .env("RUST_LOG", std::env::var("CHAOS_LOG").unwrap_or_else(|_| "stream_core=info,kafka=warn".into()))
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut log = OpenOptions::new().create(true).append(true).open(dir.with_extension("log")).unwrap();
        let (out, said) = (child.stdout.take().unwrap(), Arc::clone(said));
        let reading = std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                said.line(&line);
                writeln!(log, "{line}").unwrap();
            }
        });
        Self { child, reading: Some(reading) }
    }

    pub fn signal(&self, signal: Signal) {
        // It was not waited for, so that its id is nobody else's.
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }
}

impl Drop for Process {
    /// Kills it, frozen or not, and takes in what it still had to say.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reading) = self.reading.take() {
            let _ = reading.join();
        }
    }
}
