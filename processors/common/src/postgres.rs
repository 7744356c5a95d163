//! A database in Postgres: what its flag says, connecting to it, and what it says of itself.
//!
//! A URL may have a password: it must never be logged, nor be in a message.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio_postgres::{Client, Config, Error, NoTls};

use crate::exit::Exit;

/// Reads the flag `--database`. The password may be in `PGPASSWORD`.
///
/// # Errors
/// When it is no URL.
pub fn config(url: &str, application: &str, patience: Duration) -> Result<Config, Exit> {
    let mut config: Config = url.parse().map_err(|e: Error| {
        Exit::usage(format_args!(
            "--database (DATABASE_DSN) is no URL of a Postgres: {e}; write it as postgres://USER@HOST:PORT/NAME"
        ))
    })?;
    if config.get_password().is_none()
        && let Ok(password) = std::env::var("PGPASSWORD")
    {
        config.password(password);
    }
    config.application_name(application).connect_timeout(patience);
    Ok(config)
}

/// A database with a table.
pub struct Database {
    config: Config,
    table: &'static str,
    /// Where connections live: longer than the worker that happens to make one.
    runtime: Handle,
}

impl Database {
    /// Describes it; nothing is connected yet. To be called on the runtime that connections shall live on. The statement
    /// makes the table if it is missing.
    pub fn new(config: Config, table: &'static str) -> Self {
        Self { config, table, runtime: Handle::current() }
    }

    /// Makes a connection, and the table if it is missing.
    ///
    /// # Errors
    /// When the database is not there, or refuses.
    pub async fn connect(&self) -> Result<Client, Error> {
        let config = self.config.clone();
        let connecting = self.runtime.spawn(async move { config.connect(NoTls).await });
        // The task neither panics nor is aborted, unless the runtime ends, and this with it.
        let Ok(connected) = connecting.await else { return std::future::pending().await };
        let (client, connection) = connected?;
        self.runtime.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to Postgres has ended");
            }
        });
        client.batch_execute(self.table).await?;
        Ok(client)
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The password stays out.
        write!(f, "Postgres({:?})", self.config.get_hosts())
    }
}

/// An error in the database's words.
pub fn describe(error: &Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("Postgres: {} ({})", db.message(), db.code().code()),
        None => match std::error::Error::source(error) {
            Some(source) => format!("Postgres: {error}: {source}"),
            None => format!("Postgres: {error}"),
        },
    }
}
