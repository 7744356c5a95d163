//! What `build` checks of a group's topics and names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::topology::{BuildError, InputEdge, Passage, Topology, lead_topic, loop_topic, table_topic};

pub(super) fn check_topics(graph: &Topology, group: &str) -> Result<(), BuildError> {
    const OWN: &str = "loop";
    let mut read: BTreeMap<&str, String> = BTreeMap::new();
    let inputs = graph.inputs.iter().map(|e| (if e.own { OWN } else { "input" }, &e.input.topic));
    let state = graph.tables.own().iter().map(|e| (Arc::clone(&e.topic), "timers and windows", "their handles"));
    let owned = [(table_topic(group), "table", "ctx.value()"), (loop_topic(group), "loop", "on_loop()")];
    let owned: Vec<_> = owned.into_iter().chain(state.clone()).collect();
    let joins = graph.joins.iter().map(|e| ("join", &e.topic));
    let lookups = graph.lookups.iter().map(|e| ("lookup", &e.topic));
    for (kind, topic) in inputs.chain(joins).chain(lookups) {
        let edge = format!("{kind} {topic:?}");
        check_name(&edge, topic)?;
        // A copy of the own table would share its store with the table itself, and lag behind it.
        if kind != OWN
            && let Some((_, owned, instead)) = owned.iter().find(|(own, ..)| own == topic)
        {
            let (owned, instead) = ((*owned).to_owned(), (*instead).to_owned());
            return Err(BuildError::OwnTopic { group: group.to_owned(), edge, owned, instead });
        }
        if let Some(other) = read.insert(topic, edge.clone()) {
            return Err(BuildError::Twice { group: group.to_owned(), edge, other });
        }
    }
    for edge in &graph.inputs {
        let named = || format!("input {:?}", edge.input.topic);
        if edge.input.on_decode_error.as_ref().is_some_and(|policy| policy.retry.is_some()) {
            return Err(BuildError::DecodeRetry { edge: named() });
        }
        for (what, n) in [("concurrency", edge.input.concurrency), ("batch", edge.input.batch)] {
            if n == 0 {
                return Err(BuildError::Zero { edge: named(), what: what.to_owned() });
            }
        }
    }
    let owned = [(table_topic(group), "table", "ctx.set()"), (loop_topic(group), "loop", "loopback()")];
    let owned: Vec<_> = owned.into_iter().chain(state).collect();
    let own = graph.passages().map(|(topic, of)| {
        let (what, by) = of.names();
        (Arc::clone(topic), what, by)
    });
    let owned: Vec<_> = owned.into_iter().chain(own).collect();
    check_dead_letters(graph, group, &read, &owned)?;
    for output in graph.outputs.iter().filter(|e| e.own.is_none()) {
        let edge = format!("output {:?}", output.topic);
        check_name(&edge, &output.topic)?;
        if let Some((_, owned, instead)) = owned.iter().find(|(topic, ..)| *topic == output.topic) {
            let (owned, instead) = ((*owned).to_owned(), (*instead).to_owned());
            return Err(BuildError::OwnTopic { group: group.to_owned(), edge, owned, instead });
        }
    }
    Ok(())
}

/// Each topic by which the group sends records to itself is there once, and read.
pub(super) fn check_passages(graph: &Topology, group: &str) -> Result<(), BuildError> {
    let mut seen = BTreeSet::new();
    for (topic, of) in graph.passages() {
        let (group, name) = (group.to_owned(), topic.to_string());
        // Two joins of one name are named as such.
        if of != Passage::Side && !seen.insert(topic) {
            return Err(BuildError::TwoLoops { group, topic: name });
        }
        if !graph.inputs.iter().any(|e| e.own && e.input.topic == *topic) {
            return Err(BuildError::LoopUnread { group, topic: name });
        }
    }
    Ok(())
}

/// A dead letter is evidence (semantics D14): what leads back into the group is no place for it.
fn check_dead_letters(
    graph: &Topology,
    group: &str,
    read: &BTreeMap<&str, String>,
    owned: &[(Arc<str>, &str, &str)],
) -> Result<(), BuildError> {
    let named = |input: &InputEdge| format!("input {:?}", input.input.topic);
    let inputs = graph.inputs.iter().flat_map(|e| e.input.dead_letters().map(move |t| (named(e), t)));
    let due = graph.due_policies().filter_map(|(name, policy)| Some((name, policy.dead_letter_topic()?)));
    for (edge, topic) in inputs.chain(due) {
        check_name(&format!("dead letter topic {topic:?}"), topic)?;
        let owned = owned.iter().find(|(own, ..)| own == topic).map(|(_, what, _)| format!("its own {what}"));
        let lead = (*topic == lead_topic(group)).then(|| "its own lead".to_owned());
        if let Some(other) = read.get(&**topic).cloned().or(owned).or(lead) {
            let group = group.to_owned();
            return Err(BuildError::DeadLetterBack { group, edge, topic: topic.to_string(), other });
        }
    }
    Ok(())
}

/// Kafka's rule for topic names, which are also names of directories here.
pub(super) fn check_name(edge: &str, name: &str) -> Result<(), BuildError> {
    let valid = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if valid && !matches!(name, "" | "." | "..") && name.len() <= 249 {
        return Ok(());
    }
    Err(BuildError::Name { edge: edge.to_owned(), name: name.to_owned() })
}
