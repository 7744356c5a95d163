//! The demo as a process.

use std::process::{Command, Stdio};

use processors_common::testing::counts;

#[test]
fn it_ends_by_itself_and_nothing_is_lost_or_doubled() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo-orders"));
    let done = demo.env("DEMO_FOR", "3s").stdin(Stdio::null()).output().unwrap();
    let output = String::from_utf8(done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(0), "{output}");
    let counts = counts(&output);
    assert!(counts["orders"] > 0, "{output}");
    assert_eq!(counts["orders"], counts["rows"], "{output}");
    assert!((1..=7).contains(&counts["city-topics"]), "six and the shared one: {output}");
    let urgent = format!("{} mails went out for {} urgent orders", counts["mails"], counts["mails"]);
    assert!(output.contains(&urgent), "{output}");
}
