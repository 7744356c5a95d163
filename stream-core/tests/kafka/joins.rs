//! Joins of two topics on a real Kafka: the numbered cases, the rules, and re-keying while partitions move.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use stream_core::codec::Text;
use stream_core::group::{GroupGraph, Side};
use stream_core::log::{LogHandle, NewRecord, ProduceBatch, ProducerOptions, TopicConfig, TopicSpec};
use stream_core::processor::{Guarantee, Processor};
use stream_core::store::MemoryStores;
use stream_core::window::{JoinWindows, Nulls};

use crate::join_support::{Case, Kind, numbered, rules};
use crate::kafka_support::{Feed, Running, done, read, unique, until};

fn processor(log: &LogHandle, graph: Arc<GroupGraph>, guarantee: Guarantee) -> Processor {
    Processor::new(graph, Arc::clone(log))
        .stores(Arc::new(MemoryStores::new()))
        .workers(1)
        .guarantee(guarantee)
        .commit_interval(Duration::from_millis(50))
}

/// Topics whose records never get too old.
async fn topics(log: &LogHandle, prefix: &str, partitions: i32) -> [Arc<str>; 3] {
    let names = ["left", "right", "out"].map(|what| Arc::from(format!("{prefix}-{what}")));
    let keep = TopicConfig::new().retention_ms(-1);
    let spec = |name| TopicSpec::new(Arc::clone(name)).partitions(partitions).config(keep.clone());
    log.create_topics(names.iter().map(spec).collect()).await.unwrap();
    names
}

/// The beginning of a script's time: the client writes no time of 0.
const BEGIN: i64 = 1_000_000;

/// What a script says is emitted, in the topic's time.
fn since_begin(result: &str) -> String {
    let (pair, at) = result.rsplit_once('@').unwrap();
    format!("{pair}@{}", at.parse::<i64>().unwrap() + BEGIN)
}

/// A script record by record; each is done before the next one comes.
async fn script(log: &LogHandle, case: Case, guarantee: Guarantee) {
    let (group, partitions) = (unique("join"), case.partitions());
    let [left, right, out] = topics(log, &group, partitions).await;
    let running = Running::up(processor(log, case.graph(&group), guarantee)).await;
    let producer = log.producer(ProducerOptions::default()).await.unwrap();
    let mut wanted = Vec::new();
    for (step, expected) in case.steps() {
        let topic = if step.side == "left" { &left } else { &right };
        let mut batch = ProduceBatch::new();
        let (key, value) = (step.key.as_ref().map(String::as_bytes), step.value.as_ref().map(String::as_bytes));
        let (partition, timestamp) = (Some(step.partition), Some(step.at + BEGIN));
        batch.push(NewRecord { topic, partition, timestamp, key, value }, std::iter::empty());
        let delivery = producer.send(Arc::new(batch)).await;
        assert!(delivery.failed.is_empty(), "{:?}", delivery.failed);
        done(log, &group, &[(topic, partitions)]).await;
        wanted.extend(expected.iter().map(|result| since_begin(result)));
        let found = read(log, &out, partitions).await;
        let texts: Vec<_> = found.iter().filter_map(|r| r.value.clone()).collect();
        assert_eq!(texts, wanted, "{guarantee:?}: {} after {step:?}", case.name);
        assert!(found.iter().all(|r| r.value.as_ref().unwrap().ends_with(&format!("@{}", r.timestamp))), "{found:?}");
    }
    running.stop().await;
}

/// Some at a time: most of a script is waiting.
async fn scripts(log: &LogHandle, cases: Vec<Case>, guarantee: Guarantee) {
    let run = |case| script(log, case, guarantee);
    futures::stream::iter(cases).map(run).buffer_unordered(6).collect::<Vec<()>>().await;
}

async fn the_numbered_cases(log: &LogHandle, guarantee: Guarantee) {
    scripts(log, numbered(), guarantee).await;
}

async fn the_rules(log: &LogHandle, guarantee: Guarantee) {
    scripts(log, rules(), guarantee).await;
}

const PARTITIONS: i32 = 3;

