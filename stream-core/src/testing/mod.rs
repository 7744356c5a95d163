//! Running groups in memory, for users' own tests.
//!
//! A [`Tester`] runs any number of groups, with any number of partitions, on the embedded log and on virtual time: the
//! same code as in production, on one thread, without sleeping. Needs the cargo feature `testing`.
//!
//! ```
//! use stream_core::codec::{Int64, Text};
//! use stream_core::group::Group;
//! use stream_core::testing::Tester;
//!
//! let mut g = Group::define("counter").table(Int64);
//! g.input("words", Text, |ctx, _word| {
//!     let n = ctx.value()?.unwrap_or(0) + 1;
//!     ctx.set(n)
//! });
//!
//! let tester = Tester::new();
//! tester.add(g.build()?)?;
//! let words = tester.input("words", Text);
//! let counts = tester.table("counter", Int64);
//! words.send("apple", "red".to_owned())?;
//! words.send("apple", "green".to_owned())?;
//! assert_eq!(counts.get("apple")?, Some(2));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod instances;
pub mod simulator;
mod tester;
mod topics;
mod views;

pub use self::error::TesterError;
pub use self::tester::Tester;
pub use self::topics::{TestInput, TestOutput, TestRecord, TestTable};
