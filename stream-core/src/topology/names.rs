//! The names of the topics that a group makes for itself: all begin with its own.

use std::sync::Arc;

/// `<group>-table`, the topic of a group's table.
pub fn table_topic(group: &str) -> Arc<str> {
    format!("{group}-table").into()
}

/// `<group>-loop`, the topic of a group's loop without a name.
pub fn loop_topic(group: &str) -> Arc<str> {
    format!("{group}-loop").into()
}

/// `<group>-<name>-loop`, the topic of a group's loop of a name.
pub fn named_loop_topic(group: &str, name: &str) -> Arc<str> {
    format!("{group}-{name}-loop").into()
}

/// `<group>-<source>-rekey`, the topic of an input's records under other keys. For what the group sends to itself, `source` is
/// that topic's name without the group's.
pub fn rekey_topic(group: &str, source: &str) -> Arc<str> {
    format!("{group}-{source}-rekey").into()
}

/// `<group>-time`, the topic of a group's stream time and timers.
pub fn time_topic(group: &str) -> Arc<str> {
    format!("{group}-time").into()
}

/// `<group>-positions`, the topic of the positions that a group's state contains, in a group without `<group>-time`.
pub fn positions_topic(group: &str) -> Arc<str> {
    format!("{group}-positions").into()
}

/// `<group>-window-<name>`, the topic of a group's windows of a name.
pub fn window_topic(group: &str, name: &str) -> Arc<str> {
    format!("{group}-window-{name}").into()
}

/// `<group>-kept-<name>`, the topic of what a group's join of two topics keeps.
pub fn join_topic(group: &str, name: &str) -> Arc<str> {
    format!("{group}-kept-{name}").into()
}

/// `<group>-join-<name>`, the topic of what earlier versions kept of a join of two topics, in another format.
pub(crate) fn earlier_join_topic(group: &str, name: &str) -> Arc<str> {
    format!("{group}-join-{name}").into()
}

/// `<group>-<join>-<side>-repartition`, by which a join's `left` or `right` side gets records under its own keys.
pub fn repartition_topic(group: &str, join: &str, side: &str) -> Arc<str> {
    format!("{group}-{join}-{side}-repartition").into()
}

/// `<group>-session-<name>`, the topic of a group's sessions of a name.
pub fn session_topic(group: &str, name: &str) -> Arc<str> {
    format!("{group}-session-{name}").into()
}

/// `<group>-batch-<name>`, the topic of a group's batches of a name.
pub fn batch_topic(group: &str, name: &str) -> Arc<str> {
    format!("{group}-batch-{name}").into()
}

/// `<group>-<name>-<side>`, the topic of the last values of a side, `left` or `right`, of a group's table join of a name.
pub fn side_topic(group: &str, name: &str, side: &str) -> Arc<str> {
    format!("{group}-{name}-{side}").into()
}

/// `<group>-lead`, what a group without a table subscribes to that joins or has other state.
pub fn lead_topic(group: &str) -> Arc<str> {
    format!("{group}-lead").into()
}
