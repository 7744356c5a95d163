//! Tables over HTTP of two instances on a real Kafka.

use std::sync::Arc;

use serde_json::Value;
use stream_core::codec::Int64;
use stream_core::group::{Group, GroupGraph};
use stream_core::monitor::Tables;
use stream_core::processor::{Guarantee, Processor, State};
use tokio::net::TcpListener;

use crate::http_support::get;
use crate::kafka_support::{Feed, Running, bounded, kafka, topic, unique};

const PARTITIONS: i32 = 4;
const KEYS: usize = 50;

fn sums(group: &str, input: &str) -> Arc<GroupGraph> {
    let mut g = Group::define(group).table(Int64);
    g.input(input, Int64, |ctx, n| {
        let sum = ctx.value()?.unwrap_or(0) + n;
        ctx.set(sum)
    });
    g.build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn two_instances_have_each_key_once() {
    for guarantee in [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce] {
        bounded(240, two_instances(guarantee)).await;
    }
}

async fn two_instances(guarantee: Guarantee) {
    let log = kafka();
    let (group, input) = (unique("tables"), topic(&log, "tables-in", PARTITIONS).await);
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let start = |n: usize| {
        let processor = Processor::new(sums(&group, &input), Arc::clone(&log));
        Running::start(processor.guarantee(guarantee).state_dir(dirs[n].path()))
    };
    let first = start(0);
    first.handle.wait_for(|s| s.state == State::Running && !s.tasks.is_empty()).await.unwrap();
    let second = start(1);
    for one in [&first, &second] {
        one.handle.wait_for(|s| s.state == State::Running && s.tasks.len() == 2).await.unwrap();
    }
    let mut servers = Vec::new();
    for one in [&first, &second] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        servers.push(listener.local_addr().unwrap());
        tokio::spawn(Tables::new().group(&one.handle).serve(listener));
    }
    let mut feed = Feed::new(&log).await;
    let keys: Vec<String> = (0..KEYS).map(|n| format!("key-{n}")).collect();
    for n in 0..20 {
        let number = n.to_string();
        let records: Vec<_> = keys.iter().map(|k| (&input, None, k.as_str(), number.as_str())).collect();
        feed.send(&records).await;
    }
    feed.finish().await;
    first.handle.caught_up().await.unwrap();

    let table = format!("{group}-table");
    for key in &keys {
        let mut answers = Vec::new();
        for at in &servers {
            let (status, answer) = get(*at, &format!("/tables/{table}/{key}")).await;
            match status {
                200 => assert_eq!(answer["value"], 190, "{key}"),
                _ => assert_eq!((status, answer["code"].as_str()), (421, Some("not_here")), "{answer}"),
            }
            answers.push(status);
        }
        answers.sort_unstable();
        assert_eq!(answers, [200, 421], "{key}");
    }
    let (mut rows, mut partitions) = (0, Vec::new());
    for at in &servers {
        let (_, page) = get(*at, &format!("/tables/{table}?limit=1000")).await;
        rows += page["rows"].as_array().unwrap().len();
        partitions.extend(page["partitions"].as_array().unwrap().iter().filter_map(Value::as_i64));
    }
    partitions.sort_unstable();
    assert_eq!((rows, partitions), (KEYS, vec![0, 1, 2, 3]));

    // One goes: the other has everything.
    second.handle.stop();
    second.task.await.unwrap().unwrap();
    first.handle.wait_for(|s| s.state == State::Running && s.tasks.len() == 4).await.unwrap();
    for key in &keys {
        let (status, answer) = get(servers[0], &format!("/tables/{table}/{key}")).await;
        assert_eq!((status, &answer["value"]), (200, &Value::from(190)), "{key}");
    }
    assert_eq!(get(servers[1], &format!("/tables/{table}/key-1")).await.0, 503);
    first.handle.stop();
    first.task.await.unwrap().unwrap();
}
