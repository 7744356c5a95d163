//! A TCP proxy between clients and a broker that delays and cuts connections at random, or is a slow link.
//!
//! It knows as much of Kafka's protocol as it takes to tell a commit from the rest: each request begins with its length
//! and its kind. So a commit can be cut off before the broker gets it, or after it, when only the answer is lost.

use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Random;

/// Kinds of requests: Produce; `OffsetCommit`, `AddOffsetsToTxn`, `EndTxn`, `TxnOffsetCommit`.
const PRODUCE: i16 = 0;
const COMMITS: [i16; 4] = [8, 25, 26, 28];

pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    /// Where it leads to.
    to: AtomicU16,
    on: AtomicBool,
    drawn: Mutex<(Random, Faults)>,
    /// Bytes a second of each way, of all connections together; 0 for no limit.
    rate: AtomicU64,
    to_broker: Way,
    to_client: Way,
}

/// One way of the link.
#[derive(Default)]
struct Way {
    /// When it has carried what it was given.
    free: Mutex<Option<Instant>>,
    carried: AtomicU64,
}

/// What was done so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Connections cut off.
    pub cuts: u64,
    /// Those of them at a commit: the broker did not get it, or its answer was lost.
    pub commits_not_sent: u64,
    pub commits_not_answered: u64,
    /// Requests held up, and how long at most.
    pub delays: u64,
    pub longest: Duration,
}

enum Fault {
    None,
    Delay(Duration),
    CutBefore,
    CutAfter,
}

impl Proxy {
    /// Leads nowhere yet, and makes no faults.
    pub async fn new(seed: u64) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let drawn = Mutex::new((Random(seed), Faults::default()));
        let shared = Arc::new(Shared {
            to: AtomicU16::new(0),
            on: AtomicBool::new(false),
            drawn,
            rate: AtomicU64::new(0),
            to_broker: Way::default(),
            to_client: Way::default(),
        });
        let theirs = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let shared = Arc::clone(&theirs);
                // A connection that breaks is what this is for.
                tokio::spawn(async move { connection(client, &shared).await.unwrap_or_default() });
            }
        });
        Self { port, shared, accepting }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn lead_to(&self, port: u16) {
        self.shared.to.store(port, Ordering::Relaxed);
    }

    /// Makes faults from now on, or no more.
    pub fn faulty(&self, on: bool) {
        self.shared.on.store(on, Ordering::Relaxed);
    }

    /// Carries no more than so many bytes a second each way from now on.
    pub fn limit(&self, bytes_per_second: u64) {
        self.shared.rate.store(bytes_per_second, Ordering::Relaxed);
    }

    /// Bytes carried to the broker so far.
    pub fn carried(&self) -> u64 {
        self.shared.to_broker.carried.load(Ordering::Relaxed)
    }

    pub fn faults(&self) -> Faults {
        self.shared.drawn.lock().unwrap().1
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    /// Sends something over the link, in pieces, so that connections share it.
    async fn carry(&self, way: &Way, to: &mut OwnedWriteHalf, bytes: &[u8]) -> io::Result<()> {
        way.carried.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        for piece in bytes.chunks(16 << 10) {
            let rate = self.rate.load(Ordering::Relaxed);
            if let Some(micros) = (piece.len() as u64 * 1_000_000).checked_div(rate) {
                let over = {
                    let mut free = way.free.lock().unwrap();
                    let now = Instant::now();
                    let begins = free.map_or(now, |free| free.max(now));
                    *free.insert(begins + Duration::from_micros(micros))
                };
                tokio::time::sleep_until(over).await;
            }
            to.write_all(piece).await?;
        }
        Ok(())
    }

    fn draw(&self, kind: i16) -> Fault {
        if !self.on.load(Ordering::Relaxed) {
            return Fault::None;
        }
        let commit = COMMITS.contains(&kind);
        // Per mille: cut off before it is sent, cut off before it is answered, held up.
        let (before, after, delay) = match kind {
            _ if commit => (100, 100, 60),
            PRODUCE => (15, 15, 15),
            _ => (4, 4, 8),
        };
        let mut drawn = self.drawn.lock().unwrap();
        let (random, faults) = &mut *drawn;
        match random.below(1000) {
            n if n < before => {
                faults.cuts += 1;
                faults.commits_not_sent += u64::from(commit);
                Fault::CutBefore
            }
            n if n < before + after => {
                faults.cuts += 1;
                faults.commits_not_answered += u64::from(commit);
                Fault::CutAfter
            }
            n if n < before + after + delay => {
                let delay = Duration::from_millis(50 + random.below(2_450));
                faults.delays += 1;
                faults.longest = faults.longest.max(delay);
                Fault::Delay(delay)
            }
            _ => Fault::None,
        }
    }
}

/// Both ways of a connection, until one of them ends.
async fn connection(client: TcpStream, shared: &Shared) -> io::Result<()> {
    let broker = TcpStream::connect(("127.0.0.1", shared.to.load(Ordering::Relaxed))).await?;
    client.set_nodelay(true)?;
    broker.set_nodelay(true)?;
    let ((asking, answered), (answering, asked)) = (client.into_split(), broker.into_split());
    let mute = AtomicBool::new(false);
    tokio::select! {
        biased;
        ended = requests(asking, asked, shared, &mute) => ended,
        ended = answers(answering, answered, shared, &mute) => ended,
    }
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
    mute: &AtomicBool,
) -> io::Result<()> {
    let mut request = Vec::new();
    loop {
        let length = from.read_u32().await?;
        request.clear();
        request.extend(length.to_be_bytes());
        let got = (&mut from).take(length.into()).read_to_end(&mut request).await?;
        if got < length as usize {
            return Ok(());
        }
        let kind = request.get(4..6).map_or(-1, |k| i16::from_be_bytes([k[0], k[1]]));
        match shared.draw(kind) {
            Fault::None => {}
            Fault::Delay(delay) => tokio::time::sleep(delay).await,
            Fault::CutBefore => return Ok(()),
            Fault::CutAfter => {
                mute.store(true, Ordering::Relaxed);
                to.write_all(&request).await?;
                // Time for the broker to take it in.
                tokio::time::sleep(Duration::from_millis(150)).await;
                return Ok(());
            }
        }
        shared.carry(&shared.to_broker, &mut to, &request).await?;
    }
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
    mute: &AtomicBool,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let got = from.read(&mut buffer).await?;
        if got == 0 {
            return Ok(());
        }
        if !mute.load(Ordering::Relaxed) {
            shared.carry(&shared.to_client, &mut to, &buffer[..got]).await?;
        }
    }
}
