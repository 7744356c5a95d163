//! The mailer: a mail for each order in `order_emails`.
//!
//! The table remembers whose mail is out, so that a record that comes twice is one mail. A crash between the mail server's
//! answer and the commit is the one case in which a mail goes out again: nobody can close it, for SMTP has no transactions.
//! Its `Message-ID` is then the same, by which many servers know it.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use stream_core::codec::Json;
use stream_core::group::{CallbackError, ErrorPolicy, Group, GroupBuilder, Input, Table};
use tokio::time::sleep;

use crate::order::{Order, OrderJson};
use crate::topics::TopicNames;

/// Sends mails.
pub trait Post: Send + Sync + 'static {
    /// Resolves once the mail about an order is somebody else's business.
    fn send<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<(), PostError>>;
}

/// Why a mail was not sent.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// It may go out later.
    #[error("{0}")]
    Later(String),
    /// It never will: the address is none, or the server refuses this mail.
    #[error("{0}")]
    Never(String),
}

/// How often, and how patiently.
#[derive(Clone, Copy, Debug)]
pub struct Attempts {
    /// How often a mail is tried before it is put aside.
    pub attempts: u32,
    /// The wait before the second time; it doubles from time to time, up to a minute.
    pub backoff: Duration,
    /// How many mails of a partition are under way at once.
    pub at_once: usize,
}

impl Default for Attempts {
    fn default() -> Self {
        Self { attempts: 8, backoff: Duration::from_secs(1), at_once: 8 }
    }
}

const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// In the mailer's table: the mail is out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mailed {
    /// When, in milliseconds since the epoch.
    pub at_ms: i64,
}

/// Defines the group.
pub fn define(names: &TopicNames, post: Arc<dyn Post>, how: Attempts) -> GroupBuilder<Table<Mailed>> {
    let mut g = Group::define(names.mailer_group.as_str()).table(Json::<Mailed>::new());
    let emails = Input::topic(names.email_topic.as_str())
        .on_error(ErrorPolicy::dead_letter(names.email_dlq()))
        .concurrency(how.at_once);
    g.input_async(emails, OrderJson, async move |ctx, order| {
        if ctx.has_value()? {
            tracing::debug!(order = order.order_id, "its mail is out already");
            return Ok(());
        }
        send(&*post, &order, how).await?;
        let at_ms = ctx.now_ms();
        ctx.set(Mailed { at_ms })
    });
    g
}

/// Tries until it is sent, or it is no use.
async fn send(post: &dyn Post, order: &Order, how: Attempts) -> Result<(), CallbackError> {
    let (mut attempt, mut wait) = (1, how.backoff);
    loop {
        match post.send(order).await {
            Ok(()) => return Ok(()),
            Err(PostError::Later(reason)) if attempt < how.attempts => {
                tracing::warn!(order = order.order_id, attempt, reason, "a mail was not sent; trying again");
            }
            Err(error) => {
                let times = if attempt == 1 { "once".into() } else { format!("{attempt} times") };
                return Err(CallbackError::msg(format_args!("not mailed, tried {times}: {error}")));
            }
        }
        sleep(wait).await;
        (attempt, wait) = (attempt + 1, (wait * 2).min(LONGEST_WAIT));
    }
}
