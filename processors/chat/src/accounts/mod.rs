//! Who there is, and their passwords. Accounts are in a database or a file; they must never go to a topic.

mod file;
mod password;
#[cfg(feature = "postgres")]
mod postgres;

use std::fmt::Debug;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

pub use self::file::FileAccounts;
pub use self::password::Passwords;
#[cfg(feature = "postgres")]
pub use self::postgres::PostgresAccounts;

/// Somebody.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// A random UUID.
    pub id: String,
    /// Nobody else has it.
    pub username: String,
    /// The password's argon2 hash.
    pub hash: String,
}

impl Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The hash stays out.
        write!(f, "Account({} {:?})", self.id, self.username)
    }
}

/// Why accounts were not read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountsError {
    /// Somebody has that name.
    #[error("the username is taken")]
    Taken,
    /// They are out of reach, or broken.
    #[error("accounts: {0}")]
    Unavailable(String),
}

/// Where accounts are kept.
pub trait Accounts: Debug + Send + Sync + 'static {
    /// Keeps a new one; resolves once it will survive a crash. To keep the same one again, by its id, is no error.
    fn create<'a>(&'a self, account: &'a Account) -> BoxFuture<'a, Result<(), AccountsError>>;

    /// The one of that name.
    fn named<'a>(&'a self, username: &'a str) -> BoxFuture<'a, Result<Option<Account>, AccountsError>>;

    /// The one of that id.
    fn with_id<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Account>, AccountsError>>;
}
