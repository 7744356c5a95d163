//! A TCP proxy between clients and a broker that delays and cuts connections at random, is a slow link, or holds requests
//! back until long after their client has given them up.
//!
//! It knows as much of Kafka's protocol as it takes to know a commit from the rest: each request begins with its length
//! and its kind. So a commit can be cut off before the broker gets it, or after it, when only the answer is lost.

use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
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
    /// Bytes a second to the broker, of all connections together; 0 for no limit.
    rate: AtomicU64,
    to_broker: Way,
    /// Connections accepted so far.
    accepted: AtomicU64,
    /// Writes of connections up to this one are held back.
    holding: watch::Sender<u64>,
    /// Writes that were held back, and those of them that the broker has answered since.
    held: AtomicU64,
    held_answered: AtomicU64,
}

/// The link's way to the broker.
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
            accepted: AtomicU64::new(0),
            holding: watch::Sender::new(0),
            held: AtomicU64::new(0),
            held_answered: AtomicU64::new(0),
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

    /// Carries no more than so many bytes a second to the broker from now on. What comes from there is not held up: records
    /// are read faster than results can be written.
    pub fn limit(&self, bytes_per_second: u64) {
        self.shared.rate.store(bytes_per_second, Ordering::Relaxed);
    }

    /// Bytes carried to the broker so far.
    pub fn carried(&self) -> u64 {
        self.shared.to_broker.carried.load(Ordering::Relaxed)
    }

    /// Holds back what is written on connections that there are now, also after their client has closed them. What comes on
    /// later ones passes.
    pub fn hold(&self) {
        self.shared.holding.send_replace(self.shared.accepted.load(Ordering::Relaxed));
    }

    /// Carries what was held back to the broker.
    pub fn release(&self) {
        self.shared.holding.send_replace(0);
    }

    /// Writes that were held back, and those of them that the broker has answered since.
    pub fn held(&self) -> (u64, u64) {
        (self.shared.held.load(Ordering::Relaxed), self.shared.held_answered.load(Ordering::Relaxed))
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
    /// Sends something over the link to the broker, in pieces, so that connections share it.
    async fn carry(&self, to: &mut OwnedWriteHalf, bytes: &[u8]) -> io::Result<()> {
        let way = &self.to_broker;
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
    let number = shared.accepted.fetch_add(1, Ordering::Relaxed) + 1;
    let (mut asking, mut asked, mut answering) = (asking, asked, answering);
    let first = tokio::select! {
        biased;
        held = requests(&mut asking, &mut asked, shared, &mute, number) => held?,
        ended = answers(&mut answering, answered, &mute) => return ended,
    };
    let Some(first) = first else { return Ok(()) };
    // All that the client sends until it gives up.
    let mut writes = vec![first];
    let mut next = Vec::new();
    while read_request(&mut asking, &mut next).await.is_ok() {
        shared.held.fetch_add(1, Ordering::Relaxed);
        writes.push(std::mem::take(&mut next));
    }
    let mut holding = shared.holding.subscribe();
    holding.wait_for(|up_to| *up_to < number).await.map_err(io::Error::other)?;
    for request in writes {
        asked.write_all(&request).await?;
        read_request(&mut answering, &mut next).await?;
        shared.held_answered.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Reads a request, or an answer, with its length.
async fn read_request(from: &mut OwnedReadHalf, request: &mut Vec<u8>) -> io::Result<()> {
    let length = from.read_u32().await?;
    request.clear();
    request.extend(length.to_be_bytes());
    let got = from.take(length.into()).read_to_end(request).await?;
    if got < length as usize { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

/// Carries requests; ends with the first one that is to be held back.
async fn requests(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    shared: &Shared,
    mute: &AtomicBool,
    connection: u64,
) -> io::Result<Option<Vec<u8>>> {
    let mut request = Vec::new();
    loop {
        read_request(from, &mut request).await?;
        let kind = request.get(4..6).map_or(-1, |k| i16::from_be_bytes([k[0], k[1]]));
        if kind == PRODUCE && connection <= *shared.holding.borrow() {
            shared.held.fetch_add(1, Ordering::Relaxed);
            return Ok(Some(request));
        }
        match shared.draw(kind) {
            Fault::None => {}
            Fault::Delay(delay) => tokio::time::sleep(delay).await,
            Fault::CutBefore => return Ok(None),
            Fault::CutAfter => {
                mute.store(true, Ordering::Relaxed);
                to.write_all(&request).await?;
                // Time for the broker to take it in.
                tokio::time::sleep(Duration::from_millis(150)).await;
                return Ok(None);
            }
        }
        shared.carry(to, &request).await?;
    }
}

async fn answers(from: &mut OwnedReadHalf, mut to: OwnedWriteHalf, mute: &AtomicBool) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let got = from.read(&mut buffer).await?;
        if got == 0 {
            return Ok(());
        }
        if !mute.load(Ordering::Relaxed) {
            to.write_all(&buffer[..got]).await?;
        }
    }
}
