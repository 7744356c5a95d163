//! What people search for.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A search, keyed by its `id`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Find {
    /// A UUID.
    pub id: String,
    /// Who searches.
    pub user_id: String,
    /// What for.
    pub find: String,
}

impl Find {
    /// A search under a new id.
    pub fn new(user_id: impl Into<String>, find: impl Into<String>) -> Self {
        Self { id: Uuid::new_v4().to_string(), user_id: user_id.into(), find: find.into() }
    }
}
