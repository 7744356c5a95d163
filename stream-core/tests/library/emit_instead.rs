//! Emits to topics whose names are known only once there is a record for them.

use std::sync::Arc;

use stream_core::codec::Text;
use stream_core::group::{ErrorPolicy, Group, GroupGraph, Input};
use stream_core::log::{Log, TopicSpec};
use stream_core::processor::Guarantee;
use stream_core::testing::Tester;

use crate::support::{Done, values};

/// Copies each text to the topic that is its key.
fn spread() -> Arc<GroupGraph> {
    let mut g = Group::define("spread").table(Text);
    let out = g.output("out", Text);
    g.input(Input::topic("in").on_error(ErrorPolicy::dead_letter("dead")), Text, move |ctx, text: String| {
        let topic = ctx.key_text()?.into();
        ctx.emit_to_topic(out, &topic, "k", &text)?;
        if text == "bad" { Err(stream_core::group::CallbackError::msg("bad")) } else { ctx.set(text) }
    });
    g.build().unwrap()
}

#[test]
fn they_are_staged_and_counted_as_others_are() -> Done {
    for guarantee in [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce] {
        let tester = Tester::new();
        tester.block_on(tester.log().create_topics(vec![TopicSpec::new("a"), TopicSpec::new("b")]))?;
        tester.add_with(spread(), move |p| p.guarantee(guarantee))?;
        let input = tester.input("in", Text);
        for (topic, text) in [("a", "1"), ("b", "2"), ("a", "bad"), ("a", "3"), ("out", "4")] {
            input.push(topic, text.to_owned())?;
        }
        tester.drain()?;
        assert_eq!(values(&tester.output("a", Text)), ["1", "3"]);
        assert_eq!(values(&tester.output("b", Text)), ["2"]);
        assert_eq!(values(&tester.output("out", Text)), ["4"]);
        assert_eq!(values(&tester.output("dead", Text)), ["bad"]);
    }
    Ok(())
}

#[test]
fn the_groups_own_table_is_out_of_reach() -> Done {
    let tester = Tester::new();
    tester.add(spread())?;
    tester.input("in", Text).send("spread-table", "1".to_owned())?;
    let dead = tester.output("dead", Text).read()?;
    let reason = dead[0].header("dead-letter-reason").unwrap();
    assert!(reason.contains("spread-table is the group's own"), "{reason}");
    Ok(())
}
