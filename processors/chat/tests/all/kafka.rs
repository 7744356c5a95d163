//! The binaries as processes on a real Kafka, killed at random.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use chat::message::MessageJson;
use chat::{Message, MessageGroup};
use processors_common::testing::{self, PATIENCE, Process, System, until, within};
use serde_json::{Value, json};
use stream_core::emitter::Emitter;

/// The system under names of its own.
fn chat(test: &str, guarantee: &str) -> System {
    let names = [
        ("CHAT_MESSAGES_TOPIC", "messages"),
        ("CHAT_GROUPED_TOPIC", "grouped"),
        ("CHAT_HISTORY_TOPIC", "history"),
        ("CHATS_TOPIC", "chats"),
        ("CHAT_AGGREGATOR_GROUP", "aggregator"),
        ("CHAT_HISTORY_GROUP", "historian"),
    ];
    let system = System::new(test, &names).env("GUARANTEE", guarantee).env("RUST_LOG", "warn");
    system.env("DATABASE_DSN", "").env("CHAT_JWT_SECRET", "")
}

/// The aggregator: a name that stays lets it back in at once after a kill.
fn aggregator(system: &System) -> Process {
    let args = ["--instance-id", "aggregator", "--gap", "400ms"];
    Process::start(&mut system.command(env!("CARGO_BIN_EXE_chat-aggregator"), &args))
}

async fn groups(system: &System) -> Vec<MessageGroup> {
    let records = system.records("grouped").await.into_iter();
    records.map(|r| serde_json::from_slice(&r.value.unwrap()).unwrap()).collect()
}

/// The chats that have open groups, or some that are not known to be written.
async fn held(system: &System) -> usize {
    let records = system.records("aggregator-table").await.into_iter();
    let last: BTreeMap<_, _> = records.map(|r| (r.key, r.value)).collect();
    last.values().filter(|v| v.is_some()).count()
}

fn topics(system: &System, action: &str) -> String {
    system.run(env!("CARGO_BIN_EXE_chat-topics"), &[action])
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
async fn killed(guarantee: &str) {
    let system = chat("chat-kills", guarantee);
    let mut running = aggregator(&system);
    let sent: Vec<Message> = (0..MESSAGES).map(message).collect();
    let emitter = Emitter::builder(system.name("messages"), MessageJson, Arc::clone(&system.log));
    until("the topics are there", async || {
        system.log.topics(vec![system.name("messages").into()]).await.unwrap()[0].is_some()
    })
    .await;
    let emitter = emitter.open().await.unwrap();
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
            until("the aggregator goes on", async || system.records("aggregator-table").await.len() > before).await;
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            tokio::time::sleep(Duration::from_millis(random >> 54)).await;
            running.kill();
            running = aggregator(&system);
        };
        futures::join!(sending, killing);
    }
    let all: BTreeSet<&str> = sent.iter().map(|m| &*m.message_id).collect();
    until("every message is in a group", async || {
        let groups = groups(&system).await;
        let seen: BTreeSet<&str> = groups.iter().flat_map(|g| &g.list_of_messages).map(|m| &*m.message_id).collect();
        seen == all && held(&system).await == 0
    })
    .await;
    running.end();
    check(&groups(&system).await, &sent, guarantee);
    assert!(system.records("messages-dlq").await.is_empty());
    emitter.close().await.unwrap();
    assert!(topics(&system, "delete").contains("grouped: deleted"));
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
    let kind = if request.contains("login") { "application/x-www-form-urlencoded" } else { "application/json" };
    let token = if token.is_empty() { String::new() } else { bearer(token) };
    let (status, body) = testing::ask(address, request, &format!("{token}Content-Type: {kind}\r\n"), body);
    (status, serde_json::from_str(&body).unwrap_or_default())
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

struct Api {
    process: Process,
    address: String,
}

impl Api {
    fn start(system: &System) -> Self {
        let mut command = system.command(env!("CARGO_BIN_EXE_chat-api"), &["--http", "127.0.0.1:0"]);
        let mut process = Process::start(command.stdout(Stdio::piped()));
        let address = process.address("chat-api");
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
    let system = chat("chat-way", "exactly-once");
    assert!(topics(&system, "create").contains("grouped: created"));
    let running = aggregator(&system);
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

    let feed = testing::send(&api.address, "GET /v1/feed", &bearer(&token), "");
    feed.set_read_timeout(Some(PATIENCE)).unwrap();
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
    let newest: Vec<String> = all.iter().rev().cloned().collect();
    until("the history has it", async || {
        // The token is still good: its secret is kept.
        let answer = api.ask(&format!("GET /chat/{chat}?quantity=20"), &token, &Value::Null).await;
        page(answer) == (200, newest.clone())
    })
    .await;
    assert_eq!(api.log_in("ann").0, ann);
    api.process.end();
    running.end();
    topics(&system, "delete");
}
