//! Chats, what is said in them, and what was said.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use processors_common::http::{PathText, Refusal, json};
use serde::Deserialize;
use stream_core::emitter::EmitError;
use tokio::time::timeout;
use uuid::Uuid;

use super::Api;
use super::caller::Caller;
use super::fields::Fields;
use crate::history;
use crate::message::LONGEST_ID;
use crate::room::Room;

/// Characters of a message.
const TEXT: usize = 2000;
const NAME: usize = 64;
/// Messages a page, at most and by default.
const PAGE: usize = 20;
const DEFAULT_PAGE: usize = 10;

impl Api {
    fn room(&self, id: Uuid) -> Result<Room, Refusal> {
        let room = self.rooms.get(id.to_string())?;
        room.ok_or_else(|| Refusal::not_found("unknown_chat", "chat ID is not found"))
    }

    /// A chat that the caller may read.
    pub(super) fn room_of(&self, caller: &Caller, id: Uuid) -> Result<Room, Refusal> {
        let room = self.room(id)?;
        if room.has(&caller.0.user_id) {
            return Ok(room);
        }
        Err(Refusal::forbidden("not_a_member", "only its two users may read and write a chat"))
    }

    /// Begins a chat; resolves once it is acknowledged. If its users begin it at once, both write the same.
    ///
    /// # Errors
    /// When it is not known to be written.
    pub async fn begin(&self, room: &Room) -> Result<(), EmitError> {
        let id = room.chat_id.to_string();
        self.new_rooms.try_emit(&id, room)?.await?;
        self.until_seen(&id).await;
        Ok(())
    }

    /// Resolves once the view has the chat, so that whoever began it can go on; or after some time.
    async fn until_seen(&self, id: &str) {
        let seen = async {
            loop {
                let changed = self.rooms_changed.notified();
                if self.rooms.has(id).unwrap_or_default() {
                    return;
                }
                changed.await;
            }
        };
        _ = timeout(self.patience, seen).await;
    }
}

pub(super) async fn create(
    State(api): State<Arc<Api>>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let fields = Fields::read(body)?;
    let (ids, names) = (fields.pair("users_id", LONGEST_ID)?, fields.pair("users_name", NAME)?);
    if ids[0] == ids[1] {
        return Err(Refusal::invalid("users_id", "must be two users"));
    }
    if !ids.iter().any(|id| caller.is(id)) {
        return Err(Refusal::forbidden("not_a_member", "only one of its users may begin a chat"));
    }
    for (id, name) in ids.iter().zip(&names) {
        let Some(account) = api.accounts.with_id(id).await? else {
            return Err(Refusal::invalid("users_id", "there is no such user"));
        };
        if account.username != *name {
            return Err(Refusal::invalid("users_name", "is not what the user is called"));
        }
    }
    let room = Room::of(ids, names);
    let id = room.chat_id.to_string();
    if api.rooms.has(&id)? {
        let message = format_args!("the two have a chat already: {id}");
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "chat_exists", message));
    }
    api.begin(&room).await?;
    Ok(json(StatusCode::CREATED, &room))
}

pub(super) async fn say(
    State(api): State<Arc<Api>>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let fields = Fields::read(body)?;
    let body = fields.text("body", TEXT)?;
    let (from, to) = (fields.text("from_user", LONGEST_ID)?, fields.text("to_user", LONGEST_ID)?);
    let chat_id = fields.uuid("chat_id")?;
    if !caller.is(from) {
        return Err(Refusal::forbidden("not_the_sender", "from_user must be who is logged in"));
    }
    let room = api.room_of(&caller, chat_id)?;
    if from == to || !room.has(to) {
        return Err(Refusal::forbidden("not_a_member", "to_user must be the chat's other user"));
    }
    let message = api.say(from, to, body, chat_id).await?;
    Ok(json(StatusCode::CREATED, &message))
}

#[derive(Deserialize)]
pub(super) struct Which {
    time: Option<String>,
    quantity: Option<String>,
}

pub(super) async fn history(
    State(api): State<Arc<Api>>,
    caller: Caller,
    PathText(id): PathText,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(which) = which?;
    let quantity = which.quantity.map_or(Some(DEFAULT_PAGE), |q| q.parse().ok().filter(|q| (1..=PAGE).contains(q)));
    let quantity = quantity.ok_or_else(|| {
        let message = "quantity param must be greater than 0 and lower or equals than 20";
        Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_quantity", message)
    })?;
    let bad_time = || Refusal::invalid("time", "must be a UUID of version 1, such as a message's time");
    let before = which.time.map(|time| time.parse::<Uuid>().map_err(|_| bad_time())).transpose()?;
    // What is no UUID is no chat's id either.
    let id = id.parse().map_err(|_| Refusal::not_found("unknown_chat", "chat ID is not found"))?;
    api.room_of(&caller, id)?;
    let view = api.history.clone();
    // It reads a store, which may be on a disk.
    let page = tokio::task::spawn_blocking(move || history::page(&view, id, before, quantity)).await;
    let page = page.map_err(|_| Refusal::unavailable("the history can't be read at the moment"))??;
    let page = page.ok_or_else(bad_time)?;
    if page.is_empty() && before.is_some() {
        return Err(Refusal::not_found("no_pages", "there are not pages for the given time"));
    }
    Ok(json(StatusCode::OK, &page))
}
