//! Which messages are a group: the open groups of a chat, and when they close.
//!
//! Nothing here knows of topics or timers: it is given the time and says what has closed. Times are of the wall clock,
//! in milliseconds since the epoch.
//!
//! Invariant: a message that was added is in an open group, in what the call returns, or (if that is asked for) among the
//! sent ones until they are seen: it leaves here no other way.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::message::{LARGEST, Message, MessageGroup};

/// When a group closes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Once it has so many messages.
    pub max_messages: usize,
    /// So long after its last message.
    pub gap: Duration,
    /// So long after its first message.
    pub max_age: Duration,
}

impl Default for Limits {
    /// The original's: ten messages, or three seconds without a new one. Its groups can't be older than the age.
    fn default() -> Self {
        Self { max_messages: 10, gap: Duration::from_secs(3), max_age: Duration::from_secs(30) }
    }
}

/// Bytes of messages at which a group closes, so that it fits a record of a topic with the usual limit of 1 MiB.
const GROUP_BYTES: usize = 4 * LARGEST;
/// Bytes of messages that a chat may have here, so that all of it fits such a record as well.
const CHAT_BYTES: usize = 10 * LARGEST;
/// What a group takes beside its messages, at most.
const AROUND: usize = 1024;
/// A group that was sent, and is not seen after this time, is sent again.
const RESEND: Duration = Duration::from_secs(10);

/// What the aggregator knows of a chat.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chat {
    /// At most one for each user.
    open: Vec<Open>,
    /// Groups that were written and are not known to be acknowledged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sent: Vec<Sent>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Open {
    from_user: String,
    messages: Vec<Message>,
    bytes: usize,
    first_ms: i64,
    last_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Sent {
    group: MessageGroup,
    bytes: usize,
    at_ms: i64,
}

/// What comes of a message.
#[derive(Debug, Default)]
pub struct Added {
    /// What is to be written because of it.
    pub closed: Vec<MessageGroup>,
    /// The message, if there is no room for it now: it has to come again.
    pub left: Option<Message>,
}

impl Chat {
    /// Adds a message. One that is here already is not added again; if it is in a group that was sent, that group is
    /// written again, since whoever brings it again may not have written it.
    pub fn add(&mut self, message: Message, now: i64, limits: &Limits, keep: bool) -> Added {
        let is_it = |m: &Message| m.message_id == message.message_id;
        if let Some(sent) = self.sent.iter_mut().find(|s| s.group.list_of_messages.iter().any(is_it)) {
            sent.at_ms = now;
            return Added { closed: vec![sent.group.clone()], left: None };
        }
        let mut closed = self.close_due(now, limits, keep);
        if self.open.iter().any(|o| o.messages.iter().any(is_it)) {
            return Added { closed, left: None };
        }
        // A message was read from JSON, so it has one; at worst as large as it may be.
        let bytes = serde_json::to_vec(&message).map_or(LARGEST, |json| json.len());
        let mine = |o: &Open| o.from_user == message.from_user;
        closed.extend(self.close(now, keep, |o| mine(o) && o.bytes + bytes > GROUP_BYTES));
        let is_full = |chat: &Self| chat.bytes() + AROUND + bytes > CHAT_BYTES;
        if is_full(self) {
            closed.extend(self.close(now, keep, |_| true));
        }
        if is_full(self) {
            return Added { closed, left: Some(message) };
        }
        let at = self.open.iter().position(mine);
        if let Some(open) = at.and_then(|at| self.open.get_mut(at)) {
            open.messages.push(message);
            (open.last_ms, open.bytes) = (now, open.bytes + bytes);
        } else {
            let from_user = message.from_user.clone();
            let bytes = AROUND + bytes;
            self.open.push(Open { from_user, messages: vec![message], bytes, first_ms: now, last_ms: now });
        }
        closed.extend(self.close(now, keep, |o| o.messages.len() >= limits.max_messages));
        Added { closed, left: None }
    }

    /// Closes what is due; returns what is to be written: that, and what was sent long ago and not seen.
    ///
    /// With `keep`, what is returned stays among the sent ones until it is [`seen`](Self::seen).
    pub fn close_due(&mut self, now: i64, limits: &Limits, keep: bool) -> Vec<MessageGroup> {
        let again = self.sent.iter_mut().filter(|s| s.due() <= now).map(|sent| {
            sent.at_ms = now;
            sent.group.clone()
        });
        let mut all: Vec<_> = again.collect();
        if !keep {
            // Left from when it was otherwise.
            self.sent.retain(|s| s.at_ms != now);
        }
        all.extend(self.close(now, keep, |o| o.due(limits) <= now));
        all
    }

    fn close(&mut self, now: i64, keep: bool, is_over: impl Fn(&Open) -> bool) -> Vec<MessageGroup> {
        let mut closed = Vec::new();
        for open in self.open.extract_if(.., |o| is_over(o)) {
            let Some(group) = MessageGroup::of(open.messages) else { continue };
            if keep {
                self.sent.push(Sent { group: group.clone(), bytes: open.bytes, at_ms: now });
            }
            closed.push(group);
        }
        closed
    }

    /// A group is where it was sent to. Says whether it was waited for.
    pub fn seen(&mut self, group: uuid::Uuid) -> bool {
        let before = self.sent.len();
        self.sent.retain(|s| s.group.group_id != group);
        self.sent.len() < before
    }

    /// When something is due next; `None` if there is nothing here.
    pub fn next_due(&self, limits: &Limits) -> Option<i64> {
        self.open.iter().map(|o| o.due(limits)).chain(self.sent.iter().map(Sent::due)).min()
    }

    fn bytes(&self) -> usize {
        self.open.iter().map(|o| o.bytes).chain(self.sent.iter().map(|s| s.bytes)).sum()
    }
}

impl Open {
    fn due(&self, limits: &Limits) -> i64 {
        after(self.last_ms, limits.gap).min(after(self.first_ms, limits.max_age))
    }
}

impl Sent {
    fn due(&self) -> i64 {
        after(self.at_ms, RESEND)
    }
}

fn after(at: i64, time: Duration) -> i64 {
    at.saturating_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}
