//! What a record costs on the hot paths: the task loop, tables, windows, a join, and the stores below them.
//!
//! `make bench-hot`, or `cargo bench -p stream-core --bench hot -- count` for the benches with that word. Everything is in this
//! process and needs no broker. The figures are for comparing two versions of the code on one quiet machine; the crate
//! `bench` measures on a real Kafka.

mod groups;
mod stores;
mod support;

use std::time::Duration;

use criterion::Criterion;

fn main() {
    let quick = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(500));
    let mut criterion = quick.measurement_time(Duration::from_secs(3)).configure_from_args();
    groups::benches(&mut criterion);
    stores::benches(&mut criterion);
    criterion.final_summary();
}
