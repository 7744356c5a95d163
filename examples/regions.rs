//! Regions: page views come by user, are re-keyed by their region, and counted where that region's count is.
//!
//! `cargo run -p examples --bin regions`

use serde::{Deserialize, Serialize};
use stream_core::prelude::*;

#[derive(Serialize, Deserialize)]
struct PageView {
    page: String,
    region: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut g = Group::define("regions").table(UInt64);
    // Each view comes back to the group under its region, with its time, in the partition of that key.
    let by_region = g.rekey(("views", Json::<PageView>::new()), |_, view| Ok(view.region.clone()));
    g.on_loop(by_region, |ctx, _view| {
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.set(n)
    });
    let graph = g.build()?;
    println!("{}", graph.describe());

    let log = InMemory::new();
    let state = tempfile::tempdir()?;
    let processor = Processor::new(graph, log.clone()).state_dir(state.path());
    let handle = processor.handle();
    let running = tokio::spawn(processor.run());
    handle.running().await?;

    let views = Emitter::new("views", Json::<PageView>::new(), log.clone()).await?;
    for (user, page, region) in [("ann", "home", "Asia"), ("bob", "lamps", "Europe"), ("ann", "sale", "Asia")] {
        views.emit(user, &PageView { page: page.to_owned(), region: region.to_owned() }).await?;
    }
    views.close().await?;
    handle.caught_up().await?;

    let counts = View::<u64>::builder("regions-table", UInt64, log).state_dir(state.path()).open().await?;
    counts.wait_caught_up().await?;
    for row in &counts {
        let row = row?;
        println!("{}: {}", row.key_text(), row.value);
    }
    counts.close().await;

    handle.stop();
    running.await??;
    Ok(())
}
