//! How long another instance needs to take over after a kill -9, with a standby or without.
//!
//! Two instances, each a process of its own, of a group that counts; the input's topic has one partition, so that the
//! first instance has the whole table. Once it has counted everything, and the second has its copy or none, the first is
//! killed.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use stream_core::codec::Int64;
use stream_core::group::Group;
use stream_core::log::LogHandle;
use stream_core::log::kafka::{Kafka, KafkaOptions};
use stream_core::processor::{Processor, StandbyState, Standbys, State, Status};

use super::Args;
use crate::Outcome;
use crate::engine::Raw;

#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Takeover {
    /// The second instance keeps a standby.
    #[arg(long)]
    standbys: bool,
    /// `session.timeout.ms`: until it is over, nobody knows of the kill.
    #[arg(long, default_value_t = 6_000)]
    session_ms: u64,
}

/// Set for the processes that are the instances: the group's name and the state directory.
const INSTANCE: &str = "BENCH_INSTANCE";

/// A moment at which an instance's status changed.
type Seen = (Instant, String);

pub(crate) fn run(args: &Args, how: Takeover) -> Outcome<()> {
    if let Ok(instance) = std::env::var(INSTANCE) {
        let (group, dir) = instance.split_once(' ').ok_or("the instance's name is broken")?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        return runtime.block_on(instance_of(args, how, group, dir));
    }
    if args.partitions != 1 {
        return Err("the input has to have one partition: load it with --partitions 1, and say so here, too".into());
    }
    let group = format!("bench-takeover-{}", std::process::id());
    let dirs = [tempfile::tempdir()?, tempfile::tempdir()?];
    let [mut first, mut second] = [Instance::start(&group, dirs[0].path())?, Instance::start(&group, dirs[1].path())?];
    // Which one gets the partition is the coordinator's to say.
    let owns = |line: &str| line.contains("tasks=1") && line.contains("counted=all");
    let (_, line) = wait_either(&first.seen, &second.seen, owns)?;
    if !line.starts_with(&first.pid()) {
        std::mem::swap(&mut first, &mut second);
    }
    if how.standbys {
        second.wait(|line| line.contains("warm=1"))?;
    }
    // Past a checkpoint of both.
    std::thread::sleep(Duration::from_secs(12));
    let killed = Instant::now();
    first.child.kill()?;
    let (assigned, _) = second.wait(|line| line.contains("tasks=1"))?;
    let (running, _) = second.wait(|line| line.contains("tasks=1") && line.contains("state=Running"))?;
    println!(
        "standbys={} keys={} session_ms={} from_kill_to_running_s={:.2} from_assignment_to_running_s={:.3}",
        how.standbys,
        args.keys,
        how.session_ms,
        (running - killed).as_secs_f64(),
        (running - assigned).as_secs_f64()
    );
    Ok(())
}

struct Instance {
    child: Child,
    seen: Receiver<Seen>,
}

impl Instance {
    fn start(group: &str, dir: &std::path::Path) -> Outcome<Self> {
        let instance = format!("{group} {}", dir.display());
        let mut child = Command::new(std::env::current_exe()?)
            .args(std::env::args_os().skip(1))
            .env(INSTANCE, instance)
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        let (send, seen) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if send.send((Instant::now(), line)).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, seen })
    }

    fn pid(&self) -> String {
        format!("{} ", self.child.id())
    }

    fn wait(&self, test: impl Fn(&str) -> bool) -> Outcome<Seen> {
        loop {
            let seen = self.seen.recv_timeout(Duration::from_secs(120))?;
            if test(&seen.1) {
                return Ok(seen);
            }
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // One that has ended is no error.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn wait_either(one: &Receiver<Seen>, other: &Receiver<Seen>, test: impl Fn(&str) -> bool) -> Outcome<Seen> {
    let until = Instant::now() + Duration::from_secs(300);
    while Instant::now() < until {
        for seen in [one, other] {
            match seen.recv_timeout(Duration::from_millis(50)) {
                Ok(seen) if test(&seen.1) => return Ok(seen),
                Err(RecvTimeoutError::Disconnected) => return Err("an instance ended early".into()),
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
    Err("no instance counted everything".into())
}

async fn instance_of(args: &Args, how: Takeover, group: &str, dir: &str) -> Outcome<()> {
    let log: LogHandle = Kafka::connect(KafkaOptions::new(&args.brokers))?;
    let mut g = Group::define(group).table(Int64);
    g.input(args.topic.as_str(), Raw, |ctx, ()| {
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.set(n)
    });
    let processor = Processor::new(g.build()?, Arc::clone(&log))
        .state_dir(dir)
        .session_timeout(Duration::from_millis(how.session_ms))
        .standbys(if how.standbys { Standbys::All } else { Standbys::None })
        .on_state(|status| print(status, ""));
    let handle = processor.handle();
    let running = tokio::spawn(processor.run());
    handle.caught_up().await?;
    print(&handle.status(), "all");
    Ok(running.await??)
}

fn print(status: &Status, counted: &str) {
    let warm = status.standbys.values().filter(|s| **s == StandbyState::Running).count();
    let state = if status.state == State::Running { "Running" } else { "other" };
    println!("{} state={state} tasks={} warm={warm} counted={counted}", std::process::id(), status.tasks.len());
}
