//! Three instances of one group join and leave, in order, while records of two inputs flow.
//!
//! Each key's records are numbered on each input, and the table holds the next number of both. So a record that is
//! lost, doubled or overtaken is seen by the callback itself, wherever it happens.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stream_core::codec::{Json, Text};
use stream_core::group::{Group, GroupGraph};
use stream_core::log::LogHandle;
use stream_core::processor::{Guarantee, Processor, Rebalance};
use tokio::task::JoinHandle;

use crate::kafka_support::{Feed, Random, Running, done, read, table, topic, unique, until};

const PARTITIONS: i32 = 6;
const KEYS: u64 = 60;
const SLOTS: usize = 3;

/// How a run goes.
#[derive(Clone, Copy)]
pub struct Plan {
    pub new_protocol: bool,
    pub guarantee: Guarantee,
    /// Joins and leaves.
    pub moves: usize,
    pub seed: u64,
    /// Partitions may move before their last commit has come through, so that some records are done again: librdkafka's
    /// mock cluster begins the next generation by a timer, whoever still holds a revocation back.
    pub repeats: bool,
}

/// The next number of a key, of each input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct NextOf {
    left: u64,
    right: u64,
}

/// What is seen from all instances.
#[derive(Default)]
struct Seen {
    processed: AtomicU64,
    wrong: Mutex<Vec<String>>,
    /// For each partition, which incarnation processed it, in order.
    worked: Mutex<BTreeMap<i32, Vec<u64>>>,
    /// How often a partition was assigned to an incarnation.
    assigned: Mutex<BTreeMap<(i32, u64), usize>>,
}

impl Seen {
    fn wrong(&self, what: String) {
        self.wrong.lock().unwrap().push(what);
    }

    fn work(&self, partition: i32, incarnation: u64) {
        let mut worked = self.worked.lock().unwrap();
        let runs = worked.entry(partition).or_default();
        if runs.last() != Some(&incarnation) {
            runs.push(incarnation);
        }
        drop(worked);
        self.processed.fetch_add(1, Ordering::Relaxed);
    }

    /// Both inputs of a partition come and go together.
    fn rebalance(&self, what: &Rebalance, inputs: &[Arc<str>; 2], incarnation: u64, repeats: bool) {
        let (Rebalance::Assigned(list) | Rebalance::Revoked(list) | Rebalance::Lost(list)) = what else { return };
        if matches!(what, Rebalance::Lost(_)) && !repeats {
            self.wrong(format!("lost: {list:?}"));
        }
        let of = |input: &Arc<str>| -> BTreeSet<i32> {
            list.iter().filter(|p| p.topic == *input).map(|p| p.partition).collect()
        };
        let (left, right) = (of(&inputs[0]), of(&inputs[1]));
        if left != right {
            self.wrong(format!("{what:?} tears partitions apart"));
        }
        if matches!(what, Rebalance::Assigned(_)) {
            let mut assigned = self.assigned.lock().unwrap();
            for p in left {
                *assigned.entry((p, incarnation)).or_default() += 1;
            }
        }
    }
}

fn graph(
    group: &str,
    inputs: &[Arc<str>; 2],
    out: &Arc<str>,
    seen: &Arc<Seen>,
    incarnation: u64,
    repeats: bool,
) -> Arc<GroupGraph> {
    let mut g = Group::define(group).table(Json::<NextOf>::new());
    let out = g.output(Arc::clone(out), Text);
    for (side, input) in inputs.iter().enumerate() {
        let seen = Arc::clone(seen);
        g.input(input.to_string(), Text, move |ctx, number| {
            seen.work(ctx.partition(), incarnation);
            let mut next = ctx.value()?.unwrap_or_default();
            let place = if side == 0 { &mut next.left } else { &mut next.right };
            let expected = std::mem::replace(place, *place + 1);
            if repeats && number.parse::<u64>()? < expected {
                return ctx.emit(out, ctx.key(), format!("{side} {number}"));
            }
            if number != expected.to_string() {
                let key = ctx.key_text()?;
                seen.wrong(format!("{}@{} key {key}: {number}, not {expected}", ctx.topic(), ctx.offset()));
            }
            ctx.emit(out, ctx.key(), format!("{side} {number}"))?;
            ctx.set(next)
        });
    }
    g.build().unwrap()
}

