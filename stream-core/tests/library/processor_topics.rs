//! What a group's topics must be, and how it says so.

use std::time::Duration;

use std::sync::Arc;
use stream_core::codec::{Int64, Text};
use stream_core::group::{ErrorPolicy, Group, GroupGraph, Input};
use stream_core::log::embedded::InMemory;
use stream_core::log::{Cleanup, Log, TopicConfig, TopicSpec};
use stream_core::processor::{Guarantee, Processor};
use stream_core::store::MemoryStores;
use stream_core::testing::Tester;
use stream_core::topics::TopicOptions;

use crate::support::{Done, values};

fn group() -> Arc<GroupGraph> {
    let mut g = Group::define("work").table(Int64);
    let _out = g.output("out", Text);
    let looped = g.loopback(Text);
    g.input(Input::topic("left").on_error(ErrorPolicy::dead_letter("dead")), Text, |_ctx, _text: String| Ok(()));
    g.input("right", Text, |_ctx, _text: String| Ok(()));
    g.on_loop(looped, |_ctx, _text: String| Ok(()));
    g.build().unwrap()
}

/// Runs the group on a log until it fails, or until it runs.
fn run(log: &Arc<InMemory>, options: TopicOptions) -> Result<(), String> {
    run_with(log, options, Guarantee::AtLeastOnce)
}

fn run_with(log: &Arc<InMemory>, options: TopicOptions, guarantee: Guarantee) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let processor = Processor::new(group(), Arc::clone(log) as _).stores(Arc::new(MemoryStores::new())).workers(1);
    let handle = processor.handle();
    let runs = async move { _ = handle.running().await };
    let ended = runtime.block_on(processor.topics(options).guarantee(guarantee).run_until(runs));
    ended.map_err(|e| format!("{e:?}"))
}

fn make(log: &InMemory, topics: Vec<TopicSpec>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(log.create_topics(topics)).unwrap();
}

#[test]
fn missing_topics_are_made_as_the_group_needs_them() -> Done {
    let log = InMemory::new();
    make(&log, vec![TopicSpec::new("left").partitions(4)]);
    run(&log, TopicOptions::default())?;
    let names = ["left", "right", "work-table", "work-loop", "out", "dead"].map(Into::into).to_vec();
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let topics: Vec<_> = runtime.block_on(log.topics(names))?.into_iter().map(Option::unwrap).collect();
    assert!(topics.iter().all(|t| t.partitions == 4), "{topics:?}");
    assert_eq!(topics[2].config.cleanup, Some(Cleanup::Compact));
    assert_eq!((topics[3].config.cleanup, topics[3].config.retention_ms), (Some(Cleanup::Delete), Some(-1)));
    Ok(())
}

#[test]
fn missing_topics_are_an_error_that_names_them_where_they_are_not_to_be_made() {
    let mut options = TopicOptions::default();
    options.create = false;
    let log = InMemory::new();
    let error = run(&log, options.clone()).unwrap_err();
    assert!(error.contains("group work: missing topics: left, right; create them"), "{error}");
    make(&log, vec![TopicSpec::new("left"), TopicSpec::new("right")]);
    let error = run(&log, options.clone()).unwrap_err();
    assert!(error.contains("missing topics: work-table, work-positions, work-loop, dead, out"), "{error}");
    let compacted = TopicConfig::new().cleanup(Cleanup::Compact);
    let kept = TopicConfig::new().retention_ms(-1);
    let tables = ["work-table", "work-positions"].map(|topic| TopicSpec::new(topic).config(compacted.clone()));
    let others = ["out", "dead"].map(TopicSpec::new);
    make(&log, [&tables[..], &[TopicSpec::new("work-loop").config(kept)], &others].concat());
    run(&log, options).unwrap();
}

#[test]
fn different_partition_counts_are_an_error_that_lists_them() {
    let log = InMemory::new();
    make(&log, vec![TopicSpec::new("left").partitions(4), TopicSpec::new("right").partitions(3)]);
    let error = run(&log, TopicOptions::default()).unwrap_err();
    assert!(error.contains("must have the same number of partitions"), "{error}");
    assert!(error.contains("left has 4") && error.contains("right has 3"), "{error}");
}

#[test]
fn a_table_that_is_not_compacted_is_an_error_that_says_how_to_mend_it() {
    for (cleanup, word) in [(Cleanup::Delete, "delete"), (Cleanup::CompactDelete, "compact,delete")] {
        let log = InMemory::new();
        let config = TopicConfig::new().cleanup(cleanup);
        make(&log, vec![TopicSpec::new("work-table").config(config)]);
        let error = run(&log, TopicOptions::default()).unwrap_err();
        assert!(error.contains(&format!("table topic work-table has cleanup.policy={word}")), "{error}");
        assert!(error.contains("--add-config cleanup.policy=compact"), "{error}");
    }
}

