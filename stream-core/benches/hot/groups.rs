//! Groups on the in-memory log: what is left of a record's cost when the log costs almost nothing.

use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput};
use stream_core::codec::{Bytes, Int64};
use stream_core::group::{Group, GroupGraph, Side};
use stream_core::window::{JoinWindows, Sessions, Windows};

use crate::support::{Load, Stopwatch, run};

/// Records of each run.
const RECORDS: u64 = 20_000;
const IN: &str = "in";

/// Adds one bench. `graph` makes the group, whose callbacks call the stopwatch `laps` times.
fn bench(
    criterion: &mut Criterion,
    name: &str,
    laps: u64,
    loads: &[Load],
    graph: impl Fn(Stopwatch) -> Arc<GroupGraph>,
) {
    let mut group = criterion.benchmark_group("group");
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(loads.iter().map(|load| load.records).sum()));
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|times| {
            let once = || {
                let watch = Stopwatch::new(laps);
                run(graph(watch.clone()), &watch, loads)
            };
            (0..times).map(|_| once()).sum()
        });
    });
    group.finish();
}

/// Records with so many keys, `step_ms` apart.
fn load(topic: &'static str, keys: u64, step_ms: i64) -> Load {
    Load { topic, records: RECORDS, keys, step_ms }
}

pub(crate) fn benches(c: &mut Criterion) {
    bench(c, "filter without state", RECORDS, &[load(IN, 1_000, 1)], filter);
    // The table's write buffer and the store have the keys: reads and writes of what is there.
    bench(c, "count, 1,000 keys", RECORDS, &[load(IN, 1_000, 1)], count);
    // Each key is new: nothing is found, and everything is written.
    bench(c, "count, each key once", RECORDS, &[load(IN, RECORDS, 1)], count);
    bench(c, "set without a read, 1,000 keys", RECORDS, &[load(IN, 1_000, 1)], set);
    // Ten records of each of 100 keys in a window, which then closes.
    bench(c, "tumbling window, closes", RECORDS, &[load(IN, 100, 10)], tumbling);
    // Each record is in ten windows.
    bench(c, "hopping window, ten at a time", RECORDS, &[load(IN, 100, 10)], hopping);
    // Keys come back after a second, sessions are open all the time.
    bench(c, "sessions that grow", RECORDS, &[load(IN, 100, 10)], sessions);
    // Keys come back after ten seconds, when their window has ended: one match for each pair.
    let sides = ["left", "right"].map(|topic| Load { records: RECORDS / 4, ..load(topic, 1_000, 10) });
    bench(c, "stream join, one match each", RECORDS / 4, &sides, join);
}

fn filter(watch: Stopwatch) -> Arc<GroupGraph> {
    let mut g = Group::define("filter");
    let out = g.output("out", Bytes);
    g.input(
        IN,
        Bytes,
        move |ctx, value| {
            if watch.lap().is_multiple_of(2) { ctx.emit(out, ctx.key(), &value) } else { Ok(()) }
        },
    );
    g.build().expect("a valid group")
}

fn count(watch: Stopwatch) -> Arc<GroupGraph> {
    let mut g = Group::define("count").table(Int64);
    g.input(IN, Bytes, move |ctx, _| {
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.set(n)?;
        watch.lap();
        Ok(())
    });
    g.build().expect("a valid group")
}

fn set(watch: Stopwatch) -> Arc<GroupGraph> {
    let mut g = Group::define("set").table(Bytes);
    g.input(IN, Bytes, move |ctx, value| {
        ctx.set(value)?;
        watch.lap();
        Ok(())
    });
    g.build().expect("a valid group")
}

fn tumbling(watch: Stopwatch) -> Arc<GroupGraph> {
    windowed(watch, Windows::tumbling(Duration::from_secs(10)))
}

fn hopping(watch: Stopwatch) -> Arc<GroupGraph> {
    windowed(watch, Windows::hopping(Duration::from_secs(10), Duration::from_secs(1)))
}

fn windowed(watch: Stopwatch, windows: Windows) -> Arc<GroupGraph> {
    let mut g = Group::define("windowed");
    let out = g.output("out", Int64);
    let counts = g.window("counts", windows, Int64);
    g.input(IN, Bytes, move |ctx, _| {
        ctx.aggregate(counts, |n| n.unwrap_or(0) + 1)?;
        watch.lap();
        Ok(())
    });
    g.on_close(counts, move |ctx, (_, n)| ctx.emit(out, ctx.key(), n));
    g.build().expect("a valid group")
}

fn sessions(watch: Stopwatch) -> Arc<GroupGraph> {
    let mut g = Group::define("sessions");
    let counts = g.session("counts", Sessions::gap(Duration::from_secs(30)), Int64);
    g.input(IN, Bytes, move |ctx, _| {
        ctx.aggregate_session(counts, |n| n.unwrap_or(0) + 1, |a, b| a + b)?;
        watch.lap();
        Ok(())
    });
    g.on_close(counts, |_, (_, _)| Ok(()));
    g.build().expect("a valid group")
}

fn join(watch: Stopwatch) -> Arc<GroupGraph> {
    let mut g = Group::define("join");
    let out = g.output("out", Bytes);
    let windows = JoinWindows::around(Duration::from_secs(4)).grace(Duration::ZERO);
    let (left, right) = (Side::topic("left", Bytes), Side::topic("right", Bytes));
    g.stream_join("pairs", windows, left, right).inner(move |ctx, left, _right| {
        ctx.emit(out, ctx.key(), left)?;
        watch.lap();
        Ok(())
    });
    g.build().expect("a valid group")
}
