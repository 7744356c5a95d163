//! What a view does in trouble: it serves what it has, heals by itself, and trusts its store only where it may.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use stream_core::codec::{Codec, Text};
use stream_core::log::{LogError, TopicPartition};
use stream_core::store::{CrashPoint, MemoryStores, StoreBackend, StoreId};
use stream_core::view::{ViewError, ViewState};

use crate::view_support::{Line, RETENTION_MS, TABLE, World, caught_up, in_state, keys, until_has, within};

fn retriable() -> LogError {
    LogError::Retriable { what: "fetch".into(), reason: "on purpose".into() }
}

#[tokio::test]
async fn a_view_serves_while_the_log_is_away_and_heals() {
    let world = World::new(3).await;
    world.put(&[("a", Some("1")), ("b", Some("2"))]).await;
    let view = world.open().await;
    world.embedded.faults().set_available(false);
    in_state(&view, ViewState::Reconnecting).await;
    assert!(!view.caught_up());
    assert!(view.status().reason.unwrap().contains("unavailable"));
    assert_eq!(view.get("a").unwrap().as_deref(), Some("1"));
    assert_eq!(keys(view.iter()), ["a", "b"]);
    world.embedded.faults().set_available(true);
    in_state(&view, ViewState::Running).await;
    world.put(&[("a", Some("3"))]).await;
    until_has(&view, "a", Some("3")).await;
}

#[tokio::test]
async fn a_failed_fetch_is_tried_again_from_where_it_was_and_listeners_miss_nothing() {
    let world = World::new(1).await;
    world.put(&[("a", Some("1")), ("b", Some("2"))]).await;
    let line = Line::to(&world.log);
    let updates = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&updates);
    let view = world.view_on(line.clone()).on_update(move |_, key, _| seen.lock().unwrap().push(key.to_vec()));
    let view = caught_up(view.open().await.unwrap()).await;
    line.fail_fetch(TABLE, retriable());
    line.fail_fetch(TABLE, retriable());
    world.put(&[("c", Some("3"))]).await;
    until_has(&view, "c", Some("3")).await;
    assert_eq!(line.errors_left(), 0);
    assert_eq!(*updates.lock().unwrap(), [b"c".to_vec()], "neither missed nor doubled");
    let begun: Vec<i64> = line.begun().iter().map(|(_, from)| *from).collect();
    assert_eq!((begun[0], *begun.last().unwrap()), (0, 2), "it went on from where it was: {begun:?}");
    in_state(&view, ViewState::Running).await;
}

