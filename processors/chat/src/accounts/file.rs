//! Accounts in a local file, for one instance of the API: where there is no database.

use std::fs::DirBuilder;
use std::path::Path;

use futures::future::{BoxFuture, FutureExt};
use sled::transaction::{ConflictableTransactionError, TransactionError};
use tokio::task::spawn_blocking;

use super::{Account, Accounts, AccountsError};

/// Accounts in a sled database. By `i` and the id: the account; by `n` and the name: the id.
#[derive(Clone, Debug)]
pub struct FileAccounts {
    db: sled::Db,
}

impl FileAccounts {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// When it can't be opened, such as by a second process.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, AccountsError> {
        // The hashes are nobody else's business.
        let mut dir = DirBuilder::new();
        dir.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut dir, 0o700);
        dir.create(&path).map_err(|e| unavailable(&e))?;
        Ok(Self { db: sled::open(path).map_err(|e| unavailable(&e))? })
    }

    /// Accounts that end with the process.
    ///
    /// # Errors
    /// When there is no room for temporary files.
    pub fn temporary() -> Result<Self, AccountsError> {
        Ok(Self { db: sled::Config::new().temporary(true).open().map_err(|e| unavailable(&e))? })
    }

    fn get(&self, id: &[u8]) -> Result<Option<Account>, AccountsError> {
        let found = self.db.get([b"i", id].concat()).map_err(|e| unavailable(&e))?;
        found.map(|json| serde_json::from_slice(&json).map_err(|e| unavailable(&e))).transpose()
    }

    fn find(&self, name: &str) -> Result<Option<Account>, AccountsError> {
        match self.db.get([b"n", name.as_bytes()].concat()).map_err(|e| unavailable(&e))? {
            Some(id) => self.get(&id),
            None => Ok(None),
        }
    }

    fn insert(&self, account: &Account) -> Result<(), AccountsError> {
        let json = serde_json::to_vec(account).map_err(|e| unavailable(&e))?;
        let (id, name) = (account.id.as_bytes(), [b"n", account.username.as_bytes()].concat());
        let kept = self.db.transaction(|tree| {
            if tree.get(&name)?.is_some_and(|other| other != id) {
                return Err(ConflictableTransactionError::Abort(AccountsError::Taken));
            }
            tree.insert(name.as_slice(), id)?;
            tree.insert([b"i", id].concat(), json.as_slice())?;
            Ok(())
        });
        kept.map_err(|error| match error {
            TransactionError::Abort(error) => error,
            TransactionError::Storage(error) => unavailable(&error),
        })?;
        self.db.flush().map(drop).map_err(|e| unavailable(&e))
    }
}

fn unavailable(error: &dyn std::fmt::Display) -> AccountsError {
    AccountsError::Unavailable(error.to_string())
}

/// It reads and writes a disk.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AccountsError> + Send + 'static,
) -> Result<T, AccountsError> {
    spawn_blocking(work).await.unwrap_or_else(|e| Err(unavailable(&e)))
}

impl Accounts for FileAccounts {
    fn create<'a>(&'a self, account: &'a Account) -> BoxFuture<'a, Result<(), AccountsError>> {
        let (this, account) = (self.clone(), account.clone());
        aside(move || this.insert(&account)).boxed()
    }

    fn named<'a>(&'a self, username: &'a str) -> BoxFuture<'a, Result<Option<Account>, AccountsError>> {
        let (this, username) = (self.clone(), username.to_owned());
        aside(move || this.find(&username)).boxed()
    }

    fn with_id<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Account>, AccountsError>> {
        let (this, id) = (self.clone(), id.to_owned());
        aside(move || this.get(id.as_bytes())).boxed()
    }
}
