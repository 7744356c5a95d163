//! W2: a record is late for a window once stream time has reached its end and grace; it is left out for that window only,
//! and counted.

use std::sync::Arc;

use stream_core::codec::{Int64, Text};
use stream_core::group::{Group, GroupGraph};
use stream_core::testing::Tester;
use stream_core::window::Windows;

use crate::support::{Done, ms, values, with_both};

fn counter(windows: Windows) -> Arc<GroupGraph> {
    let mut g = Group::define("count");
    let out = g.output("counts", Text);
    let counts = g.window("counts", windows, Int64);
    g.input("in", Text, move |ctx, _| {
        let updated = ctx.aggregate(counts, |n| n.unwrap_or(0) + 1)?;
        let changes = updated.iter().map(|(window, n)| format!("{window} {n}")).collect::<Vec<_>>();
        ctx.emit(out, ctx.key(), changes.join(" "))
    });
    g.build().unwrap()
}

#[test]
fn w2_time_59_is_accepted_at_stream_time_69_and_dropped_at_70() -> Done {
    with_both(|guarantee| {
        let tester = Tester::new();
        let windows = Windows::tumbling(ms(60)).grace(ms(10));
        tester.add_with(counter(windows), move |p| p.guarantee(guarantee))?;
        let (input, out) = (tester.input("in", Text), tester.output("counts", Text));
        for (key, at) in [("k", 59), ("other", 69), ("k", 59)] {
            input.send_at(key, String::new(), at)?;
        }
        assert_eq!(values(&out), ["[0, 60) 1", "[60, 120) 1", "[0, 60) 2"]);
        assert_eq!(tester.late("count")?, 0);
        input.send_at("other", String::new(), 70)?;
        input.send_at("k", String::new(), 59)?;
        assert_eq!(values(&out), ["[60, 120) 2", ""]);
        assert_eq!(tester.late("count")?, 1);
        Ok(())
    })
}

#[test]
fn w2_it_is_dropped_for_that_window_only() -> Done {
    with_both(|guarantee| {
        let tester = Tester::new();
        tester.add_with(counter(Windows::hopping(ms(60), ms(20))), move |p| p.guarantee(guarantee))?;
        let (input, out) = (tester.input("in", Text), tester.output("counts", Text));
        for at in [85, 59] {
            input.send_at("k", String::new(), at)?;
        }
        // 59 belongs to [0, 60), [20, 80) and [40, 100): the last one is still open.
        assert_eq!(values(&out), ["[40, 100) 1 [60, 120) 1 [80, 140) 1", "[40, 100) 2"]);
        assert_eq!(tester.late("count")?, 2);
        Ok(())
    })
}

#[test]
fn w2_late_stays_late_after_a_crash() -> Done {
    with_both(|guarantee| {
        let tester = Tester::new();
        tester.add_with(counter(Windows::tumbling(ms(60))), move |p| p.guarantee(guarantee))?;
        let (input, out) = (tester.input("in", Text), tester.output("counts", Text));
        for at in [10, 60] {
            input.send_at("k", String::new(), at)?;
        }
        tester.crash("count")?;
        tester.start_instance("count", 0)?;
        input.send_at("k", String::new(), 10)?;
        assert_eq!(values(&out), ["[0, 60) 1", "[60, 120) 1", ""]);
        Ok(())
    })
}
