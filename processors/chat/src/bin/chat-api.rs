//! Chats over HTTP.
#![allow(clippy::doc_markdown, reason = "the comments of flags are what --help shows")]

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use chat::accounts::{Accounts, FileAccounts};
use chat::api::{Api, Keep, routes};
use chat::history;
use chat::token::{SHORTEST, Tokens, kept_secret};
use chat::topics::TopicNames;
use clap::Parser;
use processors_common::http::{Server, listen};
use processors_common::{CommonArgs, Exit, REGISTRY_FLAGS, parse, run, say};
use stream_core::processor::stop_signal;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Takes messages over HTTP, and shows the history and what is said
///
/// A message is acknowledged once Kafka has it. The history is kept by the group that runs in here, and each instance has a
/// full copy of it. Accounts are in the Postgres of $DATABASE_DSN, or else in a file in the state directory, which is for a
/// single instance.
#[derive(Parser, Debug)]
#[command(name = "chat-api", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    /// Where to listen; port 0 is a free one
    #[arg(long, value_name = "HOST:PORT", env = "CHAT_HTTP", hide_env_values = true, default_value = "127.0.0.1:8082")]
    http: SocketAddr,

    /// The database of the accounts, as postgres://USER@HOST:PORT/NAME. The password comes from $PGPASSWORD, or from this
    /// variable's URL
    #[arg(long, value_name = "URL", env = "DATABASE_DSN", hide_env_values = true)]
    database: Option<String>,

    /// How long a token is good. The secret that signs it comes from $CHAT_JWT_SECRET, else it is made and kept in the
    /// state directory
    #[arg(long, value_name = "TIME", default_value = "12h", value_parser = humantime::parse_duration)]
    token_lifetime: Duration,

    /// How long Kafka may take to acknowledge a message, and the database to answer
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    patience: Duration,

    #[command(flatten)]
    names: TopicNames,

    #[command(flatten)]
    common: CommonArgs,
}

const EXAMPLES: &str = "Examples:
  chat-api --brokers localhost:9092
  curl localhost:8082/v1/users/ -d '{\"username\": \"ann\", \"password\": \"...\"}'
  curl localhost:8082/v1/login/ -d username=ann -d password=...
  curl -N localhost:8082/v1/feed -H 'Authorization: Bearer ...'";

fn main() -> ExitCode {
    run(serve(parse(&[REGISTRY_FLAGS, &["aggregator_group"]])))
}

async fn serve(cli: Cli) -> Result<(), Exit> {
    let dir = &cli.common.processing.state_dir;
    let log = cli.common.connect("chat-api")?;
    let tokens = Tokens::new(&secret(&cli)?, cli.token_lifetime);
    let accounts = accounts(&cli)?;
    cli.names.prepare(&log, &cli.common).await?;
    let listener = listen(cli.http, "--http").await?;
    let keep = Keep::Dir(dir.clone());
    let api = Api::open(&log, &cli.names, keep, accounts, tokens, cli.patience).await?;
    let processor = cli.common.processor(history::define(&cli.names).build()?, Arc::clone(&log));
    let handle = processor.handle();
    let mut history = tokio::spawn(processor.run());
    say(format_args!("chat-api: http://{}/", listener.local_addr()?));

    let server = Server::start(listener, routes(Arc::clone(&api)));
    // Without its history it is no use; whoever started it is to know.
    let failed = tokio::select! {
        biased;
        () = stop_signal() => None,
        ended = &mut history => Some(ended),
    };
    // Listeners of the feed would stay for ever; there are no new ones from here on.
    api.end_feed();
    server.end().await?;
    api.close().await?;
    handle.stop();
    match failed {
        Some(ended) => ended??,
        None => history.await??,
    }
    Ok(())
}

const SECRET: &str = "CHAT_JWT_SECRET";

fn secret(cli: &Cli) -> Result<Vec<u8>, Exit> {
    if let Some(secret) = std::env::var_os(SECRET).filter(|s| !s.is_empty()) {
        let secret = secret.into_encoded_bytes();
        if secret.len() < SHORTEST {
            return Err(Exit::usage(format_args!("{SECRET} is shorter than {SHORTEST} bytes: it could be guessed")));
        }
        return Ok(secret);
    }
    let path = cli.common.processing.state_dir.join("chat-jwt-secret");
    kept_secret(&path).map_err(|e| Exit::failed(format_args!("the secret for tokens, {}: {e}", path.display())))
}

fn accounts(cli: &Cli) -> Result<Arc<dyn Accounts>, Exit> {
    let Some(database) = cli.database.as_deref().map(str::trim).filter(|d| !d.is_empty()) else {
        let path = cli.common.processing.state_dir.join("chat-accounts");
        tracing::info!(path = %path.display(), "no DATABASE_DSN: accounts are in a file, for this instance alone");
        return Ok(Arc::new(FileAccounts::open(path)?));
    };
    #[cfg(feature = "postgres")]
    {
        let config = processors_common::postgres::config(database, "chat-api", cli.patience)?;
        Ok(Arc::new(chat::accounts::PostgresAccounts::new(config, cli.patience)))
    }
    #[cfg(not(feature = "postgres"))]
    {
        let _ = database;
        Err(Exit::usage("this build has no Postgres: build it with the cargo feature \"postgres\""))
    }
}
