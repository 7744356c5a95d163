//! What recommendations must come to, computed without any stream.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;

use shop::{Find, Latest, Product, Recommendation, Recommended};

/// A product and a search for it: the time of the later one, and both as JSON, so that they have an order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    pub at_ms: i64,
    pub find_id: String,
    pub user_id: String,
    pub find: String,
    pub product: String,
}

impl Pair {
    fn of(at_ms: i64, product: &Product, find: &Find) -> Self {
        let Find { id, user_id, find } = find.clone();
        Self { at_ms, find_id: id, user_id, find, product: serde_json::to_string(product).unwrap() }
    }

    /// As it was recommended.
    pub fn recommended(at_ms: i64, recommended: Recommendation) -> Self {
        let Recommendation { user_id, find_id, find, product } = recommended;
        let find = Find { id: find_id.unwrap(), user_id: user_id.unwrap(), find: find.unwrap() };
        Self::of(at_ms, &product, &find)
    }

    fn product(&self) -> Product {
        serde_json::from_str(&self.product).unwrap()
    }
}

/// Every pair of one name that is not further apart, in order.
pub fn pairs_of(products: &[(i64, Product)], searches: &[(i64, Find)], within: i64) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for (made, product) in products {
        for (asked, find) in searches {
            if product.name == find.find && (made - asked).abs() <= within {
                pairs.push(Pair::of(*made.max(asked), product, find));
            }
        }
    }
    pairs.sort();
    pairs
}

/// Each user's newest, one for each search and product.
pub fn latest_of(pairs: &[Pair], keep: usize) -> BTreeMap<String, Latest> {
    let mut newest: BTreeMap<(&str, &str, String), &Pair> = BTreeMap::new();
    for pair in pairs {
        // They are in order of time: the last one stays.
        newest.insert((&pair.user_id, &pair.find_id, pair.product().product_id), pair);
    }
    let mut of_users: BTreeMap<String, Latest> = BTreeMap::new();
    for pair in newest.values() {
        let Pair { at_ms, find_id, user_id, find, .. } = (*pair).clone();
        let new = Recommended { at_ms, find_id, find, product: pair.product() };
        of_users.entry(user_id).or_default().recommendations.push(new);
    }
    for latest in of_users.values_mut() {
        let rank = |r: &Recommended| (r.at_ms, r.find_id.clone(), r.product.product_id.clone());
        latest.recommendations.sort_by_key(|r| std::cmp::Reverse(rank(r)));
        latest.recommendations.truncate(keep);
    }
    of_users
}
