//! All of the chat in one process, on the embedded log: nothing to install, nothing to start. Some made-up people talk, and
//! there is a page on which to talk with them.

mod people;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::routing::{get, post};
use chat::accounts::FileAccounts;
use chat::api::{Api, Keep, routes};
use chat::open::Limits;
use chat::token::Tokens;
use chat::topics::TopicNames;
use chat::{MessageGroup, aggregator, history};
use clap::Parser;
use processors_common::demo::{Lasts, Running};
use processors_common::http::listen;
use processors_common::{Exit, run, say, start_logging};
use stream_core::log::embedded::InMemory;
use stream_core::log::{Isolation, LogHandle, LogResult, OffsetSpec, TopicPartition};
use stream_core::processor::Guarantee;
use tokio::sync::broadcast::Receiver;
use tokio::time::timeout;

use self::people::People;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PARTITIONS: i32 = 2;
/// Nothing comes from elsewhere.
const FROM_HERE: &str = "default-src 'self'; img-src data:; script-src 'unsafe-inline'; style-src 'unsafe-inline'";
const PAGE: &str = include_str!("page.html");

/// Shows the chat at work, in this process alone, and has a page to chat on
#[derive(Parser, Debug)]
#[command(name = "demo-chat", version)]
struct Cli {
    #[command(flatten)]
    lasts: Lasts,

    /// Where the page is; port 0 is a free one
    #[arg(long, value_name = "HOST:PORT", env = "DEMO_HTTP", hide_env_values = true, default_value = "127.0.0.1:0")]
    http: SocketAddr,

    /// What to log on stderr
    #[arg(long, value_name = "FILTER", env = "RUST_LOG", default_value = "error", hide_env_values = true)]
    log: String,
}

fn main() -> ExitCode {
    run(demo(Cli::parse()))
}

async fn demo(cli: Cli) -> Result<(), Exit> {
    start_logging(&cli.log)?;
    let (names, log): (_, LogHandle) = (TopicNames::default(), InMemory::new());
    log.create_topics(names.shared(PARTITIONS, None)).await?;
    let guarantee = Guarantee::ExactlyOnce;
    let groups = [
        Running::start(aggregator::define(&names, Limits::default(), guarantee).build()?, guarantee, &log),
        Running::start(history::define(&names).build()?, guarantee, &log),
    ];
    let accounts = Arc::new(FileAccounts::temporary()?);
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(Exit::failed)?;
    let tokens = Tokens::new(&secret, Duration::from_secs(24 * 3600));
    let patience = Duration::from_secs(10);
    let api = Api::open(&log, &names, Keep::Memory, Arc::clone(&accounts) as _, tokens, patience).await?;
    api.ready().await?;
    let heard = api.listen().ok_or_else(|| Exit::failed("the feed has ended"))?;
    let people = Arc::new(People::invite(&api, &*accounts).await?);
    let listener = listen(cli.http, "DEMO_HTTP").await?;
    begin(listener.local_addr()?, cli.lasts);
    let served = tokio::spawn(axum::serve(listener, site(Arc::clone(&api), Arc::clone(&people))).into_future());
    let talking = tokio::spawn(people::talk(Arc::clone(&people), Arc::clone(&api)));
    let mut tally = Tally::default();
    let groups_heard = tally.listen(heard, &people, cli.lasts).await;

    // Nobody says anything from here on; what was said last is still in open groups.
    talking.abort();
    served.abort();
    _ = talking.await;
    _ = served.await;
    api.flush().await?;
    let said = said(&log, &names).await?;
    if timeout(Duration::from_secs(30), tally.hear(groups_heard, &people, Some(said))).await.is_err() {
        return Err(Exit::failed("not everything that was said has come back in a group"));
    }
    api.close().await?;
    for group in groups {
        group.end().await?;
    }
    tally.end(people.all().len(), said)
}

/// The page, what it has to know, and the API.
fn site(api: Arc<Api>, people: Arc<People>) -> Router {
    let all = serde_json::json!({"people": people.all(), "chats": people.rooms()}).to_string();
    let html = [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, FROM_HERE)];
    Router::new()
        .route("/", get(async move || (html, PAGE)))
        .route("/demo", get(async move || ([(header::CONTENT_TYPE, "application/json")], all)))
        .route(
            "/demo/take/{id}",
            post(async move |Path(id): Path<String>| {
                people.take(&id);
                StatusCode::NO_CONTENT
            }),
        )
        .merge(routes(api))
}

fn begin(address: SocketAddr, lasts: Lasts) {
    say(format_args!(
        "Some people talk, two and two. What one of them says to another goes to the topic chat_messages; an aggregator makes\n\
         groups of it: ten messages, or those before a pause of three seconds. Talk with them: http://{address}/\n\
         All of it runs in this process, on a log in memory. {}\n\
         \n\
         group: has closed, with so many messages\n",
        lasts.in_words()
    ));
}

/// How many messages were said.
async fn said(log: &LogHandle, names: &TopicNames) -> LogResult<usize> {
    let of = |p| (TopicPartition::new(names.message_topic.as_str(), p), OffsetSpec::Latest);
    let ends = log.offsets((0..PARTITIONS).map(of).collect(), Isolation::ReadCommitted).await?;
    Ok(ends.iter().filter_map(|end| usize::try_from(*end).ok()).sum())
}

/// What came back.
#[derive(Default)]
struct Tally {
    groups: usize,
    /// How often each message was in a group.
    messages: BTreeMap<String, u32>,
}

type Heard = Receiver<Arc<MessageGroup>>;

impl Tally {
    /// Shows groups until somebody ends it.
    async fn listen(&mut self, mut heard: Heard, people: &People, lasts: Lasts) -> Heard {
        tokio::select! {
            biased;
            () = lasts.over() => {}
            () = self.show(&mut heard, people, None) => {}
        }
        heard
    }

    /// Shows groups until they have so many messages.
    async fn hear(&mut self, mut heard: Heard, people: &People, messages: Option<usize>) {
        self.show(&mut heard, people, messages).await;
    }

    async fn show(&mut self, heard: &mut Heard, people: &People, messages: Option<usize>) {
        while messages.is_none_or(|messages| self.messages.len() < messages) {
            // It is never so slow that it would be left behind.
            let Ok(group) = heard.recv().await else { return };
            self.groups += 1;
            for message in &group.list_of_messages {
                *self.messages.entry(message.message_id.clone()).or_default() += 1;
            }
            say(line(&group, people));
        }
    }

    /// The summary. Its last line is for scripts.
    fn end(&self, users: usize, said: usize) -> Result<(), Exit> {
        let (groups, messages) = (self.groups, self.messages.len());
        let twice = self.messages.values().filter(|times| **times > 1).count();
        say(format_args!(
            "\n{said} messages were said; {messages} of them came back, in {groups} groups, {twice} more than once.\n\
             The same on a real Kafka: make kafka-up; make chat-aggregator; make chat-api\n\
             demo: users={users} messages={messages} groups={groups}"
        ));
        if messages == said && twice == 0 {
            return Ok(());
        }
        Err(Exit::failed("not every message is in exactly one group"))
    }
}

fn line(group: &MessageGroup, people: &People) -> String {
    let count = group.list_of_messages.len();
    let name = |id: &str| people.name(id).to_owned();
    let to = group.list_of_messages.first().map(|m| name(&m.to_user)).unwrap_or_default();
    let first: String = group.list_of_messages.first().map(|m| m.body.chars().take(50).collect()).unwrap_or_default();
    let more = if count > 1 { ", ..." } else { "" };
    format!("group  {count:>2}  {} to {to}: {first:?}{more}", name(&group.from_user))
}
