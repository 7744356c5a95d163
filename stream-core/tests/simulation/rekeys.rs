//! Groups whose records come back to them under other keys: by loops with names, and by re-keys.

use std::collections::BTreeMap;

use stream_core::codec::Int64;
use stream_core::prelude::*;
use stream_core::testing::simulator::{CheckResult, Comparison, Outcome, Simulation};

use crate::groups::{Graph, counted, last_word, one_output_each, record};

/// Each number with the times that it came with.
fn times(outcome: &Outcome, topic: &str) -> Result<BTreeMap<String, String>, String> {
    let all = outcome.decoded(topic, &Text).map_err(|e| format!("{e:?}"))?;
    let timed = |text: &str| text.split(' ').nth(1).unwrap_or_default().to_owned();
    Ok(all.into_iter().map(|(_, text)| (last_word(&text), timed(&text))).collect())
}

/// Each record has come, under its new key and with its own time.
fn came_back(c: &Comparison<'_>, topic: &str) -> CheckResult {
    one_output_each(c, topic, last_word)?;
    if times(c.expected, topic)? != times(c.actual, topic)? {
        return Err(format!("{topic}: records have come back with other times than they had"));
    }
    Ok(())
}

/// Counts by the last digit through one loop, and adds numbers up by their parity through another. What the second one gets
/// goes through the first one, too.
pub(crate) fn named_loops(simulation: Simulation) -> Simulation {
    let graph = || -> Graph {
        let mut g = Group::define("loops").table(Int64);
        let (digits, parities) = (g.output("digits", Text), g.output("parities", Text));
        let by_digit = g.named_loop("digit", Text);
        let by_parity = g.named_loop("parity", Int64);
        g.input("words", Text, move |ctx, id| {
            let digit = id.chars().last().unwrap_or('x').to_string();
            ctx.loopback(by_digit, &digit, &id)
        });
        g.on_loop(by_digit, move |ctx, id| {
            let n = ctx.value()?.unwrap_or(0) + 1;
            ctx.emit(digits, ctx.key(), format!("{n} {} {id}", ctx.timestamp()))?;
            let number: i64 = id.trim_start_matches('r').parse()?;
            ctx.loopback(by_parity, if number % 2 == 0 { "even" } else { "odd" }, number)?;
            ctx.set(n)
        });
        g.on_loop(by_parity, move |ctx, number| {
            let sum = ctx.value()?.unwrap_or(0) + number;
            ctx.emit(parities, ctx.key(), format!("{sum} {} r{number}", ctx.timestamp()))?;
            ctx.set(sum)
        });
        g.build()
    };
    simulation.group(graph).input("words", Text, 80, record).check(|c| {
        came_back(c, "digits")?;
        came_back(c, "parities")?;
        counted(c, "loops")
    })
}

/// Counts behind two re-keys: by the last digit, and by whether that is above four. The second one has the first one's key.
pub(crate) fn rekeyed(simulation: Simulation) -> Simulation {
    let graph = || -> Graph {
        let mut g = Group::define("rekeyed").table(Int64);
        let out = g.output("halves", Text);
        let by_digit = g.rekey(("words", Text), |_, id: &String| Ok(id.chars().last().map(String::from)));
        let by_half = g.rekey(by_digit, |ctx, _: &String| {
            let digit: u8 = ctx.key_text()?.parse()?;
            Ok(if digit > 4 { "high" } else { "low" })
        });
        g.on_loop(by_half, move |ctx, id| {
            let n = ctx.value()?.unwrap_or(0) + 1;
            ctx.emit(out, ctx.key(), format!("{n} {} {id}", ctx.timestamp()))?;
            ctx.set(n)
        });
        g.build()
    };
    simulation.group(graph).input("words", Text, 80, record).check(|c| {
        came_back(c, "halves")?;
        counted(c, "rekeyed")
    })
}