/// Sends records to both inputs as long as the test says, no faster than they are processed. Returns the rounds.
async fn feed(log: LogHandle, inputs: [Arc<str>; 2], seen: Arc<Seen>, enough: Arc<AtomicBool>) -> u64 {
    let mut feed = Feed::new(&log).await;
    let keys: Vec<String> = (0..KEYS).map(|k| format!("key-{k}")).collect();
    let mut round = 0;
    while !enough.load(Ordering::Relaxed) {
        let number = round.to_string();
        let records: Vec<_> =
            keys.iter().flat_map(|k| inputs.iter().map(|i| (i, None, k.as_str(), number.as_str()))).collect();
        feed.send(&records).await;
        round += 1;
        while round * KEYS * 2 > seen.processed.load(Ordering::Relaxed) + 4 * KEYS && !enough.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    feed.finish().await;
    round
}

/// The instances, each with a state directory of its own, where it finds its old stores when it comes back.
struct Instances<'a> {
    log: &'a LogHandle,
    plan: Plan,
    group: &'a str,
    inputs: [Arc<str>; 2],
    out: Arc<str>,
    seen: Arc<Seen>,
    dir: &'a Path,
    running: [Option<Running>; SLOTS],
    leaving: [Option<JoinHandle<()>>; SLOTS],
    incarnations: u64,
}

impl Instances<'_> {
    async fn join(&mut self, slot: usize) {
        if let Some(leaving) = self.leaving[slot].take() {
            leaving.await.unwrap();
        }
        let incarnation = self.incarnations;
        self.incarnations += 1;
        let graph = graph(self.group, &self.inputs, &self.out, &self.seen, incarnation, self.plan.repeats);
        let (seen, inputs, repeats) = (Arc::clone(&self.seen), self.inputs.clone(), self.plan.repeats);
        let mut processor = Processor::new(graph, Arc::clone(self.log))
            .state_dir(self.dir.join(slot.to_string()))
            .workers(1)
            .guarantee(self.plan.guarantee)
            .commit_interval(Duration::from_millis(200))
            .checkpoint_interval(Duration::from_millis(300))
            .on_rebalance(move |what| seen.rebalance(what, &inputs, incarnation, repeats));
        processor = if self.plan.new_protocol {
            processor.new_group_protocol(true)
        } else {
            // Nobody dies here. A write that takes longer than two thirds of the session is done again, and a broker that shares
            // its machine with a build takes seconds. The mock cluster can't do with longer sessions: it aborts the process.
            processor.session_timeout(Duration::from_secs(if self.plan.repeats { 6 } else { 30 }))
        };
        self.running[slot] = Some(Running::start(processor));
    }

    /// Begins to leave; the others go on, and the next move need not wait for its end.
    fn leave(&mut self, slot: usize) {
        if let Some(running) = self.running[slot].take() {
            self.leaving[slot] = Some(tokio::spawn(running.stop()));
        }
    }

    fn count(&self) -> usize {
        self.running.iter().flatten().count()
    }
}

