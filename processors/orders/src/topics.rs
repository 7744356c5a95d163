//! The system's topics and groups: their names, which are the original system's where it had them, and what the topics
//! must be like.

use std::sync::Arc;

use clap::Args;
use processors_common::CommonArgs;
use processors_common::topics::{compacted, create_missing, partitions_of};
use stream_core::group::table_topic;
use stream_core::log::{LogHandle, LogResult, TopicConfig, TopicSpec};

/// Names of topics and groups. All binaries take all of them, and show those that they use.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Names")]
#[group(skip)]
pub struct TopicNames {
    /// Topic of the orders; those that are none go to TOPIC-dlq
    #[arg(long, value_name = "TOPIC", env = "ORDER_TOPIC", hide_env_values = true, default_value = ORDERS)]
    pub order_topic: String,

    /// Name of the router's group; its table is the topic GROUP-table, its list of cities GROUP-cities
    #[arg(long, value_name = "GROUP", env = "ORDER_ROUTER_GROUP", hide_env_values = true, default_value = ROUTER)]
    pub router_group: String,

    /// What the names of the cities' topics begin with
    #[arg(long, value_name = "PREFIX", env = "ORDER_CITY_PREFIX", hide_env_values = true, default_value = CITY, value_parser = prefix)]
    pub city_prefix: String,

    /// Topic of the orders whose customers get a mail; those that can't be mailed go to TOPIC-dlq
    #[arg(long, value_name = "TOPIC", env = "ORDER_EMAIL_TOPIC", hide_env_values = true, default_value = EMAILS)]
    pub email_topic: String,

    /// Name of the mailer's group
    #[arg(long, value_name = "GROUP", env = "ORDER_MAILER_GROUP", hide_env_values = true, default_value = MAILER)]
    pub mailer_group: String,

    /// Name of the sink's group; orders that the database refuses go to GROUP-dlq
    #[arg(long, value_name = "GROUP", env = "ORDER_SINK_GROUP", hide_env_values = true, default_value = SINK)]
    pub sink_group: String,
}

/// Orders, as they are taken.
pub const ORDERS: &str = "product_orders";
/// The router's group.
pub const ROUTER: &str = "order-router";
/// What cities' topics begin with.
pub const CITY: &str = "orders_city_";
/// Orders whose customers get a mail.
pub const EMAILS: &str = "order_emails";
/// The mailer's group.
pub const MAILER: &str = "order-mailer";
/// The sink's group.
pub const SINK: &str = "order-sink";

/// The flags of [`TopicNames`], for [`parse`](processors_common::parse).
pub const NAME_FLAGS: [&str; 6] =
    ["order_topic", "router_group", "city_prefix", "email_topic", "mailer_group", "sink_group"];

impl Default for TopicNames {
    fn default() -> Self {
        Self {
            order_topic: ORDERS.into(),
            router_group: ROUTER.into(),
            city_prefix: CITY.into(),
            email_topic: EMAILS.into(),
            mailer_group: MAILER.into(),
            sink_group: SINK.into(),
        }
    }
}

/// A prefix leaves room for a name behind it.
fn prefix(text: &str) -> Result<String, String> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if (1..=200).contains(&text.len()) && text.bytes().all(valid) {
        return Ok(text.to_owned());
    }
    Err("use 1 to 200 letters, digits, '.', '_' or '-'".into())
}

impl TopicNames {
    /// Orders that are none.
    pub fn order_dlq(&self) -> String {
        format!("{}-dlq", self.order_topic)
    }

    /// Mails that could not be sent.
    pub fn email_dlq(&self) -> String {
        format!("{}-dlq", self.email_topic)
    }

    /// Rows that the database refused.
    pub fn sink_dlq(&self) -> String {
        format!("{}-dlq", self.sink_group)
    }

    /// The router's table.
    pub fn table(&self) -> Arc<str> {
        table_topic(&self.router_group)
    }

    /// The list of cities that have a topic.
    pub fn cities(&self) -> String {
        format!("{}-cities", self.router_group)
    }

    /// A city's topic, by its slug.
    pub fn city(&self, slug: &str) -> String {
        format!("{}{slug}", self.city_prefix)
    }

    /// Makes what more than one of the binaries needs, so that they can be started in any order: the orders, the router's
    /// table with as many partitions, and the mails.
    ///
    /// # Errors
    /// When the log fails.
    pub async fn prepare(&self, log: &LogHandle, common: &CommonArgs) -> LogResult<()> {
        let partitions = partitions_of(log, &self.order_topic, common.topics.partitions).await?;
        let mut specs = vec![
            TopicSpec::new(self.order_topic.as_str()).partitions(partitions),
            compacted(&self.table(), partitions),
            TopicSpec::new(self.email_topic.as_str()).partitions(common.topics.partitions),
        ];
        for spec in &mut specs {
            spec.replication = common.topics.replication;
        }
        create_missing(log, specs).await.map(drop)
    }

    /// The list of cities: their order decides, so it is one partition; it is short, so it is kept for ever.
    pub(crate) fn city_list(&self, replication: Option<i32>) -> TopicSpec {
        let config = TopicConfig::new().retention_ms(-1);
        let mut spec = TopicSpec::new(self.cities()).partitions(1).config(config);
        spec.replication = replication;
        spec
    }
}
