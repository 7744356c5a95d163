//! The case of `kafka_windows` that joins two tables.

use stream_core::codec::Text;
use stream_core::group::{Group, TableSide, table_topic};
use stream_core::log::LogHandle;
use stream_core::processor::Guarantee;

use super::delivery::now_ms;
use super::world::{World, kept_topic};
use crate::kafka_support::{done, read, unique};

/// Every way in which a side can change, in the order of the records' times; then the same by each kind of join.
pub async fn table_joins(log: &LogHandle, guarantee: Guarantee) {
    let world = World::new(log, guarantee, "sides").await;
    let (a, b) = (kept_topic(log, "a").await, kept_topic(log, "b").await);
    let steps = "a=1 b=x a=2 b=y b=- b=- b=z a=- a=- b=w b=- a=3 a=- b=v a=4";
    // Times near 0, beside the transactions' own, would have the broker roll the table's segment and compact it before it is read.
    for (at, step) in (now_ms()..).zip(steps.split(' ')) {
        let (side, value) = step.split_once('=').unwrap();
        let value = (value != "-").then_some(value.as_bytes());
        world.write(if side == "a" { &a } else { &b }, &[("k", value, at)]).await;
    }
    let none = |side: Option<&String>| side.cloned().unwrap_or_else(|| "null".to_owned());
    let expected = [
        ("inner", "1+x 2+x 2+y - 2+z - 4+v"),
        ("left", "1+null 1+x 2+x 2+y 2+null 2+null 2+z - 3+null - 4+v"),
        ("outer", "1+null 1+x 2+x 2+y 2+null 2+null 2+z null+z null+z null+w - 3+null - null+v 4+v"),
    ];
    for (kind, expected) in expected {
        let group = unique(kind);
        let mut g = Group::define(&*group).table(Text);
        let join = g.table_join("ab", TableSide::topic(&*a, Text), TableSide::topic(&*b, Text));
        match kind {
            "inner" => join.inner(|a, b| format!("{a}+{b}")),
            "left" => join.left(move |a, b| format!("{a}+{}", none(b))),
            _ => join.outer(move |a, b| format!("{}+{}", none(a), none(b))),
        };
        let running = world.start(g.build().unwrap()).await;
        done(log, &group, &[(&a, 1), (&b, 1)]).await;
        running.stop().await;
        let emitted = read(log, &table_topic(&group), 1).await;
        let emitted: Vec<_> = emitted.into_iter().map(|r| r.value.unwrap_or_else(|| "-".to_owned())).collect();
        assert_eq!(emitted.join(" "), expected, "{kind}");
    }
}
