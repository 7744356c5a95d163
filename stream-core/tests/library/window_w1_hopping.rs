//! W1: tumbling and hopping windows are `[start, end)`, start at multiples of the advance, none below 0. Results on every
//! update are what `aggregate` gives.

use std::sync::Arc;

use stream_core::codec::{Int64, Text};
use stream_core::group::{BuildError, Group, GroupGraph};
use stream_core::processor::Guarantee;
use stream_core::testing::Tester;
use stream_core::window::Windows;

use crate::support::{Done, ms, values, with_both};

/// Counts by key and window, and emits each count with its window.
fn counter(windows: Windows) -> Arc<GroupGraph> {
    let mut g = Group::define("count");
    let out = g.output("counts", Text);
    let counts = g.window("counts", windows, Int64);
    g.input("in", Text, move |ctx, _| {
        for (window, n) in ctx.aggregate(counts, |n| n.unwrap_or(0) + 1)? {
            let key = ctx.key_text()?;
            ctx.emit(out, key, format!("{key} {window} {n}"))?;
        }
        Ok(())
    });
    g.build().unwrap()
}

fn counts(
    windows: Windows,
    guarantee: Guarantee,
    records: &[(&str, i64)],
) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let tester = Tester::new();
    tester.add_with(counter(windows), move |p| p.guarantee(guarantee))?;
    for (key, at) in records {
        tester.input("in", Text).send_at(*key, String::new(), *at)?;
    }
    Ok(values(&tester.output("counts", Text)))
}

#[test]
fn w1_hopping_size_60_advance_20() -> Done {
    with_both(|guarantee| {
        let hopping = Windows::hopping(ms(60), ms(20));
        let of = |at| counts(hopping, guarantee, &[("k", at)]);
        assert_eq!(of(45)?, ["k [0, 60) 1", "k [20, 80) 1", "k [40, 100) 1"]);
        assert_eq!(of(10)?, ["k [0, 60) 1"]);
        assert_eq!(of(60)?, ["k [20, 80) 1", "k [40, 100) 1", "k [60, 120) 1"]);
        Ok(())
    })
}

#[test]
fn w1_tumbling_windows_end_before_their_end() -> Done {
    with_both(|guarantee| {
        let records = [("a", 0), ("a", 59), ("b", 59), ("a", 60), ("b", 119), ("b", 119)];
        let expected = ["a [0, 60) 1", "a [0, 60) 2", "b [0, 60) 1", "a [60, 120) 1", "b [60, 120) 1", "b [60, 120) 2"];
        assert_eq!(counts(Windows::tumbling(ms(60)), guarantee, &records)?, expected);
        Ok(())
    })
}

#[test]
fn w1_no_window_is_below_0() {
    let hopping = Windows::hopping(ms(60), ms(20));
    assert_eq!(hopping.at(-1).count(), 0);
    assert_eq!(hopping.at(0).map(|w| w.start).collect::<Vec<_>>(), [0]);
    // An advance that does not divide the size.
    assert_eq!(Windows::hopping(ms(50), ms(20)).at(49).map(|w| w.start).collect::<Vec<_>>(), [0, 20, 40]);
    assert_eq!(Windows::hopping(ms(50), ms(20)).at(50).map(|w| w.start).collect::<Vec<_>>(), [20, 40]);
}

#[test]
fn w1_windows_that_make_no_sense_are_refused() {
    for windows in [Windows::tumbling(ms(0)), Windows::hopping(ms(10), ms(0)), Windows::hopping(ms(10), ms(11))] {
        let mut g = Group::define("g");
        g.input("in", Text, |_, _| Ok(()));
        g.window("w", windows, Int64);
        assert!(matches!(g.build(), Err(BuildError::Windows { .. })), "{windows:?}");
    }
}
