//! Stateful stream processing on Kafka, in the style of [Goka](https://github.com/lovoo/goka).
//!
//! A **group** reads topics, keeps a value for each key in its table, and writes to topics. You write the callback;
//! the library does partitions, rebalances, changelogs, restores, commits and restarts, and takes care that nothing is
//! lost on the way.
//!
//! ```
//! use stream_core::prelude::*;
//!
//! // Counts words by key. The table comes first, so that `ctx.value()` has a type.
//! let mut g = Group::define("word-count").table(Int64);
//! let milestones = g.output("milestones", Text);
//! g.input("words", Text, move |ctx, word| {
//!     let n = ctx.value()?.unwrap_or(0) + 1;
//!     if n % 100 == 0 {
//!         ctx.emit(milestones, ctx.key(), &word)?;
//!     }
//!     ctx.set(n)
//! });
//! let graph = g.build()?;
//! # async fn run(graph: std::sync::Arc<GroupGraph>) -> Result<(), Box<dyn std::error::Error>> {
//! // In memory, in this process; or `Kafka::connect(KafkaOptions::new("localhost:9092"))?`.
//! let log = InMemory::new();
//! Processor::new(graph, log).state_dir("state").run_until_signal().await?;
//! # Ok(())
//! # }
//! # Ok::<(), BuildError>(())
//! ```
//!
//! # What it is
//! - A library: your program is the processor. Several instances of it share the partitions, as Kafka's consumer
//!   groups do.
//! - At-least-once delivery, with commits that never overtake unfinished work. The effects of a callback are released when
//!   it has returned `Ok` and everything before it is done; an error discards them and follows the input's
//!   [`ErrorPolicy`].
//! - Exactly-once delivery by one option ([`Guarantee`]): table writes, emits and offsets are one
//!   transaction.
//!   [`guarantees`] has the promises, their costs and their limits; [`semantics`] has the exact rules, with their tests.
//! - State on the local disk (sled) or in memory, backed by a compacted topic: lose the disk, and it is restored.
//! - The same code in tests (`testing`, with the feature of that name), in one process without a broker
//!   ([`log::embedded`]) and on Kafka (`log::kafka`, with the feature `kafka`).
//!
//! Those who know Goka or Kafka Streams begin with [`coming_from_goka`] or [`coming_from_kafka_streams`].
//!
//! # What it is not (yet)
//! - A database: a table is read by key inside the processor, and from outside through a [`View`], or by
//!   asking the instance that has the key ([`Handle::get`](processor::Handle::get), over HTTP with the feature `monitor`).
//! - A cluster: the embedded log lives and ends with its process.
//!
//! # Vocabulary
//! | word | meaning |
//! |---|---|
//! | group | a processor's name, its Kafka consumer group, and the prefix of its topics |
//! | input, output | topics that it reads and writes |
//! | group table | a value for each key, in `<group>-table` (compacted), written through [`Ctx`] |
//! | loop | `<group>-loop` or `<group>-<name>-loop`, by which a group sends records to itself under other keys |
//! | re-key | `<group>-<input>-rekey`, by which an input's records come back to the group under other keys |
//! | join | a table of another group with the same partitions, read by the record's own key |
//! | stream join | two topics whose records of one key are joined if they are near each other in event time |
//! | lookup | a full copy of any table, read by any key |
//! | view | a read-only full copy outside a processor |
//! | emitter | writes to a topic from outside a processor |
//! | visitor | a function over every key of the table, called from outside |
//! | event time | when something happened: a record's timestamp, or what is read from its value |
//! | stream time | the largest event time that a partition has seen; never goes back |
//! | timer | a callback for a key, due by stream time or by the wall clock |
//! | window | an accumulator for each key and span of event time |
//! | session | a window that lasts until a key has paused |
//! | batch | records of a key, taken together by their number or by the wall clock |
//! | task | everything of one partition: inputs, table, effects under way |
//! | standby | a warm copy of a partition that another instance has |
//! | dead letter | a record put aside in a topic, with the reason, because it could not be processed |
//!
//! # Layout
//! The way of a record: [`log`] → [`processor`] → [`group`] (decodes, calls) → [`context`] (what the callback does) → `table` →
//! [`store`]. `topology` is a group as data, `time` has a folder for each feature of time, [`topics`] says what the topics must
//! be, `replica` keeps copies of tables for [`view`]s, lookups and standbys, [`codec`] says how values become bytes, and
//! [`window`] how time is cut up.
//! [`design`] has the ways through the code, a map of all files, and what must stay true, for those who change it.

// docs.rs shows which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]
// Library code meets bad data with an error, never with a panic.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

mod chain;
pub mod clock;
pub mod codec;
#[doc = include_str!("../docs/coming-from-goka.md")]
pub mod coming_from_goka {}
#[doc = include_str!("../docs/coming-from-kafka-streams.md")]
pub mod coming_from_kafka_streams {}
pub mod context;
#[doc = include_str!("../docs/design.md")]
pub mod design {}
pub mod emitter;
pub mod group;
pub mod key;
#[doc = include_str!("../docs/guarantees.md")]
pub mod guarantees {}
pub mod log;
#[cfg(feature = "monitor")]
pub mod monitor;
pub mod processor;
mod replica;
#[doc = include_str!("../docs/semantics.md")]
pub mod semantics {}
pub mod store;
mod table;
#[cfg(feature = "testing")]
pub mod testing;
mod time;
pub mod top;
pub mod topics;
mod topology;
pub mod view;
#[doc = include_str!("../docs/which-store.md")]
pub mod which_store {}
pub mod window;
mod workers;

// What a program starts from.
#[doc(inline)]
pub use self::context::Ctx;
#[doc(inline)]
pub use self::emitter::Emitter;
#[doc(inline)]
pub use self::group::{
    CallbackError, CallbackResult, ErrorPolicy, Group, GroupBuilder, GroupGraph, Input, NoTable, Table,
};
#[doc(inline)]
pub use self::log::LogHandle;
#[doc(inline)]
pub use self::log::embedded::InMemory;
#[cfg(feature = "kafka")]
#[doc(inline)]
pub use self::log::kafka::{Kafka, KafkaOptions};
#[doc(inline)]
pub use self::processor::{Guarantee, Handle, Processor, ProcessorError, State};
#[doc(inline)]
pub use self::view::View;

/// The names that most programs use, for a glob import: the entry points, codecs, and the specifications of time.
///
/// It leaves out names that programs and other crates have themselves, such as `State`, `Table`, `Input`, `Handle`, `Window` and
/// `Session`: import them by name, from the crate's root or their module. The exception is [`Json`](crate::codec::Json), because
/// it is the codec of most groups; an import of another `Json` by name wins over this one.
pub mod prelude {
    pub use crate::codec::{Codec, EventTime, Int64, Json, Text, UInt64};
    pub use crate::context::Ctx;
    pub use crate::emitter::Emitter;
    pub use crate::group::{BuildError, CallbackError, CallbackResult, ErrorPolicy, Group, GroupGraph, NoTable};
    pub use crate::log::LogHandle;
    pub use crate::log::embedded::InMemory;
    #[cfg(feature = "kafka")]
    pub use crate::log::kafka::{Kafka, KafkaOptions};
    pub use crate::processor::{Guarantee, Processor, ProcessorError};
    pub use crate::view::View;
    pub use crate::window::{Batches, JoinWindows, SessionChange, Sessions, Windows};
}
