//! The demo as a process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

#[test]
fn it_has_a_page_and_ends_by_itself_with_every_message_in_one_group() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo-chat"));
    demo.env("DEMO_FOR", "5s").env_remove("DEMO_HTTP").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut demo = demo.spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines().map(Result::unwrap);
    let address =
        lines.by_ref().find_map(|l| Some(l.split_once("http://")?.1.trim_end_matches('/').to_owned())).unwrap();
    let ask = |path: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(ask("/").contains("<title>demo-chat</title>"));
    assert!(!ask("/").contains("https://"), "nothing comes from elsewhere");
    assert!(ask("/demo").contains("\"people\""));
    assert!(ask("/v1/feed").starts_with("HTTP/1.1 401"));
    let output: Vec<String> = lines.collect();
    assert!(demo.wait().unwrap().success(), "{output:?}");
    let last = output.last().unwrap().strip_prefix("demo: ").unwrap_or_else(|| panic!("{output:?}"));
    let counts: BTreeMap<&str, u64> =
        last.split(' ').map(|part| part.split_once('=').unwrap()).map(|(k, v)| (k, v.parse().unwrap())).collect();
    assert_eq!(counts["users"], 5);
    assert!(counts["groups"] > 1 && counts["messages"] > counts["groups"], "{output:?}");
}
