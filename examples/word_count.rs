//! Word count: lines are split into words, each word goes to the partition of its key, and is counted there.
//!
//! `cargo run -p examples --bin word-count`

use stream_core::Input;
use stream_core::group::NullKey;
use stream_core::prelude::*;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut g = Group::define("word-count").table(UInt64);
    // By the loop the group sends records to itself under other keys: a word comes to the partition that has its count.
    let words = g.loopback(UInt64);
    // Lines need no key.
    g.input(Input::topic("lines").null_key(NullKey::Pass), Text, move |ctx, line| {
        for word in line.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
            ctx.loopback(words, word.to_lowercase(), 1)?;
        }
        Ok(())
    });
    g.on_loop(words, |ctx, times| {
        let n = ctx.value()?.unwrap_or(0) + times;
        ctx.set(n)
    });

    let log = InMemory::new();
    let state = tempfile::tempdir()?;
    let processor = Processor::new(g.build()?, log.clone()).state_dir(state.path());
    let handle = processor.handle();
    let running = tokio::spawn(processor.run());
    handle.running().await?;

    let lines = Emitter::new("lines", Text, log.clone()).await?;
    for line in ["All streams lead to Kafka.", "Hello, Kafka streams!", "Join the Kafka summit."] {
        lines.emit(None::<&str>, &line.to_owned()).await?;
    }
    lines.close().await?;
    handle.caught_up().await?;

    let counts = View::<u64>::builder("word-count-table", UInt64, log).state_dir(state.path()).open().await?;
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
