//! What a view answers: values, ranges and prefixes across partitions, in order both ways.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use stream_core::codec::{Codec, CodecError, Text};
use stream_core::log::{Cleanup, Partitioner};
use stream_core::store::{MemoryStores, StoreError};
use stream_core::view::{View, ViewError, ViewState};

use crate::view_support::{Line, TABLE, World, caught_up, in_state, keys, pairs, until_has, within};

/// Keys that fall on all of four partitions.
async fn world() -> World {
    let world = World::new(4).await;
    let names: Vec<String> = (0..40).map(|n| format!("k{n:02}")).collect();
    let values: Vec<_> = names.iter().map(|k| (k.as_str(), Some(k.as_str()))).collect();
    world.put(&values).await;
    world
}

#[tokio::test]
async fn rows_of_all_partitions_come_in_key_order_both_ways() {
    let world = world().await;
    let view = world.open().await;
    let used: Vec<_> = view.progress().iter().map(|p| p.position.unwrap()).collect();
    assert!(used.iter().all(|n| *n > 0), "the test means nothing unless all partitions have keys: {used:?}");
    let mut expected: Vec<String> = (0..40).map(|n| format!("k{n:02}")).collect();
    assert_eq!(keys(view.iter()), expected);
    assert_eq!(keys((&view).into_iter()), expected);
    assert_eq!(keys(view.range("k05".."k08")), ["k05", "k06", "k07"]);
    assert_eq!(keys(view.range("k05"..="k06").descending()), ["k06", "k05"]);
    let after = (Bound::Excluded("k37"), Bound::Unbounded);
    assert_eq!(keys(view.range::<&str>(after)), ["k38", "k39"]);
    assert_eq!(keys(view.range(.."k02")), ["k00", "k01"]);
    assert_eq!(keys(view.prefix("k1")), expected[10..20]);
    assert_eq!(keys(view.prefix("k1").descending())[..2], ["k19", "k18"]);
    assert_eq!(keys(view.prefix("none")), [""; 0]);
    assert_eq!(keys(view.prefix("")), expected);
    expected.reverse();
    assert_eq!(keys(view.iter().descending()), expected);
}

#[tokio::test]
async fn a_scan_is_lazy_and_turns_round_only_before_it_begins() {
    let world = world().await;
    let view = world.open().await;
    let mut rows = view.iter();
    assert_eq!(rows.next().unwrap().unwrap().key, b"k00");
    // Not read yet, so what changes ahead of it is seen.
    world.put(&[("k39", Some("new")), ("k40", Some("more"))]).await;
    until_has(&view, "k40", Some("more")).await;
    let rest = pairs(rows.descending());
    assert_eq!(rest.first().unwrap().0, "k01", "too late to turn round");
    assert_eq!(rest[rest.len() - 2..], [("k39".into(), "new".into()), ("k40".into(), "more".to_owned())]);
}

#[tokio::test]
async fn values_follow_the_topic_deletions_included() {
    let world = World::new(3).await;
    world.put(&[("ann", Some("1")), ("bob", Some("2")), ("ann", Some("3"))]).await;
    let view = world.open().await;
    assert_eq!(view.get("ann").unwrap().as_deref(), Some("3"));
    assert_eq!(view.get(b"bob").unwrap().as_deref(), Some("2"));
    assert_eq!(view.get(String::from("cid")).unwrap(), None);
    assert!(view.has("bob").unwrap() && !view.has("cid").unwrap());
    world.put(&[("bob", None), ("cid", Some("4"))]).await;
    until_has(&view, "cid", Some("4")).await;
    until_has(&view, "bob", None).await;
    assert_eq!(keys(view.iter()), ["ann", "cid"]);
}

#[tokio::test]
async fn a_key_is_found_whoever_chose_its_partition() {
    let world = World::new(3).await;
    for (n, partition) in (0..3).enumerate() {
        world.put_to(TABLE, Some(partition), &[(["x", "y", "z"][n], Some("here"))]).await;
    }
    for partitioner in [Partitioner::Murmur2Random, Partitioner::Fnv1aRandom] {
        let view = world.view().stores(Arc::new(MemoryStores::new())).partitioner(partitioner).open().await.unwrap();
        let view = caught_up(view).await;
        for key in ["x", "y", "z"] {
            assert_eq!(view.get(key).unwrap().as_deref(), Some("here"), "{key} by {partitioner:?}");
        }
    }
}

