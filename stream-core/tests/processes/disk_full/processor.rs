//! A processor whose disk becomes full: it ends with an error that names the folder, and starts again exactly.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use stream_core::codec::{Codec, Text};
use stream_core::group::{Group, GroupGraph};
use stream_core::log::embedded::InMemory;
use stream_core::log::{
    FetchLimits, Fetched, Isolation, LogHandle, NewRecord, ProduceBatch, Producer, ProducerOptions, RecordBatch,
    TopicPartition, TopicSpec,
};
use stream_core::processor::{Guarantee, Processor, ProcessorError};
#[cfg(feature = "fjall")]
use stream_core::store::FjallStores;
use stream_core::store::{SledStores, StoreBackend, StoreError, StoreId};

use super::disk::{Disk, Refuses, on_a_loaded_disk};
use crate::store_support::all;

const KEYS: usize = 400;
/// Records before the disk is full, while it is, and afterwards.
const PARTS: [usize; 3] = [600, 900, 300];
const LIMIT: Duration = Duration::from_secs(60);

/// Counts its keys, in values that take some room, and passes each record on.
fn graph() -> Arc<GroupGraph> {
    let mut g = Group::define("full").table(Text);
    let out = g.output("out", Text);
    g.input("in", Text, move |ctx, text: String| {
        let n = ctx.value()?.map_or(0, |value| count(&value)) + 1;
        ctx.set(format!("{n} {}", "x".repeat(300)))?;
        ctx.emit(out, ctx.key(), text)
    });
    g.build().unwrap()
}

fn count(value: &str) -> usize {
    value.split(' ').next().unwrap().parse().unwrap()
}

fn stores(kind: &str, dir: &Path) -> Result<Arc<dyn StoreBackend>, StoreError> {
    match kind {
        "sled" => Ok(Arc::new(SledStores::open_dir(dir)?)),
        #[cfg(feature = "fjall")]
        "fjall" => Ok(Arc::new(FjallStores::open_dir(dir)?)),
        other => panic!("there is no backend {other}"),
    }
}

/// A group on a log in memory, and its state on the disk.
struct World<'a> {
    disk: &'a Disk,
    kind: &'a str,
    guarantee: Guarantee,
    dir: tempfile::TempDir,
    log: LogHandle,
    producer: Arc<dyn Producer>,
    written: usize,
    case: String,
}