#[test]
fn a_topic_that_takes_no_marker_is_an_error_with_exactly_once() {
    for (topic, bytes, refused) in [("out", 77, true), ("dead", 77, true), ("out", 78, false), ("left", 77, false)] {
        let log = InMemory::new();
        let config = TopicConfig::new().max_message_bytes(bytes);
        make(&log, vec![TopicSpec::new(topic).config(config)]);
        run(&log, TopicOptions::default()).unwrap();
        let ended = run_with(&log, TopicOptions::default(), Guarantee::ExactlyOnce);
        assert_eq!(ended.is_err(), refused, "{topic} {bytes}");
        if let Err(error) = ended {
            assert!(error.contains(&format!("topic {topic} has max.message.bytes=77")), "{error}");
            assert!(error.contains("--add-config max.message.bytes=1048588"), "{error}");
        }
    }
}

#[test]
fn a_table_of_another_group_that_never_comes_is_an_error_after_a_while() {
    let mut g = Group::define("work").table(Int64);
    let _names = g.join("names-table", Text);
    g.input("left", Text, |_ctx, _text: String| Ok(()));
    let graph = g.build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let processor = Processor::new(graph, InMemory::new()).stores(Arc::new(MemoryStores::new())).workers(1);
    let error = format!("{:?}", runtime.block_on(processor.run()).unwrap_err());
    assert!(error.contains("table topic names-table does not exist") && error.contains("start the group"), "{error}");
}

#[test]
fn a_topic_that_grows_or_goes_while_the_group_runs_stops_it_clearly() -> Done {
    for topic in ["left", "work-table"] {
        for delete in [false, true] {
            let tester = Tester::with_partitions(2);
            tester.add_with(group(), |p| p.topic_check_interval(Duration::from_secs(1)))?;
            if delete && topic == "work-table" {
                continue;
            }
            if delete {
                tester.block_on(tester.log().delete_topics(vec![topic.into()]))?;
            } else {
                tester.block_on(tester.log().grow_topic(topic.into(), 5))?;
            }
            tester.run_for(Duration::from_secs(3));
            let error = format!("{:?}", tester.failure("work").expect("it stops"));
            let expected = if delete { "does not exist" } else { "changed from 2 to 5 partitions while the group ran" };
            let expected_too = format!("topic {topic} was deleted while the group ran");
            assert!(error.contains(topic) && (error.contains(expected) || error.contains(&expected_too)), "{error}");
        }
    }
    Ok(())
}

#[test]
fn an_output_that_grows_is_no_reason_to_stop() -> Done {
    let mut g = Group::define("copy").table(Int64);
    let out = g.output("out", Text);
    g.input("in", Text, move |ctx, text: String| ctx.emit(out, ctx.key(), &text));
    let tester = Tester::new();
    tester.add_with(g.build()?, |p| p.topic_check_interval(Duration::from_secs(1)))?;
    let input = tester.input("in", Text);
    input.send("k", "1".to_owned())?;
    tester.block_on(tester.log().grow_topic("out".into(), 5))?;
    tester.run_for(Duration::from_secs(5));
    input.send("k", "2".to_owned())?;
    assert_eq!(values(&tester.output("out", Text)).len(), 2);
    Ok(())
}

#[test]
fn a_member_that_subscribes_to_something_else_is_refused() -> Done {
    let tester = Tester::new();
    tester.add(group())?;
    // Another release of the group, without its table.
    let mut g = Group::define("work");
    g.input("left", Text, |_ctx, _text: String| Ok(()));
    let log: stream_core::log::LogHandle = Arc::clone(tester.log()) as _;
    let other = Processor::new(g.build()?, log).stores(Arc::new(MemoryStores::new())).workers(1);
    let error = format!("{:?}", tester.block_on(other.run()).unwrap_err());
    assert!(error.contains("subscribes to work-table, this one to left"), "{error}");
    Ok(())
}

/// A broker that has just started may not know of a topic yet.
#[test]
fn a_topic_that_is_not_shown_for_a_moment_stops_nobody() -> Done {
    let tester = Tester::new();
    tester.add(group())?;
    let _unread = ["left", "right", "work-loop"].map(|topic| tester.log().faults().hold_fetches(topic));
    let gone = |ms| {
        let hidden = tester.log().faults().hide_topic("right");
        tester.run_for(Duration::from_millis(ms));
        drop(hidden);
    };
    tester.run_for(Duration::from_millis(29_900));
    gone(1000);
    tester.run_for(Duration::from_secs(28));
    assert!(tester.failure("work").is_none(), "{:?}", tester.failure("work"));
    gone(60_000);
    let failure = format!("{:?}", tester.failure("work").expect("it is gone for good"));
    assert!(failure.contains("right was deleted"), "{failure}");
    Ok(())
}
