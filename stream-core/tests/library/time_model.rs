//! Windows, sessions and timers against a model that is as simple as can be: whatever comes, however it is delivered, and
//! whether callbacks await, defer, or do neither, the same results come in the same order.
//!
//! Each partition is one sequence. Many more of them: `SEQUENCES=50000 cargo test --test library many_sequences --
//! --ignored`, from the seed `FROM`.

use std::collections::BTreeMap;
use std::sync::Arc;

use stream_core::codec::{Int64, Text};
use stream_core::context::Emit;
use stream_core::group::{
    CallbackError, CallbackResult, ErrorPolicy, Group, GroupGraph, Input, Output, SessionHandle, Timer, WindowHandle,
};
use stream_core::prelude::{Ctx, NoTable};
use stream_core::processor::Guarantee;
use stream_core::testing::Tester;
use stream_core::window::{SessionChange, Sessions, Windows};

use crate::support::{Done, ms};

const PARTITIONS: i32 = 24;
const RECORDS: usize = 16;
/// One begins with another.
const KEYS: [&str; 3] = ["k", "k\0", "l"];

/// The same pseudo-random numbers at each run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, n: i64) -> i64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        i64::try_from(self.0 % n.unsigned_abs()).unwrap()
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Sync,
    Async,
    Deferred,
}

/// What a group keeps of its records.
#[derive(Clone, Copy, Debug)]
struct Setup {
    kind: Kind,
    guarantee: Guarantee,
    /// Size, advance and grace.
    windows: Option<[i64; 3]>,
    /// Gap and grace.
    sessions: Option<[i64; 2]>,
    timers: bool,
}

impl Setup {
    fn draw(seed: u64) -> (Self, Random) {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..8 {
            random.below(2);
        }
        let kind = [Kind::Sync, Kind::Async, Kind::Deferred, Kind::Async][usize::try_from(random.below(4)).unwrap()];
        let guarantee = if random.below(3) == 0 { Guarantee::ExactlyOnce } else { Guarantee::AtLeastOnce };
        // Each alone, for each has its own effect on what may be under way together, and all of them.
        let of = random.below(5);
        let windows = matches!(of, 0 | 3 | 4).then(|| {
            let advance = 1 + random.below(20);
            [advance * (1 + random.below(3)), advance, random.below(15)]
        });
        let sessions = matches!(of, 1 | 3 | 4).then(|| [1 + random.below(12), random.below(10)]);
        (Self { kind, guarantee, windows, sessions, timers: matches!(of, 2 | 4) }, random)
    }
}

#[derive(Clone, Copy, Debug)]
enum Work {
    /// Into windows and sessions.
    Count,
    /// Sets a timer for a time, which sets itself again so often.
    Set(i64, i64),
    Cancel,
    /// Fails after it has done everything.
    Fail,
    /// A null value, which is left out.
    Null,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    key: &'static str,
    at: i64,
    work: Work,
}

fn records(random: &mut Random) -> Vec<Record> {
    let mut base = 20;
    let mut record = || {
        base += [0, 1, 3, 10, 30][usize::try_from(random.below(5)).unwrap()];
        let at = (base - if random.below(3) == 0 { random.below(40) } else { random.below(3) }).max(0);
        let key = KEYS[usize::try_from(random.below(3)).unwrap()];
        let work = match random.below(12) {
            0..=4 => Work::Count,
            5..=8 => Work::Set((at + random.below(60) - 25).max(0), random.below(3)),
            9 => Work::Cancel,
            10 => Work::Fail,
            _ => Work::Null,
        };
        Record { key, at, work }
    };
    (0..RECORDS).map(|_| record()).collect()
}

