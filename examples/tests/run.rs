//! Each example is run as a program, and says what it should.

use std::process::Command;

#[path = "../with_the_tester.rs"]
mod with_the_tester;

fn output(program: &str) -> String {
    let out = Command::new(program).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success(), "{program}: {}\n{text}\n{}", out.status, String::from_utf8_lossy(&out.stderr));
    text
}

#[test]
fn counter() {
    let text = output(env!("CARGO_BIN_EXE_counter"));
    assert!(text.contains("table   word-count-table"), "{text}");
    assert!(text.contains("apple has had 30 words"), "{text}");
    assert!(text.contains("plum has had 10 words"), "{text}");
}

#[test]
fn word_count() {
    let text = output(env!("CARGO_BIN_EXE_word-count"));
    let lines = ["all: 1", "hello: 1", "join: 1", "kafka: 3", "lead: 1", "streams: 2", "summit: 1", "the: 1", "to: 1"];
    assert_eq!(text.lines().collect::<Vec<_>>(), lines);
}

#[test]
fn regions() {
    let text = output(env!("CARGO_BIN_EXE_regions"));
    assert!(text.contains("rekey   regions-views-rekey"), "{text}");
    assert!(text.ends_with("Asia: 2\nEurope: 1\n"), "{text}");
}

#[test]
fn clicks() {
    let text = output(env!("CARGO_BIN_EXE_clicks"));
    assert_eq!(text, "ann clicked 3 times, last on /lamps/7\nann: 3\nbob: 1\n");
}

#[test]
fn join() {
    let text = output(env!("CARGO_BIN_EXE_join"));
    let lines = ["order-1: 30 not paid within an hour", "order-2: 120 paid by card", "order-3: 7 paid by invoice"];
    assert_eq!(text.lines().collect::<Vec<_>>(), lines);
}

#[test]
fn all_in_one() {
    let text = output(env!("CARGO_BIN_EXE_all-in-one"));
    let lines = ["ann: 420 spent", "bob: 100 spent", "cy: 150 spent", "Oslo: 2 large orders", "Rome: 1 large orders"];
    assert_eq!(text.lines().collect::<Vec<_>>(), lines);
}

#[test]
fn window() {
    let text = output(env!("CARGO_BIN_EXE_window"));
    assert_eq!(text, "home had 3 clicks in minute 0\nlamps had 2 clicks in minute 1\n");
}

#[test]
fn session() {
    let text = output(env!("CARGO_BIN_EXE_session"));
    let lines = [
        "bob was there for 0 minutes: home",
        "ann was there for 45 minutes: home, lamps, lamp 7",
        "bob was there for 0 minutes: sale",
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), lines);
}

#[test]
fn timer() {
    let text = output(env!("CARGO_BIN_EXE_timer"));
    assert_eq!(text, "minute 35: order 2 (a chair) is not paid\n");
}
