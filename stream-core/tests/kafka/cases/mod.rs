//! The cases: each is given a log and a guarantee, and knows nothing of where it runs.
#![allow(unreachable_pub, reason = "a module of a test")]

pub mod clock;
pub mod delivery;
pub mod mock;
pub mod moves;
pub mod odd;
pub mod refusals;
pub mod rekey;
pub mod rules;
pub mod table_joins;
pub mod time;
pub mod windows;
pub mod world;