/// The whole run.
pub async fn three_instances_join_and_leave(log: &LogHandle, plan: Plan) {
    let group = unique("moves");
    let inputs = [topic(log, "moves-left", PARTITIONS).await, topic(log, "moves-right", PARTITIONS).await];
    let out = topic(log, "moves-out", PARTITIONS).await;
    let (seen, enough) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
    let feeding = tokio::spawn(feed(Arc::clone(log), inputs.clone(), Arc::clone(&seen), Arc::clone(&enough)));
    let dir = tempfile::tempdir().unwrap();
    let mut all = Instances {
        log,
        plan,
        group: &group,
        inputs: inputs.clone(),
        out: Arc::clone(&out),
        seen: Arc::clone(&seen),
        dir: dir.path(),
        running: [const { None }; SLOTS],
        leaving: [const { None }; SLOTS],
        incarnations: 0,
    };
    let mut random = Random(plan.seed);
    all.join(0).await;
    for step in 0..plan.moves {
        let target = seen.processed.load(Ordering::Relaxed) + 1 + random.below(4_000);
        let what = format!("step {step}: {target} records are processed");
        until(&what, async || seen.processed.load(Ordering::Relaxed) >= target).await;
        let slot = usize::try_from(random.below(SLOTS as u64)).unwrap();
        if all.running[slot].is_none() {
            all.join(slot).await;
        } else if all.count() > 1 {
            all.leave(slot);
        } else {
            all.join((slot + 1) % SLOTS).await;
        }
    }
    // Until those that are there share the work, so that the last moves are seen through.
    let mut with_work = 0;
    until("every instance has partitions", async || {
        with_work = all.running.iter().flatten().filter(|r| !r.handle.status().tasks.is_empty()).count();
        with_work == all.count()
    })
    .await;
    enough.store(true, Ordering::Relaxed);
    let rounds = feeding.await.unwrap();
    done(log, &group, &[(&inputs[0], PARTITIONS), (&inputs[1], PARTITIONS)]).await;
    for slot in 0..SLOTS {
        all.leave(slot);
    }
    for leaving in all.leaving.iter_mut().filter_map(Option::take) {
        leaving.await.unwrap();
    }
    assert_eq!(*seen.wrong.lock().unwrap(), Vec::<String>::new(), "of {rounds} rounds");
    let (processed, sent) = (seen.processed.load(Ordering::Relaxed), rounds * KEYS * 2);
    match plan.guarantee {
        Guarantee::AtLeastOnce if !plan.repeats => assert_eq!(processed, sent, "graceful moves double nothing"),
        // A transaction of a generation that is over is aborted, and what was in it is called again: what came of it is
        // looked at below.
        _ => assert!(processed >= sent, "{processed} calls for {sent} records"),
    }
    check_moves(&seen, all.incarnations);
    let expected = serde_json::to_string(&NextOf { left: rounds, right: rounds }).unwrap();
    let table = table(log, &group, PARTITIONS).await;
    assert_eq!(table.len() as u64, KEYS);
    assert!(table.values().all(|v| *v == expected), "{table:?}, expected {expected}");
    check_output(log, &out, rounds, plan.repeats).await;
}

/// An incarnation works on a partition in one go for each assignment: nobody else in between, on either input.
fn check_moves(seen: &Seen, incarnations: u64) {
    let assigned = seen.assigned.lock().unwrap();
    let mut moved = 0;
    for (partition, runs) in &*seen.worked.lock().unwrap() {
        moved += runs.len() - 1;
        for incarnation in 0..incarnations {
            let times = runs.iter().filter(|r| **r == incarnation).count();
            let given = assigned.get(&(*partition, incarnation)).copied().unwrap_or_default();
            assert!(
                times <= given,
                "partition {partition} was {incarnation}'s {times} times, given {given} times: {runs:?}"
            );
        }
    }
    assert!(moved > 0, "no partition ever moved");
}

async fn check_output(log: &LogHandle, out: &Arc<str>, rounds: u64, repeats: bool) {
    let mut next: BTreeMap<String, NextOf> = BTreeMap::new();
    for record in read(log, out, PARTITIONS).await {
        let (key, value) = (record.key.unwrap(), record.value.unwrap());
        let (side, number) = value.split_once(' ').unwrap();
        let next = next.entry(key.clone()).or_default();
        let place = if side == "0" { &mut next.left } else { &mut next.right };
        if repeats && number.parse::<u64>().unwrap() < *place {
            continue;
        }
        assert_eq!(number, place.to_string(), "key {key}, side {side}");
        *place += 1;
    }
    assert_eq!(next.len() as u64, KEYS);
    assert!(next.values().all(|n| *n == NextOf { left: rounds, right: rounds }), "{rounds} rounds: {next:?}");
}
