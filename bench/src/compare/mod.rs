//! The comparison: one Kafka, topics filled once, each engine a process of its own, rounds interleaved, every result checked.
//!
//! `bench/README.md` says what is measured and how.

mod aims;
mod check;
mod child;
mod kafka;
mod latency;
mod load;
mod peers;
mod plan;
mod report;
mod results;
mod run;

use std::path::{Path, PathBuf};
use std::time::Instant;

use self::kafka::Kafka;
use self::peers::Programs;
use self::plan::Workload;
use self::results::{Cell, Results};
use self::run::{Bench, Ran};
use crate::Outcome;

/// What is compared; `make bench` gives each by its variable.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Compare {
    /// The workloads, with commas between them; `all` for every engine that can, instead of the fixed list.
    #[arg(long, env = "BENCH", default_value = "")]
    bench: String,
    /// Only these engines, with commas between them.
    #[arg(long, env = "ENGINES", default_value = "")]
    engines: String,
    /// How often each engine runs a workload; by default three times, and once for what takes long.
    #[arg(long, env = "ROUNDS")]
    rounds: Option<usize>,
    /// How much of each load there is. Results of anything but 1 stay out of the repository.
    #[arg(long, env = "SCALE", default_value_t = 1.0)]
    scale: f64,
    /// Memory for the state of an engine that can be bounded, in MiB.
    #[arg(long, env = "MEMORY_MB", default_value_t = 1_024)]
    memory_mb: u64,
}

/// The repository.
fn root() -> Outcome<PathBuf> {
    let bench = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(bench.parent().ok_or("no repository")?.to_owned())
}

/// Runs the comparison, prints its tables and saves them.
pub(crate) fn run(how: &Compare) -> Outcome<()> {
    let root = root()?;
    let (workloads, all) = plan::parse(&how.bench)?;
    let only: Vec<&str> = how.engines.split([',', ' ']).filter(|e| !e.is_empty()).collect();
    if let Some(unknown) = only.iter().find(|name| plan::ENGINES.iter().all(|e| e.name != **name)) {
        let known = plan::ENGINES.map(|e| e.name).join(", ");
        return Err(format!("no engine {unknown:?}: there are {known}").into());
    }
    let state = std::env::var_os("STREAM_STATE").map_or_else(|| root.join("target"), PathBuf::from);
    std::fs::create_dir_all(state.join("bench"))?;
    let work = state.join("bench").canonicalize()?;
    for old in ["state", "logs"] {
        // There is none the first time.
        _ = std::fs::remove_dir_all(work.join(old));
        std::fs::create_dir_all(work.join(old))?;
    }
    let chosen = |workload: Workload| {
        let mut engines = workload.engines(all);
        engines.retain(|e| only.is_empty() || only.contains(&e.name));
        engines
    };
    let needed = |program| workloads.iter().any(|w| chosen(*w).iter().any(|e| e.program == program));
    let programs = Programs::build(&root, &work, needed)?;
    let kafka = Kafka::start(&root, &work)?;
    let mut bench = Bench {
        kafka,
        programs,
        work: work.clone(),
        memory_mb: how.memory_mb,
        runs: 0,
        workload: "",
        scale: how.scale,
        loads: std::collections::BTreeMap::new(),
        settings: std::collections::BTreeMap::new(),
    };
    end_on_interrupt(&bench.kafka);
    let began = Instant::now();
    let results = workloads.iter().try_fold(Results::new(&root, how.scale), |mut results, workload| {
        let rounds = how.rounds.unwrap_or(workload.rounds()).max(1);
        one(&mut bench, *workload, &chosen(*workload), rounds, &mut results)?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(results)
    });
    bench.kafka.stop();
    let mut results = results?;
    results.settings(&bench.settings);
    let to = if (how.scale - 1.0).abs() < f64::EPSILON && only.is_empty() { root.join("bench") } else { work };
    let page = results.save(&to)?;
    println!("{page}");
    println!("saved in {}; all of it took {} min", to.display(), began.elapsed().as_secs().div_ceil(60));
    match results.failures() {
        0 => Ok(()),
        n => Err(format!("{n} of the engines failed or gave wrong results: see above").into()),
    }
}

/// All rounds of one workload.
fn one(
    bench: &mut Bench,
    workload: Workload,
    engines: &[plan::Engine],
    rounds: usize,
    results: &mut Results,
) -> Outcome<()> {
    let load = workload.load().map(|kind| bench.load(kind)).transpose()?;
    results.begin(workload);
    for round in 1..=rounds {
        for engine in engines {
            if results.is_out(workload, engine.name) {
                continue;
            }
            let began = Instant::now();
            let cell = match bench.run(workload, engine, load.as_ref()) {
                Ok(Ran::Done(figures)) => Cell::Figures(figures),
                Ok(Ran::NotRun(why)) => Cell::NotRun(why),
                Err(error) => Cell::Failed(error.to_string()),
            };
            let said = cell.to_string();
            println!("{} {} round {round}: {said} ({} s)", workload.name(), engine.name, began.elapsed().as_secs());
            results.add(workload, engine.name, cell);
        }
    }
    Ok(())
}

/// Ends Kafka when the run is interrupted; children end by themselves, because their standard input closes.
fn end_on_interrupt(kafka: &Kafka) {
    let kafka = kafka.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        if runtime.is_ok_and(|runtime| runtime.block_on(tokio::signal::ctrl_c()).is_ok()) {
            kafka.stop();
            std::process::exit(130);
        }
    });
}
