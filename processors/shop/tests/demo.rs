//! The demo as a process, with nobody to type anything.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::process::{Command, Stdio};

fn demo(for_: &str) -> (Option<i32>, String) {
    let demo = Command::new(env!("CARGO_BIN_EXE_demo")).env("DEMO_FOR", for_).stdin(Stdio::null()).output().unwrap();
    (demo.status.code(), String::from_utf8(demo.stdout).unwrap())
}

#[test]
fn it_ends_by_itself_and_says_what_happened() {
    let (code, output) = demo("3s");
    assert_eq!(code, Some(0), "{output}");
    let last = output.lines().last().unwrap();
    let counts = last.strip_prefix("demo: products=").and_then(|rest| rest.split_once(" passed="));
    let (products, passed) = counts.unwrap_or_else(|| panic!("{last}"));
    let (products, passed): (u64, u64) = (products.parse().unwrap(), passed.parse().unwrap());
    assert!(products > 0, "{output}");
    // Everything passes at first, and then, as the demo types for itself, lamps only.
    assert!(passed > 0 && passed < products, "{output}");
    assert!(output.contains("the name contains \"lamp\""), "{output}");
}

#[test]
fn nonsense_for_a_time_is_refused() {
    assert_eq!(demo("soon").0, Some(2));
}
