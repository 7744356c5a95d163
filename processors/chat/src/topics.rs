//! The system's topics and groups: their names, which are the original system's where it had them, and what the topics
//! must be like.

use std::sync::Arc;

use clap::Args;
use processors_common::CommonArgs;
use processors_common::topics::{compacted, create_missing, partitions_of};
use stream_core::group::{table_topic, time_topic};
use stream_core::log::{LogHandle, LogResult, TopicSpec};

/// Names of topics and groups. All binaries take all of them, and show those that they use.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Names")]
#[group(skip)]
pub struct TopicNames {
    /// Topic of the messages; those that are none go to TOPIC-dlq
    #[arg(long, value_name = "TOPIC", env = "CHAT_MESSAGES_TOPIC", hide_env_values = true, default_value = MESSAGES)]
    pub message_topic: String,

    /// Topic of the groups of messages
    #[arg(long, value_name = "TOPIC", env = "CHAT_GROUPED_TOPIC", hide_env_values = true, default_value = GROUPED)]
    pub grouped_topic: String,

    /// Topic of the messages by chat and time, compacted; messages without such a time go to TOPIC-dlq
    #[arg(long, value_name = "TOPIC", env = "CHAT_HISTORY_TOPIC", hide_env_values = true, default_value = HISTORY)]
    pub history_topic: String,

    /// Topic of the chats, compacted
    #[arg(long, value_name = "TOPIC", env = "CHATS_TOPIC", hide_env_values = true, default_value = CHATS)]
    pub chats_topic: String,

    /// Name of the aggregator's group
    #[arg(long, value_name = "GROUP", env = "CHAT_AGGREGATOR_GROUP", hide_env_values = true, default_value = AGGREGATOR)]
    pub aggregator_group: String,

    /// Name of the group that fills the history
    #[arg(long, value_name = "GROUP", env = "CHAT_HISTORY_GROUP", hide_env_values = true, default_value = HISTORIAN)]
    pub history_group: String,
}

/// Messages, as they are taken.
pub const MESSAGES: &str = "chat_messages";
/// Groups of messages.
pub const GROUPED: &str = "chat_messages_grouped";
/// Messages by chat and time.
pub const HISTORY: &str = "chat_history";
/// Chats and who they belong to.
pub const CHATS: &str = "chats";
/// The aggregator's group.
pub const AGGREGATOR: &str = "chat-aggregator";
/// The group that fills the history.
pub const HISTORIAN: &str = "chat-history";

impl Default for TopicNames {
    fn default() -> Self {
        Self {
            message_topic: MESSAGES.into(),
            grouped_topic: GROUPED.into(),
            history_topic: HISTORY.into(),
            chats_topic: CHATS.into(),
            aggregator_group: AGGREGATOR.into(),
            history_group: HISTORIAN.into(),
        }
    }
}

impl TopicNames {
    /// What is no message.
    pub fn message_dlq(&self) -> String {
        format!("{}-dlq", self.message_topic)
    }

    /// Messages that have no place in the history.
    pub fn history_dlq(&self) -> String {
        format!("{}-dlq", self.history_topic)
    }

    /// What more than one of the binaries needs. The groups are in as many partitions as the messages: at least once the
    /// aggregator reads both.
    pub fn shared(&self, partitions: i32, replication: Option<i32>) -> Vec<TopicSpec> {
        let plain = |name: &str| TopicSpec::new(name).partitions(partitions);
        let mut specs = vec![
            plain(&self.message_topic),
            plain(&self.grouped_topic),
            compacted(&self.history_topic, partitions),
            compacted(&self.chats_topic, partitions),
        ];
        for spec in &mut specs {
            spec.replication = replication;
        }
        specs
    }

    /// The topics that the groups make for themselves.
    pub fn of_groups(&self) -> Vec<Arc<str>> {
        let own = [table_topic(&self.aggregator_group), time_topic(&self.aggregator_group)];
        own.into_iter().chain([self.message_dlq().into(), self.history_dlq().into()]).collect()
    }

    /// What more than one of the binaries needs, in as many partitions as the messages have or are to have.
    ///
    /// # Errors
    /// When the log fails.
    pub async fn needed(&self, log: &LogHandle, common: &CommonArgs) -> LogResult<Vec<TopicSpec>> {
        let partitions = partitions_of(log, &self.message_topic, common.topics.partitions).await?;
        Ok(self.shared(partitions, common.topics.replication))
    }

    /// Makes what more than one of the binaries needs, so that they can be started in any order.
    ///
    /// # Errors
    /// When the log fails.
    pub async fn prepare(&self, log: &LogHandle, common: &CommonArgs) -> LogResult<()> {
        create_missing(log, self.needed(log, common).await?).await.map(drop)
    }
}
