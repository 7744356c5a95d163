//! A disk that is full: at a write, at a checkpoint, at an opening, in the middle of a restore; and when space is back.
//!
//! The rule: the error names the folder and what to do, no checkpoint is acknowledged that is not on the disk, and what is
//! opened when there is space again is exact after its changelog is read from its checkpoint on, or is wiped.
//!
//! Stores in memory have no disk; `tests/library/store_crash.rs` interrupts those at any write.

mod disk;
mod processor;
mod stores;
