//! stream-core as an engine.

use std::sync::Arc;
use std::time::Duration;

use stream_core::codec::{Bytes, Codec, CodecError, Int64, Text};
use stream_core::group::{Group, GroupGraph, Side};
use stream_core::log::LogHandle;
use stream_core::log::kafka::{Kafka, KafkaOptions};
use stream_core::processor::{Guarantee, Processor};
use stream_core::store::MemoryStores;
use stream_core::window::{JoinWindows, Windows};

use super::{Delivery, GRACE_MS, Job, MOVES_TIME, Progress, StoreKind, Topology, WINDOW_MS, WITHIN_MS, say, setting};
use crate::Outcome;

/// A value that is not looked at.
pub(crate) struct Raw;

impl Codec<()> for Raw {
    fn encode(&self, (): &(), _: &mut Vec<u8>) -> Result<(), CodecError> {
        Ok(())
    }
    fn decode(&self, _: &[u8]) -> Result<(), CodecError> {
        Ok(())
    }
}

pub(super) fn run(job: &Job) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(process(job))
}

async fn process(job: &Job) -> Outcome<()> {
    let linger = job.linger_ms.to_string();
    let log: LogHandle = Kafka::connect(KafkaOptions::new(&job.brokers).producer_property("linger.ms", linger))?;
    let progress = Progress::new(job);
    let graph = match job.topology {
        Topology::Count => count(job, &progress)?,
        Topology::Filter => filter(job, &progress)?,
        Topology::Window => window(job, &progress)?,
        Topology::Join => join(job, &progress)?,
        Topology::Table => table(job, &progress)?,
    };
    let mut processor =
        Processor::new(graph, log).state_dir(&job.state).commit_interval(Duration::from_millis(job.commit_ms));
    if job.delivery == Delivery::ExactlyOnce {
        processor = processor.guarantee(Guarantee::ExactlyOnce);
    }
    // Only a large table comes near a bound: everything else runs as it does by default.
    if job.topology == Topology::Table {
        processor = processor.memory(usize::try_from(job.memory_mb)? << 20);
        setting("memory", format_args!("{} MiB", job.memory_mb));
    }
    let store = match job.store {
        StoreKind::Default | StoreKind::Sled => "sled",
        StoreKind::Memory => {
            processor = processor.stores(Arc::new(MemoryStores::new()));
            "memory"
        }
        StoreKind::Fjall => return Err("this build has no fjall store".into()),
        StoreKind::Transactional => return Err("stream-core has no store of that kind".into()),
    };
    setting("guarantee", format_args!("{:?}", job.delivery));
    setting("store", store);
    setting("allocator", if cfg!(feature = "mimalloc") { "mimalloc" } else { "the system's" });
    setting("workers", std::thread::available_parallelism()?);
    setting("commit_interval", format_args!("{} ms", job.commit_ms));
    setting("linger.ms", job.linger_ms);
    setting("everything else", "as it is by default");
    let handle = processor.handle();
    let mut running = tokio::spawn(processor.run());
    let ready = async {
        handle.running().await?;
        say("ready");
        progress.end.notified().await;
        Ok::<(), stream_core::processor::ProcessorError>(())
    };
    tokio::select! {
        biased;
        ended = &mut running => return Err(format!("the processor ended early: {:?}", ended?).into()),
        end = ready => end?,
    }
    // It ends once everything is acknowledged, stored and committed.
    handle.stop();
    Ok(running.await??)
}

fn output(job: &Job) -> Outcome<&str> {
    Ok(job.output.as_deref().ok_or("an --output is missing")?)
}

fn input(job: &Job, index: usize) -> Outcome<&str> {
    Ok(job.inputs.get(index).ok_or("one of the --inputs is missing")?)
}

