//! The first group: counts words by key, and says when a key has had ten.
//!
//! It runs on the embedded log, so that it needs no broker: `cargo run -p examples --bin counter`.

use stream_core::prelude::*;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The table comes first, so that `ctx.value()` has a type.
    let mut g = Group::define("word-count").table(Int64);
    g.input("words", Text, |ctx, word| {
        let n = ctx.value()?.unwrap_or(0) + 1;
        if n % 10 == 0 {
            println!("{} has had {n} words, the last one was {word:?}", ctx.key_text()?);
        }
        ctx.set(n)
    });
    let graph = g.build()?;
    print!("{}", graph.describe());

    // `Kafka::connect(KafkaOptions::new("localhost:9092"))?` is the same on a real one.
    let log = InMemory::new();
    let state = tempfile::tempdir()?;
    let processor = Processor::new(graph, log.clone()).state_dir(state.path());
    let handle = processor.handle();
    let running = tokio::spawn(processor.run());
    handle.running().await?;

    let words = Emitter::new("words", Text, log).await?;
    for round in 0..30 {
        for key in ["apple", "pear", "plum"].iter().take(1 + round % 3) {
            words.emit(*key, &format!("word {round}")).await?;
        }
    }
    words.close().await?;

    // Everything that was read is finished and committed before the processor ends.
    handle.caught_up().await?;
    handle.stop();
    running.await??;
    Ok(())
}
