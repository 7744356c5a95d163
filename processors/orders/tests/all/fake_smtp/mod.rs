//! A mail server of a few lines: takes mails, or answers as the test says.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A mail, as it came.
#[derive(Clone, Debug)]
pub struct Mail {
    pub from: String,
    pub to: String,
    pub text: String,
}

/// Where in the conversation the server can be asked to answer otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum At {
    Greeting,
    Hello,
    Sender,
    Recipient,
    Data,
    Body,
}

#[derive(Default)]
struct Shared {
    mails: Mutex<Vec<Mail>>,
    /// What is answered there instead; nothing at all, if it is empty.
    answers: Mutex<BTreeMap<At, String>>,
}

impl Shared {
    fn answer(&self, at: At, usual: &str) -> String {
        self.answers.lock().unwrap().get(&at).cloned().unwrap_or_else(|| usual.to_owned())
    }
}

/// The server; it ends when this is dropped.
pub struct FakeSmtp {
    port: u16,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

impl FakeSmtp {
    pub async fn start() -> Self {
        Self::start_at(0).await
    }

    pub async fn start_at(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::<Shared>::default();
        let serving = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let shared = Arc::clone(&shared);
                    // A client that is killed is no fault of the server's.
                    tokio::spawn(async move { _ = converse(stream, &shared).await });
                }
            }
        });
        Self { port, shared, serving }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn mails(&self) -> Vec<Mail> {
        self.shared.mails.lock().unwrap().clone()
    }

    /// From now on, this is answered there; without text the server stays silent.
    pub fn answer(&self, at: At, answer: &str) {
        self.shared.answers.lock().unwrap().insert(at, answer.to_owned());
    }

    /// From now on, everything is answered as usual.
    pub fn answer_as_usual(&self) {
        self.shared.answers.lock().unwrap().clear();
    }
}

impl Drop for FakeSmtp {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn converse(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut from, mut to, mut text) = (String::new(), String::new(), String::new());
    let mut in_data = false;
    say(&mut stream, &shared.answer(At::Greeting, "220 fake")).await?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        if in_data {
            if line != ".\r\n" {
                text.push_str(line.strip_prefix('.').unwrap_or(&line));
                continue;
            }
            in_data = false;
            let text = std::mem::take(&mut text);
            let answer = shared.answer(At::Body, "250 taken");
            if answer.starts_with("250") {
                shared.mails.lock().unwrap().push(Mail { from: from.clone(), to: to.clone(), text });
            }
            say(&mut stream, &answer).await?;
            continue;
        }
        let address = || line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
        let answer = match line.get(..4).map(str::to_uppercase).as_deref() {
            Some("EHLO" | "HELO") => shared.answer(At::Hello, "250-fake\r\n250 SMTPUTF8"),
            Some("MAIL") => {
                from = address();
                shared.answer(At::Sender, "250 fine")
            }
            Some("RCPT") => {
                to = address();
                shared.answer(At::Recipient, "250 fine")
            }
            Some("DATA") => {
                let answer = shared.answer(At::Data, "354 go on");
                in_data = answer.starts_with("354");
                answer
            }
            Some("QUIT") => "221 bye".into(),
            _ => "250 fine".into(),
        };
        say(&mut stream, &answer).await?;
    }
}

async fn say(stream: &mut BufReader<TcpStream>, answer: &str) -> std::io::Result<()> {
    if answer.is_empty() { Ok(()) } else { stream.write_all(format!("{answer}\r\n").as_bytes()).await }
}