fn count(job: &Job, progress: &Arc<Progress>) -> Outcome<Arc<GroupGraph>> {
    let mut g = Group::define(job.group.as_str()).table(Int64);
    let seen = Arc::clone(progress);
    if let Some(probes) = job.inputs.get(1) {
        let (out, asked) = (g.output(output(job)?, Int64), Arc::clone(progress));
        g.input(probes.as_str(), Raw, move |ctx, ()| {
            asked.record();
            let n = ctx.value()?.unwrap_or(0);
            ctx.emit(out, ctx.key(), n)
        });
    } else if let Some(out) = &job.output {
        let out = g.output(out.as_str(), Bytes);
        g.input(input(job, 0)?, Bytes, move |ctx, value: Vec<u8>| {
            seen.record();
            let n = ctx.value()?.unwrap_or(0) + 1;
            ctx.set(n)?;
            ctx.emit(out, ctx.key(), value)
        });
        return Ok(g.build()?);
    }
    g.input(input(job, 0)?, Raw, move |ctx, ()| {
        seen.record();
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.set(n)
    });
    Ok(g.build()?)
}

fn filter(job: &Job, progress: &Arc<Progress>) -> Outcome<Arc<GroupGraph>> {
    let mut g = Group::define(job.group.as_str());
    let (out, seen) = (g.output(output(job)?, Int64), Arc::clone(progress));
    g.input(input(job, 0)?, Int64, move |ctx, n: i64| {
        seen.record();
        if n % 2 == 0 { ctx.emit(out, ctx.key(), n) } else { Ok(()) }
    });
    Ok(g.build()?)
}

fn window(job: &Job, progress: &Arc<Progress>) -> Outcome<Arc<GroupGraph>> {
    let mut g = Group::define(job.group.as_str());
    let (out, seen, given) = (g.output(output(job)?, Text), Arc::clone(progress), Arc::clone(progress));
    let windows = Windows::tumbling(Duration::from_millis(WINDOW_MS.unsigned_abs()));
    let counts = g.window("counts", windows.grace(Duration::from_millis(GRACE_MS)), Int64);
    g.input(input(job, 0)?, Int64, move |ctx, n: i64| {
        if n != MOVES_TIME {
            seen.record();
        }
        ctx.aggregate(counts, |count| count.unwrap_or(0) + 1)?;
        Ok(())
    });
    g.on_close(counts, move |ctx, (window, count)| {
        if ctx.key() != Some(super::MOVES_TIME_KEY.as_bytes()) {
            given.result();
        }
        ctx.emit(out, ctx.key(), format!("{} {count}", window.start))
    });
    Ok(g.build()?)
}

fn join(job: &Job, progress: &Arc<Progress>) -> Outcome<Arc<GroupGraph>> {
    let mut g = Group::define(job.group.as_str());
    let (out, progress) = (g.output(output(job)?, Int64), Arc::clone(progress));
    let windows = JoinWindows::around(Duration::from_millis(WITHIN_MS)).grace(Duration::from_millis(GRACE_MS));
    let (left, right) = (Side::topic(input(job, 0)?, Int64), Side::topic(input(job, 1)?, Int64));
    g.stream_join("pairs", windows, left, right).left(move |ctx, left: &i64, right: Option<&i64>| {
        let number = left + 1;
        ctx.emit(out, ctx.key(), if right.is_some() { number } else { -number })?;
        if right.is_some() {
            progress.record();
        }
        if *left != MOVES_TIME {
            progress.result();
        }
        Ok(())
    });
    Ok(g.build()?)
}

fn table(job: &Job, progress: &Arc<Progress>) -> Outcome<Arc<GroupGraph>> {
    let mut g = Group::define(job.group.as_str()).table(Bytes);
    let (out, seen, asked) = (g.output(output(job)?, Bytes), Arc::clone(progress), Arc::clone(progress));
    g.input(input(job, 0)?, Bytes, move |ctx, value: Vec<u8>| {
        seen.record();
        ctx.set(value)
    });
    g.input(input(job, 1)?, Raw, move |ctx, ()| {
        asked.record();
        let value: Vec<u8> = ctx.value()?.unwrap_or_default();
        ctx.emit(out, ctx.key(), value)
    });
    Ok(g.build()?)
}
