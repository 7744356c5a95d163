//! The faults: drawn from a seed, done to three processes and their broker, and what came of it.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use stream_core::log::{LogHandle, ProducerOptions};
use stream_core::processor::{Guarantee, Processor};
use tokio::task::JoinHandle;

use super::group::{Found, KEYS, Names, PARTITIONS, graph, key, look};
use super::process::{Process, Role, Said};
use crate::kafka_support::broker::Broker;
use crate::kafka_support::{Feed, Random, connect, read, topic, unique};

const INSTANCES: usize = 3;
/// The broker's least.
const SESSION: Duration = Duration::from_secs(6);
const TICK: Duration = Duration::from_millis(100);
/// Between two rounds of records.
const ROUND: Duration = Duration::from_millis(40);

/// What is done to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// SIGKILL.
    Kill,
    /// SIGTERM.
    Stop,
    /// SIGSTOP until its session is over, then SIGCONT.
    Freeze,
}

pub struct Plan {
    pub name: &'static str,
    pub guarantee: Guarantee,
    /// Each comes up as often as the others of the list.
    pub acts: &'static [Act],
    pub broker_restarts: bool,
    pub length: Duration,
    pub seed: u64,
}

/// What was done, and what was found.
#[derive(Default)]
pub struct Outcome {
    name: &'static str,
    acts: &'static [Act],
    seed: u64,
    took: Duration,
    kills: u64,
    stops: u64,
    zombies: u64,
    broker_restarts: u64,
    broker_restarts_wanted: bool,
    records: u64,
    said: Arc<Said>,
    pub found: Found,
}

impl Outcome {
    /// A run that did not see the faults it is for shows nothing.
    pub fn had_it_all(&self) {
        for act in self.acts {
            let times = match act {
                Act::Kill => self.kills,
                Act::Stop => self.stops,
                Act::Freeze => self.zombies,
            };
            assert!(times > 0, "no {act:?}: {self}");
        }
        assert!(!self.broker_restarts_wanted || self.broker_restarts > 0, "the broker was not restarted: {self}");
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        let Found { table, output } = &self.found;
        write!(
            f,
            "chaos, {}: {} kills, {} stops, {} zombies, {} broker restarts in {} s (seed {}); {} records; rebalances: \
             partitions came {} times, went {}, were lost {}; {} transactions aborted, {} writes failed, {} restores, {} starts anew after \
             a failure; lost of the table {}, of the outputs {}; done again in the table {}, in the outputs {}",
            self.name,
            self.kills,
            self.stops,
            self.zombies,
            self.broker_restarts,
            self.took.as_secs(),
            self.seed,
            self.records,
            of(&self.said.came),
            of(&self.said.went),
            of(&self.said.lost),
            of(&self.said.aborted),
            of(&self.said.went_back),
            of(&self.said.restored),
            of(&self.said.restarted),
            table.lost,
            output.lost,
            table.again,
            output.again,
        )
    }
}

enum State {
    Up(Process),
    /// Until then.
    Frozen(Process, Instant),
    /// It is to end.
    Stopping(Process, Instant),
    /// Started again then.
    Down(Instant),
}

struct World {
    role: Role,
    dir: tempfile::TempDir,
    slots: Vec<State>,
    random: Random,
    began: Instant,
    outcome: Outcome,
}

/// Runs a plan to its end, and prints what came of it.
pub async fn run(plan: Plan) -> Outcome {
    let broker = Arc::new(Broker::started().await);
    let log = connect(&broker.brokers());
    let names = Names {
        group: unique("chaos"),
        input: topic(&log, "chaos-in", PARTITIONS).await,
        out: topic(&log, "chaos-out", PARTITIONS).await,
        gathered: topic(&log, "chaos-gathered", PARTITIONS).await,
    };
    let role = Role { brokers: broker.brokers(), names, guarantee: plan.guarantee, session: SESSION };
    let mut world = World::new(role, &plan);
    world.note(&format!("seed {}, logs in {}", plan.seed, world.dir.path().display()));
    let enough = Arc::new(AtomicBool::new(false));
    let feeding = tokio::spawn(feed(connect(&broker.brokers()), Arc::clone(&world.role.names.input), enough.clone()));
    world.faults(&plan, &broker).await;
    enough.store(true, Ordering::Relaxed);
    let rounds = feeding.await.unwrap();
    world.outcome.records = rounds * KEYS;
    world.let_finish(&log).await;
    world.outcome.took = world.began.elapsed();
    let exactly = plan.guarantee == Guarantee::ExactlyOnce;
    world.outcome.found = look(&log, &world.role.names, rounds, exactly).await;
    let mut summary = format!("{}\n", world.outcome);
    for (why, times) in &*world.outcome.said.ended.lock().unwrap() {
        writeln!(summary, "  {times} times a process ended with: {why}").unwrap();
    }
    // Past the harness, which keeps to itself what a test that passes prints.
    std::io::stderr().write_all(summary.as_bytes()).unwrap();
    let found = &world.outcome.found;
    let doubled = exactly && (found.table.again, found.output.again) != (0, 0);
    // What is lost or doubled wants to be looked into, and logs that were asked for, to be read.
    let asked = std::env::var_os("CHAOS_LOG").is_some();
    world.dir.disable_cleanup(doubled || found.output.lost != 0 || asked);
    std::mem::take(&mut world.outcome)
}

