//! Members of a group on librdkafka's mock cluster: commits, revocations, and a coordinator that does not answer.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr as Code};
use stream_core::log::{LogError, Subscription};

use crate::kafka_mock::MockWorld;
use crate::log_suite::helper::{
    Client, Happened, lead_options, member_options, producer, take, tp, values, write_numbers,
};
use crate::log_suite::{World, bounded, topic, unique, until};

#[tokio::test]
async fn passing_errors_of_the_coordinator_are_tried_again() {
    bounded(async {
        let world = MockWorld::new();
        let (log, lead, name, group) = (world.log(), topic(&world, 2).await, topic(&world, 2).await, unique("g"));
        write_numbers(&producer(&log).await, &name, 0, 0, 5).await;
        let subscription = || Subscription::CoPartitioned { lead: Arc::clone(&lead), with: vec![Arc::clone(&name)] };
        let client = Client::join(&log, lead_options(&group, subscription()));
        client.owns(2).await;
        world.fail(
            RDKafkaApiKey::OffsetCommit,
            &[
                Code::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
                Code::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
                Code::RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
            ],
        );
        client.group.commit(vec![(tp(&name, 0), 3)]).await.unwrap();
        client.close().await;
        world.fail(
            RDKafkaApiKey::OffsetFetch,
            &[
                Code::RD_KAFKA_RESP_ERR_UNSTABLE_OFFSET_COMMIT,
                Code::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
                Code::RD_KAFKA_RESP_ERR__TRANSPORT,
            ],
        );
        let client = Client::join(&log, lead_options(&group, subscription()));
        client.owns(2).await;
        let mut assigned = client.take(&tp(&name, 0));
        assert_eq!((assigned.start, assigned.committed), (3, true));
        assert_eq!(values(&take(&mut *assigned.fetch, 2).await), ["3", "4"]);
        client.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_commit_of_an_old_generation_says_so() {
    bounded(async {
        let world = MockWorld::new();
        let (log, name, group) = (world.log(), topic(&world, 1).await, unique("g"));
        let client = Client::join(&log, member_options(&group, &[&name]));
        client.owns(1).await;
        world.fail(RDKafkaApiKey::OffsetCommit, &[Code::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION]);
        let error = client.group.commit(vec![(tp(&name, 0), 0)]).await.unwrap_err();
        assert!(matches!(error, LogError::NotMember { .. }), "{error:?}");
        let error = client.group.commit(vec![(tp(&name, 1), 0)]).await.unwrap_err();
        assert!(matches!(error, LogError::NotMember { .. }), "not its partition: {error:?}");
        client.close().await;
    })
    .await;
}

#[tokio::test]
async fn closing_does_not_wait_for_a_held_revocation() {
    bounded(async {
        // The mock's rebalances are slow, and a member leaves between two of them.
        let world = MockWorld::with(|o| o.request_timeout(Duration::from_secs(60)));
        let (log, name, group) = (world.log(), topic(&world, 2).await, unique("g"));
        let mut options = member_options(&group, &[&name]);
        options.revoke_timeout = Duration::from_secs(120);
        let one = Client::join(&log, options.clone());
        one.owns(2).await;
        one.hold();
        let two = Client::join(&log, options);
        until("one is asked to let go", async || !one.known().revoking.is_empty()).await;
        // Closing does not wait for the token that is still held.
        let (_moving, token) = one.known().revoking.remove(0);
        one.close().await;
        two.owns(2).await;
        drop(token);
        two.close().await;
    })
    .await;
}

/// librdkafka says nothing of a membership that ends while a revocation is held back: it joins again and goes on with
/// the rest, which by then others may own.
#[tokio::test]
async fn a_membership_that_ends_while_a_revocation_is_held_is_lost() {
    bounded(async {
        let world = MockWorld::new();
        let (log, name, group) = (world.log(), topic(&world, 2).await, unique("g"));
        let mut options = member_options(&group, &[&name]);
        options.revoke_timeout = Duration::from_secs(60);
        let one = Client::join(&log, options.clone());
        one.owns(2).await;
        one.hold();
        let two = Client::join(&log, options);
        until("one is asked to let go", async || !one.known().revoking.is_empty()).await;
        let (moving, token) = one.known().revoking.remove(0);
        // Only the one that is held commits, so the error is for it: librdkafka drops its member id on it.
        world.fail(RDKafkaApiKey::OffsetCommit, &[Code::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID]);
        let error = one.group.commit(vec![(moving[0].clone(), 1)]).await.unwrap_err();
        assert!(matches!(error, LogError::NotMember { .. }), "{error:?}");
        one.known().owned.remove(&moving[0]);
        drop(token);
        until("one knows of the loss", async || !one.gone().1.is_empty()).await;
        let rest = tp(&name, 1 - moving[0].partition);
        assert_eq!(one.gone().1.into_iter().collect::<Vec<_>>(), std::slice::from_ref(&rest));
        assert!(!one.history().iter().any(|h| *h == Happened::Revoked(vec![rest.clone()])), "{:?}", one.history());
        // It finds its way back.
        until("both have a share", async || one.owned().len() + two.owned().len() == 2 && !one.owned().is_empty())
            .await;
        let mine = one.owned().pop_first().unwrap();
        until("it commits again", async || one.group.commit(vec![(mine.clone(), 1)]).await.is_ok()).await;
        one.close().await;
        two.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_assignment_outlasts_a_coordinator_that_does_not_answer() {
    bounded(async {
        let world = MockWorld::with(|o| o.request_timeout(Duration::from_millis(500)));
        let (log, name, group) = (world.log(), topic(&world, 1).await, unique("g"));
        write_numbers(&producer(&log).await, &name, 0, 0, 1).await;
        // Each look-up gives up after half a second, that is after ten of them at most.
        world.fail(RDKafkaApiKey::OffsetFetch, &[Code::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS; 40]);
        let client = Client::join(&log, member_options(&group, &[&name]));
        client.owns(1).await;
        let mut assigned = client.take(&tp(&name, 0));
        assert_eq!(values(&take(&mut *assigned.fetch, 1).await), ["0"]);
        client.close().await;
    })
    .await;
}
