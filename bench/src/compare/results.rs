//! The results: the medians of the rounds, as a file for programs and as a page for people.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value, json};

use super::plan::Workload;
use super::run::Figures;
use super::{aims, report};
use crate::Outcome;

/// What came of one engine in one round.
#[derive(Debug)]
pub(super) enum Cell {
    /// Figures, by the names under which they are shown.
    Figures(Vec<(String, Figures)>),
    NotRun(String),
    Failed(String),
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRun(why) => write!(f, "NOT RUN: {why}"),
            Self::Failed(why) => write!(f, "FAILED: {why}"),
            Self::Figures(all) => {
                for (i, (name, figures)) in all.iter().enumerate() {
                    let shown: Vec<String> =
                        figures.iter().map(|(k, v)| format!("{k}={}", report::short(*v))).collect();
                    write!(f, "{}{name}: {}", if i > 0 { "; " } else { "" }, shown.join(" "))?;
                }
                Ok(())
            }
        }
    }
}

/// All rounds of an engine.
#[derive(Debug, Default)]
struct Rounds {
    figures: Vec<Figures>,
    out: Option<String>,
    failed: bool,
}

/// All results so far: those of this run, and those that an earlier one has saved of other workloads.
#[derive(Debug)]
pub(super) struct Results {
    about: Value,
    /// By the name under which they are shown, then by engine.
    rounds: BTreeMap<String, BTreeMap<String, Rounds>>,
    /// By workload and engine: why it is not run any more.
    out: BTreeMap<(&'static str, String), String>,
    settings: Map<String, Value>,
}

impl Results {
    pub(super) fn new(root: &Path, scale: f64) -> Self {
        let said = |program: &str, arguments: &[&str]| {
            let out = Command::new(program).args(arguments).current_dir(root).output().ok()?;
            let text =
                String::from_utf8_lossy(if out.stdout.is_empty() { &out.stderr } else { &out.stdout }).into_owned();
            Some(text.lines().next()?.trim().to_owned())
        };
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpu.lines().find_map(|l| l.strip_prefix("model name")?.split_once(':')).map(|(_, name)| name.trim());
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory = memory.lines().find_map(|l| l.strip_prefix("MemTotal:")).map(str::trim);
        let about = json!({
            "date": said("date", &["-u", "+%Y-%m-%d"]),
            "commit": said("git", &["describe", "--always", "--dirty"]),
            "scale": scale,
            "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            "cpu": cpu,
            "memory": memory,
            "kafka": std::env::var("KAFKA_VERSION").unwrap_or_else(|_| "the version of docker/kafka.sh".into()),
            "rust": said("rustc", &["--version"]),
            "java": said("java", &["-version"]),
            "go": said("go", &["version"]),
        });
        Self { about, rounds: BTreeMap::new(), out: BTreeMap::new(), settings: Map::new() }
    }

    pub(super) fn begin(&mut self, workload: Workload) {
        for name in workload.shown_as() {
            self.rounds.entry((*name).to_owned()).or_default();
        }
    }

    /// Whether an engine is not run in further rounds.
    pub(super) fn is_out(&self, workload: Workload, engine: &str) -> bool {
        self.out.contains_key(&(workload.name(), engine.to_owned()))
    }

    pub(super) fn add(&mut self, workload: Workload, engine: &str, cell: Cell) {
        let (why, failed) = match cell {
            Cell::Figures(all) => {
                for (name, figures) in all {
                    let of = self.rounds.entry(name).or_default().entry(engine.to_owned()).or_default();
                    of.figures.push(figures);
                }
                return;
            }
            Cell::NotRun(why) => (format!("not run: {why}"), false),
            Cell::Failed(why) => (format!("failed: {why}"), true),
        };
        self.out.insert((workload.name(), engine.to_owned()), why.clone());
        for name in workload.shown_as() {
            let of = self.rounds.entry((*name).to_owned()).or_default().entry(engine.to_owned()).or_default();
            of.out = Some(why.lines().next().unwrap_or_default().to_owned());
            of.failed = failed;
        }
    }

    pub(super) fn settings(&mut self, all: &BTreeMap<&'static str, Vec<String>>) {
        self.settings = all.iter().map(|(engine, said)| ((*engine).to_owned(), json!(said))).collect();
    }

    pub(super) fn failures(&self) -> usize {
        self.rounds.values().flat_map(BTreeMap::values).filter(|r| r.failed).count()
    }

    /// Each workload with its engines and their medians.
    fn workloads(&self) -> Map<String, Value> {
        let engine = |rounds: &Rounds| {
            if let Some(why) = &rounds.out {
                return json!(why);
            }
            let mut all: Map<String, Value> =
                medians(&rounds.figures).into_iter().map(|(k, v)| (k.to_owned(), json!(rounded(v)))).collect();
            all.insert("rounds".into(), json!(rounds.figures.len()));
            Value::Object(all)
        };
        let engines = |of: &BTreeMap<String, Rounds>| -> Map<String, Value> {
            of.iter().map(|(name, rounds)| (name.clone(), engine(rounds))).collect()
        };
        self.rounds.iter().map(|(name, of)| (name.clone(), Value::Object(engines(of)))).collect()
    }

    /// Saves `results.json` and `RESULTS.md` in this directory, and gives the latter. What an earlier run saved there of
    /// workloads that were not run now stays.
    pub(super) fn save(&self, dir: &Path) -> Outcome<String> {
        let file = dir.join("results.json");
        let mut all: Value = match std::fs::read_to_string(&file) {
            Ok(text) => serde_json::from_str(&text)?,
            Err(_) => json!({}),
        };
        for (name, engines) in self.workloads() {
            all["about"][&name] = self.about.clone();
            all["workloads"][&name] = engines;
        }
        for (engine, said) in &self.settings {
            all["settings"][engine] = said.clone();
        }
        std::fs::write(&file, serde_json::to_string_pretty(&all)? + "\n")?;
        let page = report::page(&all, &aims::table(&all));
        std::fs::write(dir.join("RESULTS.md"), &page)?;
        Ok(page)
    }
}

fn medians(rounds: &[Figures]) -> Figures {
    let mut all: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    for (name, value) in rounds.iter().flatten() {
        all.entry(name).or_default().push(*value);
    }
    all.into_iter().map(|(name, values)| (name, median(values))).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let at = |i: usize| values.get(i).copied().unwrap_or(f64::NAN);
    if values.len().is_multiple_of(2) { f64::midpoint(at(middle.saturating_sub(1)), at(middle)) } else { at(middle) }
}

/// Four digits are as many as a run has.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    #[allow(clippy::cast_possible_truncation, reason = "a number of digits")]
    let digits = 3 - value.abs().log10().floor() as i32;
    let by = 10_f64.powi(digits);
    (value * by).round() / by
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_ones() {
        for (values, right) in [(vec![3.0, 1.0, 2.0], 2.0), (vec![4.0, 1.0, 3.0, 2.0], 2.5), (vec![7.0], 7.0)] {
            assert!((median(values) - right).abs() < 1e-9);
        }
    }

    #[test]
    fn figures_keep_four_digits() {
        for (value, right) in [(123_456.0, 123_500.0), (0.001_234_56, 0.001_235), (0.0, 0.0), (1.0, 1.0)] {
            assert!((rounded(value) - right).abs() < 1e-9, "{value}");
        }
    }
}
