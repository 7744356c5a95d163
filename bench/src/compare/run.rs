//! One run of one engine: from a cold state to its figures, with the check of what it wrote.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::child::{Child, cpu_seconds, disk};
use super::kafka::Kafka;
use super::load::{Kind, Load, PARTITIONS, delivered, send};
use super::peers::Programs;
use super::plan::{Engine, Workload};
use super::{check, latency};
use crate::Outcome;
use crate::engine::{Delivery, Topology};

/// Figures by name.
pub(crate) type Figures = BTreeMap<&'static str, f64>;

/// Longest time that one run may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(900);
/// The time between commits in milliseconds, the same for all engines.
pub(super) const fn commit_ms(delivery: Delivery) -> u64 {
    match delivery {
        Delivery::AtLeastOnce => 1_000,
        Delivery::ExactlyOnce => 100,
    }
}
/// How long producers wait for a batch to fill, in milliseconds, the same for all engines.
pub(super) const LINGER_MS: u64 = 5;

/// What came of a run.
#[derive(Debug)]
pub(crate) enum Ran {
    /// The figures, by the name under which the results show them.
    Done(Vec<(String, Figures)>),
    /// The machine, or the engine, lacks something.
    NotRun(String),
}

/// Everything that runs share.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) kafka: Kafka,
    pub(crate) programs: Programs,
    /// For state and logs.
    pub(crate) work: PathBuf,
    /// For Kafka Streams and others that can be bounded, in MiB.
    pub(crate) memory_mb: u64,
    /// Distinguishes the groups of this run's children.
    pub(crate) runs: u32,
    /// The name of the workload that runs.
    pub(crate) workload: &'static str,
    /// How much of each load there is.
    pub(crate) scale: f64,
    /// The loads that are written, and the ends of their topics' partitions.
    pub(crate) loads: BTreeMap<Kind, (Load, Vec<Vec<i64>>)>,
    /// What each engine said of its settings.
    pub(crate) settings: BTreeMap<&'static str, Vec<String>>,
}

/// What is asked of a child.
pub(super) struct Ask<'a> {
    pub(super) engine: &'a Engine,
    pub(super) topology: Topology,
    pub(super) inputs: &'a [String],
    pub(super) output: Option<&'a str>,
    pub(super) records: u64,
    pub(super) results: u64,
    pub(super) commit_ms: u64,
    pub(super) partitions: i32,
}

impl Bench {
    /// Runs a workload with an engine once.
    pub(crate) fn run(&mut self, workload: Workload, engine: &Engine, load: Option<&Load>) -> Outcome<Ran> {
        if let Err(why) = self.programs.command(engine, self.memory_mb) {
            return Ok(Ran::NotRun(why));
        }
        self.runs += 1;
        self.workload = workload.name();
        let group = format!("run{}-{}-{}", self.runs, workload.name(), engine.name);
        let state = self.work.join("state").join(&group);
        std::fs::create_dir_all(&state)?;
        let figures = match (workload, load) {
            (Workload::Latency, _) => latency::latency(self, engine, &group),
            (Workload::Idle, _) => latency::idle(self, engine, &group),
            (Workload::Restore | Workload::Big, Some(load)) => self.table(workload, engine, load, &group),
            (_, Some(load)) => {
                self.throughput(workload, engine, load, &group).map(|f| vec![(workload.name().into(), f)])
            }
            (_, None) => Err("a workload without a load".into()),
        };
        // Neither the disk nor the broker is to fill up, whatever came of it.
        self.kafka.delete_topics(&format!("{group}-"))?;
        std::fs::remove_dir_all(&state)?;
        Ok(Ran::Done(figures?))
    }

    /// The directory of a group's state.
    pub(super) fn state(&self, group: &str) -> PathBuf {
        self.work.join("state").join(group)
    }

    pub(super) fn start(&self, group: &str, ask: &Ask<'_>) -> Outcome<Child> {
        let mut command: Command = self.programs.command(ask.engine, self.memory_mb)?;
        let delivery = match ask.engine.delivery {
            Delivery::AtLeastOnce => "at-least-once",
            Delivery::ExactlyOnce => "exactly-once",
        };
        let store = format!("{:?}", ask.engine.store).to_lowercase();
        let topology = format!("{:?}", ask.topology).to_lowercase();
        command
            .args(["--brokers", &self.kafka.brokers, "--topology", &topology, "--group", group])
            .args(["--delivery", delivery, "--store", &store])
            .arg("--state")
            .arg(self.state(group))
            .args(["--inputs", &ask.inputs.join(",")])
            .args(["--records", &ask.records.to_string(), "--results", &ask.results.to_string()])
            .args(["--partitions", &ask.partitions.to_string(), "--commit-ms", &ask.commit_ms.to_string()])
            .args(["--linger-ms", &LINGER_MS.to_string(), "--memory-mb", &self.memory_mb.to_string()]);
        if let Some(output) = ask.output {
            command.args(["--output", output]);
        }
        Child::start(&mut command, &self.work.join(format!("logs/{group}.log")))
    }

