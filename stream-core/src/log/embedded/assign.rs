//! The assignment of partitions to members: sticky, balanced, and the same for the same input. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::log::TopicPartition;

/// A member's subscription and what it was to have before.
pub(super) struct Wish {
    pub(super) topics: Vec<Arc<str>>,
    pub(super) before: BTreeSet<TopicPartition>,
}

/// Shares the partitions out. Members keep what they had as far as the balance allows.
pub(super) fn assign(
    members: &BTreeMap<u64, Wish>,
    count: impl Fn(&Arc<str>) -> i32,
) -> BTreeMap<u64, BTreeSet<TopicPartition>> {
    let topics: BTreeSet<&Arc<str>> = members.values().flat_map(|w| &w.topics).collect();
    let mut free: BTreeSet<TopicPartition> =
        topics.iter().flat_map(|t| (0..count(t)).map(|p| TopicPartition::new(Arc::clone(t), p))).collect();
    let wants = |id: &u64, p: &TopicPartition| members.get(id).is_some_and(|w| w.topics.contains(&p.topic));

    let mut given: BTreeMap<u64, BTreeSet<TopicPartition>> = BTreeMap::new();
    for (id, wish) in members {
        let kept = wish.before.iter().filter(|p| wants(id, p) && free.remove(*p)).cloned().collect();
        given.insert(*id, kept);
    }
    for partition in free {
        let least = given.iter().filter(|(id, _)| wants(id, &partition)).min_by_key(|(_, list)| list.len());
        if let Some(id) = least.map(|(id, _)| *id) {
            given.entry(id).or_default().insert(partition);
        }
    }
    while let Some((from, to, partition)) = unbalanced(&given, wants) {
        given.entry(from).or_default().remove(&partition);
        given.entry(to).or_default().insert(partition);
    }
    given
}

/// A partition to move from a member to one that has at least two fewer. Each move brings the two nearer, so that
/// moving ends.
fn unbalanced(
    given: &BTreeMap<u64, BTreeSet<TopicPartition>>,
    wants: impl Fn(&u64, &TopicPartition) -> bool,
) -> Option<(u64, u64, TopicPartition)> {
    let mut by_load: Vec<_> = given.iter().collect();
    by_load.sort_by_key(|(id, list)| (list.len(), **id));
    for (to, has) in &by_load {
        for (from, list) in by_load.iter().rev().take_while(|(_, list)| list.len() >= has.len() + 2) {
            if let Some(partition) = list.iter().rev().find(|p| wants(to, p)) {
                return Some((**from, **to, partition.clone()));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    type Given = BTreeMap<u64, BTreeSet<TopicPartition>>;

    fn run(members: &[(u64, &[&str])], before: &Given, partitions: i32) -> Given {
        let wish = |id: &u64, topics: &[&str]| Wish {
            topics: topics.iter().map(|t| Arc::from(*t)).collect(),
            before: before.get(id).cloned().unwrap_or_default(),
        };
        assign(&members.iter().map(|(id, topics)| (*id, wish(id, topics))).collect(), |_| partitions)
    }

    fn sizes(given: &Given) -> Vec<usize> {
        given.values().map(BTreeSet::len).collect()
    }

    #[test]
    fn balanced_and_sticky_as_members_come_and_go() {
        let one = run(&[(1, &["a"])], &Given::new(), 7);
        assert_eq!(sizes(&one), [7]);
        let two = run(&[(1, &["a"]), (2, &["a"])], &one, 7);
        assert_eq!(sizes(&two), [4, 3]);
        let three = run(&[(1, &["a"]), (2, &["a"]), (3, &["a"])], &two, 7);
        assert_eq!(sizes(&three), [3, 2, 2]);
        assert!(three[&1].is_subset(&two[&1]) && three[&2].is_subset(&two[&2]));
        let back = run(&[(1, &["a"]), (3, &["a"])], &three, 7);
        assert!(back[&1].is_superset(&three[&1]) && back[&3].is_superset(&three[&3]));
        assert_eq!(sizes(&back), [4, 3]);
    }

    #[test]
    fn nobody_gets_what_it_does_not_want() {
        let given = run(&[(1, &["a"]), (2, &["a", "b"]), (3, &["b"])], &Given::new(), 4);
        assert!(given[&1].iter().all(|p| &*p.topic == "a"));
        assert!(given[&3].iter().all(|p| &*p.topic == "b"));
        assert_eq!(sizes(&given).iter().sum::<usize>(), 8);
        let narrowed = run(&[(2, &["b"])], &given, 4);
        assert!(narrowed[&2].iter().all(|p| &*p.topic == "b"));
        assert_eq!(narrowed[&2].len(), 4);
    }
}
