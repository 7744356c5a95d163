//! What an emitter promises: acknowledgements, errors that name the topic, order, batches, back-pressure, a good end.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stream_core::codec::{Codec, CodecError, Text};
use stream_core::context::Emit;
use stream_core::emitter::{EmitError, Emitter};
use stream_core::log::embedded::InMemory;
use stream_core::log::{
    FetchLimits, Fetched, Isolation, LogError, LogHandle, RecordBatch, TopicConfig, TopicPartition, TopicSpec,
};

use crate::view_support::{Line, within};

const WORDS: &str = "words";

fn text(value: &str) -> String {
    value.to_owned()
}

fn refused() -> LogError {
    LogError::Fatal { what: "write".into(), reason: "on purpose".into() }
}

/// A log with the topic.
async fn world(partitions: i32) -> (Arc<InMemory>, LogHandle) {
    let embedded = InMemory::new();
    let log: LogHandle = Arc::clone(&embedded) as _;
    log.create_topics(vec![TopicSpec::new(WORDS).partitions(partitions)]).await.unwrap();
    (embedded, log)
}

async fn open(log: &LogHandle) -> Emitter<String> {
    Emitter::new(WORDS, Text, Arc::clone(log)).await.unwrap()
}

#[derive(Debug, PartialEq)]
struct Rec {
    key: Option<String>,
    value: Option<String>,
    timestamp: i64,
    headers: Vec<(String, String)>,
}

/// What a partition holds.
async fn read(log: &LogHandle, topic: &str, partition: i32) -> Vec<Rec> {
    let reader = log.reader(Isolation::ReadCommitted).unwrap();
    let mut fetch = reader.read(TopicPartition::new(topic, partition), 0).await.unwrap();
    let (mut batch, mut all) = (RecordBatch::new(), Vec::new());
    let word = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    loop {
        let limits = FetchLimits::default();
        match within(poll_fn(|cx| fetch.poll_fetch(cx, &mut batch, limits))).await.unwrap() {
            Fetched::End(_) => return all,
            Fetched::Records => all.extend(batch.iter().map(|r| Rec {
                key: r.key.map(word),
                value: r.value.map(word),
                timestamp: r.timestamp,
                headers: r.headers.iter().map(|(n, v)| (n.to_owned(), word(v.unwrap()))).collect(),
            })),
        }
    }
}

async fn values(log: &LogHandle, partition: i32) -> Vec<String> {
    read(log, WORDS, partition).await.into_iter().map(|r| r.value.unwrap()).collect()
}

#[tokio::test]
async fn an_acknowledged_record_is_in_the_log_as_it_was_emitted() {
    let (_, log) = world(3).await;
    let words = open(&log).await;
    within(words.emit("k", &text("plain")).await.unwrap()).await.unwrap();
    within(words.emit_acknowledged(None::<&str>, &text("no key"))).await.unwrap();
    let with = Emit::new().headers(&[("h", b"1"), ("h", b"2")]).timestamp(1234).partition(2);
    within(words.emit_with("k", &text("all"), with).await.unwrap()).await.unwrap();
    within(words.emit_tombstone("gone").await.unwrap()).await.unwrap();
    let mut all = Vec::new();
    for partition in 0..3 {
        all.extend(read(&log, WORDS, partition).await.into_iter().map(|r| (partition, r)));
    }
    let find = |value: Option<&str>| all.iter().find(|(_, r)| r.value.as_deref() == value).unwrap();
    let (partition, plain) = find(Some("plain"));
    assert_eq!(*partition, stream_core::log::Partitioner::Murmur2Random.partition(b"k", 3));
    assert_eq!(plain.key.as_deref(), Some("k"));
    assert!((plain.timestamp - log.clock().now_ms()).abs() < 60_000, "now: {}", plain.timestamp);
    assert_eq!(find(Some("no key")).1.key, None);
    let headers = vec![("h".to_owned(), "1".to_owned()), ("h".to_owned(), "2".to_owned())];
    let all_set = Rec { key: Some(text("k")), value: Some(text("all")), timestamp: 1234, headers };
    assert_eq!(find(Some("all")), &(2, all_set));
    assert_eq!(find(None).1.key.as_deref(), Some("gone"));
    assert_eq!(all.len(), 4);
}

/// A codec that fails in the middle.
struct Never;
impl Codec<String> for Never {
    fn encode(&self, _: &String, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(b"half");
        Err(CodecError::invalid("has no bytes"))
    }
    fn decode(&self, _: &[u8]) -> Result<String, CodecError> {
        Err(CodecError::invalid("has no value"))
    }
}

