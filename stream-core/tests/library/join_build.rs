//! What a group with a join of two topics says of itself, and what makes no sense.

use std::sync::Arc;

use stream_core::codec::Text;
use stream_core::group::{BuildError, Group, GroupBuilder, GroupGraph, NoTable, Side, join_topic, repartition_topic};

use crate::join_support::usual;
use crate::support::Done;

fn joined(g: &mut GroupBuilder<NoTable>, name: &str, left: &str, right: &str) {
    let key = |text: &String| text.clone();
    g.stream_join(name, usual(), Side::topic(left, Text).key_by(key), Side::topic(right, Text)).inner(|_, _, _| Ok(()));
}

fn built(define: impl Fn(&mut GroupBuilder<NoTable>)) -> Result<Arc<GroupGraph>, BuildError> {
    let mut g = Group::define("g");
    joined(&mut g, "pairs", "left", "right");
    define(&mut g);
    g.build()
}

#[test]
fn it_says_what_it_reads_and_keeps() -> Done {
    let text = built(|_| {})?.describe();
    for line in [
        "  input   left (text, on error fail)",
        "  input   right (text, on error fail)",
        "  loop    g-pairs-left-repartition (text, on error fail)",
        "  join    g-kept-pairs (inner, right from 60 ms before left to 60 ms after, grace 10 ms)",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    Ok(())
}

#[test]
fn each_topic_is_read_once() {
    let error = built(|g| joined(g, "others", "left", "third")).unwrap_err();
    assert!(matches!(&error, BuildError::Twice { edge, .. } if edge.contains("left")), "{error}");
    let error = built(|g| joined(g, "itself", "same", "same")).unwrap_err();
    assert!(matches!(&error, BuildError::Twice { edge, .. } if edge.contains("same")), "{error}");
}

#[test]
fn each_join_has_a_name_of_its_own() {
    let error = built(|g| joined(g, "pairs", "third", "fourth")).unwrap_err();
    assert!(
        matches!(&error, BuildError::TwoOfAName { what, name, .. } if what == "join" && name == "pairs"),
        "{error}"
    );
    let error = built(|g| joined(g, "no name", "third", "fourth")).unwrap_err();
    assert!(matches!(&error, BuildError::Name { .. }), "{error}");
}

#[test]
fn what_it_keeps_and_sends_itself_is_nobody_elses() {
    for topic in [join_topic("g", "pairs"), repartition_topic("g", "pairs", "left")] {
        let error = built(|g| _ = g.output(Arc::clone(&topic), Text)).unwrap_err();
        assert!(matches!(&error, BuildError::OwnTopic { .. }), "{error}");
    }
    let error = built(|g| _ = g.input(&*join_topic("g", "pairs"), Text, |_, _| Ok(()))).unwrap_err();
    assert!(matches!(&error, BuildError::OwnTopic { .. }), "{error}");
    let error = built(|g| _ = g.input(&*repartition_topic("g", "pairs", "left"), Text, |_, _| Ok(()))).unwrap_err();
    assert!(matches!(&error, BuildError::Twice { .. }), "{error}");
}
