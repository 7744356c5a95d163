//! What comes of a search: a product that somebody looked for, and each user's newest of them.

use serde::{Deserialize, Serialize};

use crate::product::Product;
use crate::search::Find;

/// A product, and the search that found it. In the topic `personal_recom`, keyed by the product's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recommendation {
    /// Who searched. With `--join left`, a product that nobody has looked for has none, nor what follows.
    pub user_id: Option<String>,
    /// The search's id.
    pub find_id: Option<String>,
    /// What was searched for.
    pub find: Option<String>,
    /// What was found.
    pub product: Product,
}

impl Recommendation {
    /// Of a product, and the search for it if there is one.
    pub fn new(product: &Product, find: Option<&Find>) -> Self {
        Self {
            user_id: find.map(|f| f.user_id.clone()),
            find_id: find.map(|f| f.id.clone()),
            find: find.map(|f| f.find.clone()),
            product: product.clone(),
        }
    }
}

/// A recommendation as a user's table has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recommended {
    /// When the later one of the two came, search or product: milliseconds since the epoch.
    pub at_ms: i64,
    /// The search's id.
    pub find_id: String,
    /// What was searched for.
    pub find: String,
    /// What was found.
    pub product: Product,
}

/// A user's newest recommendations, the newest first.
///
/// Invariant: no two are of the same search and product. What it holds depends on which recommendations were taken in,
/// not on their order nor on how often: so one that is delivered again, as it may be at least once, changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latest {
    /// The recommendations.
    pub recommendations: Vec<Recommended>,
}

impl Latest {
    /// Takes one in, and keeps so many. Whether anything changed.
    pub fn take_in(&mut self, new: Recommended, keep: usize) -> bool {
        let same = |r: &Recommended| r.find_id == new.find_id && r.product.product_id == new.product.product_id;
        if let Some(at) = self.recommendations.iter().position(same) {
            let newer = self.recommendations.get(at).is_some_and(|old| version(old) < version(&new));
            if !newer {
                return false;
            }
            // The product has changed since.
            self.recommendations.remove(at);
        }
        let place = self.recommendations.partition_point(|other| rank(other) > rank(&new));
        if place >= keep {
            return false;
        }
        self.recommendations.insert(place, new);
        self.recommendations.truncate(keep);
        true
    }
}

/// Which of two for one search and product stays.
fn version(of: &Recommended) -> (i64, &str) {
    (of.at_ms, &of.product.updated_at)
}

/// The order of all: by time, and among equals always the same.
fn rank(of: &Recommended) -> (i64, &str, &str) {
    (of.at_ms, &of.find_id, &of.product.product_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Generator;

    fn recommended(at_ms: i64, find: usize, product: usize) -> Recommended {
        let mut generator = Generator::new(1, 0);
        let product = (0..=product).map(|_| generator.next(0)).last().unwrap();
        Recommended { at_ms, find_id: format!("find-{find}"), find: product.name.clone(), product }
    }

    #[test]
    fn order_and_repetition_change_nothing() {
        let all: Vec<_> = (0..12).map(|n| recommended(1000 + n % 5, usize::try_from(n).unwrap() % 4, 2)).collect();
        let mut distinct = Latest::default();
        for one in &all {
            distinct.take_in(one.clone(), 3);
        }
        assert_eq!(distinct.recommendations.len(), 3);
        for turn in 0..all.len() {
            let mut again = Latest::default();
            let mut turned = all.clone();
            turned.rotate_left(turn);
            for one in turned.iter().chain(turned.iter().rev()).chain(&all) {
                again.take_in(one.clone(), 3);
            }
            assert_eq!(again, distinct, "turned by {turn}");
        }
    }

    #[test]
    fn the_newest_come_first_and_the_oldest_go() {
        let mut latest = Latest::default();
        for n in [3, 1, 4, 2, 5] {
            latest.take_in(recommended(i64::try_from(n).unwrap(), n, 0), 3);
        }
        let times: Vec<_> = latest.recommendations.iter().map(|r| r.at_ms).collect();
        assert_eq!(times, [5, 4, 3]);
        assert!(!latest.take_in(recommended(1, 1, 0), 3), "one that is too old changes nothing");
        assert!(!latest.take_in(recommended(4, 4, 0), 3), "nor does one that is there");
        assert!(latest.take_in(recommended(9, 4, 0), 3), "a changed product replaces itself");
        let finds: Vec<_> = latest.recommendations.iter().map(|r| r.find_id.as_str()).collect();
        assert_eq!(finds, ["find-4", "find-5", "find-3"]);
    }
}
