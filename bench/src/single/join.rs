//! A join of two topics: how fast it is, that what it emits is exact, and that what it keeps stays as it is however many
//! records come.
//!
//! Of every left record one right record has the same key and a time near it, but for each tenth, which has none. Keys come
//! again long after their windows have closed.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use stream_core::codec::Int64;
use stream_core::group::{Group, Side, join_topic};
use stream_core::log::kafka::{Kafka, KafkaOptions};
use stream_core::log::{
    FetchLimits, Fetched, Isolation, LogHandle, NewRecord, ProduceBatch, ProducerOptions, RecordBatch, TopicConfig,
    TopicPartition, TopicSpec,
};
use stream_core::processor::{Guarantee, Processor};
use stream_core::store::{KeyRange, MemoryStores, SledStores, Store, StoreBackend, StoreError, StoreId};
use stream_core::window::JoinWindows;

use super::{Args, StoreKind, cpu_seconds, peak_mb};
use crate::Outcome;

#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Join {
    /// Where the records are kept.
    #[arg(long, default_value = "memory")]
    store: StoreKind,
    /// In transactions.
    #[arg(long)]
    exactly_once: bool,
    /// The right side is joined by what is in its values, through a topic of the group's.
    #[arg(long)]
    re_key: bool,
    /// How far the two records of a pair may be apart, in milliseconds of event time; one comes each millisecond.
    #[arg(long, default_value_t = 5_000)]
    within_ms: u64,
}

/// The first record's time.
const BEGIN: i64 = 1_700_000_000_000;
/// Each n-th left record has no right one.
const ALONE: u64 = 10;
/// What closes everything else.
const FLUSH: i64 = -1;

pub(crate) fn run(args: &Args, how: Join) -> Outcome<()> {
    let least = 4 * how.within_ms + if how.re_key { 60_000 } else { 0 };
    if args.keys < least {
        return Err(format!("a key must not come again while it is kept: --keys {least} at least").into());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(join(args, how))
}

struct Topics {
    left: Arc<str>,
    right: Arc<str>,
    out: Arc<str>,
}

async fn join(args: &Args, how: Join) -> Outcome<()> {
    let log: LogHandle = Kafka::connect(KafkaOptions::new(&args.brokers))?;
    let name = format!("bench-join-{}", std::process::id());
    let topics = load(&log, args, &name).await?;
    let ms = Duration::from_millis;
    let seen = Arc::new(AtomicU64::new(0));
    let mut g = Group::define(name.as_str());
    let out = g.output(Arc::clone(&topics.out), Int64);
    let left = Side::topic(topics.left.to_string(), Int64);
    let mut right = Side::topic(topics.right.to_string(), Int64);
    if how.re_key {
        let keys = args.keys;
        right = right.key_by(move |n: &i64| format!("key-{}", n.unsigned_abs() % keys));
    }
    let count = Arc::clone(&seen);
    // What is re-keyed is read in step, which means half of the grace.
    let grace = if how.re_key { 30_000 } else { how.within_ms / 5 };
    g.stream_join("pairs", JoinWindows::around(ms(how.within_ms)).grace(ms(grace)), left, right).left(
        move |ctx, left, right| {
            count.fetch_add(1, Ordering::Relaxed);
            // A match is positive, a null negative.
            let result = left + 1;
            ctx.emit(out, ctx.key(), if right.is_some() { result } else { -result })
        },
    );
    let dir = tempfile::tempdir()?;
    let stores = Arc::new(Seen::new(how.store, dir.path())?);
    let mut processor = Processor::new(g.build()?, Arc::clone(&log))
        .stores(Arc::clone(&stores) as Arc<dyn StoreBackend>)
        .checkpoint_interval(Duration::from_secs(2));
    if how.exactly_once {
        processor = processor.guarantee(Guarantee::ExactlyOnce);
    }
    let handle = processor.handle();
    let mut running = tokio::spawn(processor.run());
    handle.running().await?;
    let (began, cpu) = (Instant::now(), cpu_seconds()?);
    let (mut next, mut flushed) = (0, false);
    while seen.load(Ordering::Relaxed) < args.records {
        if running.is_finished() {
            return Err(format!("the processor ended early: {:?}", (&mut running).await?).into());
        }
        let so_far = seen.load(Ordering::Relaxed);
        if so_far >= next {
            let (entries, bytes) = stores.of(&join_topic(&name, "pairs"))?;
            println!("emitted={so_far} kept_entries={entries} store_mb={:.1} peak_mb={}", mb(bytes), peak_mb()?);
            next = so_far + args.records / 10;
        }
        // Nearly all is emitted before anything has to be closed by force.
        if !flushed && so_far + args.records / 20 + 2 * (how.within_ms + grace) >= args.records {
            handle.caught_up().await?;
            flush(&log, args, &topics.left).await?;
            flushed = true;
        }
        tokio::time::sleep(ms(100)).await;
    }
    // It ends once everything is acknowledged, stored and committed.
    handle.stop();
    running.await??;
    let (took, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds()? - cpu);
    check(&log, &topics.out, args).await?;
    let (entries, bytes) = stores.of(&join_topic(&name, "pairs"))?;
    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = (2 * args.records) as f64 / took;
    println!(
        "join store={:?} exactly_once={} re_key={} records_a_side={} seconds={took:.2} records_per_second={rate:.0} cpu={cpu:.2} \
         kept_entries={entries} store_mb={:.1} peak_mb={} pairs=exact",
        how.store,
        how.exactly_once,
        how.re_key,
        args.records,
        mb(bytes),
        peak_mb()?
    );
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "a size for people")]
fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

