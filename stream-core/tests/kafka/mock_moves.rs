//! Graceful moves of co-partitioned inputs on librdkafka's mock cluster.

use stream_core::log::LogHandle;
use stream_core::processor::Guarantee;

use crate::cases::mock::MockLog;
use crate::cases::moves::{Plan, three_instances_join_and_leave};
use crate::kafka_support::bounded;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn classic_protocol() {
    let log: LogHandle = MockLog::start();
    let plan =
        Plan { new_protocol: false, guarantee: Guarantee::AtLeastOnce, moves: 4, seed: 0x5eed_0003, repeats: true };
    bounded(300, three_instances_join_and_leave(&log, plan)).await;
}