    /// Ends a child that is done, and gives what it cost beside time.
    pub(super) fn end(&mut self, engine: &Engine, child: Child, group: &str, figures: &mut Figures) -> Outcome<()> {
        figures.insert("peak_mb", mb(child.peak()?));
        figures.insert("disk_mb", mb(disk(&self.state(group))?));
        let said: Vec<String> = child.all("setting ").map(|(_, setting)| setting.to_owned()).collect();
        let known = self.settings.entry(engine.name).or_default();
        let (first, workload) = (known.is_empty(), self.workload);
        for setting in said {
            let here = format!("{setting} ({workload})");
            if !known.contains(&setting) && !known.contains(&here) {
                known.push(if first { setting } else { here });
            }
        }
        child.end()
    }

    fn broker_cpu(&self) -> f64 {
        self.kafka.pid().and_then(|pid| cpu_seconds(pid).ok()).unwrap_or_default()
    }

    /// How fast an engine does all that is there.
    fn throughput(&mut self, workload: Workload, engine: &Engine, load: &Load, group: &str) -> Outcome<Figures> {
        let output = format!("{group}-out");
        let topology = match workload {
            Workload::Filter => Topology::Filter,
            Workload::Window => Topology::Window,
            Workload::Join => Topology::Join,
            _ => Topology::Count,
        };
        let (records, results) = match topology {
            Topology::Window => (load.records, u64::try_from(check::windows_of(load).len())?),
            // Its matches show that it has seen all.
            Topology::Join => (load.total() - load.records, load.records),
            _ => (load.records, 0),
        };
        let inputs = load.topics();
        if topology != Topology::Count {
            self.kafka.create_topic(&output, PARTITIONS)?;
        }
        let ask = Ask {
            engine,
            topology,
            inputs: &inputs,
            output: (topology != Topology::Count).then_some(output.as_str()),
            records,
            results,
            commit_ms: commit_ms(engine.delivery),
            partitions: PARTITIONS,
        };
        let broker = self.broker_cpu();
        let mut child = self.start(group, &ask)?;
        let first = child.wait("first", PATIENCE)?;
        let seen = child.wait("seen", PATIENCE)?;
        if results > 0 {
            // Kafka Streams looks once a second for what has closed, and only when a record comes.
            let until = Instant::now() + Duration::from_secs(60);
            while child.wait_for("done", Duration::from_millis(300))?.is_none() && Instant::now() < until {
                load.move_time(&self.kafka)?;
            }
        }
        let done = child.wait("done", PATIENCE)?;
        // A result that only comes once time has moved on is not what is timed: see the README.
        let end = if results > 0 { &seen } else { &done };
        let mut figures = Figures::new();
        #[allow(clippy::cast_precision_loss, reason = "figures for people")]
        let total = load.total() as f64;
        let seconds = (end.at - first.at).as_secs_f64();
        figures.insert("seconds", seconds);
        figures.insert("records_per_second", total / seconds);
        figures.insert("cpu_seconds_per_million", (done.cpu - first.cpu) / total * 1e6);
        figures.insert("cpu_seconds_before", first.cpu);
        figures.insert("seconds_before", (first.at - child.started).as_secs_f64());
        figures.insert("broker_cpu_seconds_per_million", (self.broker_cpu() - broker) / total * 1e6);
        self.end(engine, child, group, &mut figures)?;
        self.add_produced(group, &mut figures)?;
        check::results(&self.kafka, engine, topology, load, group)?;
        let (_, ends) = self.loads.get(&load.kind).ok_or("a load that nobody has written")?;
        for (topic, ends) in inputs.iter().zip(ends) {
            self.kafka.check_committed(group, topic, ends)?;
        }
        Ok(figures)
    }

    /// The load of a kind, which is written when it is asked for first.
    pub(crate) fn load(&mut self, kind: Kind) -> Outcome<Load> {
        if let Some((load, _)) = self.loads.get(&kind) {
            return Ok(*load);
        }
        let (load, began) = (Load::new(kind, self.scale), Instant::now());
        let ends = load.write(&self.kafka)?;
        println!("{} records in {}, in {} s", load.total(), load.topics().join(" and "), began.elapsed().as_secs());
        self.loads.insert(kind, (load, ends));
        Ok(load)
    }

