//! D1 for callbacks that await: the committed offset is a contiguous watermark, whatever order they end in.

use stream_core::codec::Text;
use stream_core::group::{Group, Input};
use stream_core::testing::Tester;

use crate::support::{Done, Gate, Notes, ms, values};

/// A group that copies from `in` to `out` once the gate lets a value through.
fn copier(gate: &Gate, begun: &Notes<String>, input: Input) -> std::sync::Arc<stream_core::group::GroupGraph> {
    let mut g = Group::define("copy");
    let out = g.output("out", Text);
    let (gate, begun) = (gate.clone(), begun.clone());
    g.input_async(input, Text, async move |ctx, text: String| {
        begun.add(text.clone());
        gate.pass(&text).await;
        ctx.emit(out, ctx.key(), &text)
    });
    g.build().unwrap()
}

#[test]
fn nothing_is_committed_or_emitted_past_the_first_unfinished_record() -> Done {
    let (gate, begun) = (Gate::new(), Notes::new());
    let tester = Tester::new();
    tester.add(copier(&gate, &begun, Input::topic("in")))?;
    let (input, out) = (tester.input("in", Text), tester.output("out", Text));
    for i in 0..5 {
        input.push(format!("k{i}"), i.to_string())?;
    }
    tester.wait_until("all callbacks begin", || begun.len() == 5)?;
    for door in ["4", "2", "1"] {
        gate.open(door);
        tester.run_for(ms(100));
    }
    assert_eq!(tester.committed("copy", "in", 0)?, Some(0));
    assert_eq!(values(&out), Vec::<String>::new());

    gate.open("0");
    tester.run_for(ms(100));
    assert_eq!(tester.committed("copy", "in", 0)?, Some(3), "3 is still awaited");
    assert_eq!(values(&out), ["0", "1", "2"]);

    gate.open("3");
    tester.drain()?;
    assert_eq!(tester.committed("copy", "in", 0)?, Some(5));
    assert_eq!(values(&out), ["3", "4"]);
    Ok(())
}

#[test]
fn a_crash_while_one_is_awaited_does_it_and_all_behind_it_again() -> Done {
    let (gate, begun) = (Gate::new(), Notes::new());
    let tester = Tester::new();
    tester.add(copier(&gate, &begun, Input::topic("in")))?;
    let (input, out) = (tester.input("in", Text), tester.output("out", Text));
    for i in 0..4 {
        input.push(format!("k{i}"), i.to_string())?;
    }
    for door in ["0", "2", "3"] {
        gate.open(door);
    }
    tester.wait_until("record 0 is committed", || tester.committed("copy", "in", 0).unwrap() == Some(1))?;
    tester.crash("copy")?;
    assert_eq!(values(&out), ["0"], "2 and 3 were not released");
    begun.take();
    gate.open("1");
    tester.restart("copy")?;
    tester.drain()?;
    assert_eq!(begun.all(), ["1", "2", "3"]);
    assert_eq!(values(&out), ["1", "2", "3"]);
    Ok(())
}

#[test]
fn a_graceful_stop_finishes_what_is_awaited() -> Done {
    let (gate, begun) = (Gate::new(), Notes::new());
    let tester = Tester::new();
    tester.add(copier(&gate, &begun, Input::topic("in").concurrency(2)))?;
    let (input, out) = (tester.input("in", Text), tester.output("out", Text));
    for i in 0..4 {
        input.push(format!("k{i}"), i.to_string())?;
    }
    tester.wait_until("two callbacks begin", || begun.len() == 2)?;
    tester.handle("copy", 0)?.stop();
    tester.run_for(ms(100));
    gate.open_all();
    tester.stop("copy")?;
    assert_eq!(begun.all(), ["0", "1"], "nothing new is begun");
    assert_eq!(values(&out), ["0", "1"]);
    assert_eq!(tester.committed("copy", "in", 0)?, Some(2));
    tester.restart("copy")?;
    tester.drain()?;
    assert_eq!(values(&out), ["2", "3"]);
    Ok(())
}