/// Writes both sides.
async fn load(log: &LogHandle, args: &Args, name: &str) -> Outcome<Topics> {
    let [left, right, out] = ["left", "right", "out"].map(|what| Arc::<str>::from(format!("{name}-{what}")));
    let keep = TopicConfig::new().retention_ms(-1);
    let specs =
        [&left, &right, &out].map(|t| TopicSpec::new(Arc::clone(t)).partitions(args.partitions).config(keep.clone()));
    log.create_topics(specs.into()).await?;
    let producer = log.producer(ProducerOptions::default()).await?;
    let mut under_way = std::collections::VecDeque::new();
    for from in (0..args.records).step_by(5_000) {
        let mut batch = ProduceBatch::new();
        for n in from..args.records.min(from + 5_000) {
            let (key, value, at) = (format!("key-{}", n % args.keys), n.to_string(), BEGIN + i64::try_from(n)?);
            let mut push = |topic, at| {
                let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
                let record = NewRecord { topic, partition: None, timestamp: Some(at), key, value };
                batch.push(record, std::iter::empty());
            };
            push(&left, at);
            if n % ALONE > 0 {
                push(&right, at + 1);
            }
        }
        under_way.push_back(producer.send(Arc::new(batch)));
        if under_way.len() > 20
            && let Some(oldest) = under_way.pop_front()
        {
            delivered(&oldest.await)?;
        }
    }
    for delivery in under_way {
        delivered(&delivery.await)?;
    }
    println!("{} records a side in {left} and {right}", args.records);
    Ok(Topics { left, right, out })
}

/// Writes what closes everything else on each partition.
async fn flush(log: &LogHandle, args: &Args, left: &Arc<str>) -> Outcome<()> {
    let mut batch = ProduceBatch::new();
    let end = BEGIN + i64::try_from(args.records)? + 1_000_000_000;
    for partition in 0..args.partitions {
        let (key, value) = (Some(b"flush".as_slice()), Some(FLUSH.to_string()));
        let value = value.as_ref().map(String::as_bytes);
        let record = NewRecord { topic: left, partition: Some(partition), timestamp: Some(end), key, value };
        batch.push(record, std::iter::empty());
    }
    let producer = log.producer(ProducerOptions::default()).await?;
    delivered(&producer.send(Arc::new(batch)).await)
}

fn delivered(delivery: &stream_core::log::Delivery) -> Outcome<()> {
    delivery.failed.first().map_or(Ok(()), |f| Err(f.error.clone().into()))
}

/// Each left record is emitted once: with its match, or without if it has none.
async fn check(log: &LogHandle, out: &Arc<str>, args: &Args) -> Outcome<()> {
    let reader = log.reader(Isolation::ReadCommitted)?;
    let mut seen = vec![false; usize::try_from(args.records)?];
    for p in 0..args.partitions {
        let mut fetch = reader.read(TopicPartition::new(Arc::clone(out), p), 0).await?;
        let mut batch = RecordBatch::new();
        while std::future::poll_fn(|cx| fetch.poll_fetch(cx, &mut batch, FetchLimits::default())).await?
            == Fetched::Records
        {
            for record in batch.iter() {
                let n: i64 = std::str::from_utf8(record.value.unwrap_or_default())?.parse()?;
                let number = n.unsigned_abs() - 1;
                if (n > 0) == number.is_multiple_of(ALONE) {
                    return Err(format!("left record {number} has a null or a match that it must not have").into());
                }
                let place = seen.get_mut(usize::try_from(number)?).ok_or("a record from nowhere")?;
                if std::mem::replace(place, true) {
                    return Err(format!("left record {number} is emitted twice").into());
                }
            }
        }
    }
    match seen.iter().position(|seen| !seen) {
        Some(lost) => Err(format!("nothing is emitted of left record {lost}").into()),
        None => Ok(()),
    }
}

/// Stores that can be looked at while they are used.
struct Seen {
    stores: Arc<dyn StoreBackend>,
    open: Mutex<Vec<(StoreId, Arc<dyn Store>)>>,
}

impl Seen {
    fn new(kind: StoreKind, dir: &std::path::Path) -> Outcome<Self> {
        let stores: Arc<dyn StoreBackend> = match kind {
            StoreKind::Memory => Arc::new(MemoryStores::new()),
            StoreKind::Sled => Arc::new(SledStores::open_dir(dir)?),
        };
        Ok(Self { stores, open: Mutex::default() })
    }

    /// How many entries all partitions of a table have, and how large they are.
    fn of(&self, table: &str) -> Outcome<(usize, u64)> {
        let mut all = (0, 0);
        for (id, store) in self.open.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if *id.table == *table {
                for pair in store.range(KeyRange::ALL, stream_core::store::Direction::Forward) {
                    pair?;
                    all.0 += 1;
                }
                all.1 += store.size();
            }
        }
        Ok(all)
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stores.fmt(f)
    }
}

impl StoreBackend for Seen {
    fn open(&self, id: &StoreId, fingerprint: &str) -> Result<Arc<dyn Store>, StoreError> {
        let store = self.stores.open(id, fingerprint)?;
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push((id.clone(), Arc::clone(&store)));
        Ok(store)
    }
    fn destroy(&self, id: &StoreId) -> Result<(), StoreError> {
        self.stores.destroy(id)
    }
    fn instance_id(&self) -> Result<String, StoreError> {
        self.stores.instance_id()
    }
    fn list(&self) -> Result<Vec<StoreId>, StoreError> {
        self.stores.list()
    }
}
