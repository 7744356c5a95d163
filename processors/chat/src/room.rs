//! What a chat is: two users. Chats are a compacted topic, by their id.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A chat of two users, keyed by its `chat_id`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Made of its users: two of them have one chat, whoever begins it and however often.
    pub chat_id: Uuid,
    /// Who they are.
    pub users_id: [String; 2],
    /// What they are called, in the same order.
    pub users_name: [String; 2],
}

impl Room {
    /// The chat of two users.
    pub fn of(users_id: [String; 2], users_name: [String; 2]) -> Self {
        let mut sorted = users_id.clone();
        sorted.sort();
        // Lengths first, so that no two pairs are the same text.
        let text = format!("{} {} {}", sorted[0].len(), sorted[0], sorted[1]);
        Self { chat_id: Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes()), users_id, users_name }
    }

    /// Whether a user may read and write here.
    pub fn has(&self, user: &str) -> bool {
        self.users_id.iter().any(|u| u == user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_has_one_chat_in_either_order() {
        let id = |a: &str, b: &str| Room::of([a.into(), b.into()], ["a".into(), "b".into()]).chat_id;
        assert_eq!(id("1", "2"), id("2", "1"));
        assert_ne!(id("1", "2"), id("1", "3"));
        assert_ne!(id("1", "1 2"), id("1 1", "2"));
    }
}
