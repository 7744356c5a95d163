//! The live feed over HTTP, as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::stream::{Stream, unfold};
use jsonwebtoken::get_current_timestamp;
use processors_common::http::Refusal;
use serde::Deserialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::Api;
use super::caller::Caller;
use crate::message::MessageGroup;

#[derive(Deserialize)]
pub(super) struct Which {
    chat_id: Option<String>,
}

/// A listener.
struct Listener {
    api: Arc<Api>,
    groups: Receiver<Arc<MessageGroup>>,
    caller: Caller,
    /// All of the caller's chats if none.
    chat: Option<Uuid>,
    /// When the token is not good any more.
    until: Instant,
    greeted: bool,
}

pub(super) async fn feed(
    State(api): State<Arc<Api>>,
    caller: Caller,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    let Query(which) = which?;
    let unknown = |_| Refusal::not_found("unknown_chat", "chat ID is not found");
    let chat: Option<Uuid> = which.chat_id.map(|id| id.parse().map_err(unknown)).transpose()?;
    if let Some(id) = chat {
        api.room_of(&caller, id)?;
    }
    let groups = api.listen().ok_or_else(|| Refusal::unavailable("this server is about to stop"))?;
    let left = caller.0.exp.saturating_sub(get_current_timestamp());
    // A hundred years are for ever, and still a time.
    let until = Instant::now() + Duration::from_secs(left.min(100 * 365 * 86_400));
    let listener = Listener { api, groups, caller, chat, until, greeted: false };
    Ok(Sse::new(unfold(listener, next)).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

/// The next event. The first one says that nothing is missed from here on. It ends when the token does, when the server
/// stops, and when the listener is so far behind that groups are lost on it: it then reads the history, and comes again.
async fn next(mut listener: Listener) -> Option<(Result<Event, Infallible>, Listener)> {
    if !listener.greeted {
        listener.greeted = true;
        return Some((Ok(Event::default().event("listening").data("{}")), listener));
    }
    loop {
        let group = match timeout_at(listener.until, listener.groups.recv()).await {
            Ok(Ok(group)) => group,
            Ok(Err(RecvError::Lagged(_) | RecvError::Closed)) | Err(_) => return None,
        };
        let Ok(chat) = group.chat_id.parse::<Uuid>() else { continue };
        if listener.chat.is_some_and(|only| only != chat) {
            continue;
        }
        match listener.api.rooms.get(chat.to_string()) {
            Ok(Some(room)) if room.has(&listener.caller.0.user_id) => {}
            Ok(_) => continue,
            Err(error) => {
                tracing::warn!(?error, "a listener is let go: the chats can't be read");
                return None;
            }
        }
        // A group that was read from JSON has some.
        let Ok(json) = serde_json::to_string(&*group) else { continue };
        let event = Event::default().event("group").id(group.group_id.to_string()).data(json);
        return Some((Ok(event), listener));
    }
}
