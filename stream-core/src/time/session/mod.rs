//! Sessions: an accumulator for the records of a key that follow each other closely.

mod define;
mod ops;
