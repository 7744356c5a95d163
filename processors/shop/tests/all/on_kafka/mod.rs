//! A shop of a test's own on a real Kafka.

use processors_common::testing::System;

/// A shop under names of its own.
pub(crate) fn shop(test: &str) -> System {
    let names = [
        ("PRODUCT_TOPIC", "products"),
        ("PRODUCT_FILTERED_TOPIC", "filtered"),
        ("PRODUCT_RULES_TOPIC", "rules"),
        ("PRODUCT_FIND_TOPIC", "find"),
        ("PRODUCT_RECOM_TOPIC", "recom"),
        ("PRODUCT_RECOM_GROUP", "recommendations"),
    ];
    System::new(test, &names)
}
