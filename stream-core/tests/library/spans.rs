//! The span of a task is on each line that is logged while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use stream_core::codec::{Int64, Text};
use stream_core::group::{ErrorPolicy, Group, GroupGraph, Input};
use stream_core::testing::Tester;
use tracing::span::{Attributes, Id};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::support::{Done, logged, ms};

/// Logs each record, with and without awaiting; those of `bad` fail.
fn logging(policy: ErrorPolicy) -> Arc<GroupGraph> {
    let mut g = Group::define("g");
    g.input(Input::topic("sync").on_error(policy), Text, |_, text| {
        tracing::info!("called with {text}");
        if text == "bad" { Err("it is bad".into()) } else { Ok(()) }
    });
    g.input_async("async", Text, async |_, text| {
        tokio::time::sleep(ms(1)).await;
        tracing::info!("awaited with {text}");
        Ok(())
    });
    g.build().unwrap()
}

fn line<'a>(lines: &'a str, with: &str) -> &'a str {
    lines.lines().find(|line| line.contains(with)).unwrap_or_else(|| panic!("no {with:?} in {lines}"))
}

#[test]
fn a_callbacks_lines_have_group_partition_and_topic() -> Done {
    let (done, lines) = logged(|| -> Done {
        let tester = Tester::with_partitions(2);
        tester.add(logging(ErrorPolicy::skip()))?;
        tester.input("sync", Text).push_at("k", Some(&"one".to_owned()), None, Some(1))?;
        tester.input("async", Text).push_at("k", Some(&"two".to_owned()), None, Some(0))?;
        Ok(tester.drain()?)
    });
    done?;
    let called = line(&lines, "called with one");
    assert!(called.contains(r#"task{group="g" partition=1 topic=sync}"#), "{called}");
    let awaited = line(&lines, "awaited with two");
    assert!(awaited.contains(r#"task{group="g" partition=0 topic=async}"#), "{awaited}");
    Ok(())
}

#[test]
fn a_task_of_several_topics_names_none_and_a_failure_has_topic_and_offset() -> Done {
    let run = |policy: ErrorPolicy| {
        logged(|| -> Done {
            let mut g = Group::define("g").table(Int64);
            g.input("other", Text, |_, _| Ok(()));
            g.input(Input::topic("in").on_error(policy), Text, |ctx, text| {
                tracing::info!("called with {text}");
                if text == "bad" { Err("it is bad".into()) } else { ctx.set(1) }
            });
            let tester = Tester::with_partitions(2);
            tester.add(g.build()?)?;
            let input = tester.input("in", Text);
            for text in ["good", "bad"] {
                input.push_at("k", Some(&text.to_owned()), None, Some(1))?;
            }
            // It may fail.
            _ = tester.drain();
            Ok(())
        })
    };
    for (policy, failed) in [(ErrorPolicy::skip(), "a record is left out"), (ErrorPolicy::fail(), "a record failed")] {
        let (done, lines) = run(policy);
        done?;
        let called = line(&lines, "called with good");
        assert!(called.contains(r#"task{group="g" partition=1}"#), "{called}");
        let failure = line(&lines, failed);
        for part in [r#"task{group="g" partition=1}"#, "topic=in", "offset=1", "it is bad"] {
            assert!(failure.contains(part), "{part}: {failure}");
        }
    }
    Ok(())
}

/// Counts how often spans named `task` are entered.
struct Entered(Arc<AtomicUsize>);

struct IsTask;

impl<S> Layer<S> for Entered
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if attributes.metadata().name() == "task"
            && let Some(span) = context.span(id)
        {
            span.extensions_mut().insert(IsTask);
        }
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        if context.span(id).is_some_and(|span| span.extensions().get::<IsTask>().is_some()) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn it_is_entered_once_a_poll_and_not_once_a_record() -> Done {
    const RECORDS: usize = 5000;
    let entered = Arc::new(AtomicUsize::new(0));
    let subscriber = tracing_subscriber::registry().with(Entered(Arc::clone(&entered)));
    tracing::subscriber::with_default(subscriber, || -> Done {
        let tester = Tester::new();
        let mut g = Group::define("g").table(Int64);
        g.input("in", Text, |ctx, _| {
            let n = ctx.value()?.unwrap_or(0);
            ctx.set(n + 1)
        });
        tester.add(g.build()?)?;
        tester.stop("g")?;
        for _ in 0..RECORDS {
            tester.input("in", Text).push("k", "x")?;
        }
        tester.restart("g")?;
        tester.drain()?;
        let count = i64::try_from(RECORDS)?;
        assert_eq!(tester.table("g", Int64).get("k")?, Some(count));
        Ok(())
    })?;
    let entered = entered.load(Ordering::Relaxed);
    assert!(entered > 0 && entered < RECORDS / 2, "{entered} times for {RECORDS} records");
    Ok(())
}
