//! Joins as scripts: what comes on either side, and what the join emits, for the tester and for Kafka alike.
//!
//! A record is `L a@5` or `R q:x@5`: side, key (`k` if it is not said, `-` is null), value (`-` is null), time; `/1` behind it
//! is its partition. `F` is a far flush, a right record `z:z@1000`. What is emitted is `[a,x]@5`, with `-` where a side is missing.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::sync::Arc;
use std::time::Duration;

use stream_core::codec::Text;
use stream_core::context::Ctx;
use stream_core::group::{CallbackResult, Group, GroupBuilder, GroupGraph, NoTable, Output, Side};
use stream_core::processor::Guarantee;
use stream_core::testing::Tester;
use stream_core::window::{JoinWindows, Nulls};

/// A join of texts by their keys, and what comes of a script.
#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub kind: Kind,
    pub windows: JoinWindows,
    pub nulls: Nulls,
    /// Records, and what is emitted by then in order.
    pub script: &'static [(&'static str, &'static str)],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Inner,
    Left,
    Outer,
}

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Before and after 60, grace 10.
pub fn usual() -> JoinWindows {
    JoinWindows::around(ms(60)).grace(ms(10))
}

/// Runs a script record by record in a tester, which it gives back.
pub fn run(case: Case, guarantee: Guarantee) -> Result<Tester, Box<dyn std::error::Error>> {
    let tester = Tester::with_partitions(case.partitions());
    tester.add_with(case.graph("join"), move |p| p.guarantee(guarantee))?;
    let out = tester.output("join-out", Text);
    for (step, expected) in case.steps() {
        let input = tester.input(&format!("join-{}", step.side), Text);
        input.push_at(step.key.as_deref(), step.value.as_ref(), Some(step.at), Some(step.partition))?;
        tester.drain()?;
        let found = out.read()?;
        let texts: Vec<String> = found.iter().filter_map(|r| r.value.clone()).collect();
        assert_eq!(texts, expected, "case {} after {step:?}", case.name);
        for (record, text) in found.iter().zip(&texts) {
            assert!(text.ends_with(&format!("@{}", record.timestamp)), "{record:?}");
        }
    }
    Ok(tester)
}

/// `[left,right]@time`.
pub fn emitted(left: Option<&String>, right: Option<&String>, at: i64) -> String {
    let text = |value: Option<&String>| value.map_or("-".to_owned(), Clone::clone);
    format!("[{},{}]@{at}", text(left), text(right))
}

impl Case {
    /// The group, with topics of this prefix.
    pub fn graph(&self, prefix: &str) -> Arc<GroupGraph> {
        let [left, right] = ["left", "right"].map(|side| Side::topic(format!("{prefix}-{side}"), Text));
        self.graph_of(prefix, left, right)
    }

    pub fn graph_of(&self, prefix: &str, left: Side<String>, right: Side<String>) -> Arc<GroupGraph> {
        let mut g = Group::define(prefix);
        let out = g.output(format!("{prefix}-out"), Text);
        self.join(&mut g, left, right, out);
        g.build().unwrap()
    }

    pub fn join(&self, g: &mut GroupBuilder<NoTable>, left: Side<String>, right: Side<String>, out: Output<String>) {
        let emit = move |ctx: &mut Ctx<'_, NoTable>, l: Option<&String>, r: Option<&String>| -> CallbackResult {
            ctx.emit(out, ctx.key(), emitted(l, r, ctx.timestamp()))
        };
        let join = g.stream_join("pairs", self.windows, left, right).nulls(self.nulls);
        match self.kind {
            Kind::Inner => join.inner(move |ctx, l, r| emit(ctx, Some(l), Some(r))),
            Kind::Left => join.left(move |ctx, l, r| emit(ctx, Some(l), r)),
            Kind::Outer => join.outer(emit),
        };
    }

    /// The records with what is to be emitted after each.
    pub fn steps(&self) -> Vec<(Step, Vec<String>)> {
        let results = |text: &str| text.split_whitespace().map(ToOwned::to_owned).collect();
        self.script.iter().map(|(record, out)| (Step::read(record), results(out))).collect()
    }

    pub fn partitions(&self) -> i32 {
        self.steps().iter().map(|(step, _)| step.partition + 1).max().unwrap_or(1)
    }
}

