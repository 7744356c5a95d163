//! The programs of the engines: ours is this binary, the peers are built by their own package managers.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::plan::{Engine, Program};
use crate::Outcome;
use crate::engine::{HAS_FJALL, StoreKind};

/// How each program is started, or why it can't be.
#[derive(Debug)]
pub(crate) struct Programs {
    kafka_streams: Result<PathBuf, String>,
    goka: Result<PathBuf, String>,
    /// This binary, with the system's allocator.
    system: Result<PathBuf, String>,
    ours: PathBuf,
}

impl Programs {
    /// Builds those that are needed.
    pub(crate) fn build(root: &Path, work: &Path, needed: impl Fn(Program) -> bool) -> Outcome<Self> {
        let skipped = || Err("nothing of it is asked for".to_owned());
        let system = match std::env::var_os("BENCH_SYSTEM_ALLOCATOR") {
            Some(path) => Ok(PathBuf::from(path)),
            None => Err("BENCH_SYSTEM_ALLOCATOR does not name a binary that was built so (make bench does)".to_owned()),
        };
        Ok(Self {
            kafka_streams: if needed(Program::KafkaStreams) { kafka_streams(root, work)? } else { skipped() },
            goka: if needed(Program::Goka) { goka(root, work)? } else { skipped() },
            system,
            ours: std::env::current_exe()?,
        })
    }

    /// The command that starts it, without the job's arguments.
    pub(crate) fn command(&self, engine: &Engine, memory_mb: u64) -> Result<Command, String> {
        if engine.store == StoreKind::Fjall && !HAS_FJALL {
            return Err("stream-core has no fjall store".into());
        }
        let ours = |path: &Path, name: &str| {
            let mut command = Command::new(path);
            command.args(["engine", "--engine", name]);
            command
        };
        match engine.program {
            Program::Ours => Ok(ours(&self.ours, "ours")),
            Program::Bare => Ok(ours(&self.ours, "bare")),
            Program::OursSystemAllocator => Ok(ours(self.system.as_deref().map_err(Clone::clone)?, "ours")),
            Program::Goka => Ok(Command::new(self.goka.as_deref().map_err(Clone::clone)?)),
            Program::KafkaStreams => {
                let jars = self.kafka_streams.as_deref().map_err(Clone::clone)?;
                let mut command = Command::new(java());
                // Half of the memory is the heap, the other half RocksDB's.
                command.args([format!("-Xms{}m", memory_mb / 2), format!("-Xmx{}m", memory_mb / 2)]);
                command.arg("-cp").arg(format!("{}/*", jars.display())).arg("bench.Engine");
                Ok(command)
            }
        }
    }
}

fn java() -> PathBuf {
    let home = std::env::var_os("JAVA_HOME").map(|home| PathBuf::from(home).join("bin/java"));
    home.filter(|java| java.is_file()).unwrap_or_else(|| "java".into())
}

fn runs(program: &Path, argument: &str) -> bool {
    let command = Command::new(program).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status();
    command.is_ok_and(|status| status.success())
}

/// A directory with the jars of the Kafka Streams engine.
fn kafka_streams(root: &Path, work: &Path) -> Outcome<Result<PathBuf, String>> {
    if !runs(&java(), "-version") {
        return Ok(Err("Java is missing: install a JDK of version 17 or newer".into()));
    }
    if !runs(Path::new("mvn"), "-version") {
        return Ok(Err("Maven (mvn) is missing".into()));
    }
    let dir = work.join("peers/kafka-streams");
    copy(&root.join("bench/peers/kafka-streams"), &dir)?;
    let log = work.join("logs/kafka-streams-build.log");
    let mut build = Command::new("mvn");
    build.args(["-q", "-B", "package"]).current_dir(&dir);
    Ok(built(build, &log)?.map(|()| dir.join("target/jars")))
}

/// The binary of the Goka engine.
fn goka(root: &Path, work: &Path) -> Outcome<Result<PathBuf, String>> {
    if !runs(Path::new("go"), "version") {
        return Ok(Err("Go is missing".into()));
    }
    let dir = work.join("peers/goka");
    copy(&root.join("bench/peers/goka"), &dir)?;
    let log = work.join("logs/goka-build.log");
    let mut build = Command::new("go");
    build.args(["build", "-o", "engine", "."]).current_dir(&dir);
    Ok(built(build, &log)?.map(|()| dir.join("engine")))
}

fn built(mut command: Command, log: &Path) -> Outcome<Result<(), String>> {
    let shown = format!("{command:?}");
    eprintln!("building: {shown}");
    let out = std::fs::File::create(log)?;
    let status = command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).status()?;
    if status.success() {
        return Ok(Ok(()));
    }
    let said = std::fs::read_to_string(log)?;
    let last = said.lines().rfind(|l| !l.trim().is_empty()).unwrap_or_default();
    Ok(Err(format!("it could not be built ({shown}; {}): {last}", log.display())))
}

/// Copies a directory of sources, so that nothing is built in the repository.
fn copy(from: &Path, to: &Path) -> Outcome<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let (entry, to) = (entry.as_ref().map_err(|e| e.to_string())?.path(), to.to_owned());
        let to = to.join(entry.file_name().unwrap_or_default());
        if entry.is_dir() { copy(&entry, &to)? } else { std::fs::copy(&entry, &to).map(|_| ())? }
    }
    Ok(())
}
