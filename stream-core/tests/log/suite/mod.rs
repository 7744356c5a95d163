//! The conformance suite of the log: what every implementation of [`Log`] must do, as seen through its traits.
//!
//! A [`World`] is one implementation with what the cases need around it; `log_suite!` makes a test of every case. The
//! cases must never know which implementation they run on: what differs between worlds is a [`Caps`] or a hook of
//! [`World`]. What a real Kafka does decides. Nothing here waits a fixed time for something to happen.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::similar_names,
    clippy::struct_excessive_bools,
    reason = "tests"
)]

pub mod compaction;
pub mod gone;
pub mod group_moves;
pub mod groups;
pub mod helper;
pub mod produce_fetch;
pub mod refusals;
pub mod topics;
pub mod transactions;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use stream_core::log::{LogHandle, Offsets, TopicConfig, TopicSpec};

/// What a world can do; a case that needs what it can't ends at once.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// Transactions work as in Kafka (librdkafka's mock cluster: no).
    pub transactions: bool,
    /// Topics can be created, deleted and grown through the log (mock cluster: no, see [`World::make_topic`]).
    pub admin: bool,
    /// Offsets can be looked up by time (mock cluster: no).
    pub times: bool,
    /// A topic's `max.message.bytes` is enforced (mock cluster: no).
    pub topic_limits: bool,
    /// Batches are refused as a broker refuses them: for records without a key, for times, for their size (mock cluster:
    /// no).
    pub refusals: bool,
    /// `group_members` and `group_offsets` answer (mock cluster: no).
    pub group_admin: bool,
    /// A static member that returns within its session is not waited for (mock cluster: minutes).
    pub static_members: bool,
    /// A generation lasts while a revocation of it is held back (mock cluster: it begins the next by a timer, so that the
    /// last commit may come too late).
    pub held_generations: bool,
}

impl Caps {
    /// Everything.
    pub const ALL: Self = Self {
        transactions: true,
        admin: true,
        times: true,
        topic_limits: true,
        refusals: true,
        group_admin: true,
        static_members: true,
        held_generations: true,
    };
}

/// Offsets that lie in an open transaction: sent to it, and not yet committed with it.
pub trait PendingOffsets: Send {
    /// Commits that transaction.
    fn commit(self: Box<Self>) -> BoxFuture<'static, ()>;
    /// Aborts it.
    fn abort(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// One implementation of the log, fresh or shared between tests.
pub trait World: Send + Sync {
    /// A handle on the log; several of one world see the same topics and groups.
    fn log(&self) -> LogHandle;

    /// What works here.
    fn caps(&self) -> Caps {
        Caps::ALL
    }

    /// Makes a topic that can be used when this resolves.
    fn make_topic(&self, spec: TopicSpec) -> BoxFuture<'static, ()> {
        let log = self.log();
        Box::pin(async move { log.create_topics(vec![spec]).await.unwrap() })
    }

    /// Lets wall-clock time pass on the log's clock.
    fn elapse(&self, by: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(by))
    }

    /// Compacts a topic up to its active end, or brings that nearer; the cases call it until they see the effect.
    /// `false`: this world can't in reasonable time.
    fn compact(&self, _topic: Arc<str>) -> BoxFuture<'static, bool> {
        Box::pin(std::future::ready(false))
    }

    /// Deletes what the topics' retention does not keep, or lets it come nearer; the cases call it until they see the
    /// effect. `false`: this world can't in reasonable time.
    fn apply_retention(&self) -> BoxFuture<'static, bool> {
        Box::pin(std::future::ready(false))
    }

    /// Forgets the committed offsets of a group without members. `false`: this world can't.
    fn forget_offsets(&self, _group: Arc<str>) -> BoxFuture<'static, bool> {
        Box::pin(std::future::ready(false))
    }

    /// Lets a transactional id expire that has no open transaction. `false`: this world can't in reasonable time.
    fn expire_transactional_id(&self, _id: Arc<str>) -> BoxFuture<'static, bool> {
        Box::pin(std::future::ready(false))
    }

    /// Sends offsets of a group to a transaction that stays open (with Kafka: a plain client's
    /// `send_offsets_to_transaction`). `None`: this world can't.
    fn pending_offsets(
        &self,
        _group: Arc<str>,
        _offsets: Offsets,
    ) -> BoxFuture<'static, Option<Box<dyn PendingOffsets>>> {
        Box::pin(std::future::ready(None))
    }
}

/// A name that no other test, nor an earlier run, has.
pub fn unique(hint: &str) -> Arc<str> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    format!("suite-{hint}-{}-{}-{n}", since.as_micros(), std::process::id()).into()
}

/// A topic with that many partitions.
pub async fn topic(world: &impl World, partitions: i32) -> Arc<str> {
    topic_with(world, partitions, TopicConfig::default()).await
}

/// A topic with that many partitions and that configuration.
pub async fn topic_with(world: &impl World, partitions: i32, config: TopicConfig) -> Arc<str> {
    let name = unique("t");
    world.make_topic(TopicSpec::new(Arc::clone(&name)).partitions(partitions).config(config)).await;
    name
}

/// Bounds a test, against hanging only.
pub async fn bounded<F: Future>(test: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(180), test).await.expect("the test hangs")
}

/// Polls a condition until it holds; bounded, against hanging only.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(90), async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(waited.await.is_ok(), "never came true: {what}");
}

