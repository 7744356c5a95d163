//! A schema registry of one thread, which speaks just enough of Confluent's protocol.
#![allow(unreachable_pub, reason = "a module of a test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

/// What it knows and has seen.
#[derive(Default)]
struct State {
    /// Subjects of the schemas, and the schemas. The id is the place plus 101.
    schemas: Vec<(String, String)>,
    /// Requests as `METHOD /path`, in order.
    requests: Vec<String>,
    /// The `authorization` header of the last request.
    authorization: Option<String>,
    /// Answers to give before any other.
    forced: Vec<(u16, String)>,
}

pub struct FakeRegistry {
    pub url: String,
    state: Arc<Mutex<State>>,
}

const FIRST_ID: usize = 101;

impl FakeRegistry {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        // Ends with the test's process.
        thread::spawn(move || {
            for connection in listener.incoming() {
                serve(connection.unwrap(), &shared);
            }
        });
        Self { url, state }
    }

    /// Adds a schema as another writer would; its id.
    pub fn add(&self, subject: &str, schema: &str) -> u32 {
        let mut state = self.state.lock().unwrap();
        state.schemas.push((subject.to_owned(), schema.to_owned()));
        u32::try_from(state.schemas.len() - 1 + FIRST_ID).unwrap()
    }

    /// Answers the next requests so, whatever they ask.
    pub fn force(&self, status: u16, body: &str) {
        self.state.lock().unwrap().forced.push((status, body.to_owned()));
    }

    pub fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }

    pub fn authorization(&self) -> Option<String> {
        self.state.lock().unwrap().authorization.clone()
    }
}

fn serve(mut connection: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(connection.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap().to_owned(), words.next().unwrap_or_default().to_owned());
    let (mut length, mut authorization) = (0, None);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "authorization" => authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();

    let mut state = state.lock().unwrap();
    state.requests.push(format!("{method} {path}"));
    state.authorization = authorization;
    let (status, answer) = if state.forced.is_empty() {
        let (status, answer) = answer(&mut state, &method, &path, body["schema"].as_str());
        (status, answer.to_string())
    } else {
        state.forced.remove(0)
    };
    drop(state);
    let head = format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n", answer.len());
    // The client may be gone.
    let _ = connection.write_all(format!("{head}connection: close\r\n\r\n{answer}").as_bytes());
}

fn answer(state: &mut State, method: &str, path: &str, schema: Option<&str>) -> (u16, Value) {
    let not_found = |code: u32, message: &str| (404, json!({ "error_code": code, "message": message }));
    let path = path.split('?').next().unwrap();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let find = |state: &State, subject: &str, schema: &str| {
        state.schemas.iter().position(|(s, text)| s == subject && text == schema)
    };
    match (method, parts.as_slice(), schema) {
        ("POST", ["subjects", subject, "versions"], Some(schema)) => {
            let place = find(state, subject, schema).unwrap_or_else(|| {
                state.schemas.push(((*subject).to_owned(), schema.to_owned()));
                state.schemas.len() - 1
            });
            (200, json!({ "id": place + FIRST_ID }))
        }
        ("POST", ["subjects", subject], Some(schema)) => match find(state, subject, schema) {
            Some(place) => (200, json!({ "subject": subject, "version": 1, "id": place + FIRST_ID, "schema": schema })),
            None if state.schemas.iter().any(|(s, _)| s == subject) => not_found(40403, "Schema not found"),
            None => not_found(40401, "Subject not found"),
        },
        ("GET", ["subjects", subject, "versions", "latest"], None) => {
            let versions = state.schemas.iter().filter(|(s, _)| s == subject).count();
            match state.schemas.iter().rposition(|(s, _)| s == subject) {
                Some(place) => {
                    let schema = &state.schemas[place].1;
                    (200, json!({ "subject": subject, "version": versions, "id": place + FIRST_ID, "schema": schema }))
                }
                None => not_found(40401, "Subject not found"),
            }
        }
        ("GET", ["schemas", "ids", id], None) => {
            let place = id.parse::<usize>().ok().and_then(|id| id.checked_sub(FIRST_ID));
            match place.and_then(|place| state.schemas.get(place)) {
                Some((_, schema)) => (200, json!({ "schema": schema })),
                None => not_found(40403, "Schema not found"),
            }
        }
        _ => (405, json!({ "error_code": 405, "message": "not in this registry" })),
    }
}