#[tokio::test]
async fn what_can_not_be_written_is_an_error_at_once_that_names_the_topic() {
    let (_, log) = world(1).await;
    let config = TopicConfig::new().max_message_bytes(1000);
    log.create_topics(vec![TopicSpec::new("small").partitions(1).config(config)]).await.unwrap();
    let small = Emitter::new("small", Text, Arc::clone(&log)).await.unwrap();
    let kept = small.emit("k", &text("before")).await.unwrap();
    let error = small.emit("k", &"x".repeat(1000)).await.unwrap_err();
    assert!(matches!(&error, EmitError::Log { error: LogError::TooLarge { .. }, .. }), "{error}");
    assert!(format!("{error:?}").contains("small"), "{error}");
    within(kept).await.unwrap();
    small.close().await.unwrap();
    assert_eq!(read(&log, "small", 0).await.len(), 1);

    let never = Emitter::new(WORDS, Never, Arc::clone(&log)).await.unwrap();
    let error = never.emit("k", &text("v")).await.unwrap_err();
    assert!(matches!(error, EmitError::Encode { .. }));
    assert_eq!(format!("{error:?}"), "emit to words: the value can't be encoded: has no bytes");
    never.close().await.unwrap();
    assert_eq!(read(&log, WORDS, 0).await, []);
}

#[tokio::test]
async fn a_missing_topic_is_refused_with_the_remedy_or_made() {
    let (_, log) = world(1).await;
    let builder = || Emitter::builder("new", Text, Arc::clone(&log)).wait_for_topic(Duration::ZERO);
    let error = builder().open().await.unwrap_err();
    assert!(format!("{error:?}").contains("topic new does not exist; start the group that reads it"), "{error}");
    let new = builder().create(4).open().await.unwrap();
    within(new.emit_acknowledged("k", &text("v"))).await.unwrap();
    let info = log.topics(vec!["new".into()]).await.unwrap().remove(0).unwrap();
    assert_eq!(info.partitions, 4);
}

#[tokio::test]
async fn a_failed_delivery_is_reported_to_its_ack_or_by_flush_but_once() {
    let (embedded, log) = world(1).await;
    let words = open(&log).await;
    let fault = embedded.faults().on(|r| r.value.is_some_and(|v| v.starts_with(b"bad"))).fail(refused());
    let good = words.emit("k", &text("good")).await.unwrap();
    let mut awaited = pin!(words.emit("k", &text("bad, awaited")).await.unwrap());
    drop(words.emit("k", &text("bad, dropped")).await.unwrap());
    assert!(futures::poll!(awaited.as_mut()).is_pending());
    let error = within(words.flush()).await.unwrap_err();
    assert!(matches!(&error, EmitError::Unacknowledged { failed: 1, .. }), "{error}");
    assert!(
        format!("{error:?}").contains("1 records emitted to words were not written")
            && format!("{error:?}").contains("on purpose")
    );
    within(good).await.unwrap();
    let error = within(awaited).await.unwrap_err();
    assert_eq!(
        format!("{error:?}"),
        "emit to words: the record was not written, or it is not known whether it was: write: on purpose"
    );
    within(words.flush()).await.expect("all failures are reported");

    // One that was awaited for a while and then dropped is nobody's any more: before its failure, and after it.
    let hold = embedded.faults().on(|r| r.value == Some(b"held")).hold_acks();
    let mut acks = Vec::new();
    for value in ["held", "bad 1", "bad 2"] {
        acks.push(words.emit("k", &text(value)).await.unwrap());
    }
    for ack in &mut acks {
        assert!(futures::poll!(ack).is_pending());
    }
    let last = acks.pop().unwrap();
    drop(acks.pop());
    drop(hold);
    within(acks.pop().unwrap()).await.unwrap();
    drop(last);
    let error = within(words.flush()).await.unwrap_err();
    assert!(matches!(&error, EmitError::Unacknowledged { failed: 2, .. }), "{error}");
    drop(fault);
    within(words.close()).await.unwrap();
}

