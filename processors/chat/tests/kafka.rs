//! The binaries as processes on a real Kafka, killed at random.
#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chat::message::MessageJson;
use chat::{Message, MessageGroup};
use serde_json::{Value, json};
use stream_core::emitter::Emitter;
use stream_core::log::kafka::{Kafka, KafkaOptions};
use stream_core::log::{FetchLimits, Fetched, Isolation, LogHandle, RecordBatch, TopicPartition};

/// Against hanging only.
const PATIENCE: Duration = Duration::from_secs(240);

/// The system under names of its own.
struct System {
    brokers: String,
    prefix: String,
    state: tempfile::TempDir,
    log: LogHandle,
    guarantee: &'static str,
}

impl System {
    fn new(test: &str, guarantee: &'static str) -> Self {
        let brokers = std::env::var("STREAM_TEST_KAFKA").expect("STREAM_TEST_KAFKA=HOST:PORT says where the Kafka is");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let log: LogHandle = Kafka::connect(KafkaOptions::new(brokers.as_str())).unwrap();
        Self { brokers, prefix: format!("{test}-{now}"), state: tempfile::tempdir().unwrap(), log, guarantee }
    }

    fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    fn command(&self, binary: &str, args: &[&str]) -> Command {
        let mut command = Command::new(binary);
        command
            .args(args)
            .args(["--commit-interval", "100ms", "--guarantee", self.guarantee, "--log", "warn", "--state-dir"])
            .arg(self.state.path())
            .env("KAFKA_BROKERS", &self.brokers)
            .env("CHAT_MESSAGES_TOPIC", self.name("messages"))
            .env("CHAT_GROUPED_TOPIC", self.name("grouped"))
            .env("CHAT_HISTORY_TOPIC", self.name("history"))
            .env("CHATS_TOPIC", self.name("chats"))
            .env("CHAT_AGGREGATOR_GROUP", self.name("aggregator"))
            .env("CHAT_HISTORY_GROUP", self.name("historian"))
            .env_remove("DATABASE_DSN")
            .env_remove("CHAT_JWT_SECRET")
            .stdin(Stdio::null());
        command
    }

    /// The aggregator: a name that stays lets it back in at once after a kill.
    fn aggregator(&self) -> Process {
        let args = ["--instance-id", "aggregator", "--gap", "400ms"];
        Process::start(&mut self.command(env!("CARGO_BIN_EXE_chat-aggregator"), &args))
    }

    /// Every committed record of a topic, by partition and in order.
    async fn records(&self, topic: &str) -> Vec<(String, Option<Vec<u8>>)> {
        let topic: Arc<str> = self.name(topic).into();
        let Some(info) = self.log.topics(vec![Arc::clone(&topic)]).await.unwrap().remove(0) else { return Vec::new() };
        let reader = self.log.reader(Isolation::ReadCommitted).unwrap();
        let mut all = Vec::new();
        for partition in 0..info.partitions {
            let mut fetch = reader.read(TopicPartition::new(Arc::clone(&topic), partition), 0).await.unwrap();
            let mut batch = RecordBatch::new();
            loop {
                let got = std::future::poll_fn(|cx| fetch.poll_fetch(cx, &mut batch, FetchLimits::default())).await;
                if matches!(got.unwrap(), Fetched::End(_)) {
                    break;
                }
                let key = |key: Option<&[u8]>| String::from_utf8(key.unwrap().to_vec()).unwrap();
                all.extend(batch.iter().map(|r| (key(r.key), r.value.map(<[u8]>::to_vec))));
            }
        }
        all
    }

    async fn groups(&self) -> Vec<MessageGroup> {
        let records = self.records("grouped").await.into_iter();
        records.map(|(_, value)| serde_json::from_slice(&value.unwrap()).unwrap()).collect()
    }

    /// The chats that have open groups, or some that are not known to be written.
    async fn held(&self) -> usize {
        let last: BTreeMap<_, _> = self.records("aggregator-table").await.into_iter().collect();
        last.values().filter(|v| v.is_some()).count()
    }

    fn topics(&self, action: &str) -> String {
        // It has no guarantee to keep, and takes the flags all the same.
        let done = self.command(env!("CARGO_BIN_EXE_chat-topics"), &[action]).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }
}

/// A process that ends with the test, however that ends.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    fn kill(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }

    /// Asks it to end, and waits for that.
    fn end(mut self) {
        let asked = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status().unwrap();
        assert!(asked.success());
        let ended = self.0.wait().unwrap();
        assert!(ended.success(), "{ended}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited for {PATIENCE:?}: {what}"))
}

