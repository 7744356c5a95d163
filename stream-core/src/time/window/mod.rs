//! Windows: an accumulator for each key and span of event time.

mod define;
mod ops;
