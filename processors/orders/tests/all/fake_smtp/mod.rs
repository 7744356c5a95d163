//! A mail server of a few lines: takes mails, or answers as the test says.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

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

#[derive(Default)]
struct Shared {
    mails: Mutex<Vec<Mail>>,
    /// What is answered to RCPT.
    recipients: Mutex<Option<String>>,
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

    /// From now on, this is what a recipient gets.
    pub fn answer_recipients(&self, answer: &str) {
        *self.shared.recipients.lock().unwrap() = Some(answer.to_owned());
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
    stream.write_all(b"220 fake\r\n").await?;
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
            shared.mails.lock().unwrap().push(Mail { from: from.clone(), to: to.clone(), text });
            stream.write_all(b"250 taken\r\n").await?;
            continue;
        }
        let address = || line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
        let answer = match line.get(..4).map(str::to_uppercase).as_deref() {
            Some("EHLO" | "HELO") => "250-fake\r\n250 SMTPUTF8".to_owned(),
            Some("MAIL") => {
                from = address();
                "250 fine".into()
            }
            Some("RCPT") => {
                to = address();
                shared.recipients.lock().unwrap().clone().unwrap_or_else(|| "250 fine".into())
            }
            Some("DATA") => {
                in_data = true;
                "354 go on".into()
            }
            Some("QUIT") => "221 bye".into(),
            _ => "250 fine".into(),
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
}
