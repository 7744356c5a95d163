//! Tables over HTTP, on the embedded log.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use stream_core::codec::{Bytes, Json, Text};
use stream_core::emitter::Emitter;
use stream_core::group::{Group, GroupGraph};
use stream_core::log::embedded::InMemory;
use stream_core::log::{LogHandle, TopicSpec};
use stream_core::monitor::Tables;
use stream_core::processor::{Guarantee, Handle, Processor, State, TableRange};
use stream_core::store::MemoryStores;
use tokio::net::TcpListener;

use crate::http_support::get;

/// Keeps each value as it comes.
fn keeper() -> Arc<GroupGraph> {
    let mut g = Group::define("keep").table(Json::<Value>::new());
    g.input("in", Json::<Value>::new(), |ctx, value| ctx.set(value));
    g.build().unwrap()
}

fn blobs() -> Arc<GroupGraph> {
    let mut g = Group::define("blobs").table(Bytes);
    g.input("bytes", Bytes, |ctx, value| ctx.set(value));
    g.build().unwrap()
}

async fn log(partitions: i32) -> LogHandle {
    let log: LogHandle = InMemory::new();
    let topics = ["in", "bytes"].map(|name| TopicSpec::new(name).partitions(partitions));
    log.create_topics(topics.into()).await.unwrap();
    log
}

fn start(graph: &Arc<GroupGraph>, log: &LogHandle, guarantee: Guarantee) -> Handle {
    let processor = Processor::new(Arc::clone(graph), Arc::clone(log))
        .stores(Arc::new(MemoryStores::new()))
        .guarantee(guarantee)
        .commit_interval(Duration::from_millis(20))
        .workers(2);
    let handle = processor.handle();
    tokio::spawn(processor.run());
    handle
}

async fn serve(handle: &Handle) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(Tables::new().group(handle).serve(listener));
    at
}

/// Waits until so many rows are there: a task hears of its transaction's commit a moment after the log does.
async fn until_rows(handle: &Handle, rows: usize) {
    let all = async || {
        let (mut range, mut seen) = (TableRange::all().limit(1000), 0);
        loop {
            let page = handle.range_bytes(range.clone()).await.unwrap();
            seen += page.rows.len();
            match page.next {
                Some(next) => range = range.after(next),
                None => return seen,
            }
        }
    };
    let seen = async {
        while all().await < rows {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), seen).await.expect("the rows are seen");
}

#[tokio::test]
async fn keys_and_pages() {
    for guarantee in [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce] {
        let log = log(3).await;
        let handle = start(&keeper(), &log, guarantee);
        let at = serve(&handle).await;
        let input = Emitter::new("in", Json::<Value>::new(), Arc::clone(&log)).await.unwrap();
        for n in 0..1200 {
            _ = input.emit(&format!("key {n:04}/ä"), &json!({"n": n})).await.unwrap();
        }
        input.flush().await.unwrap();
        handle.running().await.unwrap();
        handle.caught_up().await.unwrap();
        until_rows(&handle, 1200).await;

        let (status, row) = get(at, "/tables/keep-table/key%200007%2F%C3%A4").await;
        assert_eq!((status, &row["value"], &row["encoding"]), (200, &json!({"n": 7}), &json!("json")), "{row}");
        assert_eq!(row["key"], "key 0007/ä");
        let (status, missing) = get(at, "/tables/keep-table/nobody").await;
        assert_eq!((status, &missing["code"]), (404, &json!("unknown_key")));

        let (mut seen, mut query) = (Vec::new(), "limit=500".to_owned());
        loop {
            let (status, page) = get(at, &format!("/tables/keep-table?{query}")).await;
            assert_eq!((status, &page["partitions"], &page["of"]), (200, &json!([0, 1, 2]), &json!(3)));
            seen.extend(page["rows"].as_array().unwrap().iter().map(|row| row["value"]["n"].as_u64().unwrap()));
            let Some(next) = page["next"].as_str() else { break };
            query = format!("limit=500&after={next}");
        }
        assert_eq!(seen, (0..1200).collect::<Vec<_>>(), "every row once, in order");

        let (_, page) = get(at, "/tables/keep-table").await;
        assert_eq!(page["rows"].as_array().unwrap().len(), 100, "the default");
        let (_, page) = get(at, "/tables/keep-table?from=key+0010&to=key+0013").await;
        let keys: Vec<_> = page["rows"].as_array().unwrap().iter().map(|row| row["value"]["n"].clone()).collect();
        assert_eq!((keys, &page["next"]), (vec![json!(10), json!(11), json!(12)], &Value::Null));
        let (_, page) = get(at, "/tables/keep-table?prefix=key%20119&from=key%201195").await;
        assert_eq!(page["rows"].as_array().unwrap().len(), 5);

        let (status, tables) = get(at, "/tables").await;
        let expected = json!({"tables": [{"name": "keep-table", "group": "keep", "state": "running",
            "partitions": {"0": "running", "1": "running", "2": "running"}}]});
        assert_eq!((status, tables), (200, expected));
    }
}