/// The rules T1, T1a, T2, W1 to W4 over lists.
struct Model {
    setup: Setup,
    time: i64,
    /// By start and key.
    windows: BTreeMap<(i64, &'static str), i64>,
    /// Key, start, end, records.
    sessions: Vec<(&'static str, i64, i64, i64)>,
    /// By key: when it is due, and how often it sets itself again.
    timers: BTreeMap<&'static str, (i64, i64)>,
    emitted: Vec<String>,
    late: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Timer(&'static str),
    Window(i64, &'static str),
    /// The length of the key comes first.
    Session(usize, &'static str, usize),
}

impl Model {
    fn new(setup: Setup) -> Self {
        let (windows, sessions, timers) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        Self { setup, time: i64::MIN, windows, sessions, timers, emitted: Vec::new(), late: 0 }
    }

    fn fire(&mut self, until: i64) {
        loop {
            let [size, _, grace] = self.setup.windows.unwrap_or_default();
            let [gap, late] = self.setup.sessions.unwrap_or_default();
            let timers = self.timers.iter().map(|(key, (at, _))| (*at, Due::Timer(key)));
            let windows = self.windows.keys().map(|(start, key)| (start + size + grace, Due::Window(*start, key)));
            let sessions = self.sessions.iter().enumerate();
            let sessions =
                sessions.map(|(n, (key, _, end, _))| (end + gap + late + 1, Due::Session(key.len(), key, n)));
            let Some((at, due)) = timers.chain(windows).chain(sessions).min().filter(|(at, _)| *at <= until) else {
                return;
            };
            self.time = self.time.max(at);
            match due {
                Due::Timer(key) => {
                    let (_, again) = self.timers.remove(key).unwrap();
                    self.emitted.push(format!("{key} fired for {at}"));
                    if again > 0 {
                        self.timers.insert(key, (at + 7, again - 1));
                    }
                }
                Due::Window(start, key) => {
                    let n = self.windows.remove(&(start, key)).unwrap();
                    self.emitted.push(format!("{key} [{start}, {}) {n}", start + size));
                }
                Due::Session(_, _, n) => {
                    let (key, start, end, n) = self.sessions.remove(n);
                    self.emitted.push(format!("{key} [{start}, {end}] {n}"));
                }
            }
        }
    }

    fn take(&mut self, Record { key, at, work }: Record) {
        let reached = self.time.max(at);
        self.fire(reached);
        self.time = reached;
        match work {
            Work::Fail | Work::Null => {}
            Work::Set(at, again) if self.setup.timers => {
                self.timers.insert(key, (at, again));
            }
            Work::Cancel if self.setup.timers => _ = self.timers.remove(key),
            Work::Count | Work::Set(..) | Work::Cancel => self.count(key, at),
        }
        self.fire(self.time);
    }

    fn count(&mut self, key: &'static str, at: i64) {
        self.emitted.push(format!("{key} at {at} by {}", self.time));
        if let Some([size, advance, grace]) = self.setup.windows {
            let starts = (0..=at).step_by(usize::try_from(advance).unwrap()).filter(|start| at < start + size);
            for start in starts {
                if start + size + grace <= self.time {
                    self.late += 1;
                } else {
                    let n = self.windows.entry((start, key)).or_default();
                    *n += 1;
                    self.emitted.push(format!("{key} [{start}, {}) now {n}", start + size));
                }
            }
        }
        if let Some([gap, grace]) = self.setup.sessions {
            let near = |s: &&(&str, i64, i64, i64)| s.0 == key && s.1 - gap <= at && at <= s.2 + gap;
            let found: Vec<_> = self.sessions.iter().filter(near).copied().collect();
            let start = found.iter().map(|s| s.1).fold(at, i64::min);
            let end = found.iter().map(|s| s.2).fold(at, i64::max);
            if end + gap + grace < self.time {
                self.late += 1;
                return;
            }
            let n = 1 + found.iter().map(|s| s.3).sum::<i64>();
            self.sessions.retain(|s| !found.contains(s));
            self.sessions.push((key, start, end, n));
            self.emitted.push(format!("{key} [{start}, {end}] now {n}"));
        }
    }
}

/// What a callback writes to.
#[derive(Clone, Copy)]
struct Handles {
    out: Output<String>,
    windows: Option<WindowHandle<i64>>,
    sessions: Option<SessionHandle<i64>>,
    timer: Option<Timer<i64>>,
}

fn work(ctx: &mut Ctx<'_, NoTable>, to: Handles, text: &str) -> CallbackResult {
    let words: Vec<&str> = text.split(' ').collect();
    let (key, at) = (ctx.key_text()?, ctx.timestamp());
    match (words.as_slice(), to.timer) {
        (["set", at, again], Some(timer)) => return ctx.set_timer(timer, at.parse()?, again.parse::<i64>()?),
        (["cancel"], Some(timer)) => return ctx.cancel_timer(timer),
        _ => {}
    }
    let emitted = format!("{key} at {at} by {}", ctx.stream_time().unwrap_or(-1));
    ctx.emit_with(to.out, key, &emitted, here(ctx))?;
    if let Some(windows) = to.windows {
        for (window, n) in ctx.aggregate(windows, |n| n.unwrap_or(0) + 1)? {
            ctx.emit_with(to.out, key, format!("{key} {window} now {n}"), here(ctx))?;
        }
    }
    if let Some(sessions) = to.sessions {
        for change in ctx.aggregate_session(sessions, |n| n.unwrap_or(0) + 1, |a, b| a + b)? {
            if let SessionChange::Updated(session, n) = change {
                ctx.emit_with(to.out, key, format!("{key} {session} now {n}"), here(ctx))?;
            }
        }
    }
    if text == "fail" { Err(CallbackError::msg("on purpose")) } else { Ok(()) }
}

/// In the partition of the sequence itself.
fn here(ctx: &Ctx<'_, NoTable>) -> Emit<'static> {
    Emit::default().partition(ctx.partition())
}

/// How long a callback takes: another time for each record, so that later ones are done before earlier ones.
fn takes(ctx: &Ctx<'_, NoTable>) -> std::time::Duration {
    ms(u64::try_from(ctx.offset().max(0)).unwrap_or_default() * 7919 % 13)
}

fn graph(setup: Setup) -> Arc<GroupGraph> {
    let span = |n: i64| ms(n.unsigned_abs());
    let mut g = Group::define("model");
    let out = g.output("out", Text);
    let windows = setup.windows.map(|[size, advance, grace]| {
        let windows = g.window("w", Windows::hopping(span(size), span(advance)).grace(span(grace)), Int64);
        g.on_close(windows, move |ctx, (window, n)| {
            let key = ctx.key_text()?;
            ctx.emit_with(out, key, format!("{key} {window} {n}"), here(ctx))
        });
        windows
    });
    let sessions = setup.sessions.map(|[gap, grace]| {
        let sessions = g.session("s", Sessions::gap(span(gap)).grace(span(grace)), Int64);
        g.on_close(sessions, move |ctx, (session, n)| {
            let key = ctx.key_text()?;
            ctx.emit_with(out, key, format!("{key} {session} {n}"), here(ctx))
        });
        sessions
    });
    let timer = setup.timers.then(|| {
        let timer = g.timer("t", Int64);
        g.on_timer(timer, move |ctx, again| {
            let (key, at) = (ctx.key_text()?, ctx.timestamp());
            ctx.emit_with(out, key, format!("{key} fired for {at}"), here(ctx))?;
            if again > 0 { ctx.set_timer(timer, at + 7, again - 1) } else { Ok(()) }
        });
        timer
    });
    let to = Handles { out, windows, sessions, timer };
    let input = Input::topic("in").concurrency(8).on_error(ErrorPolicy::skip());
    match setup.kind {
        Kind::Sync => g.input(input, Text, move |ctx, text: String| work(ctx, to, &text)),
        Kind::Async => g.input_async(input, Text, async move |ctx: &mut Ctx<'_, NoTable>, text: String| {
            tokio::time::sleep(takes(ctx)).await;
            work(ctx, to, &text)
        }),
        Kind::Deferred => g.input(input, Text, move |ctx, text: String| {
            work(ctx, to, &text)?;
            let (deferred, takes) = (ctx.defer(), takes(ctx));
            tokio::task::spawn_local(async move {
                tokio::time::sleep(takes).await;
                deferred.done();
            });
            Ok(())
        }),
    };
    g.build().unwrap()
}

/// Runs a sequence in each partition, one record at a time or all at once.
fn compare(seed: u64, together: bool) -> Done {
    let (setup, mut random) = Setup::draw(seed);
    let sequences: Vec<Vec<Record>> = (0..PARTITIONS).map(|_| records(&mut random)).collect();
    let tester = Tester::with_partitions(PARTITIONS);
    tester.add_with(graph(setup), move |p| p.guarantee(setup.guarantee))?;
    let input = tester.input("in", Text);
    if together {
        tester.stop("model")?;
    }
    for n in 0..RECORDS {
        for (partition, sequence) in (0..).zip(&sequences) {
            let Record { key, at, work } = sequence[n];
            let text = match work {
                Work::Count => Some("count".to_owned()),
                Work::Set(at, again) => Some(format!("set {at} {again}")),
                Work::Cancel => Some("cancel".to_owned()),
                Work::Fail => Some("fail".to_owned()),
                Work::Null => None,
            };
            input.push_at(key, text.as_ref(), Some(at), Some(partition))?;
        }
        if !together {
            tester.drain()?;
        }
    }
    if together {
        tester.restart("model")?;
    }
    tester.drain()?;
    // What was set for a time that is passed by the last record fires behind it.
    tester.run_for(ms(100));
    tester.drain()?;
    let mut emitted: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    for record in tester.output("out", Text).read()? {
        emitted.entry(record.partition).or_default().extend(record.value);
    }
    let mut late = 0;
    for (partition, sequence) in (0..).zip(&sequences) {
        let mut model = Model::new(setup);
        for record in sequence {
            model.take(*record);
        }
        let emitted = emitted.remove(&partition).unwrap_or_default();
        assert_eq!(
            emitted, model.emitted,
            "seed {seed}, together {together}, {setup:?}, partition {partition}: {sequence:?}"
        );
        late += model.late;
    }
    assert_eq!(tester.late("model")?, late, "seed {seed}, together {together}, {setup:?}");
    Ok(())
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

#[test]
fn t1a_sequences_that_come_one_record_at_a_time() -> Done {
    (0..16).try_for_each(|seed| compare(seed, false))
}

#[test]
fn t1a_sequences_that_come_together() -> Done {
    (0..40).try_for_each(|seed| compare(seed, true))
}

#[test]
#[ignore = "long: SEQUENCES=50000"]
fn many_sequences() {
    let (from, of) = (number("FROM").unwrap_or(0), u64::from(PARTITIONS.unsigned_abs()));
    let runs = number("SEQUENCES").unwrap_or(1_000).div_ceil(of);
    let next = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        let work = || {
            loop {
                let run = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if run >= runs {
                    return;
                }
                // Most of them together: one at a time is what the model does, too.
                compare(from + run, !run.is_multiple_of(4)).unwrap();
            }
        };
        for _ in 0..number("JOBS").unwrap_or(2) {
            scope.spawn(work);
        }
    });
}
