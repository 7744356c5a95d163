//! A join of two topics against a model of it that is as simple as can be: whatever comes, in whatever order, the same is
//! emitted in the same order.

use stream_core::codec::Text;
use stream_core::processor::Guarantee;
use stream_core::testing::Tester;
use stream_core::window::{JoinWindows, Nulls};

use crate::join_support::{Case, Kind, emitted};
use crate::support::{Done, ms, values, with_both};

#[derive(Clone, Debug)]
struct Record {
    left: bool,
    key: Option<String>,
    value: Option<String>,
    at: i64,
}

/// The rules J1 to J6 and J8 over lists.
struct Model {
    before: i64,
    after: i64,
    grace: i64,
    kind: Kind,
    nulls: Nulls,
    time: i64,
    /// With their arrival, and whether they had a match.
    kept: Vec<(Record, usize, bool)>,
    emitted: Vec<String>,
    late: u64,
    dropped: u64,
}

impl Model {
    fn outer(&self, left: bool) -> bool {
        self.kind == Kind::Outer || (self.kind == Kind::Left && left)
    }

    fn until(&self, record: &Record) -> i64 {
        record.at + if record.left { self.after } else { self.before } + self.grace
    }

    fn emit(&mut self, left: Option<&Record>, right: Option<&Record>) {
        let at = left.iter().chain(&right).map(|r| r.at).max().unwrap();
        let value = |record: Option<&Record>| record.and_then(|r| r.value.clone());
        self.emitted.push(emitted(value(left).as_ref(), value(right).as_ref(), at));
    }

    fn emit_null(&mut self, record: &Record) {
        if record.left { self.emit(Some(record), None) } else { self.emit(None, Some(record)) }
    }

    fn take(&mut self, record: Record, arrival: usize) {
        self.time = self.time.max(record.at);
        let (mut due, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.kept).into_iter().partition(|(r, ..)| self.until(r) < self.time);
        self.kept = kept;
        due.sort_by_key(|(r, arrival, _)| (r.at, r.left, r.key.clone(), *arrival));
        for (record, _, matched) in due {
            if !matched && self.outer(record.left) && self.nulls == Nulls::OnClose {
                self.emit_null(&record);
            }
        }
        if record.value.is_none() {
            self.dropped += 1;
        } else if self.until(&record) < self.time {
            self.late += 1;
        } else if record.key.is_none() {
            if self.outer(record.left) { self.emit_null(&record) } else { self.dropped += 1 }
        } else {
            self.join(record, arrival);
        }
    }

    fn join(&mut self, record: Record, arrival: usize) {
        let matches = |other: &Record| {
            let (left, right) = if record.left { (&record, other) } else { (other, &record) };
            other.left != record.left
                && other.key == record.key
                && (left.at - self.before..=left.at + self.after).contains(&right.at)
        };
        let mut found: Vec<usize> = (0..self.kept.len()).filter(|i| matches(&self.kept[*i].0)).collect();
        found.sort_by_key(|i| (self.kept[*i].0.at, self.kept[*i].1));
        for i in &found {
            self.kept[*i].2 = true;
            let other = self.kept[*i].0.clone();
            let (left, right) = if record.left { (&record, &other) } else { (&other, &record) };
            self.emit(Some(left), Some(right));
        }
        if found.is_empty() && self.outer(record.left) && self.nulls == Nulls::Eager {
            self.emit_null(&record);
        }
        self.kept.push((record, arrival, !found.is_empty()));
    }
}

/// The same few pseudo-random numbers at each run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> i64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        i64::try_from(self.0 % n).unwrap()
    }
}

/// Time goes on by 4 ms a record, and a record is up to 150 ms late, or early.
fn records(random: &mut Random, count: usize) -> Vec<Record> {
    let record = |n| {
        let behind = if random.below(3) == 0 { random.below(150) } else { random.below(10) };
        let ahead = if random.below(20) == 0 { random.below(150) } else { 0 };
        Record {
            left: random.below(2) == 0,
            key: (random.below(30) > 0).then(|| format!("k{}", random.below(4))),
            value: (random.below(30) > 0).then(|| format!("v{n}")),
            at: (i64::try_from(n).unwrap() * 4 - behind + ahead).max(0),
        }
    };
    (0..count).map(record).collect()
}

fn compare(guarantee: Guarantee, kind: Kind, nulls: Nulls, seed: u64) -> Done {
    let mut random = Random(seed * 7919 + 1);
    let [before, after, grace] = [80, 80, 40].map(|n| random.below(n));
    let span = |n: i64| ms(n.unsigned_abs());
    let windows = JoinWindows::before(span(before)).after(span(after)).grace(span(grace));
    let case = Case { name: "", kind, windows, nulls, script: &[] };
    let mut model =
        Model { before, after, grace, kind, nulls, time: i64::MIN, kept: vec![], emitted: vec![], late: 0, dropped: 0 };
    let tester = Tester::new();
    tester.add_with(case.graph("join"), move |p| p.guarantee(guarantee))?;
    let inputs = ["left", "right"].map(|side| tester.input(&format!("join-{side}"), Text));
    let mut emitted = Vec::new();
    let out = tester.output("join-out", Text);
    for (n, record) in records(&mut random, 120).into_iter().enumerate() {
        let input = &inputs[usize::from(!record.left)];
        input.push_at(record.key.as_deref(), record.value.as_ref(), Some(record.at), None)?;
        tester.drain()?;
        model.take(record.clone(), n);
        emitted.extend(values(&out));
        assert_eq!(
            emitted, model.emitted,
            "{guarantee:?} {kind:?} {nulls:?} seed {seed}, {windows:?}: after {n}, {record:?}"
        );
    }
    assert_eq!((tester.late("join")?, tester.dropped("join")?), (model.late, model.dropped));
    assert!(model.late > 0 && model.dropped > 0, "the records are not bad enough");
    Ok(())
}

fn all(kind: Kind, nulls: Nulls) -> Done {
    with_both(|guarantee| (1..=6).try_for_each(|seed| compare(guarantee, kind, nulls, seed)))
}

#[test]
fn j1_to_j6_inner() -> Done {
    all(Kind::Inner, Nulls::OnClose)
}

#[test]
fn j1_to_j6_left() -> Done {
    all(Kind::Left, Nulls::OnClose)
}

#[test]
fn j1_to_j6_outer() -> Done {
    all(Kind::Outer, Nulls::OnClose)
}

#[test]
fn j8_eager_left() -> Done {
    all(Kind::Left, Nulls::Eager)
}

#[test]
fn j8_eager_outer() -> Done {
    all(Kind::Outer, Nulls::Eager)
}
