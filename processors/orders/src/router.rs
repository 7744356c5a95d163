//! The router: lets each order through once.
//!
//! An order that is new goes into the group's table, to its city's topic and, if it is urgent, to the mails: all of it
//! staged, so exactly once it is one transaction. An order whose id the table has is a repeat and does nothing; if it says
//! something else, it is another order and is put aside.
//!
//! At least once there is a case between these: the table's write survived a crash, the others did not. So the table notes
//! which record let the order in, and that very record, processed again, does everything again: rather twice than not.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use stream_core::codec::Json;
use stream_core::group::{CallbackError, ErrorPolicy, Group, GroupBuilder, Input, NullKey, NullValue, Table};

use crate::cities::Cities;
use crate::order::{Order, OrderJson, Priority};
use crate::topics::TopicNames;

/// An order in the router's table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The order.
    pub order: Order,
    /// The partition of the record that let it in.
    pub partition: i32,
    /// The offset of that record.
    pub offset: i64,
}

/// Defines the group.
pub fn define(names: &TopicNames, cities: Arc<Cities>) -> GroupBuilder<Table<Accepted>> {
    let mut g = Group::define(names.router_group.as_str()).table(Json::<Accepted>::new());
    let by_key = g.output(names.order_topic.as_str(), OrderJson);
    let emails = g.output(names.email_topic.as_str(), OrderJson);
    let city = g.output(Arc::clone(cities.other()), OrderJson);
    let orders = Input::topic(names.order_topic.as_str())
        .on_error(ErrorPolicy::dead_letter(names.order_dlq()))
        .null_key(NullKey::Pass)
        .null_value(NullValue::Pass);
    g.input_async(orders, OrderJson, async move |ctx, order| {
        let key = order.key();
        if ctx.key() != Some(key.as_bytes()) {
            // Some other client's. Under its own key it comes again, to the partition where a repeat of it would be seen.
            return ctx.emit(by_key, &key, &order);
        }
        let (partition, offset) = (ctx.partition(), ctx.offset());
        if let Some(known) = ctx.value()?.filter(|known| (known.partition, known.offset) != (partition, offset)) {
            if known.order != order {
                return Err(CallbackError::msg(format_args!("the id {key} is another order's, which came first")));
            }
            tracing::debug!(order = order.order_id, partition, offset, "a repeated order");
            return Ok(());
        }
        if order.priority == Priority::High {
            ctx.emit(emails, &key, &order)?;
        }
        let topic = cities.topic(order.city()).await;
        ctx.emit_to_topic(city, &topic, &key, &order)?;
        ctx.set(Accepted { order, partition, offset })
    });
    g
}