#[tokio::test]
async fn what_is_asked_wrongly_is_refused() {
    let log = log(1).await;
    let handle = start(&keeper(), &log, Guarantee::AtLeastOnce);
    let at = serve(&handle).await;
    handle.running().await.unwrap();
    for (path, status, code, field) in [
        ("/tables/nobodys", 404, "unknown_table", None),
        ("/tables/nobodys/k", 404, "unknown_table", None),
        ("/elsewhere", 404, "not_found", None),
        ("/tables/keep-table?limit=0", 422, "invalid", Some("limit")),
        ("/tables/keep-table?limit=1001", 422, "invalid", Some("limit")),
        ("/tables/keep-table?after=k", 422, "invalid", Some("after")),
        ("/tables/keep-table?form=k", 422, "invalid", Some("form")),
        ("/tables/keep-table?from=%zz", 422, "invalid", Some("from")),
    ] {
        let (got, answer) = get(at, path).await;
        assert_eq!((got, answer["code"].as_str().unwrap()), (status, code), "{path}: {answer}");
        assert_eq!(answer["field"].as_str(), field, "{path}: {answer}");
        assert!(!answer["message"].as_str().unwrap().is_empty());
    }
    handle.stop();
    handle.wait_for(|s| s.state == State::Stopped).await.unwrap();
    let (status, answer) = get(at, "/tables/keep-table/k").await;
    assert_eq!((status, &answer["code"]), (503, &json!("not_running")), "{answer}");
}

#[tokio::test]
async fn binary_keys_and_values() {
    let log = log(2).await;
    let handle = start(&blobs(), &log, Guarantee::AtLeastOnce);
    let at = serve(&handle).await;
    let input = Emitter::new("bytes", Bytes, Arc::clone(&log)).await.unwrap();
    let rows: [(&[u8], &[u8]); 4] =
        [(b"\0\xff/%", b"\xfe\0"), (b"", b"of the empty key"), (b"\xff", b"1"), (b"a", b"[1,2]")];
    for (key, value) in rows {
        _ = input.emit(key, &value.to_vec()).await.unwrap();
    }
    input.flush().await.unwrap();
    handle.running().await.unwrap();
    handle.caught_up().await.unwrap();
    for (path, value, encoding) in [
        ("%00%FF%2F%25", json!("/gA="), "base64"),
        ("%ff", json!(1), "json"),
        ("", json!("of the empty key"), "text"),
        ("a", json!([1, 2]), "json"),
    ] {
        let (status, row) = get(at, &format!("/tables/blobs-table/{path}")).await;
        assert_eq!((status, &row["value"], row["encoding"].as_str()), (200, &value, Some(encoding)), "{path}: {row}");
    }
    let mut keys = Vec::new();
    let mut after = String::new();
    loop {
        let (_, page) = get(at, &format!("/tables/blobs-table?limit=1{after}")).await;
        keys.extend(page["rows"].as_array().unwrap().iter().map(|r| (r["key"].clone(), r["key_encoding"].clone())));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    let base64 = || json!("base64");
    let expected =
        [(json!(""), Value::Null), (json!("AP8vJQ=="), base64()), (json!("a"), Value::Null), (json!("/w=="), base64())];
    assert_eq!(keys, expected);
}

#[tokio::test]
async fn after_a_move_the_old_instance_says_not_here() {
    for guarantee in [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce] {
        let log = log(4).await;
        let first = start(&keeper(), &log, guarantee);
        let input = Emitter::new("in", Json::<Value>::new(), Arc::clone(&log)).await.unwrap();
        for n in 0..40 {
            _ = input.emit(&format!("k{n}"), &json!(n)).await.unwrap();
        }
        input.flush().await.unwrap();
        first.running().await.unwrap();
        first.caught_up().await.unwrap();
        until_rows(&first, 40).await;
        let second = start(&keeper(), &log, guarantee);
        let half = |s: &stream_core::processor::Status| s.state == State::Running && s.tasks.len() == 2;
        for handle in [&first, &second] {
            handle.wait_for(half).await.unwrap();
        }
        let servers = [serve(&first).await, serve(&second).await];
        let mut answered = BTreeSet::new();
        for n in 0..40 {
            let path = format!("/tables/keep-table/k{n}");
            let mut answers = Vec::new();
            for (number, at) in servers.iter().enumerate() {
                let (status, answer) = get(*at, &path).await;
                if status == 200 {
                    answered.insert(number);
                    assert_eq!(answer["value"], n);
                } else {
                    assert_eq!(answer["code"], "not_here", "{answer}");
                    let held = answer["held"].as_array().unwrap();
                    assert!(held.len() == 2 && !held.contains(&answer["partition"]), "{answer}");
                }
                answers.push(status);
            }
            answers.sort_unstable();
            assert_eq!(answers, [200, 421], "exactly one of them has k{n}");
        }
        assert_eq!(answered.len(), 2);
    }
}

#[tokio::test]
async fn text_that_looks_like_json_is_text() {
    let log = log(1).await;
    let mut g = Group::define("texts").table(Text);
    g.input("in", Text, |ctx, value| ctx.set(value));
    let handle = start(&g.build().unwrap(), &log, Guarantee::AtLeastOnce);
    let at = serve(&handle).await;
    let input = Emitter::new("in", Text, Arc::clone(&log)).await.unwrap();
    input.emit_acknowledged("k", &"123".to_owned()).await.unwrap();
    handle.running().await.unwrap();
    handle.caught_up().await.unwrap();
    let (_, row) = get(at, "/tables/texts-table/k").await;
    assert_eq!((&row["value"], &row["encoding"]), (&json!("123"), &json!("text")));
}
