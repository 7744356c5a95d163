//! The chat over HTTP.
//!
//! | | |
//! |---|---|
//! | `POST /v1/users/` `{username, password}` | a new account: 201; 409 when the name is taken |
//! | `POST /v1/login/` (a form) | `{access_token, token_type, id, username}`; 401 when they don't fit |
//! | `POST /v1/chat/` `{users_id[2], users_name[2]}` | a new chat: 201; 422 when the pair has one |
//! | `POST /messaging` `{body, from_user, to_user, chat_id}` | 201 once the message is in Kafka |
//! | `GET /chat/{id}?time=&quantity=` | a page of messages, the newest first, strictly older than `time` |
//! | `GET /v1/feed?chat_id=` | server-sent events: each group of messages as it closes, of one chat or all of the caller's |
//!
//! All but the first two need `Authorization: Bearer TOKEN`: 401 without, 403 with a bad one. Errors are JSON:
//! `{"code", "message"}`, for 422 also `"field"`. What is not caught up yet is 503.
//!
//! The topics are the truth: a message or a chat is acknowledged by Kafka before it is by this. What is shown is what the
//! history's and the chats' topics have, of which every instance of this has a full copy.

mod caller;
mod chats;
mod fields;
mod live;
mod refusal;
mod users;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::routing::{get, post};
use processors_common::http::bounded;
use stream_core::codec::Json;
use stream_core::emitter::{EmitError, Emitter};
use stream_core::log::{LogError, LogHandle};
use stream_core::store::MemoryStores;
use stream_core::view::{View, ViewBuilder, ViewError};
use tokio::sync::Notify;
use tokio::sync::broadcast::Receiver;
use uuid::Uuid;

use crate::accounts::{Accounts, Passwords};
use crate::feed::Feed;
use crate::message::{Message, MessageGroup, MessageJson};
use crate::room::Room;
use crate::time_id::{TimeIds, iso};
use crate::token::Tokens;
use crate::topics::TopicNames;

/// The largest body that is taken, in bytes. A message as large as its fields may be has half of it.
const BODY: usize = 32 * 1024;

/// What the handlers share.
#[derive(Debug)]
pub struct Api {
    accounts: Arc<dyn Accounts>,
    passwords: Passwords,
    tokens: Tokens,
    messages: Emitter<Message>,
    new_rooms: Emitter<Room>,
    rooms: View<Room>,
    history: View<Message>,
    feed: Feed,
    times: TimeIds,
    /// Whenever the view of the chats has changed.
    rooms_changed: Arc<Notify>,
    patience: Duration,
}

/// Where the copies of the tables are.
#[derive(Clone, Debug)]
pub enum Keep {
    /// In a directory.
    Dir(PathBuf),
    /// In memory.
    Memory,
}

/// Why the API can't be opened.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the variants' messages say it")]
pub enum OpenError {
    #[error(transparent)]
    Emit(#[from] EmitError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    View(#[from] ViewError),
    #[error("the machine gives no random numbers")]
    Random,
}

impl Api {
    /// Opens what it needs of a log that has the topics of [`TopicNames::shared`]. The log may take `patience` to
    /// acknowledge something.
    ///
    /// # Errors
    /// When a topic is missing, the log can't be reached, or a copy can't be opened.
    pub async fn open(
        log: &LogHandle,
        names: &TopicNames,
        keep: Keep,
        accounts: Arc<dyn Accounts>,
        tokens: Tokens,
        patience: Duration,
    ) -> Result<Arc<Self>, OpenError> {
        let rooms_changed = Arc::new(Notify::new());
        let messages = Emitter::builder(names.message_topic.as_str(), MessageJson, Arc::clone(log));
        let new_rooms = Emitter::builder(names.chats_topic.as_str(), Json::<Room>::new(), Arc::clone(log));
        let rooms = kept(View::builder(names.chats_topic.as_str(), Json::new(), Arc::clone(log)), &keep);
        let changed = Arc::clone(&rooms_changed);
        let rooms = rooms.on_update(move |_, _, _: Option<&Room>| changed.notify_waiters());
        let history = kept(View::builder(names.history_topic.as_str(), Json::new(), Arc::clone(log)), &keep);
        Ok(Arc::new(Self {
            accounts,
            passwords: Passwords::new().ok_or(OpenError::Random)?,
            tokens,
            messages: messages.delivery_timeout(patience).open().await?,
            new_rooms: new_rooms.delivery_timeout(patience).open().await?,
            rooms: rooms.open().await?,
            history: history.open().await?,
            feed: Feed::open(&names.grouped_topic, log).await?,
            times: TimeIds::new(),
            rooms_changed,
            patience,
        }))
    }

    /// Resolves once everything can be read.
    ///
    /// # Errors
    /// When a view fails before.
    pub async fn ready(&self) -> Result<(), ViewError> {
        self.rooms.wait_caught_up().await?;
        self.history.wait_caught_up().await
    }

    /// Every group from now on, of all chats. `None` once the feed has ended.
    pub fn listen(&self) -> Option<Receiver<Arc<MessageGroup>>> {
        self.feed.listen()
    }

    /// Resolves once every message that was taken is written.
    ///
    /// # Errors
    /// When one was not.
    pub async fn flush(&self) -> Result<(), EmitError> {
        self.messages.flush().await
    }

    /// Ends the live feed: whoever listens is let go.
    pub fn end_feed(&self) {
        self.feed.close();
    }

    /// Ends everything; what was taken is written first.
    ///
    /// # Errors
    /// When something was not written.
    pub async fn close(&self) -> Result<(), EmitError> {
        self.end_feed();
        self.messages.clone().close().await?;
        self.new_rooms.clone().close().await?;
        self.rooms.clone().close().await;
        self.history.clone().close().await;
        Ok(())
    }

    /// Writes a message to a chat; resolves once it is acknowledged.
    ///
    /// # Errors
    /// When it is not known to be written.
    pub async fn say(&self, from: &str, to: &str, body: &str, room: Uuid) -> Result<Message, EmitError> {
        let time = self.times.now();
        let message = Message {
            message_id: Uuid::new_v4().to_string(),
            from_user: from.to_owned(),
            to_user: to.to_owned(),
            body: body.to_owned(),
            chat_id: room.to_string(),
            time: time.to_string(),
            time_iso: iso(time).unwrap_or_default(),
        };
        self.messages.try_emit(&message.chat_id, &message)?.await?;
        Ok(message)
    }
}

fn kept<V: 'static>(view: ViewBuilder<V>, keep: &Keep) -> ViewBuilder<V> {
    match keep {
        Keep::Dir(dir) => view.state_dir(dir),
        Keep::Memory => view.stores(Arc::new(MemoryStores::new())),
    }
}

/// All routes.
pub fn routes(api: Arc<Api>) -> axum::Router {
    let mut router = axum::Router::new();
    for slash in ["", "/"] {
        router = router
            .route(&format!("/v1/users{slash}"), post(users::create))
            .route(&format!("/v1/login{slash}"), post(users::log_in))
            .route(&format!("/v1/chat{slash}"), post(chats::create))
            .route(&format!("/messaging{slash}"), post(chats::say))
            .route(&format!("/chat/{{id}}{slash}"), get(chats::history))
            .route(&format!("/v1/feed{slash}"), get(live::feed));
    }
    bounded(router, BODY).with_state(api)
}