/// A record of a script.
#[derive(Clone, Debug)]
pub struct Step {
    /// `left` or `right`.
    pub side: &'static str,
    pub key: Option<String>,
    pub value: Option<String>,
    pub at: i64,
    pub partition: i32,
}

impl Step {
    pub fn read(text: &str) -> Self {
        let text = if text == "F" { "R z:z@1000" } else { text };
        let (side, rest) = text.split_once(' ').unwrap();
        let (rest, partition) = rest.split_once('/').unwrap_or((rest, "0"));
        let (what, at) = rest.split_once('@').unwrap();
        let (key, value) = what.split_once(':').unwrap_or(("k", what));
        let unless_null = |text: &str| (text != "-").then(|| text.to_owned());
        Self {
            side: if side == "L" { "left" } else { "right" },
            key: unless_null(key),
            value: unless_null(value),
            at: at.parse().unwrap(),
            partition: partition.parse().unwrap(),
        }
    }
}

fn left(name: &'static str, script: &'static [(&'static str, &'static str)]) -> Case {
    Case { name, kind: Kind::Left, windows: usual(), nulls: Nulls::OnClose, script }
}

fn kind(kind: Kind, case: Case) -> Case {
    Case { kind, ..case }
}

fn eager(case: Case) -> Case {
    Case { nulls: Nulls::Eager, ..case }
}

/// The numbered cases of the semantics.
pub fn numbered() -> Vec<Case> {
    vec![
        left("01", &[("L a@0", ""), ("R x@60", "[a,x]@60"), ("F", "")]),
        left("02", &[("L a@0", ""), ("R x@61", ""), ("F", "[a,-]@0")]),
        left("03", &[("R x@0", ""), ("L a@60", "[a,x]@60")]),
        left("04", &[("L a@0", ""), ("L b@10", ""), ("R x@20", "[a,x]@20 [b,x]@20"), ("R y@5", "[a,y]@5 [b,y]@10")]),
        left("05", &[("L a@0", ""), ("R x@30", "[a,x]@30"), ("F", "")]),
        left("06", &[("L a@0", ""), ("R q:q@70", ""), ("R q:q@71", "[a,-]@0")]),
        left("07", &[("L a@0", ""), ("L q:q@71", "[a,-]@0")]),
        left("08", &[("L a@0", ""), ("L b@0", ""), ("R x@0", "[a,x]@0 [b,x]@0"), ("F", "")]),
        left("09", &[("L -:a@0", "[a,-]@0")]),
        kind(Kind::Inner, left("09-inner", &[("L -:a@0", ""), ("F", "")])),
        left("10", &[("L a@0", ""), ("R -@5", ""), ("F", "[a,-]@0")]),
        Case {
            windows: JoinWindows::after(ms(60)).grace(ms(0)),
            ..left(
                "11",
                &[
                    ("L a@10", ""),
                    ("R w@9", ""),
                    ("R x@10", "[a,x]@10"),
                    ("R y@70", "[a,y]@70"),
                    ("R v@71", ""),
                    ("R z@1000", ""),
                ],
            )
        },
        eager(left(
            "12",
            &[("L a@0", "[a,-]@0"), ("R x@30", "[a,x]@30"), ("L b@30", "[b,x]@30"), ("R y@40", "[a,y]@40 [b,y]@40")],
        )),
        left("13", &[("L a@0/0", ""), ("R q:q@1000/1", "")]),
        left("14", &[("L a@0", ""), ("R q:q@71", "[a,-]@0"), ("R x@50", ""), ("L b@60", "[b,x]@60")]),
        left("15", &[("R q:q@200", ""), ("L a@100", "")]),
    ]
}

fn outer(name: &'static str, windows: JoinWindows, script: &'static [(&'static str, &'static str)]) -> Case {
    Case { name, kind: Kind::Outer, windows, nulls: Nulls::OnClose, script }
}

fn inner(name: &'static str, windows: JoinWindows, script: &'static [(&'static str, &'static str)]) -> Case {
    Case { kind: Kind::Inner, ..outer(name, windows, script) }
}

fn windows(before: u64, after: u64, grace: u64) -> JoinWindows {
    JoinWindows::before(ms(before)).after(ms(after)).grace(ms(grace))
}

