//! The system's topics: their names, which are the original system's, and what they must be like.

use clap::Args;
use processors_common::CommonArgs;
use processors_common::topics::compacted;
use stream_core::group::table_topic;
use stream_core::log::TopicSpec;

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
}

/// Products, as they are made or changed.
pub const PRODUCTS: &str = "shop_products";
/// The filter's group.
pub const FILTERED: &str = "analytic_products_filtered";
/// The filter's rules.
pub const RULES: &str = "product_filter_rules";
/// Searches.
pub const FIND: &str = "analytic_products_find";

impl Default for TopicNames {
    fn default() -> Self {
        Self {
            product_topic: PRODUCTS.into(),
            filter_group: FILTERED.into(),
            rules_topic: RULES.into(),
            find_topic: FIND.into(),
        }
    }
}

impl TopicNames {
    /// All topics of the system.
    pub fn all(&self, common: &CommonArgs) -> Vec<TopicSpec> {
        let table = compacted(&table_topic(&self.filter_group), common.topics.partitions);
        vec![self.products(common), self.searches(common), self.rules(common), replicated(table, common)]
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
