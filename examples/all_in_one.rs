//! Emitter, processor and view in one file: orders come in, a processor keeps each customer's total and passes large
//! orders on, a second group counts those by city, a view shows the result.
//!
//! `cargo run -p examples --bin all-in-one`

use serde::{Deserialize, Serialize};
use stream_core::prelude::*;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Order {
    city: String,
    amount: u64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let log = InMemory::new();
    let state = tempfile::tempdir()?;

    // Keyed by customer. Orders of 100 and more go on, keyed by city.
    let mut g = Group::define("customers").table(UInt64);
    let large = g.output("large-orders", Json::<Order>::new());
    g.input("orders", Json::<Order>::new(), move |ctx, order| {
        if order.amount >= 100 {
            ctx.emit(large, &order.city, &order)?;
        }
        let total = ctx.value()?.unwrap_or(0) + order.amount;
        ctx.set(total)
    });
    let customers = Processor::new(g.build()?, log.clone()).state_dir(state.path());

    // Keyed by city.
    let mut g = Group::define("cities").table(UInt64);
    g.input("large-orders", Json::<Order>::new(), |ctx, _order| {
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.set(n)
    });
    let cities = Processor::new(g.build()?, log.clone()).state_dir(state.path());

    let handles = [customers.handle(), cities.handle()];
    let running = [tokio::spawn(customers.run()), tokio::spawn(cities.run())];
    for handle in &handles {
        handle.running().await?;
    }

    let orders = Emitter::new("orders", Json::<Order>::new(), log.clone()).await?;
    for (customer, city, amount) in
        [("ann", "Oslo", 120), ("bob", "Rome", 80), ("ann", "Rome", 300), ("cy", "Oslo", 150), ("bob", "Rome", 20)]
    {
        orders.emit(customer, &Order { city: city.to_owned(), amount }).await?;
    }
    orders.close().await?;
    // In the order in which the records go.
    for handle in &handles {
        handle.caught_up().await?;
    }

    for (table, what) in [("customers-table", "spent"), ("cities-table", "large orders")] {
        let view = View::<u64>::builder(table, UInt64, log.clone()).state_dir(state.path()).open().await?;
        view.wait_caught_up().await?;
        for row in &view {
            let row = row?;
            println!("{}: {} {what}", row.key_text(), row.value);
        }
        view.close().await;
    }

    for handle in &handles {
        handle.stop();
    }
    for running in running {
        running.await??;
    }
    Ok(())
}
