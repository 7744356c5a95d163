//! Disks that can be filled, each for a child process: this test binary once more.
//!
//! The one is `full_disk.c`, loaded into the child: any write can be the first that does not fit, without being root. The other is
//! a small file system in memory, where this machine lets the child mount one: the kernel's own way to be full.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The file by which the child sets the room, where the disk is [`Disk::Loaded`].
const CONTROL: &str = "STREAM_TEST_DISK";
const FOLDER: &str = "STREAM_TEST_DISK_FOLDER";
/// What the child is to test.
const WHAT: &str = "STREAM_TEST_DISK_WHAT";

const MOUNTED_BYTES: u64 = 16 << 20;

/// How a disk without room refuses. The numbers are those of `full_disk.c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refuses {
    /// What is written.
    Writes = 0,
    /// New files, too.
    Files = 1,
    /// It takes what is written, and can't bring it to the disk.
    Sync = 2,
}

/// The disk of a child.
pub(super) enum Disk {
    /// By `full_disk.c`.
    Loaded { folder: PathBuf, control: File },
    /// A file system with nothing else on it.
    Mounted { folder: PathBuf },
}

impl Disk {
    /// The disk of this child, and what it is to test; `None` in a process that is none.
    pub(super) fn of_child() -> Option<(Self, String)> {
        let (folder, what) = (PathBuf::from(std::env::var_os(FOLDER)?), std::env::var(WHAT).ok()?);
        let Some(control) = std::env::var_os(CONTROL) else { return Some((Self::Mounted { folder }, what)) };
        let control = File::options().read(true).write(true).open(control).unwrap();
        let disk = Self::Loaded { folder, control };
        assert_eq!(disk.number(0), 1, "full_disk.c is not loaded: is this a program that LD_PRELOAD has no effect on?");
        Some((disk, what))
    }

    pub(super) fn folder(&self) -> &Path {
        match self {
            Self::Loaded { folder, .. } | Self::Mounted { folder } => folder,
        }
    }

    /// How it can be made to refuse.
    pub(super) fn ways(&self) -> &'static [Refuses] {
        match self {
            Self::Loaded { .. } => &[Refuses::Writes, Refuses::Files, Refuses::Sync],
            Self::Mounted { .. } => &[Refuses::Writes],
        }
    }

    /// Whether a log has what the disk took and can't bring to it.
    pub(super) fn owes(&self) -> bool {
        self.number(4) != 0
    }

    fn number(&self, at: u64) -> i64 {
        let Self::Loaded { control, .. } = self else { return 0 };
        let mut bytes = [0; 8];
        control.read_exact_at(&mut bytes, at * 8).unwrap();
        i64::from_ne_bytes(bytes)
    }

    fn set(control: &File, room: i64, refuses: Refuses) {
        control.write_all_at(&0_i64.to_ne_bytes(), 32).unwrap();
        control.write_all_at(&(refuses as i64).to_ne_bytes(), 16).unwrap();
        control.write_all_at(&room.to_ne_bytes(), 8).unwrap();
    }

    /// Leaves room for so many bytes.
    pub(super) fn leave(&self, bytes: u32, refuses: Refuses) {
        match self {
            Self::Loaded { control, .. } => Self::set(control, bytes.into(), refuses),
            Self::Mounted { folder } => {
                let (mut ballast, mut written) = (File::create(folder.join("ballast")).unwrap(), 0);
                let chunk = [1; 4096];
                while let Ok(n @ 1..) = ballast.write(&chunk) {
                    written += n as u64;
                }
                ballast.set_len(written.saturating_sub(bytes.into())).unwrap();
            }
        }
    }

    /// Makes room.
    pub(super) fn empty(&self) {
        match self {
            Self::Loaded { control, .. } => Self::set(control, i64::MAX, Refuses::Writes),
            Self::Mounted { folder } => {
                let _ = fs::remove_file(folder.join("ballast"));
            }
        }
    }
}

/// Runs a child, a test that is ignored otherwise, on a disk by `full_disk.c`.
pub(super) fn on_a_loaded_disk(child: &str, what: &str) {
    let dir = tempfile::tempdir().unwrap();
    let (control, folder) = (dir.path().join("control"), dir.path().join("disk"));
    fs::create_dir(&folder).unwrap();
    let mut numbers = [0_u8; 40];
    numbers[8..16].copy_from_slice(&i64::MAX.to_ne_bytes());
    fs::write(&control, numbers).unwrap();
    let folder = folder.canonicalize().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env("LD_PRELOAD", library()).env(CONTROL, control);
    run(command, child, what, &folder).unwrap();
}

/// The same on a file system of the kernel's, unless this machine does not let it mount one.
pub(super) fn on_a_mounted_disk(child: &str, what: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o size={MOUNTED_BYTES} none \"$0\" && exec \"$@\"");
    let in_private = |program: &str| {
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", &mount]).arg(dir.path()).arg(program);
        command
    };
    match in_private("true").output() {
        Ok(Output { status, .. }) if status.success() => {}
        tried => {
            // Not by a macro, whose output the test harness keeps to itself.
            let why = tried.map_or_else(|e| e.to_string(), |tried| String::from_utf8_lossy(&tried.stderr).into_owned());
            let line =
                format!("NOT RUN: {child} {what} on a mounted disk: this machine does not let it: {}\n", why.trim());
            io::stderr().write_all(line.as_bytes()).unwrap();
            return;
        }
    }
    run(in_private(std::env::current_exe().unwrap().to_str().unwrap()), child, what, dir.path()).unwrap();
}

fn run(mut command: Command, child: &str, what: &str, folder: &Path) -> io::Result<()> {
    let command = command.args(["--exact", child, "--ignored", "--nocapture"]).env(FOLDER, folder).env(WHAT, what);
    let Output { status, stdout, stderr } = command.output()?;
    let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success() && out.contains("1 passed"), "{child} {what}: {status}\n{out}\n{err}");
    print!("{out}");
    Ok(())
}

/// `full_disk.c`, compiled once.
fn library() -> PathBuf {
    static LIBRARY: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, library) = LIBRARY.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let library = dir.path().join("full_disk.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/processes/disk_full/full_disk.c");
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let built = Command::new(compiler)
            .args(["-O1", "-shared", "-fPIC", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .output();
        let built = built.expect("a C compiler, which librdkafka needs as well");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        (dir, library)
    });
    library.clone()
}
