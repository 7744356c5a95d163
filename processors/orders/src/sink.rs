//! The sink: keeps a database's table as the router's table is.
//!
//! It reads the router's table as a topic, a batch at a time, and commits offsets once the database has committed. What is
//! read again after a crash is written again, over itself. While the database is away it waits; an order that the database
//! refuses is put aside, alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use stream_core::codec::Json;
use stream_core::group::{CallbackError, ErrorPolicy, Group, GroupBuilder, Input, NoTable};
use tokio::time::sleep;

use crate::order::Order;
use crate::router::Accepted;
use crate::topics::TopicNames;

/// A database's table, by `order_id`.
pub trait Rows: Send + Sync + 'static {
    /// Writes these, of different ids, over what there is; all or none. Resolves once they are committed.
    fn upsert<'a>(&'a self, orders: &'a [&'a Order]) -> BoxFuture<'a, Result<(), RowsError>>;
}

/// Why rows were not written.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// The database is out of reach, or not ready. They may be written later.
    #[error("{0}")]
    Later(String),
    /// The database refuses what is in one of them.
    #[error("the database refuses it: {0}")]
    Refused(String),
}

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Defines the group.
pub fn define(names: &TopicNames, rows: Arc<dyn Rows>, batch: usize) -> GroupBuilder<NoTable> {
    let mut g = Group::define(names.sink_group.as_str());
    let orders = Input::topic(names.table()).on_error(ErrorPolicy::dead_letter(names.sink_dlq())).batch(batch);
    g.input_batch(orders, Json::<Accepted>::new(), async move |_, records| {
        // A statement touches no row twice; the last one counts.
        let latest: BTreeMap<i32, &Order> = records.iter().map(|r| (r.value.order.order_id, &r.value.order)).collect();
        let orders: Vec<&Order> = latest.into_values().collect();
        let mut wait = FIRST_WAIT;
        loop {
            match rows.upsert(&orders).await {
                Ok(()) => return Ok(()),
                // The policy tries each of them alone, and puts aside the one that is at fault.
                Err(error @ RowsError::Refused(_)) => return Err(CallbackError::from(error)),
                Err(RowsError::Later(reason)) => tracing::warn!(reason, "the database is not there; trying again"),
            }
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    });
    g
}
