//! The history: every message by chat and time, in a compacted topic that is read as a table.
//!
//! A message's place is made of its chat and its time, so one that is written again is written over itself. A page is a
//! range of places, read from its end.

use std::ops::Bound;

use stream_core::codec::Json;
use stream_core::group::{CallbackError, ErrorPolicy, Group, GroupBuilder, Input, NoTable, NullKey, NullValue};
use stream_core::view::{View, ViewError};
use uuid::Uuid;

use crate::message::{Message, MessageJson};
use crate::time_id::sortable;
use crate::topics::TopicNames;

/// Defines the group that fills it.
pub fn define(names: &TopicNames) -> GroupBuilder<NoTable> {
    let mut g = Group::define(names.history_group.as_str());
    let history = g.output(names.history_topic.as_str(), Json::<Message>::new());
    let messages = Input::topic(names.message_topic.as_str())
        .on_error(ErrorPolicy::dead_letter(names.history_dlq()))
        .null_key(NullKey::Pass)
        .null_value(NullValue::Pass);
    g.input(messages, MessageJson, move |ctx, message| {
        let no_place = || {
            CallbackError::msg(
                "a place in the history takes a chat_id that is a UUID, and a time that is one of version 1",
            )
        };
        let chat: Uuid = message.chat_id.parse().map_err(|_| no_place())?;
        let time = message.time.parse().ok().and_then(sortable).ok_or_else(no_place)?;
        ctx.emit(history, format!("{chat}/{time}"), &message)
    });
    g
}

/// The newest messages of a chat that are strictly older than a time, the newest first. `None` if the time is no UUID of
/// version 1.
///
/// # Errors
/// When the view can't be read.
pub fn page(
    view: &View<Message>,
    chat: Uuid,
    before: Option<Uuid>,
    most: usize,
) -> Result<Option<Vec<Message>>, ViewError> {
    let end = match before {
        // What comes after all that begin with the chat and a slash.
        None => format!("{chat}0"),
        Some(time) => match sortable(time) {
            Some(time) => format!("{chat}/{time}"),
            None => return Ok(None),
        },
    };
    let range = (Bound::Included(format!("{chat}/")), Bound::Excluded(end));
    view.range(range).descending().take(most).map(|row| Ok(row?.value)).collect::<Result<_, _>>().map(Some)
}
