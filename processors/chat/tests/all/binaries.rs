//! The binaries as processes: what they say and how they end when they are started wrongly.

use processors_common::testing::{Ended, assert_take_common_flags, run};

const BINARIES: [(&str, &[&str]); 3] = [
    (env!("CARGO_BIN_EXE_chat-aggregator"), &[]),
    (env!("CARGO_BIN_EXE_chat-api"), &[]),
    (env!("CARGO_BIN_EXE_chat-topics"), &["create"]),
];

#[test]
fn all_take_the_same_common_flags_and_say_how_to_get_a_broker() {
    assert_take_common_flags(&BINARIES);
}

#[test]
fn groups_of_nothing_are_refused() {
    for args in [["--max-messages", "0"], ["--gap", "soon"], ["--gap", "0s"], ["--max-age", "0s"]] {
        let Ended { code, stderr, .. } = run(env!("CARGO_BIN_EXE_chat-aggregator"), &args, &[]);
        assert!(code == Some(2) && stderr.contains(args[0]), "{args:?}: {stderr}");
    }
}

#[test]
fn an_api_never_shows_its_secrets_and_refuses_short_ones() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--brokers", "127.0.0.1:1", "--state-dir", dir.path().to_str().unwrap()];
    let api = env!("CARGO_BIN_EXE_chat-api");
    let Ended { code, stderr, .. } = run(api, &args, &[("CHAT_JWT_SECRET", "hush")]);
    assert!(code == Some(2) && stderr.contains("CHAT_JWT_SECRET") && !stderr.contains("hush"), "{stderr}");
    let Ended { code, stderr, .. } = run(api, &args, &[("DATABASE_DSN", "postgres://ann:hush@x:port/y")]);
    assert!(code == Some(2) && stderr.contains("DATABASE_DSN") && !stderr.contains("hush"), "{stderr}");
}
