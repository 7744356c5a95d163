//! A processor's process is killed (SIGKILL) in the middle of its work and started again, several times.
//!
//! The child is this test binary once more; environment variables say what to run. Nothing may be lost; what is
//! processed again after a kill is recognised by the records' numbers; the table holds what follows from that.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stream_core::codec::{Codec as _, Json};
use stream_core::group::table_topic;
use stream_core::log::LogHandle;
use stream_core::processor::{Guarantee, Processor};
use stream_core::store::{SledStores, StoreBackend, StoreId};

use crate::kafka_support::counting::{Again, KEYS, Known, PARTITIONS, check, feed, graph};
use crate::kafka_support::{
    Feed, Random, bounded, brokers, committed, connect, done, ends, kafka, log_lines, topic, unique, until,
};

const ROLE: &str = "STREAM_TEST_KILL";
const KILLS: usize = 6;

/// The process that is killed. It ends in order when its input ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "the child of the tests below, does nothing on its own"]
async fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let [group, input, out, dir, guarantee] = role.split(' ').collect::<Vec<_>>()[..] else { panic!("{role}") };
    log_lines();
    let processor = Processor::new(graph(group, input, out), connect(&brokers()))
        .state_dir(dir)
        .guarantee(if guarantee == "exactly-once" { Guarantee::ExactlyOnce } else { Guarantee::AtLeastOnce })
        .workers(2)
        .commit_interval(Duration::from_millis(150))
        .checkpoint_interval(Duration::from_millis(200))
        .session_timeout(Duration::from_secs(6));
    processor
        .run_until(async {
            let end = || std::io::stdin().lines().for_each(drop);
            tokio::task::spawn_blocking(end).await.unwrap();
        })
        .await
        .unwrap();
}

struct World {
    log: LogHandle,
    group: String,
    input: Arc<str>,
    out: Arc<str>,
    dir: tempfile::TempDir,
    guarantee: Guarantee,
}

impl World {
    async fn new(guarantee: Guarantee) -> Self {
        log_lines();
        let log = kafka();
        let (input, out) = (topic(&log, "kill-in", PARTITIONS).await, topic(&log, "kill-out", PARTITIONS).await);
        Self { log, group: unique("kill"), input, out, dir: tempfile::tempdir().unwrap(), guarantee }
    }

    fn start(&self) -> Killed {
        let guarantee = if self.guarantee == Guarantee::ExactlyOnce { "exactly-once" } else { "at-least-once" };
        let role = [&*self.group, &self.input, &self.out, self.dir.path().to_str().unwrap(), guarantee].join(" ");
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kafka_kill::child", "--ignored", "--nocapture"])
            .env(ROLE, role)
            .env("RUST_LOG", "stream_core=info")
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let restored = Arc::new(Mutex::new(Vec::new()));
        let (seen, out) = (Arc::clone(&restored), child.stdout.take().unwrap());
        let table = table_topic(&self.group);
        let reading = std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if std::env::var_os("RUST_LOG").is_some() {
                    eprintln!("child: {line}");
                }
                seen.lock().unwrap().extend(restore(&line, &table));
            }
        });
        Killed { child, restored, reading }
    }

    /// Records that are committed.
    async fn committed(&self) -> i64 {
        committed(&self.log, &self.group, &self.input, PARTITIONS).await.into_iter().flatten().sum()
    }

    /// How far the stores on disk are, by partition. Nobody may have them open.
    fn checkpoints(&self) -> BTreeMap<i32, i64> {
        let stores = SledStores::open_dir(self.state()).unwrap();
        let topic = table_topic(&self.group);
        let of = |p: i32| {
            let store = stores.open(&StoreId::new(Arc::clone(&topic), p), Json::<Known>::new().name()).unwrap();
            Some((p, store.checkpointed().unwrap()?.offset))
        };
        (0..PARTITIONS).filter_map(of).collect()
    }

    fn state(&self) -> PathBuf {
        Path::new(self.dir.path()).join(&self.group)
    }
}

struct Killed {
    child: Child,
    restored: Arc<Mutex<Vec<Restore>>>,
    reading: std::thread::JoinHandle<()>,
}

impl Killed {
    fn kill(mut self) -> Vec<Restore> {
        self.child.kill().unwrap();
        self.end()
    }

    /// Lets it end in order.
    fn stop(mut self) -> Vec<Restore> {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
        self.end()
    }

    fn end(mut self) -> Vec<Restore> {
        self.child.wait().unwrap();
        self.reading.join().unwrap();
        std::mem::take(&mut self.restored.lock().unwrap())
    }
}

/// What a process says of a restore of its table. The positions have no store: they are read at each start.
#[derive(Debug)]
struct Restore {
    partition: i32,
    records: i64,
    from: i64,
    to: i64,
}

