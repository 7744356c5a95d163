//! What a message is, what a group of them is, and when they were written.
//!
//! Field names are the original system's; they must not change. Whatever comes from a topic goes through [`MessageJson`],
//! so that every message further on is complete, has a time, and is small enough for a group of them to fit a record.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use stream_core::codec::{Codec, CodecError};
use uuid::Uuid;

/// A message, keyed by its `chat_id`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are what they are called")]
pub struct Message {
    /// A random UUID.
    pub message_id: String,
    pub from_user: String,
    pub to_user: String,
    pub body: String,
    /// A UUID.
    pub chat_id: String,
    /// When it was taken, as a UUID of version 1.
    pub time: String,
    /// The same for people, in UTC: `2023-08-28T01:24:10.473126`.
    pub time_iso: String,
}

/// Messages of one user to one chat, keyed by their `chat_id`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageGroup {
    /// Made of what is in it: groups with the same id are the same group.
    pub group_id: Uuid,
    /// Who wrote them.
    pub from_user: String,
    /// Where to.
    pub chat_id: String,
    /// In the order of their arrival.
    pub list_of_messages: Vec<Message>,
    /// The largest `time_iso` of them.
    pub latest_message_time_iso: String,
}

/// The largest message that is let in, in bytes of its JSON. What `chat-api` takes has a third of it at most.
pub const LARGEST: usize = 64 * 1024;

/// The longest id, in bytes. Ours are UUIDs.
pub const LONGEST_ID: usize = 128;

impl Message {
    fn check(&self) -> Result<(), String> {
        let ids = [&self.message_id, &self.from_user, &self.chat_id];
        for (name, value) in ["message_id", "from_user", "chat_id"].into_iter().zip(ids) {
            if !(1..=LONGEST_ID).contains(&value.len()) {
                return Err(format!("{name}: must have 1 to {LONGEST_ID} bytes"));
            }
        }
        match instant(&self.time_iso) {
            Some(_) => Ok(()),
            None => Err(format!("time_iso: {:?} is no time, as 2023-08-28T01:24:10.473126", self.time_iso)),
        }
    }
}

impl MessageGroup {
    /// The group of some messages of one user to one chat. `None` of none.
    pub fn of(messages: Vec<Message>) -> Option<Self> {
        let first = messages.first()?;
        let (from_user, chat_id) = (first.from_user.clone(), first.chat_id.clone());
        let latest = messages.iter().max_by_key(|m| instant(&m.time_iso))?;
        let latest_message_time_iso = latest.time_iso.clone();
        let group_id = Uuid::new_v5(&Uuid::NAMESPACE_OID, &serde_json::to_vec(&messages).ok()?);
        Some(Self { group_id, from_user, chat_id, list_of_messages: messages, latest_message_time_iso })
    }
}

/// The moment that an ISO 8601 time means. Without a zone it is UTC; a fraction is one of a second, however long it is.
pub fn instant(iso: &str) -> Option<Timestamp> {
    iso.parse().ok().or_else(|| TimeZone::UTC.to_timestamp(iso.parse::<DateTime>().ok()?).ok())
}

/// Messages as JSON.
#[derive(Clone, Copy, Debug)]
pub struct MessageJson;

impl Codec<Message> for MessageJson {
    fn encode(&self, message: &Message, out: &mut Vec<u8>) -> Result<(), CodecError> {
        serde_json::to_writer(out, message).map_err(|e| CodecError::invalid(e.to_string()))
    }

    fn decode(&self, bytes: &[u8]) -> Result<Message, CodecError> {
        if bytes.len() > LARGEST {
            return Err(CodecError::invalid(format!("is larger than {LARGEST} bytes")));
        }
        let message: Message = serde_json::from_slice(bytes).map_err(|e| CodecError::invalid(e.to_string()))?;
        message.check().map_err(CodecError::invalid)?;
        Ok(message)
    }

    fn name(&self) -> &str {
        "json"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time_iso: &str) -> Message {
        let text = |s: &str| s.to_owned();
        let [message_id, from_user, to_user, body, chat_id, time] = ["m", "1", "2", "hello", "c", ""].map(text);
        Message { message_id, from_user, to_user, body, chat_id, time, time_iso: text(time_iso) }
    }

    #[test]
    fn microseconds_are_microseconds() {
        let micros = |iso| instant(iso).unwrap().as_microsecond();
        // As milliseconds the fraction would be eight minutes.
        assert_eq!(micros("2023-08-28T01:24:10.473126") - micros("2023-08-28T01:24:10"), 473_126);
        assert_eq!(micros("2023-08-28T01:24:10.5") - micros("2023-08-28T01:24:10"), 500_000);
        assert_eq!(micros("2023-08-28T01:24:10Z"), micros("2023-08-28T03:24:10+02:00"));
        for (earlier, later) in [("10.473126", "10.5"), ("10.473126", "11"), ("10.000001", "10.00001")] {
            let iso = |s: &str| format!("2023-08-28T01:24:{s}");
            let group = MessageGroup::of(vec![at(&iso(later)), at(&iso(earlier))]).unwrap();
            assert_eq!(group.latest_message_time_iso, iso(later));
        }
    }

    #[test]
    fn a_group_of_other_messages_has_another_id() {
        let id = |messages: &[Message]| MessageGroup::of(messages.to_vec()).unwrap().group_id;
        let (one, other) = (at("2023-08-28T01:24:10"), at("2023-08-28T01:24:11"));
        assert_eq!(id(&[one.clone(), other.clone()]), id(&[one.clone(), other.clone()]));
        assert_ne!(id(&[one.clone(), other.clone()]), id(&[other.clone(), one.clone()]));
        assert_ne!(id(&[one.clone(), other]), id(std::slice::from_ref(&one)));
        assert_ne!(id(&[Message { body: "bye".into(), ..one.clone() }]), id(&[one]));
        assert_eq!(MessageGroup::of(Vec::new()), None);
    }

    #[test]
    fn what_lacks_something_is_no_message() {
        let read =
            |message: &Message| MessageJson.decode(&serde_json::to_vec(message).unwrap()).map_err(|e| e.to_string());
        let good = at("2023-08-28T01:24:10.473126");
        assert_eq!(read(&good), Ok(good.clone()));
        let cases = [
            (Message { message_id: String::new(), ..good.clone() }, "message_id"),
            (Message { chat_id: String::new(), ..good.clone() }, "chat_id"),
            (Message { time_iso: "yesterday".into(), ..good.clone() }, "time_iso"),
            (Message { body: "x".repeat(LARGEST), ..good }, "larger"),
        ];
        for (message, problem) in cases {
            let error = read(&message).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
        assert!(MessageJson.decode(b"{\"body\": 1}").is_err());
    }
}
