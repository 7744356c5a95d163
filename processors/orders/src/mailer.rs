//! The mailer: a mail for each order in `order_emails`.
//!
//! A mail server that is away is waited for without end; what it refuses for good is put aside. So an outage loses no mail, and
//! a wrong address holds up none.
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
use tokio::sync::Mutex;
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
    /// The server's fault: it is out of reach, silent, or takes no mail from here at all. No mail goes out before it is back.
    #[error("{0}")]
    Server(String),
    /// The server takes this one later; others may go out meanwhile.
    #[error("{0}")]
    NotYet(String),
    /// The mail's fault: the address is none, or the server refuses it for good.
    #[error("{0}")]
    Refused(String),
}

/// How patiently.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The wait before the second time; it doubles from time to time, up to half a minute.
    pub backoff: Duration,
    /// How many mails of a partition are under way at once.
    pub at_once: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { backoff: Duration::from_secs(1), at_once: 8 }
    }
}

const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// In the mailer's table: the mail is out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mailed {
    /// When, in milliseconds since the epoch.
    pub at_ms: i64,
}

/// Defines the group.
pub fn define(names: &TopicNames, post: Arc<dyn Post>, pace: Pace) -> GroupBuilder<Table<Mailed>> {
    let mut g = Group::define(names.mailer_group.as_str()).table(Json::<Mailed>::new());
    let emails = Input::topic(names.email_topic.as_str())
        .on_error(ErrorPolicy::dead_letter(names.email_dlq()))
        .concurrency(pace.at_once);
    let knocking = Mutex::new(());
    g.input_async(emails, OrderJson, async move |ctx, order| {
        if ctx.has_value()? {
            tracing::debug!(order = order.order_id, "its mail is out already");
            return Ok(());
        }
        send(&*post, &order, pace, &knocking).await?;
        let at_ms = ctx.now_ms();
        ctx.set(Mailed { at_ms })
    });
    g
}

/// Tries until it is sent, or the server refuses it for good.
///
/// While the server is away one mail knocks, the one that has `knocking`. The others queue for it, in their order: a server that
/// comes back is not run down by all that waits.
async fn send(post: &dyn Post, order: &Order, pace: Pace, knocking: &Mutex<()>) -> Result<(), CallbackError> {
    let (mut turn, mut wait, mut attempt) = (None, pace.backoff, 1_u32);
    loop {
        match post.send(order).await {
            Ok(()) => return Ok(()),
            Err(PostError::Refused(reason)) => {
                return Err(CallbackError::msg(format_args!("the mail is refused for good: {reason}")));
            }
            Err(PostError::NotYet(reason)) => {
                turn = None;
                tracing::warn!(order = order.order_id, attempt, reason, ?wait, "the mail server takes a mail later");
            }
            Err(PostError::Server(reason)) => {
                if turn.is_none() {
                    let mine = knocking.try_lock();
                    if mine.is_err() {
                        turn = Some(knocking.lock().await);
                        wait = pace.backoff;
                        continue;
                    }
                    turn = mine.ok();
                }
                tracing::warn!(order = order.order_id, attempt, reason, ?wait, "the mail server is away: mails wait");
            }
        }
        sleep(wait).await;
        (attempt, wait) = (attempt.saturating_add(1), (wait * 2).min(LONGEST_WAIT));
    }
}
