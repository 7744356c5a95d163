//! The aggregator: groups what one user writes to one chat.
//!
//! A chat's open groups are one value of the table, with one timer at what is due next. Exactly once a group that closes is
//! written, and gone from the table, in one transaction.
//!
//! At least once these two can come apart in a crash, and the group would be lost if it was gone before it was written. So it
//! stays in the table until it is seen in the topic that it was written to, which is an input then. Until then it is
//! written again when the message that closed it comes again, or after some time: the same group under the same id. The
//! table has room for so much only; a message that finds none is written to the end of its topic, and so comes again.

use stream_core::codec::Json;
use stream_core::context::{Ctx, Emit};
use stream_core::group::{CallbackResult, ErrorPolicy, Group, GroupBuilder, Input, NullKey, NullValue, Table};
use stream_core::processor::Guarantee;

use crate::message::{MessageGroup, MessageJson};
use crate::open::{Added, Chat, Limits};
use crate::topics::TopicNames;

/// Defines the group, as it has to be with that guarantee.
pub fn define(names: &TopicNames, limits: Limits, guarantee: Guarantee) -> GroupBuilder<Table<Chat>> {
    let keep = guarantee == Guarantee::AtLeastOnce;
    let mut g = Group::define(names.aggregator_group.as_str()).table(Json::<Chat>::new());
    let grouped = g.output(names.grouped_topic.as_str(), Json::<MessageGroup>::new());
    let by_chat = g.output(names.message_topic.as_str(), MessageJson);
    let due = g.wall_timer("due", Json::<()>::new());
    // The last step of each callback: what it has closed, and what is left.
    let finish = move |ctx: &mut Ctx<'_, Table<Chat>>, chat: Chat, closed: Vec<MessageGroup>| -> CallbackResult {
        for group in &closed {
            ctx.emit(grouped, &group.chat_id, group)?;
        }
        let Some(at) = chat.next_due(&limits) else {
            ctx.cancel_timer(due)?;
            return ctx.delete();
        };
        ctx.set_timer(due, at, ())?;
        ctx.set(chat)
    };

    if keep {
        // The first input: of records of the same time, these are read first.
        let written = Input::topic(names.grouped_topic.as_str()).on_error(ErrorPolicy::skip()).null_key(NullKey::Pass);
        g.input(written, Json::<MessageGroup>::new(), move |ctx, group| {
            if ctx.key() != Some(group.chat_id.as_bytes()) {
                return Ok(());
            }
            let Some(mut chat) = ctx.value()? else { return Ok(()) };
            if chat.seen(group.group_id) { finish(ctx, chat, Vec::new()) } else { Ok(()) }
        });
    }
    let messages = Input::topic(names.message_topic.as_str())
        .on_error(ErrorPolicy::dead_letter(names.message_dlq()))
        .null_key(NullKey::Pass)
        .null_value(NullValue::Pass);
    g.input(messages, MessageJson, move |ctx, message| {
        if ctx.key() != Some(message.chat_id.as_bytes()) {
            // Some other client's. Under its own key it comes again, to the partition where its group is.
            return ctx.emit(by_chat, &message.chat_id, &message);
        }
        let mut chat = ctx.value()?.unwrap_or_default();
        let Added { closed, left } = chat.add(message, ctx.now_ms(), &limits, keep);
        if let Some(message) = left {
            // Once it has gone round, some groups are acknowledged. Its time is new: what is older is read first.
            let now = Emit::new().timestamp(ctx.now_ms().max(ctx.timestamp()));
            ctx.emit_with(by_chat, &message.chat_id, &message, now)?;
        }
        finish(ctx, chat, closed)
    });
    g.on_timer(due, move |ctx, ()| {
        let Some(mut chat) = ctx.value()? else { return Ok(()) };
        let closed = chat.close_due(ctx.now_ms(), &limits, keep);
        finish(ctx, chat, closed)
    });
    g
}
