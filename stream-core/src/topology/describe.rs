//! A group graph in words and as a picture.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::graph::{Calls, EntryKind, Passage, Topology};
use super::names::{join_topic, window_topic};
use super::policy::{ErrorPolicy, OnError};
use crate::window::keys::By;
use crate::window::{Batches, JoinWindows, Sessions, Windows};

impl Topology {
    /// The graph as text, an edge a line.
    pub(crate) fn describe(&self) -> String {
        let mut out = format!("group {}\n", self.name);
        for edge in &self.inputs {
            let kind = match self.passages().find(|(topic, _)| **topic == edge.input.topic) {
                Some((_, Passage::Rekey)) => "rekey",
                Some(_) => "loop",
                None => "input",
            };
            let how = match edge.calls {
                Calls::Sync => "",
                Calls::Async => ", awaiting",
                Calls::Batch => ", batches",
            };
            let policy = policy_text(&edge.input.policy);
            line(&mut out, kind, &edge.input.topic, &format!("{}{how}, on error {policy}", edge.codec.name()));
        }
        for edge in self.outputs.iter().filter(|e| e.own.is_none()) {
            line(&mut out, "output", &edge.topic, edge.codec.name());
        }
        if let Some(table) = &self.tables.group {
            line(&mut out, "table", &table.topic, table.codec.name());
        }
        for timer in &self.timers {
            let by = match timer.by {
                By::StreamTime => "stream time",
                By::WallClock => "wall clock",
            };
            let policy = due_text(&timer.policy);
            line(&mut out, "timer", &timer.name, &format!("{}, {by}{policy}", timer.codec.name()));
        }
        for window in &self.windows {
            let Windows { size, advance, grace } = window.windows;
            let codec = self.tables.get(window.table).map_or("", |e| e.codec.name());
            let policy = due_text(&window.policy);
            let how = format!("{codec}, {size} ms every {advance} ms, grace {grace} ms{policy}");
            line(&mut out, "window", &window_topic(&self.name, &window.name), &how);
        }
        for join in &self.stream_joins {
            let JoinWindows { before, after, grace } = join.windows;
            let policy = due_text(&join.policy);
            let how = format!(
                "{}, right from {before} ms before left to {after} ms after, grace {grace} ms{policy}",
                join.kind
            );
            line(&mut out, "join", &join_topic(&self.name, &join.name), &how);
        }
        for edge in &self.due_entries {
            let Some(state) = self.tables.get(edge.table) else { continue };
            let how = match edge.kind {
                EntryKind::Session(Sessions { gap, grace }) => format!("gap {gap} ms, grace {grace} ms"),
                EntryKind::Batch(Batches { most, gap, max_age }) => {
                    let ms = |name, ms: Option<i64>| ms.map_or(String::new(), |ms| format!(", {name} {ms} ms"));
                    format!("{most} records{}{}", ms("gap", gap), ms("at most", max_age))
                }
            };
            line(
                &mut out,
                edge.kind.what(),
                &state.topic,
                &format!("{}, {how}{}", state.codec.name(), due_text(&edge.policy)),
            );
        }
        for join in &self.joins {
            line(&mut out, "join", &join.topic, join.codec.name());
        }
        for lookup in &self.lookups {
            line(&mut out, "lookup", &lookup.topic, lookup.codec.name());
        }
        for visitor in &self.visitors {
            line(&mut out, "visitor", &visitor.name, "");
        }
        out
    }

    /// The graph as a [Mermaid](https://mermaid.js.org) flow chart.
    pub(crate) fn mermaid(&self) -> String {
        let mut out = String::from("flowchart LR\n");
        let group = "group";
        _ = writeln!(out, "  {group}[[{:?}]]", &*self.name);
        for (i, edge) in self.inputs.iter().enumerate() {
            if edge.own {
                _ = writeln!(out, "  in{i}({:?}) --> {group}\n  {group} --> in{i}", &*edge.input.topic);
            } else {
                _ = writeln!(out, "  in{i}({:?}) --> {group}", &*edge.input.topic);
            }
            if let OnError::DeadLetter(topic) = &edge.input.policy.then {
                _ = writeln!(out, "  {group} -. dead letters .-> dead{i}({:?})", &**topic);
            }
        }
        // Of routes, and of what falls due.
        let of_inputs: BTreeSet<_> = self.inputs.iter().filter_map(|e| e.input.policy.dead_letter_topic()).collect();
        let others: BTreeSet<_> = self.dead_letters().filter(|topic| !of_inputs.contains(topic)).collect();
        for (i, topic) in others.into_iter().enumerate() {
            _ = writeln!(out, "  {group} -. dead letters .-> aside{i}({:?})", &**topic);
        }
        for (i, edge) in self.outputs.iter().enumerate().filter(|(_, e)| e.own.is_none()) {
            _ = writeln!(out, "  {group} --> out{i}({:?})", &*edge.topic);
        }
        if let Some(table) = &self.tables.group {
            _ = writeln!(out, "  {group} <--> table[({:?})]", &*table.topic);
        }
        for (i, state) in self.tables.own().iter().enumerate() {
            _ = writeln!(out, "  {group} <--> state{i}[({:?})]", &*state.topic);
        }
        for (i, join) in self.joins.iter().enumerate() {
            _ = writeln!(out, "  join{i}[({:?})] -- join --> {group}", &*join.topic);
        }
        for (i, lookup) in self.lookups.iter().enumerate() {
            _ = writeln!(out, "  lookup{i}[({:?})] -- lookup --> {group}", &*lookup.topic);
        }
        out
    }
}

fn line(out: &mut String, kind: &str, topic: &str, more: &str) {
    let more = if more.is_empty() { String::new() } else { format!(" ({more})") };
    _ = writeln!(out, "  {kind:<7} {topic}{more}");
}

/// The policy of something that falls due, where it is not the default.
fn due_text(policy: &ErrorPolicy) -> String {
    if *policy == ErrorPolicy::fail() { String::new() } else { format!(", on error {}", policy_text(policy)) }
}

fn policy_text(policy: &ErrorPolicy) -> String {
    let then = match &policy.then {
        OnError::Fail => "fail".to_owned(),
        OnError::Skip => "skip".to_owned(),
        OnError::DeadLetter(topic) => format!("dead letter to {topic}"),
    };
    match &policy.retry {
        Some(retry) => format!("retry {} times, then {then}", retry.attempts),
        None => then,
    }
}
