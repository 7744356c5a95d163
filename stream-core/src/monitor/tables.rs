//! Groups' tables over HTTP.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use axum::routing::get;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::answer::{Refusal, Shown, json};
use super::params::{cursor, decoded, range};
use crate::processor::{Handle, ReadError, TableRange, TaskState};

/// How long a partition may take for an answer: it is busy, or stuck in a callback.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The tables of running groups, over HTTP: committed values, of the partitions that this process has.
///
/// | | |
/// |---|---|
/// | `GET /tables` | the tables, and which of their partitions are here in which state |
/// | `GET /tables/{name}?from=&to=&prefix=&limit=&after=` | rows in key order: from `from` on, up to and without `to`, that begin with `prefix`; `limit` is 100, and 1000 at most. `partitions` says what the answer covers, of how many. `next`, if it is not null, goes into `after` for the next page |
/// | `GET /tables/{name}/{key}` | one row; the key percent-encoded |
///
/// A row is `{"key", "value", "encoding", "partition"}`, where `encoding` says what the value is: `json` as it is in the
/// table, `text` in a string, or the bytes in `base64`. So is a key that is no UTF-8, which `key_encoding` says then.
///
/// Errors are `{"code", "message"}`: 421 `not_here` with the key's `partition` and those `held` here (ask another
/// instance), 503 `restoring`, `moving`, `not_running` or `busy` (ask again), 404 `unknown_table` or `unknown_key`, 422
/// `invalid` with the `field`.
///
/// An instance that was cut off from its group, and does not know yet, answers from what was committed when it was.
///
/// ```no_run
/// # use stream_core::monitor::Tables;
/// # use stream_core::processor::Processor;
/// # async fn f(processor: Processor) -> std::io::Result<()> {
/// let tables = Tables::new().group(&processor.handle());
/// tokio::spawn(processor.run());
/// // Or in a server of your own: Router::new().merge(tables.router())
/// tables.serve(tokio::net::TcpListener::bind("127.0.0.1:8080").await?).await
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Tables {
    groups: BTreeMap<String, Handle>,
}

impl Tables {
    /// Of no group yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// With the table of this group, by the name of its topic. A group without a table adds nothing.
    #[must_use]
    pub fn group(mut self, handle: &Handle) -> Self {
        if let Some(table) = &handle.graph.tables.group {
            self.groups.insert(table.topic.to_string(), handle.clone());
        }
        self
    }

    /// The routes, to be merged or nested into a server.
    pub fn router(self) -> Router {
        Router::new()
            .route("/tables", get(list))
            .route("/tables/{name}", get(rows))
            .route("/tables/{name}/", get(row))
            .route("/tables/{name}/{key}", get(row))
            .with_state(Arc::new(self))
    }

    /// Serves the routes, and nothing else, until the future is dropped.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(self, listener: TcpListener) -> io::Result<()> {
        let nothing = async || Refusal::new(StatusCode::NOT_FOUND, "not_found", "there is nothing here: see /tables");
        axum::serve(listener, self.router().fallback(nothing)).await
    }

    fn of(&self, name: &str) -> Result<&Handle, Refusal> {
        self.groups.get(name).ok_or_else(|| Refusal::unknown_table(name))
    }
}

#[derive(Serialize)]
struct Table<'a> {
    name: &'a str,
    group: &'a str,
    /// The processor's state.
    state: String,
    partitions: BTreeMap<i32, &'static str>,
}

async fn list(State(tables): State<Arc<Tables>>) -> Response {
    let tables: Vec<_> = tables
        .groups
        .iter()
        .map(|(name, handle)| {
            let status = handle.status();
            let partitions = status.tasks.iter().map(|(p, state)| (p.partition, word(*state))).collect();
            Table { name, group: handle.graph.name(), state: format!("{:?}", status.state).to_lowercase(), partitions }
        })
        .collect();
    json(StatusCode::OK, &BTreeMap::from([("tables", tables)]))
}

fn word(state: TaskState) -> &'static str {
    match state {
        TaskState::Restoring => "restoring",
        TaskState::Running => "running",
        TaskState::Draining => "draining",
    }
}

async fn row(State(tables): State<Arc<Tables>>, uri: Uri) -> Result<Response, Refusal> {
    // As they are in the URL: a path that was decoded for us could have text only, and a key may be any bytes.
    let mut parts = uri.path().rsplitn(3, '/');
    let (key, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let name = decoded(name, false).unwrap_or_default();
    let handle = tables.of(&String::from_utf8_lossy(&name))?;
    let key = decoded(key, false).ok_or_else(|| Refusal::parameter("key", "is not percent-encoded"))?;
    match in_time(handle.row(&key)).await? {
        (partition, Some(value)) => Ok(json(StatusCode::OK, &Shown::new(codec(handle), &key, value, partition)?)),
        (_, None) => Err(Refusal::unknown_key()),
    }
}

#[derive(Serialize)]
struct Page {
    partitions: Vec<i32>,
    of: i32,
    rows: Vec<Shown>,
    next: Option<String>,
}

async fn rows(
    State(tables): State<Arc<Tables>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let handle = tables.of(&name)?;
    let range: TableRange = range(query.as_deref().unwrap_or_default())?;
    let page = in_time(handle.range_bytes(range)).await?;
    let rows: Result<_, _> =
        page.rows.into_iter().map(|row| Shown::new(codec(handle), &row.key, row.value, row.partition)).collect();
    let next = page.next.as_deref().map(cursor);
    Ok(json(StatusCode::OK, &Page { partitions: page.partitions, of: page.of, rows: rows?, next }))
}

async fn in_time<T>(read: impl Future<Output = Result<T, ReadError>>) -> Result<T, Refusal> {
    let Ok(read) = timeout(READ_TIMEOUT, read).await else {
        let message = "the partition has not answered: it is busy, or stuck in a callback; ask again";
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message));
    };
    Ok(read?)
}

fn codec(handle: &Handle) -> &str {
    handle.graph.tables.group.as_ref().map_or("", |table| table.codec.name())
}
