//! T3: emits and table writes carry the input's event time, a timer's its due time; loops keep it.

use stream_core::codec::{EventTime, Int64, Text};
use stream_core::group::Group;
use stream_core::testing::Tester;

use crate::support::{Done, with_both};

/// When the records of a topic were, by their own account.
fn times(tester: &Tester, topic: &str) -> Vec<i64> {
    let all = tester.output(topic, stream_core::codec::Bytes).read().unwrap();
    all.into_iter().map(|r| r.timestamp).collect()
}

#[test]
fn t3_emits_loops_and_table_writes_carry_the_inputs_event_time() -> Done {
    with_both(|guarantee| {
        let mut g = Group::define("g").table(Int64);
        let out = g.output("out", Int64);
        let again = g.loopback(Int64);
        g.input("in", EventTime::by(Int64, |at: &i64| *at), move |ctx, at| {
            ctx.emit(out, ctx.key(), at)?;
            ctx.loopback(again, "other", at)?;
            ctx.set(at)
        });
        g.on_loop(again, move |ctx, at| ctx.emit(out, "looped", at));
        let tester = Tester::new();
        tester.add_with(g.build()?, move |p| p.guarantee(guarantee))?;
        for at in [70, 30] {
            tester.input("in", Int64).send_at("k", at, 5_000_000)?;
        }
        assert_eq!(times(&tester, "g-table"), [70, 30]);
        assert_eq!(times(&tester, "g-loop"), [70, 30]);
        assert_eq!(times(&tester, "out"), [70, 70, 30, 30]);
        Ok(())
    })
}

#[test]
fn t3_what_a_timer_does_carries_its_due_time() -> Done {
    with_both(|guarantee| {
        let mut g = Group::define("g").table(Text);
        let out = g.output("out", Text);
        let timer = g.timer("t", Text);
        g.input("in", Text, move |ctx, text| if text == "set" { ctx.set_timer(timer, 100, &text) } else { Ok(()) });
        g.on_timer(timer, move |ctx, text| {
            ctx.emit(out, ctx.key(), &text)?;
            ctx.set(text)
        });
        let tester = Tester::new();
        tester.add_with(g.build()?, move |p| p.guarantee(guarantee))?;
        tester.input("in", Text).send_at("k", "set".to_owned(), 10)?;
        tester.input("in", Text).send_at("k", "now".to_owned(), 5000)?;
        assert_eq!(times(&tester, "out"), [100]);
        assert_eq!(times(&tester, "g-table"), [100]);
        Ok(())
    })
}
