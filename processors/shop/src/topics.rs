//! The system's topics: their names, which are the original system's, and what they must be like.

use std::sync::Arc;

use clap::Args;
use processors_common::CommonArgs;
use processors_common::topics::compacted;
use stream_core::group::{join_topic, lead_topic, loop_topic, repartition_topic, table_topic, time_topic};
use stream_core::log::TopicSpec;

use crate::recommend::JOIN;

/// Names of the topics. All binaries take all of them, and show those that they use.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Names")]
#[group(skip)]
pub struct TopicNames {
    /// Topic of the products
    #[arg(long, value_name = "TOPIC", env = "PRODUCT_TOPIC", hide_env_values = true, default_value = PRODUCTS)]
    pub product_topic: String,

    /// Name of the filter's group; its table is the topic GROUP-table
    #[arg(long = "group", value_name = "GROUP", env = "PRODUCT_FILTERED_TOPIC", hide_env_values = true, default_value = FILTERED)]
    pub filter_group: String,

    /// Topic of the filter's rules
    #[arg(long, value_name = "TOPIC", env = "PRODUCT_RULES_TOPIC", hide_env_values = true, default_value = RULES)]
    pub rules_topic: String,

    /// Topic of the searches
    #[arg(long, value_name = "TOPIC", env = "PRODUCT_FIND_TOPIC", hide_env_values = true, default_value = FIND)]
    pub find_topic: String,

    /// Topic of the recommendations
    #[arg(long, value_name = "TOPIC", env = "PRODUCT_RECOM_TOPIC", hide_env_values = true, default_value = RECOM)]
    pub recom_topic: String,

    /// Name of the group that makes recommendations; that of each user's newest is GROUP-users, its table GROUP-users-table
    #[arg(long, value_name = "GROUP", env = "PRODUCT_RECOM_GROUP", hide_env_values = true, default_value = RECOM_GROUP)]
    pub recom_group: String,
}

/// Products, as they are made or changed.
pub const PRODUCTS: &str = "shop_products";
/// The filter's group.
pub const FILTERED: &str = "analytic_products_filtered";
/// The filter's rules.
pub const RULES: &str = "product_filter_rules";
/// Searches.
pub const FIND: &str = "analytic_products_find";
/// Recommendations.
pub const RECOM: &str = "personal_recom";
/// The group that makes them.
pub const RECOM_GROUP: &str = "personal_recommendations";

/// The flags of recommendations among [`TopicNames`], for [`parse`](processors_common::parse).
pub const RECOM_FLAGS: &[&str] = &["recom_topic", "recom_group"];

impl Default for TopicNames {
    fn default() -> Self {
        Self {
            product_topic: PRODUCTS.into(),
            filter_group: FILTERED.into(),
            rules_topic: RULES.into(),
            find_topic: FIND.into(),
            recom_topic: RECOM.into(),
            recom_group: RECOM_GROUP.into(),
        }
    }
}

impl TopicNames {
    /// All topics of the system that are of use beyond one group.
    pub fn all(&self, common: &CommonArgs) -> Vec<TopicSpec> {
        let users = compacted(&table_topic(&self.users_group()), common.topics.partitions);
        vec![
            self.products(common),
            self.searches(common),
            self.rules(common),
            self.filtered(common),
            self.recommendations(common),
            replicated(users, common),
        ]
    }

    /// Topics that groups make for themselves, with what is under way and what they know.
    pub fn inner(&self) -> Vec<Arc<str>> {
        let group = self.recom_group.as_str();
        vec![
            repartition_topic(group, JOIN, "left"),
            repartition_topic(group, JOIN, "right"),
            join_topic(group, JOIN),
            time_topic(group),
            lead_topic(group),
            loop_topic(&self.users_group()),
        ]
    }

    /// The group of each user's newest recommendations.
    pub fn users_group(&self) -> String {
        format!("{}-users", self.recom_group)
    }

    /// The filter's table.
    pub fn filtered(&self, common: &CommonArgs) -> TopicSpec {
        replicated(compacted(&table_topic(&self.filter_group), common.topics.partitions), common)
    }

    /// The recommendations.
    pub fn recommendations(&self, common: &CommonArgs) -> TopicSpec {
        plain(&self.recom_topic, common)
    }

    /// The products.
    pub fn products(&self, common: &CommonArgs) -> TopicSpec {
        plain(&self.product_topic, common)
    }

    /// The searches.
    pub fn searches(&self, common: &CommonArgs) -> TopicSpec {
        plain(&self.find_topic, common)
    }

    /// The control topic: one key matters, so one partition will do.
    pub fn rules(&self, common: &CommonArgs) -> TopicSpec {
        replicated(compacted(&self.rules_topic, 1), common)
    }
}

fn plain(name: &str, common: &CommonArgs) -> TopicSpec {
    replicated(TopicSpec::new(name).partitions(common.topics.partitions), common)
}

fn replicated(mut spec: TopicSpec, common: &CommonArgs) -> TopicSpec {
    spec.replication = common.topics.replication;
    spec
}
