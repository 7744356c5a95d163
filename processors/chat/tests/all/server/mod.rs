//! The API with the groups behind it, in this process, and a client.
#![allow(dead_code, reason = "not every test needs all of it")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chat::accounts::FileAccounts;
use chat::api::{Api, Keep, routes};
use chat::open::Limits;
use chat::token::Tokens;
use chat::topics::TopicNames;
use chat::{aggregator, history};
use processors_common::testing::{PATIENCE, records, until, within};
use serde_json::{Value, json};
use stream_core::codec::Json;
use stream_core::emitter::Emitter;
use stream_core::group::GroupGraph;
use stream_core::log::LogHandle;
use stream_core::log::embedded::{FetchHold, InMemory};
use stream_core::processor::{Guarantee, Handle, Processor};
use stream_core::store::MemoryStores;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const PASSWORD: &str = "correct-horse";
const SECRET: [u8; 32] = [7; 32];

/// Somebody who is logged in.
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) token: String,
}

/// The API with what is behind it.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) log: Arc<InMemory>,
    pub(crate) api: Arc<Api>,
    pub(crate) held: Option<Vec<FetchHold>>,
    groups: Vec<Handle>,
}

impl Drop for Server {
    fn drop(&mut self) {
        for group in &self.groups {
            group.stop();
        }
    }
}

async fn run(graph: Arc<GroupGraph>, log: &LogHandle) -> Handle {
    let processor = Processor::new(graph, Arc::clone(log)).stores(Arc::new(MemoryStores::new())).workers(1);
    let processor = processor.commit_interval(Duration::from_millis(20)).guarantee(Guarantee::ExactlyOnce);
    let handle = processor.handle();
    tokio::spawn(processor.run());
    handle.running().await.unwrap();
    handle
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(true).await
    }

    /// If it is not to be ready, its copies can't be filled as long as what is in `held` is there.
    pub(crate) async fn with(ready: bool) -> Self {
        let (log, names) = (InMemory::new(), TopicNames::default());
        let handle: LogHandle = Arc::clone(&log) as _;
        handle.create_topics(names.shared(2, None)).await.unwrap();
        let limits = Limits { gap: Duration::from_millis(500), ..Limits::default() };
        let graphs =
            [aggregator::define(&names, limits, Guarantee::ExactlyOnce).build(), history::define(&names).build()];
        let mut groups = Vec::new();
        for graph in graphs {
            groups.push(run(graph.unwrap(), &handle).await);
        }
        let held =
            (!ready).then(|| [&names.chats_topic, &names.history_topic].map(|t| log.faults().hold_fetches(t)).into());
        let accounts = Arc::new(FileAccounts::temporary().unwrap());
        let tokens = Tokens::new(&SECRET, PATIENCE);
        let patience = Duration::from_secs(2);
        let api = Api::open(&handle, &names, Keep::Memory, accounts, tokens, patience).await.unwrap();
        if ready {
            api.ready().await.unwrap();
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(axum::serve(listener, routes(Arc::clone(&api))).into_future());
        Self { address, log, api, held, groups }
    }

    async fn send(&self, request: &str, more: &str, body: &[u8]) -> (u16, Value) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = body.len();
        let head =
            format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}Content-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        // Who refuses a body by its length does not read it.
        _ = stream.write_all(body).await;
        let mut bytes = Vec::new();
        _ = within(request, stream.read_to_end(&mut bytes)).await;
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        assert_eq!(head.to_ascii_lowercase().contains("www-authenticate"), status == 401);
        (status, serde_json::from_str(body).unwrap_or_else(|_| body.into()))
    }

    pub(crate) async fn ask(&self, request: &str, token: Option<&str>, body: &Value) -> (u16, Value) {
        let more = token.map(|t| format!("Authorization: Bearer {t}\r\n")).unwrap_or_default();
        self.send(request, &more, &serde_json::to_vec(body).unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, token: Option<&str>, body: &Value) -> (u16, Value) {
        self.ask(&format!("POST {path}"), token, body).await
    }

    pub(crate) async fn log_in(&self, username: &str, password: &str) -> (u16, Value) {
        let form = format!("grant_type=password&username={username}&password={password}");
        self.send("POST /v1/login/", "Content-Type: application/x-www-form-urlencoded\r\n", form.as_bytes()).await
    }

    pub(crate) async fn user(&self, name: &str) -> User {
        let (status, made) = self.post("/v1/users/", None, &json!({"username": name, "password": PASSWORD})).await;
        assert_eq!(status, 201, "{made}");
        let (status, admitted) = self.log_in(name, PASSWORD).await;
        assert_eq!(status, 200, "{admitted}");
        let text = |field: &str| admitted[field].as_str().unwrap().to_owned();
        User { name: name.to_owned(), id: text("id"), token: text("access_token") }
    }

    pub(crate) async fn chat(&self, one: &User, other: &User) -> String {
        let body = json!({"users_id": [one.id, other.id], "users_name": [one.name, other.name]});
        let (status, room) = self.post("/v1/chat/", Some(&one.token), &body).await;
        assert_eq!(status, 201, "{room}");
        room["chat_id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn say(&self, from: &User, to: &User, chat: &str, body: &str) {
        let message = json!({"body": body, "from_user": from.id, "to_user": to.id, "chat_id": chat});
        let (status, said) = self.post("/messaging", Some(&from.token), &message).await;
        assert_eq!(status, 201, "{said}");
    }

    pub(crate) async fn history(&self, user: &User, chat: &str, query: &str) -> (u16, Value) {
        self.ask(&format!("GET /chat/{chat}{query}"), Some(&user.token), &Value::Null).await
    }

    /// Resolves once the history has so many messages, at most 20.
    pub(crate) async fn until_said(&self, user: &User, chat: &str, count: usize) {
        until("the history has it", async || {
            self.history(user, chat, "?quantity=20").await.1.as_array().unwrap().len() >= count
        })
        .await;
    }

    /// Everything that is in a topic.
    pub(crate) async fn written(&self, topic: &str) -> Vec<Value> {
        let log: LogHandle = Arc::clone(&self.log) as _;
        let records = records(&log, topic).await.into_iter();
        records.map(|r| serde_json::from_slice(&r.value.unwrap()).unwrap()).collect()
    }

    pub(crate) async fn write(&self, topic: &str, key: &str, value: &Value) {
        let log: LogHandle = Arc::clone(&self.log) as _;
        let emitter = Emitter::new(topic, Json::<Value>::new(), log).await.unwrap();
        emitter.emit_acknowledged(key, value).await.unwrap();
        emitter.close().await.unwrap();
    }
}
