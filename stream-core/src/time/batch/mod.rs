//! Batches: records of a key that are taken together.

mod define;
mod ops;