    fn add_produced(&self, group: &str, figures: &mut Figures) -> Outcome<()> {
        let (bytes, records) = self.kafka.produced(&format!("{group}-"))?;
        figures.insert("produced_mb", mb(bytes));
        #[allow(clippy::cast_precision_loss, reason = "figures for people")]
        figures.insert("produced_records", records as f64);
        Ok(())
    }

    /// The figures of a run whose memory is bounded.
    fn budget(&self) -> Figures {
        #[allow(clippy::cast_precision_loss, reason = "figures for people")]
        let budget = self.memory_mb as f64;
        Figures::from([("budget_mb", budget)])
    }

    /// Fills a table, starts again with it, and starts again without it.
    fn table(
        &mut self,
        workload: Workload,
        engine: &Engine,
        load: &Load,
        group: &str,
    ) -> Outcome<Vec<(String, Figures)>> {
        let (probes, output) = (format!("{group}-probe"), format!("{group}-out"));
        for topic in [&probes, &output] {
            self.kafka.create_topic(topic, PARTITIONS)?;
        }
        let mut inputs = load.topics();
        inputs.push(probes.clone());
        let big = workload == Workload::Big;
        let topology = if big { Topology::Table } else { Topology::Count };
        let mut ask = Ask {
            engine,
            topology,
            inputs: &inputs,
            output: Some(&output),
            records: load.records,
            results: 0,
            commit_ms: commit_ms(engine.delivery),
            partitions: PARTITIONS,
        };
        let mut all = Vec::new();
        let mut child = self.start(group, &ask)?;
        let first = child.wait("first", PATIENCE)?;
        let done = child.wait("done", PATIENCE)?;
        let mut figures = self.budget();
        #[allow(clippy::cast_precision_loss, reason = "figures for people")]
        let total = load.records as f64;
        let seconds = (done.at - first.at).as_secs_f64();
        figures.insert("seconds", seconds);
        figures.insert("records_per_second", total / seconds);
        figures.insert("cpu_seconds_per_million", (done.cpu - first.cpu) / total * 1e6);
        if let Some((begin, end)) = rates(&child, &first.at) {
            figures.insert("first_million_per_second", begin);
            figures.insert("slowest_million_per_second", end);
        }
        self.end(engine, child, group, &mut figures)?;
        self.add_produced(group, &mut figures)?;
        check::results(&self.kafka, engine, topology, load, group)?;
        if big {
            figures.insert("live_mb", mb(load.live_bytes()));
            all.push(("big-ingest".to_owned(), figures));
        }
        ask.records = u64::try_from(check::probes(load).count())?;
        if big {
            all.push(("big-restart".to_owned(), self.again(&ask, load, group)?));
        }
        std::fs::remove_dir_all(self.state(group))?;
        std::fs::create_dir_all(self.state(group))?;
        let name = if big { "big-restore" } else { "restore" };
        all.push((name.to_owned(), self.again(&ask, load, group)?));
        Ok(all)
    }

    /// Starts an engine that has worked before, and asks its table for some keys once it is ready.
    fn again(&mut self, ask: &Ask<'_>, load: &Load, group: &str) -> Outcome<Figures> {
        let (output, probes) = (ask.output.ok_or("no output")?, ask.inputs.last().ok_or("no probes")?);
        // Answers of an earlier start are not to be taken for those of this one.
        self.kafka.delete_topics(output)?;
        self.kafka.create_topic(output, PARTITIONS)?;
        let mut child = self.start(group, ask)?;
        let ready = child.wait("ready", PATIENCE)?;
        let producer = self.kafka.producer(0)?;
        for key in check::probes(load) {
            send(&producer, probes, None, &format!("key-{key}"), b"?", None)?;
        }
        delivered(&producer)?;
        child.wait("done", PATIENCE)?;
        let mut figures = self.budget();
        figures.insert("seconds", (ready.at - child.started).as_secs_f64());
        figures.insert("cpu_seconds", ready.cpu);
        self.end(ask.engine, child, group, &mut figures)?;
        check::answers(&self.kafka, ask.engine, load, output)?;
        Ok(figures)
    }
}

/// The rate of the first million, and of the slowest one.
fn rates(child: &Child, first: &Instant) -> Option<(f64, f64)> {
    let mut last = *first;
    let mut rates = Vec::new();
    for (moment, _) in child.all("at ") {
        rates.push(1e6 / (moment.at - last).as_secs_f64());
        last = moment.at;
    }
    Some((*rates.first()?, rates.iter().copied().reduce(f64::min)?))
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
pub(super) fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}
