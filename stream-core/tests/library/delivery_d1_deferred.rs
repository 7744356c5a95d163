//! D1 for deferred work: a record is done when all that it deferred is done.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use stream_core::codec::{Int64, Text};
use stream_core::context::Deferred;
use stream_core::group::{ErrorPolicy, Group, Input};
use stream_core::testing::Tester;

use crate::support::{Done, Gate, Notes, ms, pairs, table, values};

type Open = Arc<Mutex<BTreeMap<String, Vec<Deferred>>>>;

fn take(open: &Open, which: &str) -> Vec<Deferred> {
    open.lock().unwrap().remove(which).unwrap_or_default()
}

fn end(open: &Open, which: &str) {
    take(open, which).into_iter().for_each(Deferred::done);
}

/// Each record defers twice, sets its key and emits.
fn group(open: &Open, input: Input) -> Arc<stream_core::group::GroupGraph> {
    let mut g = Group::define("later").table(Text);
    let out = g.output("out", Text);
    let open = Arc::clone(open);
    g.input(input, Text, move |ctx, text: String| {
        let both = vec![ctx.defer(), ctx.defer()];
        open.lock().unwrap().insert(text.clone(), both);
        ctx.set(text.clone())?;
        ctx.emit(out, ctx.key(), &text)
    });
    g.build().unwrap()
}

#[test]
fn a_record_is_not_committed_before_its_deferred_work_is_done() -> Done {
    let open = Open::default();
    let tester = Tester::new();
    tester.add(group(&open, Input::topic("in")))?;
    let (input, out) = (tester.input("in", Text), tester.output("out", Text));
    for i in 0..4 {
        input.push(format!("k{i}"), i.to_string())?;
    }
    tester.wait_until("all are called", || open.lock().unwrap().len() == 4)?;
    end(&open, "3");
    end(&open, "1");
    // One of two is not enough.
    let mut both = take(&open, "0");
    let second = both.pop().unwrap();
    both.into_iter().for_each(Deferred::done);
    tester.run_for(ms(100));
    assert_eq!(tester.committed("later", "in", 0)?, Some(0));
    assert_eq!(values(&out), Vec::<String>::new());
    assert_eq!(table(&tester, "later", Text), pairs([]));

    second.done();
    tester.run_for(ms(100));
    assert_eq!(tester.committed("later", "in", 0)?, Some(2));
    assert_eq!(values(&out), ["0", "1"]);
    end(&open, "2");
    tester.drain()?;
    assert_eq!(values(&out), ["2", "3"]);
    let all = ["0", "1", "2", "3"].map(String::from);
    let keys = ["k0", "k1", "k2", "k3"];
    assert_eq!(table(&tester, "later", Text), pairs(keys.into_iter().zip(all)));
    Ok(())
}

#[test]
fn a_key_with_open_work_is_not_called_again_before_it_is_done() -> Done {
    let open = Open::default();
    let tester = Tester::new();
    tester.add(group(&open, Input::topic("in")))?;
    let input = tester.input("in", Text);
    for (key, value) in [("a", "a1"), ("b", "b1"), ("a", "a2"), ("c", "c1")] {
        input.push(key, value.to_owned())?;
    }
    tester.run_for(ms(100));
    let called: Vec<String> = open.lock().unwrap().keys().cloned().collect();
    assert_eq!(called, ["a1", "b1"], "callbacks that do not await are called in order");
    end(&open, "a1");
    tester.run_for(ms(100));
    for which in ["b1", "c1", "a2"] {
        assert!(open.lock().unwrap().contains_key(which), "{which}");
        end(&open, which);
        tester.run_for(ms(100));
    }
    tester.drain()?;
    assert_eq!(
        table(&tester, "later", Text),
        pairs([("a", "a2"), ("b", "b1"), ("c", "c1")].map(|(k, v)| (k, v.to_owned())))
    );
    Ok(())
}