#[tokio::test]
async fn a_key_in_two_partitions_is_one_row_that_of_its_own_partition() {
    let world = World::new(3).await;
    let own = Partitioner::default().partition(b"moved", 3);
    world.put_to(TABLE, Some(own), &[("moved", Some("new"))]).await;
    for other in (0..3).filter(|p| *p != own) {
        world.put_to(TABLE, Some(other), &[("moved", Some("old"))]).await;
    }
    let view = world.open().await;
    assert_eq!(view.get("moved").unwrap().as_deref(), Some("new"));
    assert_eq!(pairs(view.iter()), [("moved".to_owned(), "new".to_owned())]);
    assert_eq!(pairs(view.iter().descending()), [("moved".to_owned(), "new".to_owned())]);
}

#[tokio::test]
async fn a_topic_that_is_missing_or_no_table_is_refused_with_the_remedy() {
    let world = World::new(1).await;
    world.make("words", 1, Some(Cleanup::Delete)).await;
    let open = |topic: &str| {
        let builder = View::builder(topic, Text, Arc::clone(&world.log)).stores(Arc::new(MemoryStores::new()));
        builder.wait_for_topic(Duration::ZERO).open()
    };
    let error = open("nobody-table").await.unwrap_err();
    assert!(matches!(error, ViewError::Topic { .. }));
    assert!(format!("{error:?}").contains("nobody-table does not exist; start the group"), "{error}");
    let error = open("words").await.unwrap_err();
    assert!(format!("{error:?}").contains("words has cleanup.policy=delete"), "{error}");
    assert!(format!("{error:?}").contains("--add-config cleanup.policy=compact"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_view_waits_for_its_topic() {
    let world = World::new(1).await;
    let stores = Arc::new(MemoryStores::new());
    let view = View::builder("late-table", Text, Arc::clone(&world.log)).stores(stores).on_this_runtime();
    let opening = tokio::spawn(view.open());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!opening.is_finished());
    world.make("late-table", 1, Some(Cleanup::Compact)).await;
    caught_up(within(opening).await.unwrap().unwrap()).await;
}

/// A codec that must load an id before it reads a value, as Avro's does a schema.
#[derive(Default)]
struct Loading(std::sync::Mutex<bool>);

impl Codec<String> for Loading {
    fn encode(&self, value: &String, out: &mut Vec<u8>) -> Result<(), CodecError> {
        Text.encode(value, out)
    }
    fn decode(&self, bytes: &[u8]) -> Result<String, CodecError> {
        if *self.0.lock().unwrap() { Text.decode(bytes) } else { Err(CodecError::NotLoaded(7)) }
    }
    fn load(&self, id: u32) -> futures::future::BoxFuture<'_, Result<(), CodecError>> {
        assert_eq!(id, 7);
        *self.0.lock().unwrap() = true;
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test]
async fn what_a_value_needs_is_loaded() {
    let world = World::new(2).await;
    world.put(&[("a", Some("1")), ("b", Some("2"))]).await;
    let open = || async {
        let builder = View::builder(TABLE, Loading::default(), Arc::clone(&world.log));
        caught_up(builder.stores(Arc::new(MemoryStores::new())).open().await.unwrap()).await
    };
    let view = open().await;
    let error = view.get("a").unwrap_err();
    assert!(matches!(error, ViewError::NotLoaded { id: 7, .. }), "{error}");
    assert!(view.iter().next().unwrap().is_err());
    assert_eq!(view.get_loading("a").await.unwrap().as_deref(), Some("1"));
    assert_eq!(view.get("b").unwrap().as_deref(), Some("2"));
    let view = open().await;
    let mut rows = view.iter();
    let mut all = Vec::new();
    while let Some(row) = rows.next_loading().await {
        all.push(row.unwrap().value);
    }
    assert_eq!(all, ["1", "2"]);
}

#[tokio::test]
async fn listeners_get_what_changes_in_order_and_nothing_of_the_restore() {
    let world = World::new(1).await;
    world.put(&[("old", Some("0"))]).await;
    let (send, mut updates) = tokio::sync::mpsc::unbounded_channel();
    let builder = View::builder(TABLE, Loading::default(), Arc::clone(&world.log));
    let view = builder
        .stores(Arc::new(MemoryStores::new()))
        .on_update(|_, _, _| panic!("a listener's panic is its own"))
        .on_update(move |partition, key, value: Option<&String>| {
            send.send((partition, String::from_utf8_lossy(key).into_owned(), value.cloned())).unwrap();
        })
        .open();
    let view = caught_up(view.await.unwrap()).await;
    world.put(&[("a", Some("1")), ("a", None), ("b", Some("2"))]).await;
    let expected = [("a", Some("1")), ("a", None), ("b", Some("2"))];
    for (key, value) in expected {
        let got = within(updates.recv()).await.unwrap();
        assert_eq!(got, (0, key.to_owned(), value.map(str::to_owned)));
    }
    assert!(view.caught_up());
}

#[tokio::test]
async fn reads_are_errors_while_the_answer_is_not_known() {
    let world = World::new(2).await;
    world.put(&[("a", Some("1"))]).await;
    let line = Line::to(&world.log);
    line.hold(Some(TABLE));
    let view = world.view_on(line.clone()).open().await.unwrap();
    assert_eq!(view.status().state, ViewState::Restoring);
    assert!(matches!(view.get("a"), Err(ViewError::Restoring { .. })));
    assert!(matches!(view.has("nobody"), Err(ViewError::Restoring { .. })));
    assert!(matches!(view.iter().next(), Some(Err(ViewError::Restoring { .. }))));
    line.hold(None);
    let view = caught_up(view).await;
    assert!(view.has("a").unwrap() && !view.has("nobody").unwrap());
}

#[tokio::test]
async fn clones_of_a_closed_view_say_so() {
    let world = World::new(2).await;
    world.put(&[("a", Some("1"))]).await;
    let view = world.open().await;
    let mut rows = view.iter();
    view.clone().close().await;
    assert!(matches!(view.get("a"), Err(ViewError::Closed { .. })));
    assert!(matches!(rows.next(), Some(Err(ViewError::Closed { .. }))));
    assert!(rows.next().is_none());
    assert_eq!(view.status().state, ViewState::Closed);
    assert!(matches!(view.wait_caught_up().await, Err(ViewError::Closed { .. })));
}

#[tokio::test]
async fn two_views_of_a_table_do_not_share_a_directory_but_others_do() {
    let world = World::new(1).await;
    world.make("other-table", 1, Some(Cleanup::Compact)).await;
    world.put(&[("a", Some("1"))]).await;
    let dir = tempfile::tempdir().unwrap();
    let open = |topic: &str| View::builder(topic, Text, Arc::clone(&world.log)).state_dir(dir.path()).open();
    let first = caught_up(open(TABLE).await.unwrap()).await;
    let error = open(TABLE).await.unwrap_err();
    assert!(matches!(error, ViewError::Store { error: StoreError::Locked { .. }, .. }), "{error}");
    let other = caught_up(open("other-table").await.unwrap()).await;
    first.close().await;
    // Free again, and where it was.
    let again = caught_up(open(TABLE).await.unwrap()).await;
    assert_eq!(again.get("a").unwrap().as_deref(), Some("1"));
    again.close().await;
    other.close().await;
    assert!(dir.path().join("views").join(TABLE).is_dir());
}

#[tokio::test]
async fn a_grown_topic_is_a_clear_stop() {
    let world = World::new(1).await;
    let view = world.open().await;
    world.log.grow_topic(TABLE.into(), 3).await.unwrap();
    in_state(&view, ViewState::Failed).await;
    let error = view.get("a").unwrap_err();
    assert!(format!("{error:?}").contains("has changed from 1 to 3 partitions"), "{error}");
}
