//! The tables of joins: what is closed may or may not be gone from a copy, and the order by time is in no changelog.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::group::GroupGraph;
use crate::store::Layout;

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

/// The layout of a topic's table, if it is a join's.
pub(super) fn layout(graphs: &[Arc<GroupGraph>], topic: &str) -> Option<Layout> {
    graphs.iter().flat_map(|graph| graph.tables.own()).find(|edge| *edge.topic == *topic)?.layout
}

/// The bound of a partition's table.
pub(super) fn bound(contents: &Contents, layout: Layout) -> Option<Vec<u8>> {
    contents.get(layout.bound()).cloned()
}

/// Adds the derived entries of the records, in place of those that are there.
pub(super) fn derive(contents: &mut Contents, layout: Layout) {
    let mut key = Vec::new();
    contents.retain(|entry, _| !layout.record(entry, &mut key));
    let records: Vec<_> = contents.iter().map(|(record, value)| (record.clone(), layout.value(value))).collect();
    for (record, value) in records {
        if layout.derived(&record, &mut key) {
            contents.insert(key.clone(), value.to_vec());
        }
    }
}

/// Leaves only what the bound does not close, and the marks of that.
pub(super) fn live(contents: &Contents, layout: Layout, bound: Option<&[u8]>) -> Contents {
    let below = bound.map(|bound| layout.below(bound)).unwrap_or_default();
    let is_closed = |derived: &Vec<u8>| below.iter().any(|(from, end)| (from..end).contains(&derived));
    let (mut live, mut key) = (Contents::new(), Vec::new());
    for (entry, value) in contents {
        let is_live = if layout.derived(entry, &mut key) {
            !is_closed(&key)
        } else {
            layout.record(entry, &mut key) && !is_closed(entry)
        };
        if is_live {
            live.insert(entry.clone(), value.clone());
        }
    }
    let derived: Vec<_> = live.keys().filter(|entry| layout.record(entry, &mut key)).cloned().collect();
    for entry in derived {
        if layout.mark(&entry, &mut key)
            && let Some(mark) = contents.get(&key)
        {
            live.insert(key.clone(), mark.clone());
        }
    }
    live
}
