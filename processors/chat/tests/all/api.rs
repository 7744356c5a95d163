//! The API over real connections, on the embedded log: what is taken, refused and shown.

use std::collections::BTreeSet;

use crate::server::{Server, User};
use processors_common::testing::{PATIENCE, within};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

#[tokio::test]
async fn an_account_is_made_once_and_lets_its_owner_in() {
    let server = Server::start().await;
    let (status, made) =
        server.post("/v1/users/", None, &json!({"username": "ann", "password": "correct horse"})).await;
    assert_eq!((status, &made["username"]), (201, &json!("ann")), "{made}");
    for password in ["correct horse", "another one"] {
        let again = json!({"username": "ann", "password": password});
        let (status, refused) = server.post("/v1/users/", None, &again).await;
        assert_eq!((status, &refused["code"]), (409, &json!("username_taken")));
    }
    let (status, admitted) = server.log_in("ann", "correct%20horse").await;
    assert_eq!((status, &admitted["token_type"]), (200, &json!("Bearer")), "{admitted}");
    assert_eq!((&admitted["id"], &admitted["username"]), (&made["id"], &json!("ann")));
    // The token is what the original's is: {"alg":"HS256"} and exp and user_id.
    let token = admitted["access_token"].as_str().unwrap();
    let claims = jsonwebtoken::dangerous::insecure_decode::<Value>(token).unwrap();
    assert_eq!(claims.header.alg, jsonwebtoken::Algorithm::HS256);
    assert_eq!(claims.claims["user_id"], made["id"]);
    assert_eq!(claims.claims.as_object().unwrap().keys().collect::<Vec<_>>(), ["exp", "user_id"]);
    for (name, password) in [("ann", "wrong"), ("nobody", "correct%20horse")] {
        let (status, refused) = server.log_in(name, password).await;
        assert_eq!((status, &refused["code"]), (401, &json!("bad_login")), "{name}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_refused_with_a_code_and_the_field() {
    let server = Server::start().await;
    let (ann, ben, eve) = (server.user("ann").await, server.user("ben").await, server.user("eve").await);
    let chat = server.chat(&ann, &ben).await;
    let nowhere = "00000000-0000-4000-8000-000000000000";
    let v4_history = format!("GET /chat/{chat}?time={nowhere}");
    let say = |changes: Value| {
        let mut message = json!({"body": "hello", "from_user": ann.id, "to_user": ben.id, "chat_id": chat});
        message.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        message
    };
    let pair = |ids: [&str; 2], names: [&str; 2]| json!({"users_id": ids, "users_name": names});
    let cases = [
        // Fields.
        ("POST /v1/users/", json!({"password": "long enough"}), 422, "invalid", "username"),
        ("POST /v1/users/", json!({"username": "", "password": "long enough"}), 422, "invalid", "username"),
        ("POST /v1/users/", json!({"username": "a\u{0}b", "password": "long enough"}), 422, "invalid", "username"),
        ("POST /v1/users/", json!({"username": "x".repeat(65), "password": "long enough"}), 422, "invalid", "username"),
        ("POST /v1/users/", json!({"username": "joe", "password": "short"}), 422, "invalid", "password"),
        ("POST /v1/users/", json!({"username": "joe", "password": 12_345_678}), 422, "invalid", "password"),
        ("POST /v1/users/", json!([]), 422, "invalid", "body"),
        ("POST /v1/login/", json!({"username": "ann"}), 422, "invalid", "body"),
        ("POST /messaging", say(json!({"body": "x".repeat(2001)})), 422, "invalid", "body"),
        ("POST /messaging", say(json!({"body": " "})), 422, "invalid", "body"),
        ("POST /messaging", say(json!({"to_user": null})), 422, "invalid", "to_user"),
        ("POST /messaging", say(json!({"chat_id": "7"})), 422, "invalid", "chat_id"),
        ("POST /v1/chat/", json!({"users_id": [ann.id], "users_name": ["ann"]}), 422, "invalid", "users_id"),
        ("POST /v1/chat/", pair([&ann.id, &ann.id], ["ann", "ann"]), 422, "invalid", "users_id"),
        ("POST /v1/chat/", pair([&ann.id, nowhere], ["ann", "nobody"]), 422, "invalid", "users_id"),
        ("POST /v1/chat/", pair([&ann.id, &eve.id], ["ann", "ben"]), 422, "invalid", "users_name"),
        (&v4_history, json!(null), 422, "invalid", "time"),
        // What is there already, or is not.
        ("POST /v1/chat/", pair([&ann.id, &ben.id], ["ann", "ben"]), 422, "chat_exists", ""),
        ("POST /v1/chat/", pair([&ben.id, &ann.id], ["ben", "ann"]), 422, "chat_exists", ""),
        ("POST /messaging", say(json!({"chat_id": nowhere})), 404, "unknown_chat", ""),
        ("GET /nothing", json!(null), 404, "not_found", ""),
        ("GET /messaging", json!(null), 405, "method_not_allowed", ""),
        // Others' business.
        ("POST /v1/chat/", pair([&ben.id, &eve.id], ["ben", "eve"]), 403, "not_a_member", ""),
        ("POST /messaging", say(json!({"from_user": ben.id, "to_user": ann.id})), 403, "not_the_sender", ""),
        ("POST /messaging", say(json!({"to_user": eve.id})), 403, "not_a_member", ""),
        ("POST /messaging", say(json!({"to_user": ann.id})), 403, "not_a_member", ""),
    ];
    for (request, body, status, code, field) in cases {
        let answer = server.ask(request, Some(&ann.token), &body).await;
        assert_eq!((answer.0, answer.1["code"].as_str()), (status, Some(code)), "{request} {body}: {}", answer.1);
        assert_eq!(answer.1["field"].as_str().unwrap_or_default(), field, "{request} {body}: {}", answer.1);
        assert!(answer.1["message"].as_str().is_some_and(|m| !m.is_empty()), "{request}");
    }
    let large = server.ask("POST /messaging", Some(&ann.token), &say(json!({"body": "x".repeat(40_000)}))).await;
    assert_eq!((large.0, &large.1["code"]), (413, &json!("too_large")));
    assert!(server.history(&ann, &chat, "").await.1.as_array().unwrap().is_empty(), "nothing of it was written");
}

#[tokio::test]
async fn without_a_token_it_is_401_and_with_a_bad_one_403() {
    let server = Server::start().await;
    let (ann, ben) = (server.user("ann").await, server.user("ben").await);
    let chat = server.chat(&ann, &ben).await;
    let forged = chat::token::Tokens::new(&[9; 32], PATIENCE).issue(&ann.id).unwrap();
    for request in [
        "POST /v1/chat/".to_owned(),
        "POST /messaging".to_owned(),
        format!("GET /chat/{chat}"),
        "GET /v1/feed".to_owned(),
    ] {
        let (status, refused) = server.ask(&request, None, &json!({})).await;
        assert_eq!((status, &refused["code"]), (401, &json!("no_token")), "{request}");
        for token in [&*forged, "x", "x.y.z"] {
            let (status, refused) = server.ask(&request, Some(token), &json!({})).await;
            assert_eq!((status, &refused["code"]), (403, &json!("bad_token")), "{request} {token}");
        }
    }
}

#[tokio::test]
async fn pages_of_three_five_and_three_of_eleven_messages_with_noise_in_other_chats() {
    let server = Server::start().await;
    let (ann, ben, eve) = (server.user("ann").await, server.user("ben").await, server.user("eve").await);
    let chat = server.chat(&ann, &ben).await;
    let noise = [server.chat(&eve, &ben).await, server.chat(&ann, &eve).await];
    for n in 0..11 {
        let (from, to) = if n % 3 == 0 { (&ben, &ann) } else { (&ann, &ben) };
        server.say(from, to, &chat, &format!("message {n}")).await;
        server.say(&eve, &ben, &noise[0], "noise").await;
        server.say(&ann, &eve, &noise[1], "noise").await;
    }
    server.until_said(&ann, &chat, 11).await;
    let mut expected: Vec<String> = (0..11).rev().map(|n| format!("message {n}")).collect();
    let mut time = String::new();
    for (asked, got) in [(3, 3), (5, 5), (5, 3)] {
        let (status, page) = server.history(&ann, &chat, &format!("?quantity={asked}{time}")).await;
        assert_eq!(status, 200, "{page}");
        let page = page.as_array().unwrap();
        let bodies: Vec<&str> = page.iter().map(|m| m["body"].as_str().unwrap()).collect();
        assert_eq!(bodies, expected.drain(..got).collect::<Vec<_>>());
        time = format!("&time={}", page[got - 1]["time"].as_str().unwrap());
    }
    let (status, none) = server.history(&ann, &chat, &format!("?quantity=5{time}")).await;
    assert_eq!((status, &none["message"]), (404, &json!("there are not pages for the given time")));
}

#[tokio::test]
async fn the_history_is_the_members_and_as_long_as_asked_for() {
    let server = Server::start().await;
    let (ann, ben, eve) = (server.user("ann").await, server.user("ben").await, server.user("eve").await);
    let chat = server.chat(&ann, &ben).await;
    assert_eq!(server.history(&ann, &chat, "").await, (200, json!([])), "a new chat is empty, not unknown");
    for n in 0..21 {
        server.say(&ann, &ben, &chat, &n.to_string()).await;
    }
    server.until_said(&ben, &chat, 20).await;
    assert_eq!(server.history(&ann, &chat, "").await.1.as_array().unwrap().len(), 10);
    assert_eq!(server.history(&ann, &chat, "?quantity=20").await.1.as_array().unwrap().len(), 20);
    let mine = server.history(&ann, &chat, "?quantity=1").await.1;
    let fields: Vec<&String> = mine[0].as_object().unwrap().keys().collect();
    assert_eq!(fields, ["body", "chat_id", "from_user", "message_id", "time", "time_iso", "to_user"]);
    for quantity in ["0", "21", "-1", "x", "", "1.5"] {
        let (status, refused) = server.history(&ann, &chat, &format!("?quantity={quantity}")).await;
        let message = "quantity param must be greater than 0 and lower or equals than 20";
        assert_eq!((status, &refused["message"]), (422, &json!(message)), "{quantity}");
    }
    let (status, refused) = server.history(&eve, &chat, "").await;
    assert_eq!((status, &refused["code"]), (403, &json!("not_a_member")));
    for unknown in ["00000000-0000-4000-8000-000000000000", "nothing"] {
        let (status, refused) = server.history(&eve, unknown, "").await;
        assert_eq!((status, &refused["message"]), (404, &json!("chat ID is not found")));
    }
    // Before all there is.
    let (status, refused) = server.history(&ann, &chat, "?time=13814000-1dd2-11b2-8000-0242ac120002").await;
    assert_eq!((status, &refused["message"]), (404, &json!("there are not pages for the given time")));
}

#[tokio::test]
async fn a_message_is_acknowledged_once_the_log_has_it_and_503_before() {
    let server = Server::start().await;
    let (ann, ben) = (server.user("ann").await, server.user("ben").await);
    let chat = server.chat(&ann, &ben).await;
    let message = json!({"body": "hello", "from_user": ann.id, "to_user": ben.id, "chat_id": chat});
    server.log.faults().set_available(false);
    let (status, refused) = server.post("/messaging", Some(&ann.token), &message).await;
    assert_eq!((status, &refused["code"]), (503, &json!("unknown")), "{refused}");
    server.log.faults().set_available(true);
    let (status, said) = server.post("/messaging/", Some(&ann.token), &message).await;
    assert_eq!(status, 201, "{said}");
    let written: Vec<Value> = server.written("chat_messages").await;
    assert!(written.contains(&said), "it is there when the answer is");
}

/// A connection that listens to the feed.
struct Listener(tokio::io::Lines<BufReader<TcpStream>>);

impl Listener {
    async fn open(server: &Server, user: &User, query: &str) -> Self {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let head = format!(
            "GET /v1/feed{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\r\n",
            user.token
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut listener = Self(BufReader::new(stream).lines());
        let head = listener.line().await.unwrap();
        assert!(head.contains("200"), "{head}");
        assert_eq!(listener.event().await.unwrap().0, "listening");
        listener
    }

    async fn line(&mut self) -> Option<String> {
        within("a line of the feed", self.0.next_line()).await.ok().flatten()
    }

    /// The next event's name and data; `None` at the end.
    async fn event(&mut self) -> Option<(String, Value)> {
        let mut name = String::new();
        loop {
            let line = self.line().await?;
            if let Some(event) = line.strip_prefix("event: ") {
                event.clone_into(&mut name);
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return Some((name, serde_json::from_str(data).unwrap()));
            }
        }
    }

    /// The next so many messages, which a slow machine may have put into more than one group.
    async fn messages(&mut self, count: usize) -> Vec<String> {
        let mut bodies = Vec::new();
        while bodies.len() < count {
            let (name, group) = self.event().await.unwrap();
            assert_eq!(name, "group");
            let messages = group["list_of_messages"].as_array().unwrap();
            bodies.extend(messages.iter().map(|m| m["body"].as_str().unwrap().to_owned()));
        }
        bodies
    }
}

#[tokio::test]
async fn the_feed_has_every_group_of_the_callers_chats_as_it_closes_and_no_other() {
    let server = Server::start().await;
    let (ann, ben, eve) = (server.user("ann").await, server.user("ben").await, server.user("eve").await);
    let (chat, other) = (server.chat(&ann, &ben).await, server.chat(&ann, &eve).await);
    let mut of_ann = Listener::open(&server, &ann, "").await;
    let mut of_ben = Listener::open(&server, &ben, "").await;
    let mut of_chat = Listener::open(&server, &ann, &format!("?chat_id={chat}")).await;
    let (status, refused) = server.ask(&format!("GET /v1/feed?chat_id={chat}"), Some(&eve.token), &json!(null)).await;
    assert_eq!((status, &refused["code"]), (403, &json!("not_a_member")));
    // Ten close at once.
    let say = async |to: &User, chat: &str, what: &str| {
        for n in 0..10 {
            server.say(&ann, to, chat, &format!("{what} {n}")).await;
        }
        (0..10).map(|n| format!("{what} {n}")).collect::<Vec<_>>()
    };
    let private = say(&eve, &other, "private").await;
    assert_eq!(of_ann.messages(10).await, private);
    let common = say(&ben, &chat, "common").await;
    for listener in [&mut of_ann, &mut of_ben, &mut of_chat] {
        assert_eq!(listener.messages(10).await, common, "the first that it hears since");
    }
    server.say(&ben, &ann, &chat, "by the gap").await;
    for listener in [&mut of_ann, &mut of_ben, &mut of_chat] {
        assert_eq!(listener.messages(1).await, ["by the gap"]);
    }
    server.api.end_feed();
    for mut listener in [of_ann, of_ben, of_chat] {
        assert!(listener.event().await.is_none(), "it is let go");
    }
}

#[tokio::test]
async fn a_group_that_is_written_twice_is_heard_once() {
    let server = Server::start().await;
    let (ann, ben) = (server.user("ann").await, server.user("ben").await);
    let chat = server.chat(&ann, &ben).await;
    let mut listener = Listener::open(&server, &ann, "").await;
    server.say(&ben, &ann, &chat, "first").await;
    assert_eq!(listener.messages(1).await, ["first"]);
    let group = server.written("chat_messages_grouped").await.remove(0);
    server.write("chat_messages_grouped", &chat, &group).await;
    server.say(&ben, &ann, &chat, "second").await;
    assert_eq!(listener.messages(1).await, ["second"]);
}

#[tokio::test]
async fn what_is_not_caught_up_is_503() {
    let mut server = Server::with(false).await;
    let (ann, ben) = (server.user("ann").await, server.user("ben").await);
    let pair = json!({"users_id": [ann.id, ben.id], "users_name": ["ann", "ben"]});
    let nowhere = "00000000-0000-4000-8000-000000000000";
    let message = json!({"body": "hello", "from_user": ann.id, "to_user": ben.id, "chat_id": nowhere});
    let requests = [
        ("POST /v1/chat/".to_owned(), pair, 201),
        ("POST /messaging".to_owned(), message, 404),
        (format!("GET /chat/{nowhere}"), json!(null), 404),
        (format!("GET /v1/feed?chat_id={nowhere}"), json!(null), 404),
    ];
    for (request, body, _) in &requests {
        let (status, refused) = server.ask(request, Some(&ann.token), body).await;
        assert_eq!((status, &refused["code"]), (503, &json!("catching_up")), "{request}: {refused}");
    }
    server.held = None;
    within("it catches up", server.api.ready()).await.unwrap();
    for (request, body, status) in &requests {
        let answer = server.ask(request, Some(&ann.token), body).await;
        assert_eq!(answer.0, *status, "{request}: {}", answer.1);
    }
}

#[tokio::test]
async fn two_who_begin_their_chat_at_once_have_one() {
    let server = Server::start().await;
    let (ann, ben) = (server.user("ann").await, server.user("ben").await);
    let begin = async |token: &str| {
        let body = json!({"users_id": [ann.id, ben.id], "users_name": ["ann", "ben"]});
        server.post("/v1/chat/", Some(token), &body).await
    };
    let (one, other) = tokio::join!(begin(&ann.token), begin(&ben.token));
    let ids: BTreeSet<&str> =
        [&one, &other].iter().filter(|a| a.0 == 201).map(|a| a.1["chat_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 1, "{one:?} {other:?}");
}

#[tokio::test]
async fn no_topic_has_a_password_or_its_hash() {
    let server = Server::start().await;
    let (ann, ben) = (server.user("ann").await, server.user("ben").await);
    let chat = server.chat(&ann, &ben).await;
    server.say(&ann, &ben, &chat, "hello").await;
    server.until_said(&ann, &chat, 1).await;
    for topic in ["chats", "chat_messages", "chat_history"] {
        let text = format!("{:?}", server.written(topic).await);
        assert!(
            text.len() > 2 && !text.contains("argon2") && !text.contains(crate::server::PASSWORD),
            "{topic}: {text}"
        );
    }
}
