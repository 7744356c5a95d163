//! How long a record takes through an engine, and what an engine costs that has nothing to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use rdkafka::Message as _;
use rdkafka::consumer::BaseConsumer;

use super::load::{PARTITIONS, delivered, mix, send};
use super::plan::Engine;
use super::run::{Ask, Bench, Figures, PATIENCE, commit_ms};
use crate::Outcome;
use crate::engine::Topology;

/// Records a second.
const RATES: [u64; 2] = [5_000, 50_000];
/// The time between commits, in milliseconds, of both guarantees.
const COMMIT_MS: u64 = 100;
/// What comes so early is not measured: compilers at run time have not seen it often enough.
const WARM_UP: Duration = Duration::from_secs(10);
const MEASURED: Duration = Duration::from_secs(8);
const KEYS: u64 = 10_000;

pub(super) fn latency(bench: &mut Bench, engine: &Engine, group: &str) -> Outcome<Vec<(String, Figures)>> {
    let mut all = Vec::new();
    for rate in RATES {
        let figures = at_rate(bench, engine, &format!("{group}-{rate}"), rate)?;
        all.push((format!("latency-{rate}"), figures));
    }
    Ok(all)
}

fn nanos() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos()
}

fn at_rate(bench: &mut Bench, engine: &Engine, group: &str, rate: u64) -> Outcome<Figures> {
    let (input, output) = (format!("{group}-in"), format!("{group}-out"));
    for topic in [&input, &output] {
        bench.kafka.create_topic(topic, PARTITIONS)?;
    }
    std::fs::create_dir_all(bench.state(group))?;
    let records = rate * (WARM_UP + MEASURED).as_secs();
    let inputs = [input.clone()];
    let topology = Topology::Count;
    let (output_of, partitions) = (Some(output.as_str()), PARTITIONS);
    let ask = Ask {
        engine,
        topology,
        inputs: &inputs,
        output: output_of,
        records,
        results: 0,
        commit_ms: COMMIT_MS,
        partitions,
    };
    let mut child = bench.start(group, &ask)?;
    child.wait("ready", PATIENCE)?;
    let consumer = bench.kafka.follow(&output, PARTITIONS)?;
    let came = Arc::new(AtomicU64::new(0));
    let follower = {
        let came = Arc::clone(&came);
        std::thread::spawn(move || {
            follow(&consumer, records, rate * WARM_UP.as_secs(), &came).map_err(|e| e.to_string())
        })
    };
    let producer = bench.kafka.producer(0)?;
    let (began, cpu) = (Instant::now(), child.cpu()?);
    let mut sent = 0;
    while sent < records {
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "small"
        )]
        let due = ((began.elapsed().as_secs_f64() * rate as f64) as u64).min(records);
        for n in sent..due {
            let value = format!("{n} {}", nanos());
            send(&producer, &input, None, &format!("key-{}", mix(n) % KEYS), value.as_bytes(), None)?;
        }
        sent = due;
        std::thread::sleep(Duration::from_millis(1));
    }
    delivered(&producer)?;
    let done = child.wait("done", PATIENCE)?;
    let mut times = follower.join().map_err(|_| "the follower panicked")??;
    times.sort_unstable();
    let mut figures = Figures::new();
    for (name, part) in [("p50_ms", 0.5), ("p99_ms", 0.99), ("p999_ms", 0.999)] {
        figures.insert(name, part_of(&times, part));
    }
    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    figures.insert("cpu_seconds_per_million", (done.cpu - cpu) / records as f64 * 1e6);
    bench.end(engine, child, group, &mut figures)?;
    bench.kafka.delete_topics(&format!("{group}-"))?;
    std::fs::remove_dir_all(bench.state(group))?;
    Ok(figures)
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
fn part_of(times: &[u64], part: f64) -> f64 {
    let index = ((times.len() as f64 * part) as usize).min(times.len().saturating_sub(1));
    times.get(index).map_or(f64::NAN, |nanos| *nanos as f64 / 1e6)
}

/// Reads what comes out until all has come, each record once; the times of those after `skip`, in nanoseconds.
fn follow(consumer: &BaseConsumer, records: u64, skip: u64, came: &AtomicU64) -> Outcome<Vec<u64>> {
    let mut found = vec![false; usize::try_from(records)?];
    let mut times = Vec::with_capacity(usize::try_from(records - skip)?);
    let mut last = Instant::now();
    while came.load(Ordering::Relaxed) < records {
        let Some(message) = consumer.poll(Duration::from_millis(100)) else {
            if last.elapsed() > Duration::from_secs(60) {
                let n = came.load(Ordering::Relaxed);
                return Err(format!("{n} of {records} records came out, and no other for a minute").into());
            }
            continue;
        };
        let message = message?;
        let now = nanos();
        last = Instant::now();
        let text = std::str::from_utf8(message.payload().unwrap_or_default())?;
        let (n, at) = text.split_once(' ').ok_or("a value without a time")?;
        let (n, at): (u64, u128) = (n.parse()?, at.parse()?);
        let place = found.get_mut(usize::try_from(n)?).ok_or("a record from nowhere")?;
        if std::mem::replace(place, true) {
            return Err(format!("record {n} came out twice").into());
        }
        came.fetch_add(1, Ordering::Relaxed);
        if n >= skip {
            times.push(u64::try_from(now.saturating_sub(at))?);
        }
    }
    Ok(times)
}

/// The CPU time of an engine, and of the broker, while nothing comes, with few partitions and with many.
pub(super) fn idle(bench: &mut Bench, engine: &Engine, group: &str) -> Outcome<Vec<(String, Figures)>> {
    const SETTLED: Duration = Duration::from_secs(6);
    const LOOKED_AT: Duration = Duration::from_secs(15);
    let mut all = Vec::new();
    for partitions in [4, 100] {
        let group = format!("{group}-{partitions}");
        let input = format!("{group}-in");
        bench.kafka.create_topic(&input, partitions)?;
        std::fs::create_dir_all(bench.state(&group))?;
        let ask = Ask {
            engine,
            topology: Topology::Count,
            inputs: &[input],
            output: None,
            records: 0,
            results: 0,
            commit_ms: commit_ms(engine.delivery),
            partitions,
        };
        let mut child = bench.start(&group, &ask)?;
        child.wait("ready", PATIENCE)?;
        std::thread::sleep(SETTLED);
        let broker = || bench.kafka.pid().and_then(|pid| super::child::cpu_seconds(pid).ok()).unwrap_or_default();
        let (cpu, broker_cpu) = (child.cpu()?, broker());
        std::thread::sleep(LOOKED_AT);
        let mut figures = Figures::new();
        let percent = |cpu: f64| cpu / LOOKED_AT.as_secs_f64() * 100.0;
        figures.insert("cpu_percent", percent(child.cpu()? - cpu));
        figures.insert("broker_cpu_percent", percent(broker() - broker_cpu));
        bench.end(engine, child, &group, &mut figures)?;
        bench.kafka.delete_topics(&format!("{group}-"))?;
        std::fs::remove_dir_all(bench.state(&group))?;
        all.push((format!("idle-{partitions}"), figures));
    }
    Ok(all)
}