fn message(n: usize) -> Message {
    // Ten chats of two users; some users write much, some little.
    let (chat, user) = (n % 10, usize::from(n.is_multiple_of(7)));
    let time_iso = format!("2023-08-28T01:{:02}:{:02}.{:06}", n / 60 % 60, n % 60, n);
    let [message_id, from_user, to_user, body, chat_id] =
        [format!("{n:06}"), format!("user {user}"), "someone".into(), format!("message {n}"), format!("chat {chat}")];
    let time = "89d9c4b8-0000-11ee-8000-0242ac120002".into();
    Message { message_id, from_user, to_user, body, chat_id, time, time_iso }
}

#[tokio::test]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn an_aggregator_that_is_killed_has_every_message_in_exactly_one_group() {
    killed("exactly-once").await;
}

#[tokio::test]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn an_aggregator_that_is_killed_loses_no_message_at_least_once() {
    killed("at-least-once").await;
}

const KILLS: usize = 20;
const MESSAGES: usize = 200 * KILLS;

/// Messages are sent while the aggregator is killed again and again.
async fn killed(guarantee: &'static str) {
    let system = System::new("chat-kills", guarantee);
    let mut aggregator = system.aggregator();
    let sent: Vec<Message> = (0..MESSAGES).map(message).collect();
    let emitter = Emitter::builder(system.name("messages"), MessageJson, Arc::clone(&system.log));
    let emitter = within("the topics are there", async {
        while system.log.topics(vec![system.name("messages").into()]).await.unwrap()[0].is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        emitter.open().await.unwrap()
    })
    .await;
    let mut random = 7_u64;
    for part in sent.chunks(MESSAGES / KILLS) {
        let before = system.records("aggregator-table").await.len();
        // Over two seconds, so that the kill falls among them, with pauses in which groups close by the clock.
        let sending = async {
            for (n, some) in part.chunks(10).enumerate() {
                for message in some {
                    _ = emitter.emit(&message.chat_id, message).await.unwrap();
                }
                tokio::time::sleep(Duration::from_millis(if n % 8 == 7 { 500 } else { 50 })).await;
            }
            emitter.flush().await.unwrap();
        };
        let killing = async {
            // At work again after the last kill.
            within("the aggregator goes on", async {
                while system.records("aggregator-table").await.len() == before {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
            .await;
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            tokio::time::sleep(Duration::from_millis(random >> 54)).await;
            aggregator.kill();
            aggregator = system.aggregator();
        };
        futures::join!(sending, killing);
    }
    within("every message is in a group", async {
        let all: BTreeSet<&str> = sent.iter().map(|m| &*m.message_id).collect();
        loop {
            let groups = system.groups().await;
            let seen: BTreeSet<&str> =
                groups.iter().flat_map(|g| &g.list_of_messages).map(|m| &*m.message_id).collect();
            if seen == all && system.held().await == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await;
    aggregator.end();
    check(&system.groups().await, &sent, guarantee);
    assert!(system.records("messages-dlq").await.is_empty());
    emitter.close().await.unwrap();
    assert!(system.topics("delete").contains("grouped: deleted"));
}

/// Exactly once each message is in exactly one group; at least once in one or more, and groups of one id are the same.
fn check(groups: &[MessageGroup], sent: &[Message], guarantee: &str) {
    let mut by_id: BTreeMap<String, &MessageGroup> = BTreeMap::new();
    let mut seen: Vec<&Message> = Vec::new();
    for group in groups {
        let other = by_id.insert(group.group_id.to_string(), group);
        assert!(other.is_none_or(|other| other == group), "{group:?} {other:?}");
        let messages = &group.list_of_messages;
        assert!((1..=10).contains(&messages.len()));
        assert!(messages.iter().all(|m| m.from_user == group.from_user && m.chat_id == group.chat_id));
        assert!(messages.is_sorted_by(|a, b| a.message_id < b.message_id), "in the order of their arrival: {group:?}");
        seen.extend(messages);
    }
    assert!(by_id.len() > KILLS && by_id.len() < sent.len() / 2, "{} groups", by_id.len());
    seen.sort_by(|a, b| a.message_id.cmp(&b.message_id));
    let doubled = seen.len() - sent.len();
    if guarantee == "at-least-once" {
        seen.dedup();
    }
    eprintln!("{guarantee}: {} groups written, {} of them once, {doubled} messages doubled", groups.len(), by_id.len());
    assert!(seen.into_iter().eq(sent), "{guarantee}");
}

/// Answers of the API: status and body.
fn ask(address: &str, request: &str, token: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    let kind = if request.contains("login") { "application/x-www-form-urlencoded" } else { "application/json" };
    let token = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    write!(
        stream,
        "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{token}Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
}

struct Api {
    process: Process,
    address: String,
}

impl Api {
    fn start(system: &System) -> Self {
        let mut command = system.command(env!("CARGO_BIN_EXE_chat-api"), &["--http", "127.0.0.1:0"]);
        let mut process = Process::start(command.stdout(Stdio::piped()));
        let mut said = String::new();
        BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let address = said.trim().strip_prefix("chat-api: http://").unwrap().trim_end_matches('/').to_owned();
        Self { process, address }
    }

    /// Asks until it is caught up.
    async fn ask(&self, request: &str, token: &str, body: &Value) -> (u16, Value) {
        within(request, async {
            loop {
                let answer = ask(&self.address, request, token, &body.to_string());
                if answer.1["code"] != "catching_up" {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await
    }

    fn log_in(&self, name: &str) -> (String, String) {
        let (status, admitted) =
            ask(&self.address, "POST /v1/login/", "", &format!("username={name}&password=correct-horse"));
        assert_eq!(status, 200, "{admitted}");
        let text = |field: &str| admitted[field].as_str().unwrap().to_owned();
        (text("id"), text("access_token"))
    }
}

#[tokio::test]
#[ignore = "needs a real Kafka: make test starts one where Java is"]
async fn messages_all_the_way_from_http_to_the_feed_and_over_a_restart() {
    let system = System::new("chat-way", "exactly-once");
    assert!(system.topics("create").contains("grouped: created"));
    let aggregator = system.aggregator();
    let api = Api::start(&system);
    for name in ["ann", "ben"] {
        let account = json!({"username": name, "password": "correct-horse"});
        assert_eq!(api.ask("POST /v1/users/", "", &account).await.0, 201);
    }
    let ((ann, token), (ben, _)) = (api.log_in("ann"), api.log_in("ben"));
    let pair = json!({"users_id": [ann, ben], "users_name": ["ann", "ben"]});
    let (status, room) = api.ask("POST /v1/chat/", &token, &pair).await;
    assert_eq!(status, 201, "{room}");
    let chat = room["chat_id"].as_str().unwrap();

    let mut feed = TcpStream::connect(&api.address).unwrap();
    feed.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(feed, "GET /v1/feed HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n").unwrap();
    let mut feed = BufReader::new(feed).lines().map(Result::unwrap);
    assert!(feed.any(|l| l == "event: listening"));
    for n in 0..12 {
        let body = format!("message {n}");
        let message = json!({"body": body, "from_user": ann, "to_user": ben, "chat_id": chat});
        assert_eq!(api.ask("POST /messaging", &token, &message).await.0, 201);
    }
    let mut heard = Vec::new();
    while heard.len() < 12 {
        let data =
            feed.find_map(|l| l.strip_prefix("data: {\"group_id\"").map(|l| format!("{{\"group_id\"{l}"))).unwrap();
        heard.extend(serde_json::from_str::<MessageGroup>(&data).unwrap().list_of_messages);
    }
    let all: Vec<String> = (0..12).map(|n| format!("message {n}")).collect();
    assert!(heard.iter().map(|m| &m.body).eq(&all));

    // Whoever it was, and whatever was said, is there after a restart: on another copy of the history, too.
    api.process.end();
    std::fs::remove_dir_all(system.state.path().join("views")).unwrap();
    let api = Api::start(&system);
    let page = |answer: (u16, Value)| {
        let of = |m: &Value| m["body"].as_str().unwrap().to_owned();
        (answer.0, answer.1.as_array().map(|page| page.iter().map(of).collect::<Vec<_>>()).unwrap_or_default())
    };
    within("the history has it", async {
        let newest: Vec<String> = all.iter().rev().cloned().collect();
        // The token is still good: its secret is kept.
        while page(api.ask(&format!("GET /chat/{chat}?quantity=20"), &token, &Value::Null).await)
            != (200, newest.clone())
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(api.log_in("ann").0, ann);
    api.process.end();
    aggregator.end();
    system.topics("delete");
}
