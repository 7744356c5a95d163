//! The binaries as processes: what they say and how they end when they are started wrongly.
#![cfg(all(feature = "kafka", feature = "http"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::process::{Command, Stdio};

const BINARIES: [(&str, &[&str]); 5] = [
    (env!("CARGO_BIN_EXE_shop"), &[]),
    (env!("CARGO_BIN_EXE_product-filter"), &[]),
    (env!("CARGO_BIN_EXE_personal-recommendations"), &["--http", "127.0.0.1:0"]),
    (env!("CARGO_BIN_EXE_search-prompt"), &["--user", "ann"]),
    (env!("CARGO_BIN_EXE_shop-topics"), &["create"]),
];

/// Exit code, stdout, stderr.
fn start(binary: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(binary);
    command.args(args).env_remove("KAFKA_BROKERS").env_remove("KAFKA_SASL_PASSWORD").stdin(Stdio::null());
    let done = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code(), text(done.stdout), text(done.stderr))
}

#[test]
fn without_a_broker_each_says_how_to_get_one() {
    for (binary, args) in BINARIES {
        let (code, _, stderr) = start(binary, args);
        assert_eq!(code, Some(2), "{binary}: {stderr}");
        assert!(stderr.contains("--brokers") && stderr.contains("KAFKA_BROKERS"), "{binary}: {stderr}");
        assert!(stderr.contains("make kafka-up") && stderr.contains("make demo"), "{binary}: {stderr}");
    }
}

#[test]
fn all_take_the_same_common_flags_and_show_examples() {
    let common = ["--state-dir", "x", "--commit-interval", "500ms", "--instance-id", "i", "--partitions", "3"];
    for (binary, args) in BINARIES {
        // Refused for the missing broker, not for a flag.
        let (code, _, stderr) = start(binary, &[&common[..], args].concat());
        assert!(code == Some(2) && stderr.contains("no Kafka broker"), "{binary}: {stderr}");
        let (code, help, _) = start(binary, &["--help"]);
        assert!(code == Some(0) && help.contains("Examples:") && help.contains("KAFKA_BROKERS"), "{binary}: {help}");
    }
}

#[test]
fn a_bad_pattern_is_refused_before_anything_is_done() {
    let (code, _, stderr) = start(env!("CARGO_BIN_EXE_product-filter"), &["--regex", "lamp("]);
    assert_eq!(code, Some(2));
    assert_eq!(stderr, "error: \"lamp(\" is not a regular expression: unclosed group\n");
}

#[test]
fn a_user_needs_a_password_that_is_no_flag() {
    let args = ["--brokers", "127.0.0.1:1", "--sasl-user", "ann"];
    let (code, _, stderr) = start(env!("CARGO_BIN_EXE_shop"), &args);
    assert!(code == Some(2) && stderr.contains("KAFKA_SASL_PASSWORD"), "{stderr}");
}

#[test]
fn a_login_needs_a_user() {
    for args in [["--sasl-mechanism", "plain"], ["--sasl-password-file", "x"]] {
        let (code, _, stderr) = start(env!("CARGO_BIN_EXE_shop"), &[&["--brokers", "127.0.0.1:1"], &args[..]].concat());
        assert!(code == Some(2) && stderr.contains("--sasl-user"), "{stderr}");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_shop"));
    let done = command.args(["--brokers", "127.0.0.1:1"]).env("KAFKA_SASL_PASSWORD", "hush").output().unwrap();
    let stderr = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.code() == Some(2) && stderr.contains("KAFKA_SASL_PASSWORD is set"), "{stderr}");
    assert!(!stderr.contains("hush"));
}

#[test]
fn what_a_build_lacks_is_named_with_the_way_to_get_it() {
    if cfg!(feature = "tls") {
        return;
    }
    for args in [&["--tls"][..], &["--sasl-user", "ann"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shop"));
        let done = command.args(["--brokers", "127.0.0.1:1"]).args(args).env("KAFKA_SASL_PASSWORD", "hush").output();
        let stderr = String::from_utf8(done.unwrap().stderr).unwrap();
        assert!(stderr.contains("CARGO_FLAGS=\"--features tls\""), "{stderr}");
    }
}

#[test]
fn avro_needs_a_registry() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shop"));
    command.args(["--brokers", "127.0.0.1:1", "--format", "avro"]).env_remove("SCHEMA_REGISTRY_URL");
    let done = command.output().unwrap();
    let stderr = String::from_utf8(done.stderr).unwrap();
    let expected = if cfg!(feature = "avro") { "--schema-registry" } else { "cargo feature \"avro\"" };
    assert!(done.status.code() == Some(2) && stderr.contains(expected), "{stderr}");
}
