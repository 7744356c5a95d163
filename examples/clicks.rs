//! Clicks of users, and a view that answers questions about them from outside the processor.
//!
//! `cargo run -p examples --bin clicks`

use serde::{Deserialize, Serialize};
use stream_core::prelude::*;

#[derive(Debug, Serialize, Deserialize)]
struct Click {
    page: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct User {
    clicks: u64,
    last_page: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut g = Group::define("users").table(Json::<User>::new());
    g.input("clicks", Json::<Click>::new(), |ctx, click| {
        let mut user = ctx.value()?.unwrap_or_default();
        user.clicks += 1;
        user.last_page = click.page;
        ctx.set(user)
    });

    let log = InMemory::new();
    let state = tempfile::tempdir()?;
    let processor = Processor::new(g.build()?, log.clone()).state_dir(state.path());
    let handle = processor.handle();
    let running = tokio::spawn(processor.run());
    handle.running().await?;

    let clicks = Emitter::new("clicks", Json::<Click>::new(), log.clone()).await?;
    for (user, page) in [("ann", "/"), ("bob", "/lamps"), ("ann", "/lamps"), ("ann", "/lamps/7")] {
        clicks.emit(user, &Click { page: page.to_owned() }).await?;
    }
    clicks.close().await?;
    handle.caught_up().await?;

    // A full copy of the table, which any program can have: it needs the topic and the codec.
    let view = View::<User>::builder("users-table", Json::<User>::new(), log).state_dir(state.path()).open().await?;
    view.wait_caught_up().await?;
    if let Some(ann) = view.get("ann")? {
        println!("ann clicked {} times, last on {}", ann.clicks, ann.last_page);
    }
    for row in &view {
        let row = row?;
        println!("{}: {}", row.key_text(), row.value.clicks);
    }
    view.close().await;

    handle.stop();
    running.await??;
    Ok(())
}
