//! Orders and their payments: a payment comes out with its order, an order that nobody pays within an hour without one.
//!
//! `cargo run -p examples --bin join`

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stream_core::context::Emit;
use stream_core::group::Side;
use stream_core::prelude::*;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    amount: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Payment {
    order: String,
    by: String,
}

/// A moment so many minutes after the first one.
fn minute(n: i64) -> Emit<'static> {
    Emit::new().timestamp(1_700_000_000_000 + n * 60_000)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut g = Group::define("orders-paid").table(Text);
    // Orders come by their numbers, payments by numbers of their own.
    let orders = Side::topic("orders", Json::<Order>::new());
    let payments = Side::topic("payments", Json::<Payment>::new()).key_by(|payment: &Payment| payment.order.clone());
    // A payment comes up to an hour after its order; either may be a minute late.
    let within = JoinWindows::after(HOUR).grace(MINUTE);
    g.stream_join("paid", within, orders, payments).left(|ctx, order, payment| match payment {
        Some(payment) => ctx.set(format!("{} paid by {}", order.amount, payment.by)),
        None => ctx.set(format!("{} not paid within an hour", order.amount)),
    });

    let log = InMemory::new();
    let state = tempfile::tempdir()?;
    let processor = Processor::new(g.build()?, log.clone()).state_dir(state.path());
    let handle = processor.handle();
    let running = tokio::spawn(processor.run());
    handle.running().await?;

    let orders = Emitter::new("orders", Json::<Order>::new(), log.clone()).await?;
    let payments = Emitter::new("payments", Json::<Payment>::new(), log.clone()).await?;
    for (number, amount, at) in [("order-1", 30, 0), ("order-2", 120, 5), ("order-3", 7, 10)] {
        orders.emit_with(number, &Order { amount }, minute(at)).await?;
    }
    orders.flush().await?;
    handle.caught_up().await?;
    for (id, order, by, at) in [("p-1", "order-2", "card", 20), ("p-2", "order-3", "invoice", 60)] {
        payments.emit_with(id, &Payment { order: order.to_owned(), by: by.to_owned() }, minute(at)).await?;
    }
    payments.flush().await?;
    handle.caught_up().await?;
    // Time goes on with the records: an hour and a minute after order-1 it is known that nobody has paid it.
    orders.emit_with("order-4", &Order { amount: 55 }, minute(62)).await?;
    orders.close().await?;
    payments.close().await?;
    handle.caught_up().await?;

    let view = View::<String>::builder("orders-paid-table", Text, log).state_dir(state.path()).open().await?;
    view.wait_caught_up().await?;
    for row in &view {
        let row = row?;
        println!("{}: {}", row.key_text(), row.value);
    }
    view.close().await;

    handle.stop();
    running.await??;
    Ok(())
}