#[tokio::test]
async fn a_restart_reads_the_tail_only() {
    let world = World::new(1).await;
    world.put(&[("a", Some("1")), ("b", Some("2"))]).await;
    world.open().await.close().await;
    world.put(&[("c", Some("3"))]).await;
    let line = Line::to(&world.log);
    let view = caught_up(world.view_on(line.clone()).open().await.unwrap()).await;
    assert_eq!(keys(view.iter()), ["a", "b", "c"]);
    assert_eq!(line.begun().iter().map(|(_, from)| *from).collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn a_crash_costs_no_more_than_what_came_after_the_checkpoint() {
    let world = World::new(1).await;
    let stores = MemoryStores::crashable();
    let open = |line: &Arc<Line>| {
        let stores = Arc::new(stores.clone()) as Arc<dyn StoreBackend>;
        world.view_on(line.clone()).stores(stores).checkpoint_interval(Duration::from_millis(5)).open()
    };
    world.put(&[("a", Some("1"))]).await;
    let line = Line::to(&world.log);
    let view = caught_up(open(&line).await.unwrap()).await;
    let (notify, checkpointed) = tokio::sync::oneshot::channel();
    let mut notify = Some(notify);
    // Dies at the first checkpoint that would cover b.
    stores.crash_when(move |_, point| {
        let dies = matches!(point, CrashPoint::BeforeCheckpoint(at) if at.offset >= 2);
        if dies && let Some(notify) = notify.take() {
            _ = notify.send(());
        }
        dies
    });
    world.put(&[("b", Some("2"))]).await;
    within(checkpointed).await.unwrap();
    in_state(&view, ViewState::Failed).await;
    assert!(matches!(view.get("a"), Err(ViewError::Failed { .. })), "a store that failed is not read");
    drop(view);
    stores.drop_uncheckpointed();
    let line = Line::to(&world.log);
    let view = caught_up(open(&line).await.unwrap()).await;
    assert_eq!(keys(view.iter()), ["a", "b"]);
    let from = line.begun()[0].1;
    assert!((0..=1).contains(&from), "begun at {from}, which skips b");
}

/// The checkpoint at its end names what the store has, not what was read and is held back.
#[tokio::test]
async fn a_view_that_is_closed_while_it_restores_goes_on_from_what_its_store_has() {
    let world = World::new(1).await;
    let names: Vec<String> = (0..9_000).map(|n| format!("{n:04}")).collect();
    world.put(&names.iter().map(|name| (name.as_str(), Some("1"))).collect::<Vec<_>>()).await;
    let mut unfinished = 0;
    for pauses in 0..40 {
        let stores = Arc::new(MemoryStores::new()) as Arc<dyn StoreBackend>;
        let open = || world.view().stores(Arc::clone(&stores)).on_this_runtime().open();
        let view = open().await.unwrap();
        for _ in 0..pauses {
            tokio::task::yield_now().await;
        }
        unfinished += usize::from(!view.progress()[0].complete);
        view.close().await;
        let view = caught_up(open().await.unwrap()).await;
        assert_eq!(keys(view.iter()), names, "closed after {pauses} pauses");
    }
    assert!(unfinished > 3, "{unfinished}");
}

#[tokio::test]
async fn a_store_that_is_ahead_of_its_topic_is_wiped() {
    let world = World::new(1).await;
    world.put(&[("a", Some("1")), ("b", Some("2")), ("c", Some("3"))]).await;
    world.open().await.close().await;
    world.log.delete_topics(vec![TABLE.into()]).await.unwrap();
    world.make_table(1).await;
    world.put(&[("z", Some("9"))]).await;
    let view = world.open().await;
    assert_eq!(keys(view.iter()), ["z"]);
}

#[tokio::test]
async fn a_topic_made_anew_under_a_running_view_is_read_anew() {
    let world = World::new(2).await;
    world.put(&[("a", Some("1")), ("b", Some("2")), ("c", Some("3"))]).await;
    let view = world.open().await;
    world.log.delete_topics(vec![TABLE.into()]).await.unwrap();
    in_state(&view, ViewState::Reconnecting).await;
    assert_eq!(view.get("a").unwrap().as_deref(), Some("1"), "served until the new one is there");
    world.make_table(2).await;
    // As many records as before: the offsets alone would not show that it is another topic.
    world.put(&[("a", Some("x")), ("c", Some("y")), ("a", Some("new")), ("c", Some("new"))]).await;
    until_has(&view, "c", Some("new")).await;
    until_has(&view, "b", None).await;
    in_state(&view, ViewState::Running).await;
    assert_eq!(keys(view.iter()), ["a", "c"]);
}

#[tokio::test]
async fn an_offset_out_of_range_wipes_that_partition_and_restores_it() {
    let world = World::new(1).await;
    world.put(&[("a", Some("1")), ("b", Some("2")), ("c", Some("3"))]).await;
    let line = Line::to(&world.log);
    let view = caught_up(world.view_on(line.clone()).open().await.unwrap()).await;
    // Something that only a wipe removes: the topic knows nothing of it.
    let store = world.stores.open(&StoreId::new(TABLE, 0), Text.name()).unwrap();
    store.write(&mut [(&b"ghost"[..], Some(&b"?"[..]))].into_iter()).unwrap();
    assert_eq!(keys(view.iter()), ["a", "b", "c", "ghost"]);
    let partition = TopicPartition::new(TABLE, 0);
    line.fail_fetch(TABLE, LogError::OffsetOutOfRange { partition, offset: 3, start: 4, end: 9 });
    until_has(&view, "ghost", None).await;
    in_state(&view, ViewState::Running).await;
    assert_eq!(keys(view.iter()), ["a", "b", "c"]);
    assert_eq!(line.begun().iter().map(|(_, from)| *from).collect::<Vec<_>>(), [0, 0]);
    assert_eq!(store.get(b"ghost").unwrap(), None);
}

#[tokio::test]
async fn a_topic_that_one_answer_does_not_know_is_no_other_topic() {
    let world = World::new(1).await;
    world.put(&[("a", Some("1"))]).await;
    let line = Line::to(&world.log);
    let view = caught_up(world.view_on(line.clone()).open().await.unwrap()).await;
    let store = world.stores.open(&StoreId::new(TABLE, 0), Text.name()).unwrap();
    store.write(&mut [(&b"ghost"[..], Some(&b"?"[..]))].into_iter()).unwrap();
    line.fail_fetch(TABLE, LogError::UnknownTopic { topic: TABLE.to_owned() });
    world.put(&[("b", Some("2"))]).await;
    until_has(&view, "b", Some("2")).await;
    assert_eq!(line.errors_left(), 0);
    assert_eq!(keys(view.iter()), ["a", "b", "ghost"]);
    assert_eq!(line.begun().iter().map(|(_, from)| *from).collect::<Vec<_>>(), [0, 1]);
}

#[tokio::test]
async fn a_store_that_was_away_too_long_is_wiped() {
    let world = World::new(1).await;
    world.put(&[("a", Some("1")), ("b", Some("2"))]).await;
    world.open().await.close().await;
    world.put(&[("b", None), ("c", Some("3"))]).await;
    world.clock.advance(Duration::from_millis(RETENTION_MS.unsigned_abs() / 2 + 1));
    let line = Line::to(&world.log);
    let view = caught_up(world.view_on(line.clone()).open().await.unwrap()).await;
    assert_eq!(keys(view.iter()), ["a", "c"]);
    assert_eq!(line.begun()[0].1, 0, "read anew from the beginning");
}

#[tokio::test]
async fn a_running_view_that_was_cut_off_too_long_is_wiped() {
    let world = World::new(1).await;
    world.put(&[("a", Some("1")), ("b", Some("2"))]).await;
    let line = Line::to(&world.log);
    let view = caught_up(world.view_on(line.clone()).open().await.unwrap()).await;
    line.cut(true);
    in_state(&view, ViewState::Reconnecting).await;
    // b's deletion comes and goes while the view is away; afterwards nothing says so.
    world.put(&[("b", None), ("c", Some("3"))]).await;
    world.embedded.compact_now();
    world.clock.advance(Duration::from_millis(RETENTION_MS.unsigned_abs() * 2));
    world.put(&[("c", Some("4"))]).await;
    world.embedded.compact_now();
    line.cut(false);
    until_has(&view, "b", None).await;
    until_has(&view, "c", Some("4")).await;
    assert_eq!(keys(view.iter()), ["a", "c"]);
    assert_eq!(line.begun().iter().filter(|(_, from)| *from == 0).count(), 2, "read anew: {:?}", line.begun());
}

#[tokio::test]
async fn a_view_that_is_level_is_not_wiped_however_long_it_runs() {
    let world = World::new(1).await;
    world.put(&[("a", Some("1"))]).await;
    let line = Line::to(&world.log);
    let view = caught_up(world.view_on(line.clone()).open().await.unwrap()).await;
    for n in 0..6 {
        // A quarter of the retention each, and the view is heard of in between.
        world.clock.advance(Duration::from_millis(RETENTION_MS.unsigned_abs() / 4));
        let key = format!("k{n}");
        world.put(&[(&key, Some("1"))]).await;
        until_has(&view, &key, Some("1")).await;
        // Asked twice: what the first answer said has taken effect by the time of the second.
        within(line.asks(2)).await;
    }
    assert_eq!(line.begun().len(), 1, "begun again: {:?}", line.begun());
}

#[tokio::test]
async fn a_refusal_before_anything_is_served_is_final_and_says_so() {
    let world = World::new(1).await;
    let line = Line::to(&world.log);
    line.fail_fetch(TABLE, LogError::Auth { what: "read".into(), reason: "not allowed".into() });
    let view = world.view_on(line.clone()).open().await.unwrap();
    let error = within(view.wait_caught_up()).await.unwrap_err();
    assert!(format!("{error:?}").contains("not allowed"), "{error}");
}

#[tokio::test]
async fn a_damaged_fingerprint_is_refused_not_misread() {
    let world = World::new(1).await;
    world.stores.open(&StoreId::new(TABLE, 0), "another codec").unwrap();
    let error = world.view().open().await.unwrap_err();
    assert!(format!("{error:?}").contains("another codec"), "{error}");
}
