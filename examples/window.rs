//! A window: how many clicks each page had in each minute, emitted once the minute has ended.
//!
//! Time is the clicks' own: they may arrive out of order, up to ten seconds late. `cargo run -p examples --bin window`

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stream_core::prelude::*;
use stream_core::topics::TopicOptions;

#[derive(Serialize, Deserialize)]
struct Click {
    at_ms: i64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let minutes = Windows::tumbling(Duration::from_secs(60)).grace(Duration::from_secs(10));

    let mut g = Group::define("page-minutes");
    let clicks = g.window("clicks", minutes, Int64);
    g.input("clicks", EventTime::by(Json::<Click>::new(), |click: &Click| click.at_ms), move |ctx, _click| {
        ctx.aggregate(clicks, |n| n.unwrap_or(0) + 1)?;
        Ok(())
    });
    g.on_close(clicks, |ctx, (window, n)| {
        println!("{} had {n} clicks in minute {}", ctx.key_text()?, window.start / 60_000);
        Ok(())
    });

    let log = InMemory::new();
    let state = tempfile::tempdir()?;
    // Each partition has a time of its own; with one, what closes a minute is the same at each run.
    let mut topics = TopicOptions::default();
    topics.partitions = Some(1);
    let processor = Processor::new(g.build()?, log.clone()).state_dir(state.path()).topics(topics);
    let handle = processor.handle();
    let running = tokio::spawn(processor.run());
    handle.running().await?;

    let emitter = Emitter::new("clicks", Json::<Click>::new(), log).await?;
    // In seconds. The click at 58 comes late, and in time; the one at 59 comes when its minute is closed.
    for (page, at) in
        [("home", 5), ("home", 20), ("lamps", 61), ("home", 58), ("lamps", 75), ("home", 59), ("home", 140)]
    {
        emitter.emit(page, &Click { at_ms: at * 1000 }).await?;
    }
    emitter.close().await?;

    handle.caught_up().await?;
    handle.stop();
    running.await??;
    Ok(())
}
