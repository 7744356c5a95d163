//! The demo's page: what happens, live, and a way to join in.
//!
//! | | |
//! |---|---|
//! | `GET /` | the page |
//! | `GET /events` | what there is, then what happens (server-sent events) |
//! | `POST /filter` | a rule, as at the prompt |
//! | `POST /search/{user}` | a search |
//! | `GET /names/{part}` | names in the filter's table, to search for |
//! | the rest | see [`shop::api`] |

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use futures::stream::{Stream, unfold};
use shop::api;
use stream_core::processor::Handle;
use tokio::sync::broadcast::error::RecvError;

use super::Demo;
use super::live;

const PAGE: &str = include_str!("page.html");

/// The longest rule or search.
const LONGEST: usize = 200;

pub(crate) fn routes(demo: Arc<Demo>, users: &Handle) -> Router {
    Router::new()
        .route("/", get(async || Html(PAGE)))
        .route("/events", get(events))
        .route("/filter", post(filter))
        .route("/search/{user}", post(search))
        .route("/names/{part}", get(names))
        .layer(DefaultBodyLimit::max(LONGEST))
        .with_state(demo)
        .merge(api::routes(users))
}

async fn events(State(demo): State<Arc<Demo>>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let (all, watched) = demo.screen.live.watch();
    let events = unfold((demo, all, watched), |(demo, first, mut watched)| async move {
        let event = match first {
            Some(all) => all,
            None => match watched.recv().await {
                Ok(event) => event,
                // A page that can't keep up begins anew.
                Err(RecvError::Lagged(_)) => {
                    let (all, anew) = demo.screen.live.watch();
                    watched = anew;
                    all?
                }
                Err(RecvError::Closed) => return None,
            },
        };
        Some((Ok(sent(&event)), (demo, None, watched)))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(10)))
}

fn sent((name, data): &live::Event) -> Event {
    Event::default().event(*name).data(&**data)
}

async fn filter(State(demo): State<Arc<Demo>>, line: String) -> Result<String, (StatusCode, String)> {
    let rule = demo.rule(&line).await.map_err(|e| (StatusCode::UNPROCESSABLE_ENTITY, e.to_string()))?;
    Ok(rule.to_string())
}

async fn search(State(demo): State<Arc<Demo>>, Path(user): Path<String>, text: String) -> Response {
    let (user, text) = (user.trim(), text.trim());
    if text.is_empty() || user.is_empty() || user.len() > LONGEST {
        return (StatusCode::UNPROCESSABLE_ENTITY, "say who searches, and what for").into_response();
    }
    match demo.search(user, text).await {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error:?}")).into_response(),
    }
}

async fn names(State(demo): State<Arc<Demo>>, Path(part): Path<String>) -> Response {
    let names = demo.screen.live.names(&part, 8);
    let json = serde_json::to_string(&names).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], json).into_response()
}
