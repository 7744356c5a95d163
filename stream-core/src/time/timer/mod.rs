//! Timers: a callback for a key, due by stream time or by the wall clock.

mod define;
mod ops;