#[tokio::test]
async fn records_of_a_key_keep_their_order_whatever_the_batches_and_delays() {
    let (embedded, log) = world(3).await;
    let words = Emitter::builder(WORDS, Text, Arc::clone(&log)).in_flight_bytes(4_000).open().await.unwrap();
    let mut n = 0;
    let slow = embedded.faults().on(move |_| {
        n += 1;
        n % 97 == 0
    });
    let slow = slow.delay(Duration::from_millis(2));
    let tasks: Vec<_> = (0..4)
        .map(|task| {
            let words = words.clone();
            tokio::spawn(async move {
                let key = format!("key-{task}");
                for n in 0..500 {
                    drop(words.emit(&key, &n.to_string()).await.unwrap());
                    if n % 7 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        within(task).await.unwrap();
    }
    within(words.close()).await.unwrap();
    assert!(slow.hits() > 0);
    let mut by_key: std::collections::BTreeMap<String, Vec<String>> = std::collections::BTreeMap::new();
    for partition in 0..3 {
        for record in read(&log, WORDS, partition).await {
            by_key.entry(record.key.unwrap()).or_default().push(record.value.unwrap());
        }
    }
    let expected: Vec<String> = (0..500).map(|n| n.to_string()).collect();
    assert_eq!(by_key.len(), 4);
    for (key, values) in by_key {
        assert_eq!(values, expected, "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn records_emitted_together_go_out_together() {
    let (embedded, log) = world(1).await;
    let line = Line::to(&log);
    let words = Emitter::new(WORDS, Text, line.clone()).await.unwrap();
    for n in 0..1_000 {
        drop(words.emit("k", &n.to_string()).await.unwrap());
    }
    words.flush().await.unwrap();
    assert_eq!(line.sent(), [1_000]);
    // One that is alone does not wait for others.
    words.emit_acknowledged("k", &text("alone")).await.unwrap();
    assert_eq!(line.sent(), [1_000, 1]);
    // While one is under way, those that come after each other share the next.
    let hold = embedded.faults().on(|r| r.value == Some(b"held")).hold_acks();
    drop(words.emit("k", &text("held")).await.unwrap());
    while line.sent().len() < 3 {
        tokio::task::yield_now().await;
    }
    for n in 0..100 {
        drop(words.emit("k", &n.to_string()).await.unwrap());
        tokio::task::yield_now().await;
    }
    assert_eq!(line.sent(), [1_000, 1, 1], "they wait for company");
    drop(hold);
    words.close().await.unwrap();
    assert_eq!(line.sent(), [1_000, 1, 1, 100]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_does_not_wait_for_the_one_before_it() {
    let (embedded, log) = world(1).await;
    let line = Line::to(&log);
    let words = Emitter::new(WORDS, Text, line.clone()).await.unwrap();
    let _hold = embedded.faults().on(|r| r.value == Some(b"held")).hold_acks();
    let held = words.emit("k", &text("held")).await.unwrap();
    tokio::task::yield_now().await;
    within(words.emit_acknowledged("k", &text("next"))).await.unwrap();
    assert_eq!(line.sent(), [1, 1]);
    // In the end the one whose acknowledgement never comes fails by its delivery time-out.
    let error = within(held).await.unwrap_err();
    assert!(matches!(error, EmitError::Log { error: LogError::Timeout { .. }, .. }), "{error}");
}

#[tokio::test]
async fn what_is_under_way_is_bounded() {
    let (embedded, log) = world(1).await;
    let words = Emitter::builder(WORDS, Text, Arc::clone(&log)).in_flight_bytes(1_000).open().await.unwrap();
    let hold = embedded.faults().on(|_| true).hold_acks();
    let mut taken = 0;
    let error = loop {
        match words.try_emit("k", taken.to_string()) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, EmitError::Full { .. }), "{error}");
    assert!((2..=10).contains(&taken), "{taken} of about a hundred bytes each");
    let waiting = {
        let words = words.clone();
        tokio::spawn(async move { words.emit("k", &text("waited")).await.map(drop) })
    };
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    drop(hold);
    within(waiting).await.unwrap().unwrap();
    within(words.close()).await.unwrap();
    assert_eq!(values(&log, 0).await.len(), taken + 1);
}

#[tokio::test]
async fn a_closed_emitter_has_written_everything_and_takes_no_more() {
    let (embedded, log) = world(1).await;
    let words = open(&log).await;
    let clone = words.clone();
    for n in 0..5_000 {
        drop(words.emit("k", &n.to_string()).await.unwrap());
    }
    within(words.close()).await.unwrap();
    assert_eq!(values(&log, 0).await, (0..5_000).map(|n| n.to_string()).collect::<Vec<_>>());
    let error = clone.emit("k", &text("late")).await.unwrap_err();
    assert!(matches!(error, EmitError::Closed { .. }));
    assert_eq!(format!("{error:?}"), "emit to words: the emitter is closed");
    within(clone.close()).await.unwrap();

    let words = open(&log).await;
    let _fault = embedded.faults().on(|_| true).fail(refused());
    drop(words.emit("k", &text("bad")).await.unwrap());
    let error = within(words.close()).await.unwrap_err();
    assert!(matches!(error, EmitError::Unacknowledged { failed: 1, .. }), "{error}");
}

#[tokio::test]
async fn callers_that_wait_for_room_learn_of_the_end() {
    let (embedded, log) = world(1).await;
    let words = Emitter::builder(WORDS, Text, Arc::clone(&log)).in_flight_bytes(1).open().await.unwrap();
    let hold = embedded.faults().on(|_| true).hold_acks();
    drop(words.emit("k", &text("held")).await.unwrap());
    let waiting = {
        let words = words.clone();
        tokio::spawn(async move { words.emit("k", &text("never")).await.map(drop) })
    };
    tokio::task::yield_now().await;
    let closing = tokio::spawn(words.close());
    let error = within(waiting).await.unwrap().unwrap_err();
    assert!(matches!(error, EmitError::Closed { .. }), "{error}");
    drop(hold);
    within(closing).await.unwrap().unwrap();
    assert_eq!(values(&log, 0).await, ["held"]);
}

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

#[tokio::test]
async fn a_dropped_emitter_writes_what_it_took_and_warns_of_what_failed() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let (embedded, log) = world(1).await;
    let words = open(&log).await;
    let good = words.emit("k", &text("good")).await.unwrap();
    drop(words);
    within(good).await.unwrap();
    assert_eq!(values(&log, 0).await, ["good"]);
    assert!(!lines.text().contains("WARN"), "{}", lines.text());

    let words = open(&log).await;
    let fault = embedded.faults().on(|_| true).fail(refused());
    drop(words.emit("k", &text("bad")).await.unwrap());
    drop(words);
    let warned = async {
        while !lines.text().contains("WARN") {
            tokio::task::yield_now().await;
        }
    };
    within(warned).await;
    let text = lines.text();
    assert!(text.contains("not known to be written") && text.contains("topic=words"), "{text}");
    assert_eq!(fault.hits(), 1);
}

#[test]
fn the_end_of_its_runtime_is_an_error_and_no_hang() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let theirs = runtime();
    let (words, ack, _hold) = theirs.block_on(async {
        let (embedded, log) = world(1).await;
        let hold = embedded.faults().on(|_| true).hold_acks();
        let words = open(&log).await;
        let ack = words.emit("k", &text("held")).await.unwrap();
        (words, ack, hold)
    });
    drop(theirs);
    runtime().block_on(async {
        let error = within(ack).await.unwrap_err();
        assert!(format!("{error:?}").contains("words"), "{error}");
        assert!(matches!(words.emit("k", &text("more")).await, Err(EmitError::Closed { .. })));
        within(words.close()).await.unwrap();
    });
}

#[tokio::test]
async fn records_wait_for_a_log_that_is_away_up_to_their_bound() {
    let (embedded, log) = world(1).await;
    let words = open(&log).await;
    embedded.faults().set_available(false);
    let ack = words.emit("k", &text("patient")).await.unwrap();
    tokio::task::yield_now().await;
    embedded.faults().set_available(true);
    within(ack).await.unwrap();
    let bound = Duration::from_millis(20);
    let hasty = Emitter::builder(WORDS, Text, Arc::clone(&log)).delivery_timeout(bound).open().await.unwrap();
    embedded.faults().set_available(false);
    let error = within(hasty.emit_acknowledged("k", &text("hasty"))).await.unwrap_err();
    assert!(format!("{error:?}").starts_with("emit to words: "), "{error}");
    embedded.faults().set_available(true);
    within(hasty.emit_acknowledged("k", &text("later"))).await.unwrap();
    assert_eq!(values(&log, 0).await, ["patient", "later"]);
}

#[tokio::test]
async fn a_time_below_zero_is_refused() {
    let (_, log) = world(1).await;
    let words = open(&log).await;
    let refused = words.emit_with("k", &text("early"), Emit::new().timestamp(-1)).await;
    assert!(matches!(refused, Err(EmitError::Negative { at: -1, .. })));
    within(words.emit_acknowledged("k", &text("fine"))).await.unwrap();
    assert_eq!(values(&log, 0).await, ["fine"]);
}
