//! The page for people.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::plan::{ENGINES, Workload};

/// A figure: its name in the results, its heading, and whether more or less of it is better, if it is a matter of ratios.
struct Column {
    name: &'static str,
    heading: &'static str,
    ratio: bool,
}

const fn column(name: &'static str, heading: &'static str, ratio: bool) -> Column {
    Column { name, heading, ratio }
}

const COLUMNS: [Column; 19] = [
    column("records_per_second", "records/s", true),
    column("first_million_per_second", "first million/s", false),
    column("slowest_million_per_second", "slowest million/s", false),
    column("p50_ms", "p50 ms", true),
    column("p99_ms", "p99 ms", true),
    column("p999_ms", "p99.9 ms", true),
    column("cpu_percent", "CPU %", true),
    column("broker_cpu_percent", "the broker's CPU %", false),
    column("seconds", "s", true),
    column("cpu_seconds", "CPU s", true),
    column("cpu_seconds_per_million", "CPU s a million", true),
    column("broker_cpu_seconds_per_million", "the broker's", false),
    column("peak_mb", "peak memory MiB", false),
    column("disk_mb", "disk MiB", false),
    column("live_mb", "live data MiB", false),
    column("produced_mb", "produced MiB", false),
    column("produced_records", "records produced", false),
    column("seconds_before", "s to the first record", false),
    column("cpu_seconds_before", "CPU s to the first record", false),
];

/// A number as people read it.
pub(super) fn short(value: f64) -> String {
    if value.abs() >= 1e6 {
        format!("{:.2}M", value / 1e6)
    } else if value.abs() >= 1e4 {
        format!("{:.0}k", value / 1e3)
    } else if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// The engine of ours with the same guarantee.
fn beside(engine: &str) -> &'static str {
    if engine.ends_with("-eos") { "ours-eos" } else { "ours" }
}

fn cell(engines: &Map<String, Value>, engine: &str, column: &Column) -> String {
    let figure = |engine: &str| engines.get(engine).and_then(|e| e[column.name].as_f64());
    let Some(value) = figure(engine) else { return String::new() };
    let ratio = match figure(beside(engine)) {
        Some(ours) if column.ratio && engine != beside(engine) && ours > 0.0 => format!(" ({:.2} ×)", value / ours),
        _ => String::new(),
    };
    format!("{}{ratio}", short(value))
}

fn table(engines: &Map<String, Value>) -> String {
    let has = |c: &&Column| engines.values().any(|e| e[c.name].is_number());
    let columns: Vec<&Column> = COLUMNS.iter().filter(has).collect();
    let headings: Vec<&str> = columns.iter().map(|c| c.heading).collect();
    // Nobody may have a figure; then each has a reason.
    let width = columns.len().max(1);
    let mut page = format!("| engine | {} |\n|---|{}\n", headings.join(" | "), "---|".repeat(width));
    let known = ENGINES.iter().map(|e| e.name).filter(|name| engines.contains_key(*name));
    for engine in known {
        let row = match engines.get(engine).and_then(Value::as_str) {
            Some(why) => why.to_owned() + &" |".repeat(width - 1),
            None => columns.iter().map(|c| cell(engines, engine, c)).collect::<Vec<_>>().join(" | "),
        };
        // Writing to a text can't fail.
        _ = writeln!(page, "| {engine} | {row} |");
    }
    page
}

/// The whole page: the aims, a table for each workload, the settings.
pub(super) fn page(results: &Value, aims: &str) -> String {
    let mut page = String::from(
        "# Results\n\nWritten by `make bench`; what each workload and figure means is in [README.md](README.md). The numbers in \
         brackets\nare the engine's figure divided by that of `ours` (of `ours-eos`, for exactly once). Every result was checked \
         and is exact.\n\n## Aims\n\n",
    );
    page += aims;
    let none = Map::new();
    let workloads = results["workloads"].as_object().unwrap_or(&none);
    let names = Workload::ALL.into_iter().flat_map(|workload| workload.shown_as());
    for (name, engines) in names.filter_map(|name| workloads.get_key_value(*name)) {
        let about = &results["about"][name];
        let text = |key: &str| about[key].as_str().unwrap_or("?").to_owned();
        let scale = about["scale"].as_f64().unwrap_or(1.0);
        _ = write!(page, "\n## {name}\n\n{}, commit {}", text("date"), text("commit"));
        if (scale - 1.0).abs() > f64::EPSILON {
            _ = write!(page, ", {scale} of the load");
        }
        _ = writeln!(
            page,
            "; {} cores of {}, {}; Kafka: {}; {}, {}, {}.\n",
            about["cores"],
            text("cpu"),
            text("memory"),
            text("kafka"),
            text("rust"),
            text("java"),
            text("go")
        );
        page += &table(engines.as_object().unwrap_or(&none));
    }
    page += "\n## Settings\n\n";
    for (engine, said) in results["settings"].as_object().unwrap_or(&none) {
        let said: Vec<&str> = said.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        _ = writeln!(page, "- `{engine}`: {}", said.join(", "));
    }
    page
}
