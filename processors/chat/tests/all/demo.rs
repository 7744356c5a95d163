//! The demo as a process.

use std::io::{BufRead, BufReader, read_to_string};
use std::process::{Command, Stdio};

use processors_common::testing::{counts, send};

#[test]
fn it_has_a_page_and_ends_by_itself_with_every_message_in_one_group() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo-chat"));
    demo.env("DEMO_FOR", "5s").env_remove("DEMO_HTTP").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut demo = demo.spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines().map(Result::unwrap);
    let address =
        lines.by_ref().find_map(|l| Some(l.split_once("http://")?.1.trim_end_matches('/').to_owned())).unwrap();
    let ask = |path: &str| read_to_string(send(&address, &format!("GET {path}"), "", "")).unwrap();
    assert!(ask("/").contains("<title>demo-chat</title>"));
    assert!(!ask("/").contains("https://"), "nothing comes from elsewhere");
    assert!(ask("/demo").contains("\"people\""));
    assert!(ask("/v1/feed").starts_with("HTTP/1.1 401"));
    let output = lines.collect::<Vec<_>>().join("\n");
    assert!(demo.wait().unwrap().success(), "{output}");
    let counts = counts(&output);
    assert_eq!(counts["users"], 5);
    assert!(counts["groups"] > 1 && counts["messages"] > counts["groups"], "{output}");
}
