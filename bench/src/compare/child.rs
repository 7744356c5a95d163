//! An engine's process, seen from outside: what it says, and what it costs.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child as Process, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::Outcome;

/// A moment of a process: when a line came, and how many CPU seconds the process had used until then.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    pub(crate) at: Instant,
    pub(crate) cpu: f64,
    pub(crate) line: String,
}

/// A process that runs. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Child {
    process: Process,
    lines: Receiver<Moment>,
    log: PathBuf,
    /// When it was started.
    pub(crate) started: Instant,
    /// Each line so far.
    pub(crate) heard: Vec<Moment>,
}

impl Child {
    /// Starts it; what it writes to its standard error goes to the file `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Outcome<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(log)?);
        let started = Instant::now();
        let mut process = command.spawn().map_err(|error| format!("{program}: {error}"))?;
        let out = BufReader::new(process.stdout.take().ok_or("no output")?);
        let (pid, (heard, lines)) = (process.id(), channel());
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let moment = Moment { at: Instant::now(), cpu: cpu_seconds(pid).unwrap_or_default(), line };
                if heard.send(moment).is_err() {
                    return;
                }
            }
        });
        Ok(Self { process, lines, log: log.to_owned(), started, heard: Vec::new() })
    }

    /// Waits until it says this word.
    pub(crate) fn wait(&mut self, word: &str, within: Duration) -> Outcome<Moment> {
        let late = |child: &Self| format!("it did not say {word:?} within {within:?}; {}", child.last_words());
        Ok(self.wait_for(word, within)?.ok_or_else(|| late(self))?)
    }

    /// Waits until it says this word, or for so long.
    pub(crate) fn wait_for(&mut self, word: &str, within: Duration) -> Outcome<Option<Moment>> {
        let until = Instant::now() + within;
        loop {
            if let Some(moment) = self.said(word) {
                return Ok(Some(moment));
            }
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(moment) => self.heard.push(moment),
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(format!("it ended before it said {word:?}; {}", self.last_words()).into());
                }
            }
        }
    }

    /// The moment at which it said this, if it did.
    pub(crate) fn said(&self, word: &str) -> Option<Moment> {
        self.heard.iter().find(|m| m.line == word).cloned()
    }

    /// The lines that begin with this word, without it.
    pub(crate) fn all(&self, word: &str) -> impl Iterator<Item = (&Moment, &str)> {
        self.heard.iter().filter_map(move |m| Some((m, m.line.strip_prefix(word)?.trim())))
    }

    /// CPU seconds so far, user and system.
    pub(crate) fn cpu(&self) -> Outcome<f64> {
        cpu_seconds(self.process.id())
    }

    /// The most memory that it has had, in bytes.
    pub(crate) fn peak(&self) -> Outcome<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find(|l| l.starts_with("VmHWM")).ok_or("no VmHWM in /proc")?;
        Ok(line.split_whitespace().nth(1).ok_or("no number in VmHWM")?.parse::<u64>()? * 1024)
    }

    /// Lets it end, and fails unless it does so well.
    pub(crate) fn end(mut self) -> Outcome<()> {
        drop(self.process.stdin.take());
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until {
            if let Some(status) = self.process.try_wait()? {
                let failed = || format!("it ended with {status}; {}", self.last_words()).into();
                return if status.success() { Ok(()) } else { Err(failed()) };
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err("it did not end within 30 s".into())
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(8)..).unwrap_or_default().join("\n");
        format!("the end of {}:\n{tail}", self.log.display())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // One that has ended is no error.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// CPU seconds of a process, user and system, of all its threads.
pub(crate) fn cpu_seconds(pid: u32) -> Outcome<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks: f64 = after.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<f64>().ok()).sum();
    Ok(ticks / 100.0)
}

/// What the files under a directory take on the disk, in bytes.
pub(crate) fn disk(dir: &Path) -> Outcome<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let of = entry.metadata()?;
        bytes += if of.is_dir() { disk(&entry.path())? } else { of.blocks() * 512 };
    }
    Ok(bytes)
}
