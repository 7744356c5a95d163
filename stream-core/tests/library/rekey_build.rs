//! Definitions of re-keys and loops with names.

use std::sync::Arc;

use stream_core::codec::{Int64, Text};
use stream_core::group::{BuildError, Group, GroupBuilder, GroupGraph, NoTable, named_loop_topic, rekey_topic};

fn built(define: impl FnOnce(&mut GroupBuilder<NoTable>)) -> Result<Arc<GroupGraph>, BuildError> {
    let mut g = Group::define("g");
    define(&mut g);
    g.build()
}

#[allow(clippy::unnecessary_wraps, clippy::ptr_arg, reason = "a key function")]
fn same(_: &stream_core::Ctx<'_, NoTable>, text: &String) -> Result<String, stream_core::group::CallbackError> {
    Ok(text.clone())
}

#[test]
fn d16_a_definition_that_makes_no_sense_is_refused() {
    let error = built(|g| _ = g.rekey(("in", Text), same)).unwrap_err();
    assert_eq!(error.to_string(), "group g: loop \"g-in-rekey\" has no callback: add one with on_loop()");
    let error = built(|g| {
        _ = g.named_loop("a", Text);
        g.input("in", Text, |_, _| Ok(()));
    });
    assert!(matches!(error, Err(BuildError::LoopUnread { ref topic, .. }) if topic == "g-a-loop"), "{error:?}");
    let error = built(|g| {
        for handle in [g.named_loop("a", Text), g.named_loop("a", Text)] {
            g.on_loop(handle, |_, _| Ok(()));
        }
    });
    assert!(matches!(error, Err(BuildError::TwoLoops { ref topic, .. }) if topic == "g-a-loop"), "{error:?}");
    // Each of its topics has one reader.
    let error = built(|g| {
        let by = g.rekey(("in", Text), same);
        let again = g.rekey(by, same);
        g.on_loop(again, |_, _| Ok(())).on_loop(by, |_, _| Ok(()));
    });
    assert!(matches!(error, Err(BuildError::Twice { .. })), "{error:?}");
    let error = built(|g| {
        let by = g.rekey(("in", Text), same);
        g.on_loop(by, |_, _| Ok(())).input("in", Text, |_, _| Ok(()));
    });
    assert!(matches!(error, Err(BuildError::Twice { .. })), "{error:?}");
    // Nobody else writes to it.
    let error = built(|g| {
        let by = g.rekey(("in", Text), same);
        _ = g.output(rekey_topic("g", "in"), Text);
        g.on_loop(by, |_, _| Ok(()));
    });
    assert!(matches!(error, Err(BuildError::OwnTopic { ref instead, .. }) if instead == "rekey()"), "{error:?}");
    let error = built(|g| {
        let a = g.named_loop("a", Text);
        _ = g.output(named_loop_topic("g", "a"), Text);
        g.on_loop(a, |_, _| Ok(()));
    });
    assert!(matches!(error, Err(BuildError::OwnTopic { ref instead, .. }) if instead == "loopback()"), "{error:?}");
    let foreign = Group::define("other").named_loop("a", Text);
    let error = built(|g| {
        let by = g.rekey(foreign, same);
        g.on_loop(by, |_, _| Ok(()));
    });
    assert!(matches!(error, Err(BuildError::ForeignHandle { .. })), "{error:?}");
    let error = built(|g| {
        let by = g.rekey((String::from("no topic"), Text), same);
        g.on_loop(by, |_, _| Ok(()));
    });
    assert!(matches!(error, Err(BuildError::Name { .. })), "{error:?}");
}

#[test]
fn d16_topics_and_the_description_name_what_is_re_keyed() {
    let graph = built(|g| {
        let count = g.named_loop("count", Int64);
        let by = g.rekey(("in", Text), same);
        let again = g.rekey(by, same);
        let counted = g.rekey(count, |ctx, _: &i64| Ok(ctx.key().map(<[u8]>::to_vec)));
        g.on_loop(again, |_, _| Ok(()));
        g.on_loop(counted, |_, _| Ok(()));
    });
    let text = graph.unwrap().describe();
    for line in [
        "  input   in (",
        "  rekey   g-in-rekey (",
        "  rekey   g-in-rekey-rekey (",
        "  loop    g-count-loop (",
        "  rekey   g-count-loop-rekey (",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}
