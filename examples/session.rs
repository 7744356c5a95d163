//! A session: the pages that a visitor sees without a pause of half an hour, emitted once the pause is there.
//!
//! `cargo run -p examples --bin session`

use std::time::Duration;

use stream_core::context::Emit;
use stream_core::prelude::*;
use stream_core::topics::TopicOptions;

const MINUTE: i64 = 60_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut g = Group::define("visits");
    let visits = g.session("visits", Sessions::gap(Duration::from_secs(30 * 60)), Json::<Vec<String>>::new());
    g.input("pages", Text, move |ctx, page: String| {
        let with_page = |pages: Option<Vec<String>>| {
            let mut pages = pages.unwrap_or_default();
            pages.push(page);
            pages
        };
        // A page between two visits makes one of them.
        let together = |earlier: Vec<String>, later| [earlier, later].concat();
        ctx.aggregate_session(visits, with_page, together)?;
        Ok(())
    });
    g.on_close(visits, |ctx, (session, pages)| {
        let minutes = (session.end - session.start) / MINUTE;
        println!("{} was there for {minutes} minutes: {}", ctx.key_text()?, pages.join(", "));
        Ok(())
    });

    let log = InMemory::new();
    let state = tempfile::tempdir()?;
    // Each partition has a time of its own; with one, what ends a visit is the same at each run.
    let mut topics = TopicOptions::default();
    topics.partitions = Some(1);
    let processor = Processor::new(g.build()?, log.clone()).state_dir(state.path()).topics(topics);
    let handle = processor.handle();
    let running = tokio::spawn(processor.run());
    handle.running().await?;

    let emitter = Emitter::new("pages", Text, log).await?;
    let pages =
        [("ann", "home", 0), ("bob", "home", 10), ("ann", "lamps", 20), ("ann", "lamp 7", 45), ("bob", "sale", 50)];
    for (visitor, page, minute) in pages.into_iter().chain([("cy", "home", 200)]) {
        emitter.emit_with(visitor, &page.to_owned(), Emit::new().timestamp(minute * MINUTE)).await?;
    }
    emitter.close().await?;

    handle.caught_up().await?;
    handle.stop();
    running.await??;
    Ok(())
}