/// Makes a test of each case. `log_suite! { [#[tokio::test]] MyWorld::new().await }`; name the concerns to leave some
/// out: `log_suite! { [#[tokio::test] #[ignore = "..."]] MyWorld::new().await; produce_fetch groups }`.
#[allow(unused_macros, reason = "each test binary uses a part")]
macro_rules! log_suite {
    (@ topics $attrs:tt $world:expr) => {
        log_suite! { @@ topics $attrs $world;
            create_and_look_up
            existing_topic_is_an_error_and_the_others_are_made
            broker_defaults_are_filled_in
            delete_and_make_again
            a_topic_made_anew_has_another_id
            unknown_topics_are_errors
            grow
            delete_records
        }
    };
    (@ produce_fetch $attrs:tt $world:expr) => {
        log_suite! { @@ produce_fetch $attrs $world;
            records_come_back_as_they_were
            timestamp_is_now_unless_given
            partition_by_key_is_murmur2
            partition_by_key_is_fnv1a
            null_keys_spread
            order_holds_over_many_batches
            delivery_names_the_last_offsets
            larger_than_a_batch_goes_alone
            too_large_for_the_topic_fails_alone
            null_key_on_a_compacted_topic_fails
            unknown_topic_and_partition_fail_alone
            offsets_earliest_latest_and_by_time
            end_is_reported_once_for_each_end
            an_empty_partition_has_an_end
            a_waiting_fetch_wakes
            seek
            out_of_range
            limits
            flush_waits_for_everything
        }
    };
    (@ refusals $attrs:tt $world:expr) => {
        log_suite! { @@ refusals $attrs $world;
            one_bad_record_gives_its_error_to_its_whole_batch
            several_bad_records_of_a_batch_are_distinguished_from_their_neighbours
            other_partitions_and_topics_are_not_concerned
            hand_overs_of_several_callers_share_a_batch
            what_is_handed_over_behind_a_refused_batch_keeps_its_order
            a_batch_that_is_too_large_in_sum_names_nobody
            several_callers_batch_is_too_large_in_sum
            a_refusal_makes_its_transaction_abortable
            after_a_refusal_the_next_transaction_of_its_partition_fails_once
            append_time_overwrites_the_records_time
            times_far_ahead_are_refused_by_default
        }
    };
    (@ groups $attrs:tt $world:expr) => {
        log_suite! { @@ groups $attrs $world;
            single_member_gets_all_and_reads
            a_member_without_partitions_is_notified_once
            start_without_a_commit_is_explicit
            committed_offsets_survive_close_and_rejoin
            committed_metadata_comes_back
            metadata_above_the_limit_is_refused_for_good_and_the_limit_is_named
            offsets_of_a_group
            members_of_a_group
            metadata_only_while_a_member
            commit_after_losing_the_membership
            a_member_that_comes_back_is_notified_of_what_it_lost
            static_member_returns_without_a_rebalance
        }
    };
    (@ group_moves $attrs:tt $world:expr) => {
        log_suite! { @@ group_moves $attrs $world;
            two_members_split_incrementally
            graceful_move_reads_nothing_twice
            lead_co_partitions
            lead_is_consumed_when_listed
            revoke_token_holds_the_move_back
            past_the_bound_is_lost
            leaving_hands_over
        }
    };
    (@ transactions $attrs:tt $world:expr) => {
        log_suite! { @@ transactions $attrs $world;
            committed_records_are_seen_and_aborted_ones_never
            open_transaction_pins_the_end
            markers_occupy_offsets_and_the_end_passes_them
            a_newer_producer_fences
            offsets_show_on_commit_only
            offsets_of_a_stale_generation_abort
            offsets_of_a_lost_membership_abort
            takeover_waits_for_pending_offsets
            time_out_aborts
            sending_outside_a_transaction_fails
            interleaved_transactions
        }
    };
    (@ gone $attrs:tt $world:expr) => {
        log_suite! { @@ gone $attrs $world;
            offsets_go_with_their_topic
            a_position_beyond_the_topic_made_anew_is_out_of_range
            a_position_of_the_topic_before_counts_on_the_one_made_anew
            a_producer_goes_on_in_a_topic_made_anew
            retention_deletes_past_committed_offsets
            forgotten_offsets_are_gone
            an_expired_transactional_id_costs_one_transaction
        }
    };
    (@ compaction $attrs:tt $world:expr) => {
        log_suite! { @@ compaction $attrs $world;
            last_values_stay_and_offsets_never_change
            tombstones_go_after_their_time
            aborted_records_never_win
        }
    };
    (@@ $concern:ident $attrs:tt $world:expr; $($case:ident)*) => {
        mod $concern {
            #[allow(unused_imports, reason = "the expression of the world may need them")]
            use super::*;
            $( log_suite! { @@@ $concern $attrs $world; $case } )*
        }
    };
    (@@@ $concern:ident [$(#[$attr:meta])*] $world:expr; $case:ident) => {
        $(#[$attr])*
        async fn $case() {
            let world = $world;
            $crate::log_suite::bounded($crate::log_suite::$concern::$case(&world)).await;
        }
    };
    ($attrs:tt $world:expr) => {
        log_suite! { $attrs $world; topics produce_fetch refusals groups group_moves transactions compaction gone }
    };
    ($attrs:tt $world:expr; $($concern:ident)*) => {
        $( log_suite! { @ $concern $attrs $world } )*
    };
}
#[allow(unused_imports, reason = "each test binary uses a part")]
pub(crate) use log_suite;
