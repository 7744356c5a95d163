//! D1: acknowledgements that are missing hold the committed offset back, those behind them do not move it.

use stream_core::codec::{Int64, Text};
use stream_core::group::Group;
use stream_core::testing::Tester;

use crate::support::{Done, ms, pairs, passing, table, values};

fn counter() -> std::sync::Arc<stream_core::group::GroupGraph> {
    let mut g = Group::define("count").table(Int64);
    let out = g.output("out", Text);
    g.input("in", Text, move |ctx, text| {
        let n = ctx.value()?.unwrap_or(0) + 1;
        ctx.emit(out, ctx.key(), format!("{text}:{n}"))?;
        ctx.set(n)
    });
    g.build().unwrap()
}

#[test]
fn the_commit_stays_below_a_record_whose_effects_are_not_acknowledged() -> Done {
    for held in ["out", "count-table"] {
        let tester = Tester::new();
        tester.add(counter())?;
        let input = tester.input("in", Text);
        let hold = tester.log().faults().on(move |r| r.topic == held && r.key == Some(b"k2")).hold_acks();
        for i in 0..5 {
            input.push(format!("k{i}"), "x".to_owned())?;
            // Each in a batch of its own.
            tester.run_for(ms(100));
        }
        assert_eq!(hold.hits(), 1);
        assert_eq!(tester.committed("count", "in", 0)?, Some(2), "{held}");
        drop(hold);
        tester.drain()?;
        assert_eq!(tester.committed("count", "in", 0)?, Some(5));
        assert_eq!(table(&tester, "count", Int64), pairs([("k0", 1), ("k1", 1), ("k2", 1), ("k3", 1), ("k4", 1)]));
        assert_eq!(values(&tester.output("out", Text)).len(), 5);
    }
    Ok(())
}

#[test]
fn records_without_effects_do_not_overtake_either() -> Done {
    let mut g = Group::define("some");
    let out = g.output("out", Text);
    g.input("in", Text, move |ctx, text: String| if text == "emit" { ctx.emit(out, ctx.key(), &text) } else { Ok(()) });
    let tester = Tester::new();
    tester.add(g.build()?)?;
    let input = tester.input("in", Text);
    let hold = tester.log().faults().on(|r| r.topic == "out").hold_acks();
    for text in ["quiet", "emit", "quiet", "quiet"] {
        input.push("k", text.to_owned())?;
        tester.run_for(ms(100));
    }
    assert_eq!(tester.committed("some", "in", 0)?, Some(1));
    drop(hold);
    tester.drain()?;
    assert_eq!(tester.committed("some", "in", 0)?, Some(4));
    Ok(())
}

#[test]
fn a_write_that_fails_for_a_while_is_made_good_and_counted_once() -> Done {
    let tester = Tester::new();
    tester.add(counter())?;
    let input = tester.input("in", Text);
    let fault = tester.log().faults().on(|r| r.topic == "out" && r.key == Some(b"b")).times(3).fail(passing());
    for key in ["a", "b", "a", "c", "b"] {
        input.push(key, "x".to_owned())?;
    }
    tester.drain()?;
    assert_eq!(fault.hits(), 3);
    // The table's writes arrived each time: taking them back and doing them again must come to the same.
    assert_eq!(table(&tester, "count", Int64), pairs([("a", 2), ("b", 2), ("c", 1)]));
    let out = values(&tester.output("out", Text));
    for one in ["x:1", "x:2"] {
        assert!(out.contains(&one.to_owned()), "{out:?}");
    }
    assert!(!out.contains(&"x:3".to_owned()), "counted twice: {out:?}");
    tester.restart("count")?;
    input.send("a", "y".to_owned())?;
    assert_eq!(table(&tester, "count", Int64), pairs([("a", 3), ("b", 2), ("c", 1)]));
    Ok(())
}