/// Both sides by what their values begin with, while instances come and go.
async fn re_keyed_sides_while_partitions_move(log: &LogHandle, guarantee: Guarantee) {
    let group = unique("rekeyed");
    let [left, right, out] = topics(log, &group, PARTITIONS).await;
    let graph = || {
        let side = |topic: &Arc<str>| {
            Side::topic(topic.to_string(), Text)
                .key_by(|text: &String| text.split_once('-').map_or("", |(key, _)| key).to_owned())
        };
        let hour = Duration::from_secs(3600);
        let windows = JoinWindows::around(hour).grace(hour);
        let case = Case { name: "", kind: Kind::Inner, windows, nulls: Nulls::OnClose, script: &[] };
        case.graph_of(&group, side(&left), side(&right))
    };
    let first = Running::up(processor(log, graph(), guarantee)).await;
    let mut feed = Feed::new(log).await;
    let mut others = Vec::new();
    for round in 0..3 {
        for n in (round * 100)..(round * 100 + 100) {
            let (l, r) = (format!("{n}-l"), format!("{n}-r"));
            feed.send(&[(&left, None, &format!("a{n}"), &l), (&right, None, &format!("b{}", n * 7), &r)]).await;
        }
        feed.finish().await;
        match round {
            0 => others.push(Running::up(processor(log, graph(), guarantee)).await),
            // Like a kill, for what is under way.
            1 => others.remove(0).task.abort(),
            _ => {}
        }
    }
    // The time that is emitted is when they were written.
    let pair = |text: &str| text.split('@').next().unwrap_or_default().to_owned();
    let wanted: BTreeSet<String> = (0..300).map(|n| format!("[{n}-l,{n}-r]")).collect();
    until("all pairs are emitted", async || {
        let found = read(log, &out, PARTITIONS).await;
        found.iter().filter_map(|r| r.value.as_deref().map(pair)).collect::<BTreeSet<_>>() == wanted
    })
    .await;
    let found = read(log, &out, PARTITIONS).await;
    if guarantee == Guarantee::ExactlyOnce {
        assert_eq!(found.len(), wanted.len(), "none is emitted twice");
    }
    for record in &found {
        let key = record.key.as_deref().unwrap_or_default();
        assert!(record.value.as_ref().unwrap().starts_with(&format!("[{key}-l,")), "{record:?}");
    }
    first.stop().await;
}

/// Ten minutes of records that were there before the group: as if they had come in their time.
async fn a_backlog_that_is_re_keyed_loses_no_match(log: &LogHandle, guarantee: Guarantee) {
    const RECORDS: i64 = 600;
    let group = unique("backlog");
    let [left, right, out] = topics(log, &group, PARTITIONS).await;
    let producer = log.producer(ProducerOptions::default()).await.unwrap();
    let mut batch = ProduceBatch::new();
    for n in 0..RECORDS {
        let value = n.to_string();
        for (topic, key, at) in [(&left, format!("l{n}"), 0), (&right, value.clone(), 500)] {
            let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
            let timestamp = Some(BEGIN + n * 1000 + at);
            batch.push(NewRecord { topic, partition: None, timestamp, key, value }, std::iter::empty());
        }
    }
    let delivery = producer.send(Arc::new(batch)).await;
    assert!(delivery.failed.is_empty(), "{:?}", delivery.failed);
    let graph = || {
        let minute = Duration::from_secs(60);
        let windows = JoinWindows::around(minute).grace(minute);
        let case = Case { name: "", kind: Kind::Inner, windows, nulls: Nulls::OnClose, script: &[] };
        let left = Side::topic(left.to_string(), Text).key_by(|text: &String| text.clone());
        case.graph_of(&group, left, Side::topic(right.to_string(), Text))
    };
    let both = [(), ()].map(|()| Running::start(processor(log, graph(), guarantee)));
    let wanted: BTreeSet<String> = (0..RECORDS).map(|n| format!("[{n},{n}]@{}", BEGIN + n * 1000 + 500)).collect();
    until("all pairs are emitted", async || {
        let found = read(log, &out, PARTITIONS).await;
        found.into_iter().filter_map(|r| r.value).collect::<BTreeSet<_>>() == wanted
    })
    .await;
    for running in both {
        running.stop().await;
    }
}

with_both!(
    300,
    crate::joins:
    the_numbered_cases,
    the_rules,
    re_keyed_sides_while_partitions_move,
    a_backlog_that_is_re_keyed_loses_no_match,
);