impl World<'_> {
    fn processor(&self) -> Result<Processor, StoreError> {
        let stores = stores(self.kind, self.dir.path())?;
        let processor = Processor::new(graph(), Arc::clone(&self.log)).stores(stores).workers(1);
        let processor = processor.checkpoint_interval(Duration::from_millis(20)).buffer_bytes(20_000);
        Ok(processor.guarantee(self.guarantee).commit_interval(Duration::from_millis(20)))
    }

    async fn write(&mut self, records: usize) {
        for n in self.written..self.written + records {
            let (topic, key, value) = ("in".into(), format!("k{}", n % KEYS), n.to_string());
            let mut batch = ProduceBatch::new();
            let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
            batch
                .push(NewRecord { topic: &topic, partition: Some(0), timestamp: None, key, value }, std::iter::empty());
            assert!(self.producer.send(Arc::new(batch)).await.failed.is_empty());
        }
        self.written += records;
    }

    /// Runs the group until it has committed all of its input, and stops it.
    async fn runs_to_the_end(&self) {
        let processor = self.processor().unwrap_or_else(|e| panic!("{}: with room: {e:?}", self.case));
        let handle = processor.handle();
        let mut task = tokio::spawn(processor.run());
        let committed = async {
            let written = i64::try_from(self.written).unwrap();
            let of = || self.log.group_offsets("full".into(), vec![TopicPartition::new("in", 0)]);
            while !of().await.unwrap().iter().all(|at| at.is_some_and(|at| at >= written)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            biased;
            ended = &mut task => panic!("{}: with room it ends: {ended:?}", self.case),
            () = committed => {}
            () = tokio::time::sleep(LIMIT) => panic!("{}: it does not come to an end", self.case),
        }
        handle.stop();
        task.await.unwrap().unwrap_or_else(|e| panic!("{}: it does not stop in order: {e:?}", self.case));
    }

    /// Runs the group on the full disk: it ends, and says why.
    async fn ends(&self) {
        let ended = match self.processor() {
            Ok(processor) => tokio::time::timeout(LIMIT, processor.run()).await,
            Err(error) => Ok(Err(ProcessorError::Store { group: "full".into(), error })),
        };
        let ended = ended.unwrap_or_else(|_| panic!("{}: it neither works nor ends", self.case));
        let text = format!("{:?}", ended.expect_err("it ends with an error"));
        let dir = self.dir.path().to_str().unwrap();
        assert!(text.contains(dir) && text.contains("has room"), "{}: {text}", self.case);
    }

    async fn read(&self, topic: &str) -> Vec<(String, String)> {
        let reader = self.log.reader(Isolation::ReadCommitted).unwrap();
        let (mut fetch, mut batch) = (reader.read(TopicPartition::new(topic, 0), 0).await.unwrap(), RecordBatch::new());
        let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
        let mut found = Vec::new();
        while std::future::poll_fn(|cx| fetch.poll_fetch(cx, &mut batch, FetchLimits::default())).await.unwrap()
            == Fetched::Records
        {
            found.extend(batch.iter().map(|r| (text(r.key), text(r.value))));
        }
        found
    }

    /// Nothing is lost, with exactly-once delivery nothing is doubled, and the store has what the changelog has.
    async fn is_exact(&self) {
        let (case, exactly) = (&self.case, self.guarantee == Guarantee::ExactlyOnce);
        let table: BTreeMap<_, _> = self.read("full-table").await.into_iter().collect();
        for key in 0..KEYS {
            let expected = (key..self.written).step_by(KEYS).count();
            let found = table.get(&format!("k{key}")).map_or(0, |value| count(value));
            assert!(found == expected || (found > expected && !exactly), "{case}: k{key}: {found} of {expected}");
        }
        let out: Vec<usize> = self.read("out").await.into_iter().map(|(_, n)| n.parse().unwrap()).collect();
        assert_eq!(out.iter().collect::<BTreeSet<_>>().len(), self.written, "{case}");
        assert!(out.len() == self.written || !exactly, "{case}: {} of {} come out", out.len(), self.written);
        let stores = stores(self.kind, self.dir.path()).unwrap();
        let store = stores.open(&StoreId::new("full-table", 0), Codec::<String>::name(&Text)).unwrap();
        assert!(store.checkpointed().unwrap().is_some(), "{case}");
        let kept = all(&*store).into_iter().filter(|(key, _)| key.starts_with(b"k"));
        let kept: BTreeMap<_, _> =
            kept.map(|(key, value)| (String::from_utf8(key).unwrap(), String::from_utf8(value).unwrap())).collect();
        assert!(kept == table, "{case}: the store is not as its changelog");
    }
}

async fn fills(disk: &Disk, kind: &str, guarantee: Guarantee, room: u32, refuses: Refuses) {
    let case = format!("{kind}, {guarantee:?}, {room} bytes of room, {refuses:?}");
    disk.empty();
    let dir = tempfile::tempdir_in(disk.folder()).unwrap();
    let log: LogHandle = InMemory::new();
    log.create_topics(vec![TopicSpec::new("in"), TopicSpec::new("out")]).await.unwrap();
    let producer = log.producer(ProducerOptions::default()).await.unwrap();
    let mut world = World { disk, kind, guarantee, dir, log, producer, written: 0, case };
    world.write(PARTS[0]).await;
    world.runs_to_the_end().await;

    world.write(PARTS[1]).await;
    world.disk.leave(room, refuses);
    world.ends().await;
    // And again, without any room.
    world.disk.leave(0, refuses);
    world.ends().await;
    world.disk.empty();
    world.write(PARTS[2]).await;
    world.runs_to_the_end().await;
    world.is_exact().await;

    // In the middle of a restore, on another machine.
    world.dir = tempfile::tempdir_in(disk.folder()).unwrap();
    world.case.push_str(", in a restore");
    world.write(PARTS[2]).await;
    world.disk.leave(room, refuses);
    world.ends().await;
    world.disk.empty();
    world.runs_to_the_end().await;
    world.is_exact().await;
}

#[tokio::test]
#[ignore = "the child of the tests below, does nothing on its own"]
async fn child() {
    let Some((disk, kind)) = Disk::of_child() else { return };
    for guarantee in [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce] {
        for &refuses in disk.ways() {
            for room in [0, 3_001, 20_011, 60_013] {
                fills(&disk, &kind, guarantee, room, refuses).await;
            }
        }
    }
}

const CHILD: &str = "disk_full::processor::child";

#[test]
fn a_processor_ends_on_a_full_disk_and_starts_again_exactly() {
    on_a_loaded_disk(CHILD, "sled");
}

#[cfg(feature = "fjall")]
#[test]
fn a_processor_with_fjall_ends_on_a_full_disk_and_starts_again_exactly() {
    on_a_loaded_disk(CHILD, "fjall");
}
