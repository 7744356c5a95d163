//! Accounts in Postgres, for any number of instances of the API.
//!
//! One connection, made when it is needed and given up at the first sign of trouble; what was asked is asked once more on a
//! new one. Values go as parameters, never into the statement's text.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use processors_common::postgres::{Database, describe};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Row};

use super::{Account, Accounts, AccountsError};

const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS chat_accounts (id TEXT PRIMARY KEY, username TEXT NOT NULL UNIQUE, hash TEXT NOT NULL)";
/// Gives the id that the name has, which is another one if it was taken.
const CREATE: &str = "WITH made AS (INSERT INTO chat_accounts (id, username, hash) VALUES ($1, $2, $3)
    ON CONFLICT DO NOTHING RETURNING id) SELECT id FROM made UNION SELECT id FROM chat_accounts WHERE username = $2";
const NAMED: &str = "SELECT id, username, hash FROM chat_accounts WHERE username = $1";
const WITH_ID: &str = "SELECT id, username, hash FROM chat_accounts WHERE id = $1";

/// Accounts in the table `chat_accounts`, which is made if it is missing.
#[derive(Debug)]
pub struct PostgresAccounts {
    database: Database,
    patience: Duration,
    client: Mutex<Option<Arc<Client>>>,
}

impl PostgresAccounts {
    /// Describes it; nothing is connected yet. To be called on the runtime that the connection shall live on. An answer
    /// that takes longer than `patience` counts as none.
    pub fn new(config: Config, patience: Duration) -> Self {
        Self { database: Database::new(config, TABLE), patience, client: Mutex::default() }
    }

    async fn client(&self) -> Result<Arc<Client>, tokio_postgres::Error> {
        let mut client = self.client.lock().await;
        if let Some(client) = client.as_ref().filter(|c| !c.is_closed()) {
            return Ok(Arc::clone(client));
        }
        let new = self.database.connect().await?;
        Ok(Arc::clone(client.insert(Arc::new(new))))
    }

    async fn query(&self, statement: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, AccountsError> {
        let mut why = String::new();
        for _ in 0..2 {
            let asked = timeout(self.patience, async { self.client().await?.query(statement, values).await });
            match asked.await {
                Ok(Ok(rows)) => return Ok(rows.into_iter().next()),
                Ok(Err(error)) => why = describe(&error),
                Err(_) => why = format!("Postgres has not answered for {:?}", self.patience),
            }
            *self.client.lock().await = None;
        }
        Err(AccountsError::Unavailable(why))
    }

    async fn find(&self, statement: &str, by: &str) -> Result<Option<Account>, AccountsError> {
        let row = self.query(statement, &[&by]).await?;
        Ok(row.map(|row| Account { id: row.get(0), username: row.get(1), hash: row.get(2) }))
    }
}

impl Accounts for PostgresAccounts {
    fn create<'a>(&'a self, account: &'a Account) -> BoxFuture<'a, Result<(), AccountsError>> {
        async move {
            let row = self.query(CREATE, &[&account.id, &account.username, &account.hash]).await?;
            match row {
                Some(row) if row.get::<_, &str>(0) == account.id => Ok(()),
                // None is one that is being made at this moment, and is not to be seen yet.
                _ => Err(AccountsError::Taken),
            }
        }
        .boxed()
    }

    fn named<'a>(&'a self, username: &'a str) -> BoxFuture<'a, Result<Option<Account>, AccountsError>> {
        self.find(NAMED, username).boxed()
    }

    fn with_id<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Account>, AccountsError>> {
        self.find(WITH_ID, id).boxed()
    }
}