/// Reads `… restored partition=TABLE[P] records=N from=A to=B …`.
fn restore(line: &str, table: &str) -> Option<Restore> {
    let (_, line) = line.split_once(&format!(" restored partition={table}["))?;
    let number = |name: &str| {
        let (_, rest) = line.split_once(&format!("{name}="))?;
        rest.split(' ').next()?.parse::<i64>().ok()
    };
    let partition = line.split_once(']')?.0.parse().ok()?;
    Some(Restore { partition, records: number(" records")?, from: number(" from")?, to: number(" to")? })
}

async fn killed_again_and_again_nothing_is_lost(guarantee: Guarantee) {
    bounded(400, async {
        let world = World::new(guarantee).await;
        let mut random = Random(0x5eed_0011);
        let mut input = Feed::new(&world.log).await;
        let (mut rounds, mut tails, mut checkpoints) = (0, 0, BTreeMap::new());
        for kill in 0..=KILLS {
            let child = world.start();
            // Two lots: the first is there at the start or soon, the second flows while it is killed.
            let (first, second) = (rounds + 100, rounds + 400);
            feed(&mut input, &world.input, rounds..first).await;
            until("it has committed what was there", async || {
                world.committed().await >= i64::try_from(first * KEYS).unwrap()
            })
            .await;
            rounds = second;
            if kill == KILLS {
                feed(&mut input, &world.input, first..second).await;
                done(&world.log, &world.group, &[(&world.input, PARTITIONS)]).await;
                check_tail(kill, &child.stop(), &checkpoints);
                break;
            }
            let at = i64::try_from(first * KEYS + 1 + random.below(200 * KEYS)).unwrap();
            let flowing = feed(&mut input, &world.input, first..second);
            let killing = async {
                until("it is in the middle", async || {
                    ends(&world.log, &world.out, PARTITIONS).await.iter().sum::<i64>() >= at
                })
                .await;
                child.kill()
            };
            let ((), restored) = tokio::join!(flowing, killing);
            tails += check_tail(kill, &restored, &checkpoints);
            checkpoints = world.checkpoints();
        }
        assert!(tails > 0, "no restart read a part of the changelog only");
        let again = check(&world.log, &world.group, &world.out, rounds).await;
        println!("{KILLS} kills, {rounds} rounds, done again: {again:?}");
        again.suits(guarantee);
    })
    .await;
}

/// Restores begin where the store's checkpoint is. Returns how many of them began later than at the first record.
fn check_tail(kill: usize, restored: &[Restore], checkpoints: &BTreeMap<i32, i64>) -> usize {
    for r in restored {
        let checkpoint = checkpoints.get(&r.partition).copied().unwrap_or_default();
        assert_eq!(r.from, checkpoint, "start {kill} reads from the checkpoint on: {restored:?}, {checkpoints:?}");
        assert!(r.records <= r.to - r.from, "{r:?}");
    }
    restored.iter().filter(|r| r.from > 0).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn killed_again_and_again_nothing_is_lost_at_least_once() {
    killed_again_and_again_nothing_is_lost(Guarantee::AtLeastOnce).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn killed_again_and_again_nothing_is_lost_exactly_once() {
    killed_again_and_again_nothing_is_lost(Guarantee::ExactlyOnce).await;
}

async fn killed_while_all_is_committed_nothing_is_done_again(guarantee: Guarantee) {
    bounded(200, async {
        let world = World::new(guarantee).await;
        let mut input = Feed::new(&world.log).await;
        for start in 0..3 {
            let child = world.start();
            feed(&mut input, &world.input, start * 50..(start + 1) * 50).await;
            done(&world.log, &world.group, &[(&world.input, PARTITIONS)]).await;
            child.kill();
        }
        assert_eq!(
            check(&world.log, &world.group, &world.out, 150).await,
            Again::default(),
            "no crash window was hit, so each count is exact"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn killed_while_all_is_committed_nothing_is_done_again_at_least_once() {
    killed_while_all_is_committed_nothing_is_done_again(Guarantee::AtLeastOnce).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn killed_while_all_is_committed_nothing_is_done_again_exactly_once() {
    killed_while_all_is_committed_nothing_is_done_again(Guarantee::ExactlyOnce).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn stopped_in_order_a_restart_restores_nothing() {
    bounded(200, async {
        let world = World::new(Guarantee::AtLeastOnce).await;
        let mut input = Feed::new(&world.log).await;
        for start in 0..2 {
            let child = world.start();
            feed(&mut input, &world.input, start * 50..(start + 1) * 50).await;
            done(&world.log, &world.group, &[(&world.input, PARTITIONS)]).await;
            let restored = child.stop();
            assert!(restored.is_empty(), "start {start}: {restored:?}");
            let ends = ends(&world.log, &table_topic(&world.group), PARTITIONS).await;
            let checkpoints: Vec<i64> = world.checkpoints().into_values().collect();
            assert_eq!(checkpoints, ends, "the stores hold the whole changelog");
        }
        assert_eq!(check(&world.log, &world.group, &world.out, 100).await, Again::default());
    })
    .await;
}
