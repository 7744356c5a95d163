//! The binaries as processes: what they say and how they end when they are started wrongly.
#![cfg(all(feature = "kafka", feature = "api", feature = "mailer", feature = "sink"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::process::{Command, Stdio};

const DATABASE: &[&str] = &["--database", "postgres://nobody@127.0.0.1:1/none"];

const BINARIES: [(&str, &[&str]); 4] = [
    (env!("CARGO_BIN_EXE_orders-api"), &[]),
    (env!("CARGO_BIN_EXE_order-router"), &[]),
    (env!("CARGO_BIN_EXE_order-mailer"), &[]),
    (env!("CARGO_BIN_EXE_order-sink"), DATABASE),
];

/// Exit code, stdout, stderr.
fn start(binary: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(binary);
    command.args(args).env_remove("KAFKA_BROKERS").env_remove("DATABASE_DSN").env_remove("SMTP_PASSWORD");
    let done = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code(), text(done.stdout), text(done.stderr))
}

#[test]
fn all_take_the_same_common_flags_and_say_how_to_get_a_broker() {
    let common = ["--state-dir", "x", "--commit-interval", "500ms", "--partitions", "3", "--guarantee", "exactly-once"];
    for (binary, args) in BINARIES {
        let (code, _, stderr) = start(binary, &[&common[..], args].concat());
        assert!(code == Some(2) && stderr.contains("no Kafka broker"), "{binary}: {stderr}");
        let (code, help, _) = start(binary, &["--help"]);
        assert!(code == Some(0) && help.contains("Examples:") && help.contains("KAFKA_BROKERS"), "{binary}: {help}");
    }
}

#[test]
fn a_sink_needs_a_database_and_never_tells_its_password() {
    let (code, _, stderr) = start(env!("CARGO_BIN_EXE_order-sink"), &[]);
    assert!(code == Some(2) && stderr.contains("DATABASE_DSN"), "{stderr}");
    let (code, _, stderr) = start(env!("CARGO_BIN_EXE_order-sink"), &["--database", "postgres://ann:hush@x:port/y"]);
    assert!(code == Some(2) && stderr.contains("postgres://USER@HOST"), "{stderr}");
    assert!(!stderr.contains("hush"), "{stderr}");
}

#[test]
fn a_mailer_needs_a_password_that_is_no_flag_and_an_encrypted_way_for_it() {
    let (code, _, stderr) = start(env!("CARGO_BIN_EXE_order-mailer"), &["--smtp-user", "ann"]);
    assert!(code == Some(2) && stderr.contains("SMTP_PASSWORD"), "{stderr}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_order-mailer"));
    let done = command.args(["--smtp-user", "ann"]).env("SMTP_PASSWORD", "hush").output().unwrap();
    let stderr = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.code() == Some(2) && stderr.contains("--smtp-tls"), "{stderr}");
    assert!(!stderr.contains("hush"), "{stderr}");
}
