//! The aims of the project's performance, as ratios of figures of one run.

use std::fmt::Write as _;

use serde_json::Value;

use super::report::short;

/// Which way is better.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Better {
    More,
    Less,
}
use Better::{Less, More};

/// An aim: a figure of ours, divided by another one.
struct Aim {
    what: &'static str,
    /// Workload, engine and figure.
    ours: [&'static str; 3],
    /// What it is divided by.
    by: [&'static str; 3],
    better: Better,
    must: f64,
    stretch: Option<f64>,
}

const fn aim(
    what: &'static str,
    ours: [&'static str; 3],
    by: [&'static str; 3],
    better: Better,
    must: f64,
    stretch: Option<f64>,
) -> Aim {
    Aim { what, ours, by, better, must, stretch }
}

const RATE: &str = "records_per_second";
const CPU: &str = "cpu_seconds_per_million";
const KS: &str = "kafka-streams";
const KS_EOS: &str = "kafka-streams-eos";

/// A rate of seconds is turned round: ours over another's is how many times as fast.
const SECONDS: &str = "seconds";

const AIMS: [Aim; 26] = [
    aim("join", ["join", "ours", RATE], ["join", KS, RATE], More, 1.5, Some(3.0)),
    aim("join: CPU", ["join", "ours", CPU], ["join", KS, CPU], Less, 0.7, Some(0.35)),
    aim("join, exactly once", ["join", "ours-eos", RATE], ["join", KS_EOS, RATE], More, 1.5, Some(3.0)),
    aim("join, exactly once: CPU", ["join", "ours-eos", CPU], ["join", KS_EOS, CPU], Less, 0.7, Some(0.35)),
    aim("big: ingest", ["big-ingest", "ours", RATE], ["big-ingest", KS, RATE], More, 1.2, Some(2.0)),
    aim(
        "big: ingest, the slowest million beside the first",
        ["big-ingest", "ours", "slowest_million_per_second"],
        ["big-ingest", "ours", "first_million_per_second"],
        More,
        0.5,
        None,
    ),
    aim("big: restore", ["big-restore", "ours", SECONDS], ["big-restore", KS, SECONDS], More, 0.7, Some(1.0)),
    aim(
        "big: restore, fjall",
        ["big-restore", "ours-fjall", SECONDS],
        ["big-restore", KS, SECONDS],
        More,
        1.2,
        Some(2.0),
    ),
    aim("restore", ["restore", "ours", SECONDS], ["restore", "goka", SECONDS], More, 1.5, Some(3.0)),
    aim("count, beside Goka", ["count", "ours", RATE], ["count", "goka", RATE], More, 7.5, None),
    aim("count", ["count", "ours", RATE], ["count", KS, RATE], More, 1.6, None),
    aim("count, exactly once", ["count", "ours-eos", RATE], ["count", KS_EOS, RATE], More, 3.5, None),
    aim("count: CPU, beside the bare loop", ["count", "ours", CPU], ["count", "bare", CPU], Less, 1.15, Some(0.95)),
    latency("latency p99 at 5,000/s", "latency-5000", "ours", KS),
    latency("latency p99 at 5,000/s, exactly once", "latency-5000", "ours-eos", KS_EOS),
    latency("latency p99 at 50,000/s", "latency-50000", "ours", KS),
    latency("latency p99 at 50,000/s, exactly once", "latency-50000", "ours-eos", KS_EOS),
    disk("big: disk, beside the live data", "big-ingest", "ours", 2.5),
    disk("big: disk, fjall, beside the live data", "big-ingest", "ours-fjall", 1.5),
    memory("big: peak memory of the ingest, beside the budget", "big-ingest", "ours"),
    memory("big: peak memory of a restart, beside the budget", "big-restart", "ours"),
    memory("big: peak memory of a restore, beside the budget", "big-restore", "ours"),
    memory("big: peak memory of the ingest, fjall, beside the budget", "big-ingest", "ours-fjall"),
    memory("big: peak memory of a restart, fjall, beside the budget", "big-restart", "ours-fjall"),
    memory("big: peak memory of a restore, fjall, beside the budget", "big-restore", "ours-fjall"),
    aim("window", ["window", "ours", RATE], ["window", KS, RATE], More, 3.0, None),
];

const fn latency(what: &'static str, load: &'static str, ours: &'static str, by: &'static str) -> Aim {
    aim(what, [load, ours, "p99_ms"], [load, by, "p99_ms"], Less, 1.0, Some(0.5))
}

const fn disk(what: &'static str, load: &'static str, ours: &'static str, must: f64) -> Aim {
    aim(what, [load, ours, "disk_mb"], [load, ours, "live_mb"], Less, must, None)
}

const fn memory(what: &'static str, load: &'static str, ours: &'static str) -> Aim {
    aim(what, [load, ours, "peak_mb"], [load, ours, "budget_mb"], Less, 1.2, None)
}

impl Aim {
    fn ratio(&self, workloads: &Value) -> Option<f64> {
        let figure = |[load, engine, name]: [&str; 3]| workloads[load][engine][name].as_f64();
        let (ours, by) = (figure(self.ours)?, figure(self.by)?);
        let turned = self.ours[2] == SECONDS && self.better == More;
        let ratio = if turned { by / ours } else { ours / by };
        ratio.is_finite().then_some(ratio)
    }

    fn meets(&self, ratio: f64, aim: f64) -> bool {
        match self.better {
            More => ratio >= aim,
            Less => ratio <= aim,
        }
    }
}

/// The table of aims, with what these results came to.
pub(super) fn table(results: &Value) -> String {
    let mut page = String::from("| load | ours, beside | must | stretch | is | |\n|---|---|---|---|---|---|\n");
    for aim in &AIMS {
        let sign = if aim.better == More { "≥" } else { "≤" };
        let ratio = aim.ratio(&results["workloads"]);
        let (is, met) = match ratio {
            None => ("not run".into(), ""),
            Some(ratio) if aim.stretch.is_some_and(|s| aim.meets(ratio, s)) => (short(ratio), "stretch"),
            Some(ratio) if aim.meets(ratio, aim.must) => (short(ratio), "met"),
            Some(ratio) => (short(ratio), "**missed**"),
        };
        let stretch = aim.stretch.map_or_else(String::new, |s| format!("{sign} {s}"));
        let beside = if aim.ours[1] == aim.by[1] { aim.by[2] } else { aim.by[1] };
        let [_, ours, _] = aim.ours;
        // Writing to a text can't fail.
        _ = writeln!(page, "| {} | {ours}, {beside} | {sign} {} | {stretch} | {is} | {met} |", aim.what, aim.must);
    }
    page
}
