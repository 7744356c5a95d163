//! The binaries as processes: what they say and how they end when they are started wrongly.
#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::process::{Command, Stdio};

const BINARIES: [(&str, &[&str]); 3] = [
    (env!("CARGO_BIN_EXE_chat-aggregator"), &[]),
    (env!("CARGO_BIN_EXE_chat-api"), &[]),
    (env!("CARGO_BIN_EXE_chat-topics"), &["create"]),
];

/// Exit code, stdout, stderr.
fn start(binary: &str, args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut command = Command::new(binary);
    command.args(args).env_remove("KAFKA_BROKERS").env_remove("DATABASE_DSN").env_remove("CHAT_JWT_SECRET");
    let done = command.envs(env.iter().copied()).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code(), text(done.stdout), text(done.stderr))
}

#[test]
fn all_take_the_same_common_flags_and_say_how_to_get_a_broker() {
    let common = ["--state-dir", "x", "--commit-interval", "500ms", "--partitions", "3", "--guarantee", "exactly-once"];
    for (binary, args) in BINARIES {
        let (code, _, stderr) = start(binary, &[&common[..], args].concat(), &[]);
        assert!(code == Some(2) && stderr.contains("no Kafka broker"), "{binary}: {stderr}");
        let (code, help, _) = start(binary, &["--help"], &[]);
        assert!(code == Some(0) && help.contains("Examples:") && help.contains("KAFKA_BROKERS"), "{binary}: {help}");
    }
}

#[test]
fn groups_of_nothing_are_refused() {
    for args in [["--max-messages", "0"], ["--gap", "soon"], ["--gap", "0s"], ["--max-age", "0s"]] {
        let (code, _, stderr) = start(env!("CARGO_BIN_EXE_chat-aggregator"), &args, &[]);
        assert!(code == Some(2) && stderr.contains(args[0]), "{args:?}: {stderr}");
    }
}

#[test]
fn an_api_never_tells_its_secrets_and_refuses_short_ones() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--brokers", "127.0.0.1:1", "--state-dir", dir.path().to_str().unwrap()];
    let api = env!("CARGO_BIN_EXE_chat-api");
    let (code, _, stderr) = start(api, &args, &[("CHAT_JWT_SECRET", "hush")]);
    assert!(code == Some(2) && stderr.contains("CHAT_JWT_SECRET") && !stderr.contains("hush"), "{stderr}");
    let (code, _, stderr) = start(api, &args, &[("DATABASE_DSN", "postgres://ann:hush@x:port/y")]);
    assert!(code == Some(2) && stderr.contains("DATABASE_DSN") && !stderr.contains("hush"), "{stderr}");
}