/// What the numbered cases leave open of the rules J1 to J6 and J8.
#[allow(clippy::too_many_lines, reason = "a list")]
pub fn rules() -> Vec<Case> {
    vec![
        inner(
            "j1-ends",
            windows(5, 70, 1000),
            &[
                ("L a@100", ""),
                ("R u@94", ""),
                ("R v@95", "[a,v]@100"),
                ("R w@170", "[a,w]@170"),
                ("R x@171", ""),
                ("L b@99", "[b,u]@99 [b,v]@99"),
                ("L c@101", "[c,w]@170 [c,x]@171"),
            ],
        ),
        // Also where one begins as the other does, and where they end in zero bytes. An empty key is a key.
        inner(
            "j1-keys",
            usual(),
            &[
                ("L a:1@0", ""),
                ("L ab:2@0", ""),
                ("L a\0:3@0", ""),
                ("R a:x@0", "[1,x]@0"),
                ("R ab:y@0", "[2,y]@0"),
                ("R a\0:z@0", "[3,z]@0"),
                ("R :e@0", ""),
                ("L :f@0", "[f,e]@0"),
            ],
        ),
        outer(
            "j2-once",
            windows(30, 60, 10),
            &[
                ("R x@0", ""),
                ("L q:a@0", ""),
                ("L w:c@40", ""),
                ("L w:d@41", "[-,x]@0"),
                ("L w:e@70", ""),
                ("L w:f@71", "[a,-]@0"),
                ("L w:g@72", ""),
            ],
        ),
        outer(
            "j3-late",
            windows(30, 60, 10),
            &[
                ("L q:q@100", ""),
                ("L a@30", ""),
                ("R x@60", "[a,x]@60"),
                ("L b@29", ""),
                ("R y@59", ""),
                ("L z:z@1000", "[q,-]@100"),
            ],
        ),
        // A right record is kept for much longer: that changes nothing of the order.
        outer(
            "j4-order",
            windows(100, 10, 0),
            &[
                ("R x:x@5", ""),
                ("R w:w1@5", ""),
                ("R w:w2@5", ""),
                ("L a:a@5", ""),
                ("L c:c@3", ""),
                ("L b:b@3", ""),
                ("R d:d@2", ""),
                ("L z:z@1000", "[-,d]@2 [b,-]@3 [c,-]@3 [-,w1]@5 [-,w2]@5 [-,x]@5 [a,-]@5"),
            ],
        ),
        left(
            "j4-before-the-matches",
            &[("L a@0", ""), ("L b@40", ""), ("L q:c@2", ""), ("R x@75", "[a,-]@0 [c,-]@2 [b,x]@75")],
        ),
        inner(
            "j5-inner",
            usual(),
            &[("L -@0", ""), ("R -@0", ""), ("L -:a@0", ""), ("R -:x@0", ""), ("L -:-@0", ""), ("F", "")],
        ),
        left(
            "j5-left",
            &[("L -@0", ""), ("R -@0", ""), ("L -:a@1", "[a,-]@1"), ("R -:x@0", ""), ("L -:-@0", ""), ("F", "")],
        ),
        outer(
            "j5-outer",
            usual(),
            &[("L -@0", ""), ("R -@0", ""), ("L -:a@1", "[a,-]@1"), ("R -:x@2", "[-,x]@2"), ("L -:-@0", "")],
        ),
        left("j5-stream-time", &[("L a@0", ""), ("R -@71", "[a,-]@0")]),
        inner("j6-kept", usual(), &[("L a@0", ""), ("R q:q@70", ""), ("R x@1", "[a,x]@1")]),
        inner("j6-no-longer", usual(), &[("L a@0", ""), ("R q:q@71", ""), ("R x@1", "")]),
        eager(outer(
            "j8-outer",
            usual(),
            &[
                ("L a@0", "[a,-]@0"),
                ("R x@30", "[a,x]@30"),
                ("L b@30", "[b,x]@30"),
                ("R q:y@40", "[-,y]@40"),
                ("L -:c@40", "[c,-]@40"),
                ("R y@200", "[-,y]@200"),
                ("L q:q@120", ""),
            ],
        )),
    ]
}

/// One of them, or of the numbered ones.
pub fn case(name: &str) -> Case {
    numbered().into_iter().chain(rules()).find(|c| c.name == name).unwrap()
}
