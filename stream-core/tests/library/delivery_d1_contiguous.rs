//! D1: a record's offset is committed only when every record before it on its partition is done.

use stream_core::codec::Text;
use stream_core::group::Group;
use stream_core::log::LogError;
use stream_core::testing::Tester;

/// The first acceptance test: message 0's emit fails, messages 1 to 5 succeed, the restart delivers message 0 again.
#[test]
fn a_failed_emit_is_not_overtaken_by_later_ones() -> Result<(), Box<dyn std::error::Error>> {
    let mut g = Group::define("copy");
    let out = g.output("out", Text);
    g.input("in", Text, move |ctx, text| ctx.emit(out, ctx.key(), &text));
    let tester = Tester::new();
    tester.add(g.build()?)?;
    let fault = tester
        .log()
        .faults()
        .on(|r| r.topic == "out" && r.key == Some(b"0"))
        .fail(LogError::Retriable { what: "write".into(), reason: "on purpose".into() });
    let input = tester.input("in", Text);
    for i in 0..6 {
        input.push(i.to_string(), format!("message {i}"))?;
    }
    tester.advance(std::time::Duration::from_secs(0)).expect_err("message 0 can't be written");
    assert!(fault.hits() > 0);
    tester.crash("copy")?;
    drop(fault);
    tester.restart("copy")?;
    tester.drain()?;
    let keys: Vec<String> = tester.output("out", Text).read_pairs()?.into_iter().map(|(k, _)| k).collect();
    assert!(keys.contains(&"0".to_owned()), "message 0 is lost: {keys:?}");
    for i in 1..6 {
        assert!(keys.contains(&i.to_string()), "message {i} is lost: {keys:?}");
    }
    Ok(())
}