#[test]
fn deferred_work_that_fails_or_is_dropped_is_an_error_of_its_record() -> Done {
    let open = Open::default();
    let tester = Tester::new();
    tester.add(group(&open, Input::topic("in").on_error(ErrorPolicy::dead_letter("dead"))))?;
    let (input, out, dead) = (tester.input("in", Text), tester.output("out", Text), tester.output("dead", Text));
    for i in 0..4 {
        input.push(format!("k{i}"), i.to_string())?;
    }
    tester.wait_until("all are called", || open.lock().unwrap().len() == 4)?;
    let mut both = take(&open, "1");
    both.pop().unwrap().fail(stream_core::group::CallbackError::msg("no luck"));
    drop(take(&open, "2"));
    tester.run_for(ms(100));
    // Its other half ends after the record was given up: nobody waits for it any more.
    both.into_iter().for_each(Deferred::done);
    end(&open, "3");
    end(&open, "0");
    tester.drain()?;
    assert_eq!(values(&out), ["0", "3"]);
    let reasons: Vec<_> =
        dead.read()?.iter().map(|r| (r.key_text(), r.header("dead-letter-reason").unwrap())).collect();
    assert_eq!(reasons[0], ("k1".to_owned(), "no luck".to_owned()));
    assert_eq!(reasons[1].0, "k2");
    assert!(reasons[1].1.contains("dropped before done()"), "{}", reasons[1].1);
    assert_eq!(reasons.len(), 2);
    assert_eq!(table(&tester, "later", Text), pairs([("k0", "0".to_owned()), ("k3", "3".to_owned())]));
    Ok(())
}

#[test]
fn deferred_work_that_fails_is_retried_with_the_callback() -> Done {
    let open = Open::default();
    let tester = Tester::new();
    tester.add(group(&open, Input::topic("in").on_error(ErrorPolicy::fail().retry(3, ms(50)))))?;
    let (input, out) = (tester.input("in", Text), tester.output("out", Text));
    input.push("a", "1".to_owned())?;
    input.push("b", "2".to_owned())?;
    tester.wait_until("both are called", || open.lock().unwrap().len() == 2)?;
    let mut stale = Vec::new();
    for _ in 0..3 {
        let mut both = take(&open, "1");
        both.pop().unwrap().fail(stream_core::group::CallbackError::msg("no luck"));
        stale.append(&mut both);
        tester.wait_until("it is called again", || open.lock().unwrap().contains_key("1"))?;
    }
    // What belongs to attempts that failed says nothing about the last one.
    stale.into_iter().for_each(Deferred::done);
    end(&open, "2");
    tester.run_for(ms(100));
    assert_eq!(tester.committed("later", "in", 0)?, Some(0));
    end(&open, "1");
    tester.drain()?;
    assert_eq!(values(&out), ["1", "2"]);
    Ok(())
}

/// Work that is done before the callback that deferred it returns.
#[test]
fn deferred_work_may_end_before_its_callback() -> Done {
    let (gate, begun) = (Gate::new(), Notes::new());
    let mut g = Group::define("early").table(Int64);
    let (passed, noted) = (gate.clone(), begun.clone());
    g.input_async(Input::topic("in").on_error(ErrorPolicy::skip()), Text, async move |ctx, text: String| {
        let deferred = ctx.defer();
        match &*text {
            "done" => deferred.done(),
            "fail" => deferred.fail(stream_core::group::CallbackError::msg("no luck")),
            _ => drop(deferred),
        }
        noted.add(text);
        // Gives the task time to hear of it.
        passed.pass("door").await;
        ctx.set(1)
    });
    let tester = Tester::new();
    tester.add(g.build()?)?;
    let input = tester.input("in", Text);
    for text in ["done", "fail", "drop"] {
        input.push(text, text.to_owned())?;
    }
    tester.wait_until("all begin", || begun.len() == 3)?;
    tester.run_for(ms(100));
    gate.open_all();
    tester.drain()?;
    assert_eq!(table(&tester, "early", Int64), pairs([("done", 1)]));
    Ok(())
}