impl World {
    fn new(role: Role, plan: &Plan) -> Self {
        let outcome = Outcome {
            name: plan.name,
            acts: plan.acts,
            seed: plan.seed,
            broker_restarts_wanted: plan.broker_restarts,
            ..Outcome::default()
        };
        let now = Instant::now();
        Self {
            role,
            dir: tempfile::tempdir().unwrap(),
            slots: (0..INSTANCES).map(|_| State::Down(now)).collect(),
            // Never 0, which this generator can't leave.
            random: Random(plan.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            began: now,
            outcome,
        }
    }

    fn note(&self, what: &str) {
        println!("{:6.1} s: {what}", self.began.elapsed().as_secs_f64());
    }

    fn soon(&mut self, least_ms: u64, span_ms: u64) -> Instant {
        Instant::now() + Duration::from_millis(least_ms + self.random.below(span_ms))
    }

    async fn faults(&mut self, plan: &Plan, broker: &Arc<Broker>) {
        let mut ticks = tokio::time::interval(TICK);
        let mut next_act = self.soon(3_000, 1_000);
        let (mut at_once, mut came) = (true, 0);
        let mut left: Vec<Act> = Vec::new();
        // Once in the middle of a minute, and once a minute.
        let mut next_restart = self.began + plan.length.min(Duration::from_secs(60)) * 2 / 5;
        let mut restarting: Option<JoinHandle<()>> = None;
        while self.began.elapsed() < plan.length {
            ticks.tick().await;
            self.look_after();
            if restarting.as_ref().is_some_and(JoinHandle::is_finished)
                && let Some(done) = restarting.take()
            {
                done.await.unwrap();
                self.note("the broker is back");
            }
            if plan.broker_restarts && restarting.is_none() && Instant::now() >= next_restart {
                next_restart += Duration::from_secs(60);
                let kill = self.random.below(2) == 0;
                self.note(if kill { "the broker is killed" } else { "the broker is stopped" });
                self.outcome.broker_restarts += 1;
                let broker = Arc::clone(broker);
                restarting = Some(tokio::spawn(async move {
                    if kill {
                        broker.kill().await;
                    } else {
                        broker.stop().await;
                    }
                    broker.start().await;
                }));
            }
            // Every other time only once somebody has got partitions since, so that there is work to disturb.
            let waited = Instant::now().saturating_duration_since(next_act);
            let worked = self.outcome.said.came.load(Ordering::Relaxed) > came || waited > SESSION * 2;
            if Instant::now() >= next_act && (at_once || worked) {
                next_act = self.soon(800, 2_400);
                at_once = self.random.below(2) == 0;
                came = self.outcome.said.came.load(Ordering::Relaxed);
                if left.is_empty() {
                    left.extend(plan.acts);
                }
                let at = usize::try_from(self.random.below(left.len() as u64)).unwrap();
                if self.act(left[at]) {
                    left.swap_remove(at);
                }
            }
        }
        if let Some(done) = restarting {
            done.await.unwrap();
        }
    }

    /// Does it to a process that is up, if there is one.
    fn act(&mut self, act: Act) -> bool {
        let from = usize::try_from(self.random.below(INSTANCES as u64)).unwrap();
        let up = |n: &usize| matches!(self.slots[*n], State::Up(_));
        let Some(n) = (0..INSTANCES).map(|i| (from + i) % INSTANCES).find(up) else { return false };
        self.note(&format!("{act:?} {n}"));
        let (later, thaw) = (self.soon(100, 2_000), self.soon(1_500, 2_500) + SESSION);
        let State::Up(process) = std::mem::replace(&mut self.slots[n], State::Down(later)) else { return false };
        match act {
            Act::Kill => {
                drop(process);
                self.outcome.kills += 1;
            }
            Act::Stop => {
                process.signal(Signal::SIGTERM);
                self.slots[n] = State::Stopping(process, Instant::now() + Duration::from_secs(90));
                self.outcome.stops += 1;
            }
            Act::Freeze => {
                process.signal(Signal::SIGSTOP);
                self.slots[n] = State::Frozen(process, thaw);
                self.outcome.zombies += 1;
            }
        }
        true
    }

    /// Thaws and starts those whose time has come, and those that ended.
    fn look_after(&mut self) {
        let now = Instant::now();
        for n in 0..INSTANCES {
            let again = self.soon(100, 2_000);
            let state = std::mem::replace(&mut self.slots[n], State::Down(again));
            self.slots[n] = match state {
                State::Down(then) if now >= then => State::Up(self.start(n)),
                State::Frozen(process, then) if now >= then => {
                    self.note(&format!("thaw {n}"));
                    process.signal(Signal::SIGCONT);
                    State::Up(process)
                }
                State::Up(mut process) => {
                    if let Some(status) = process.ended() {
                        self.note(&format!("{n} ended by itself: {status}"));
                        State::Down(again)
                    } else {
                        State::Up(process)
                    }
                }
                State::Stopping(mut process, until) => {
                    if let Some(status) = process.ended() {
                        if !status.success() {
                            self.note(&format!("{n} was asked to stop, and ended with {status}"));
                        }
                        State::Down(again)
                    } else {
                        assert!(now < until, "{n} does not end in order");
                        State::Stopping(process, until)
                    }
                }
                state => state,
            };
        }
    }

    fn start(&self, n: usize) -> Process {
        let dir: PathBuf = self.dir.path().join(n.to_string());
        Process::start(&self.role, &dir, &self.outcome.said)
    }

    /// No more faults: all that was sent is done, then all end in order.
    async fn let_finish(&mut self, log: &LogHandle) {
        self.note("no more faults");
        let mut ticks = tokio::time::interval(TICK);
        while self.slots.iter().any(|s| !matches!(s, State::Up(_))) {
            ticks.tick().await;
            self.look_after();
        }
        let asking = Processor::new(graph(&self.role.names), Arc::clone(log)).handle();
        let done = tokio::time::timeout(Duration::from_secs(240), async {
            // What came before the loop is done first, so that all of the loop is there.
            for _ in 0..2 {
                asking.caught_up().await.unwrap();
            }
        });
        tokio::pin!(done);
        loop {
            tokio::select! {
                biased;
                done = &mut done => break done.expect("the group does not get done with its input"),
                _ = ticks.tick() => self.look_after(),
            }
        }
        self.note("all is done");
        for state in &mut self.slots {
            if let State::Up(process) = state {
                process.signal(Signal::SIGTERM);
            }
        }
        let until = Instant::now() + Duration::from_secs(90);
        while !self.slots.is_empty() {
            ticks.tick().await;
            assert!(Instant::now() < until, "they do not end in order");
            self.slots.retain_mut(|state| {
                // One that ended by itself a moment ago has nothing left to end.
                let State::Up(process) = state else { return false };
                let ended = process.ended();
                assert!(ended.is_none_or(|s| s.success()), "one that has nothing left to do ended with {ended:?}");
                ended.is_none()
            });
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The processes end before their directories go.
        self.slots.clear();
        if std::thread::panicking() {
            self.dir.disable_cleanup(true);
        }
    }
}

/// Sends rounds of numbers until it is enough. Returns how many.
async fn feed(log: LogHandle, input: Arc<str>, enough: Arc<AtomicBool>) -> u64 {
    // The broker may be away for long.
    let mut options = ProducerOptions::default();
    options.delivery_timeout = Some(Duration::from_secs(120));
    let mut feed = Feed::with(&log, options.clone()).await;
    let keys: Vec<String> = (0..KEYS).map(key).collect();
    let mut ticks = tokio::time::interval(ROUND);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut round = 0;
    loop {
        let last = enough.load(Ordering::Relaxed);
        if last {
            feed.settle().await;
        } else {
            ticks.tick().await;
            let number = u64::to_string(&round);
            let records: Vec<_> = keys.iter().map(|k| (&input, None, k.as_str(), number.as_str())).collect();
            feed.send(&records).await;
            round += 1;
        }
        if feed.is_stranded() {
            feed.settle().await;
            feed = Feed::with(&log, options.clone()).await;
            catch_up(&log, &mut feed, &input, round).await;
        } else if last {
            return round;
        }
    }
}

/// After its client lost the broker for good, the feeder can't know what it has written: it looks. Numbers of a key are
/// written in order, so that only the last ones are missing.
async fn catch_up(log: &LogHandle, feed: &mut Feed, input: &Arc<str>, rounds: u64) {
    let mut next: BTreeMap<String, u64> = (0..KEYS).map(|k| (key(k), 0)).collect();
    for record in read(log, input, PARTITIONS).await {
        let number: u64 = record.value.unwrap().parse().unwrap();
        next.insert(record.key.unwrap(), number + 1);
    }
    for round in next.values().min().copied().unwrap_or_default()..rounds {
        let number = u64::to_string(&round);
        let missing = next.iter().filter(|(_, next)| **next <= round);
        feed.send(&missing.map(|(k, _)| (input, None, k.as_str(), number.as_str())).collect::<Vec<_>>()).await;
    }
}
