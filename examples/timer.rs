//! A timer: orders that are not paid within half an hour. It is state as the table is: it survives a crash, and moves with
//! its partition.
//!
//! `g.wall_timer(..)` is the same by the wall clock, without a further record. `cargo run -p examples --bin timer`

use stream_core::context::Emit;
use stream_core::prelude::*;
use stream_core::topics::TopicOptions;

const MINUTE: i64 = 60_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Keyed by order.
    let mut g = Group::define("payments");
    let unpaid = g.timer("unpaid", Text);
    g.input("orders", Text, move |ctx, event| match &*event {
        "paid" => ctx.cancel_timer(unpaid),
        // What is bought goes with the timer.
        _ => ctx.set_timer(unpaid, ctx.timestamp() + 30 * MINUTE, &event),
    });
    g.on_timer(unpaid, |ctx, what| {
        println!("minute {}: order {} ({what}) is not paid", ctx.timestamp() / MINUTE, ctx.key_text()?);
        Ok(())
    });

    let log = InMemory::new();
    let state = tempfile::tempdir()?;
    // Each partition has a time of its own; with one, what is due when is the same at each run.
    let mut topics = TopicOptions::default();
    topics.partitions = Some(1);
    let processor = Processor::new(g.build()?, log.clone()).state_dir(state.path()).topics(topics);
    let handle = processor.handle();
    let running = tokio::spawn(processor.run());
    handle.running().await?;

    let emitter = Emitter::new("orders", Text, log).await?;
    for (order, event, minute) in [("1", "a lamp", 0), ("2", "a chair", 5), ("1", "paid", 20), ("3", "a bed", 50)] {
        emitter.emit_with(order, &event.to_owned(), Emit::new().timestamp(minute * MINUTE)).await?;
    }
    emitter.close().await?;

    handle.caught_up().await?;
    handle.stop();
    running.await??;
    Ok(())
}
