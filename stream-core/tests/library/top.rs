//! The largest of many values as a table's value, against a plain model and across crashes.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use stream_core::codec::{Codec, Json};
use stream_core::group::Group;
use stream_core::testing::Tester;
use stream_core::top::TopN;

use crate::support::{Done, with_both};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Article {
    views: u64,
    title: String,
}

fn article(title: &str, views: u64) -> Article {
    Article { views, title: title.to_owned() }
}

/// Ordered by its size only, so that different ones can be equal.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Size(u64, u64);

impl PartialEq for Size {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Size {}
impl PartialOrd for Size {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Size {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

fn both(top: &TopN<Size>) -> Vec<(u64, u64)> {
    top.iter().map(|s| (s.0, s.1)).collect()
}

#[test]
fn the_earlier_of_equal_values_comes_first_and_stays() {
    let mut top = TopN::new(2);
    assert!(top.insert(Size(1, 1)).is_none());
    assert!(top.insert(Size(1, 2)).is_none());
    let out = top.insert(Size(1, 3)).unwrap();
    assert_eq!((out.0, out.1), (1, 3));
    assert_eq!(both(&top), [(1, 1), (1, 2)]);
    let out = top.insert(Size(2, 4)).unwrap();
    assert_eq!((out.0, out.1), (1, 2));
    let removed = top.remove(&Size(1, 99)).unwrap();
    assert_eq!((removed.0, removed.1), (1, 1), "whatever does not show in the order");
    assert_eq!(both(&top), [(2, 4)]);
}

#[test]
fn with_a_limit_of_zero_everything_falls_out() {
    let mut top = TopN::new(0);
    assert_eq!(top.insert(1), Some(1));
    assert_eq!(top.replace(2, |_, _| true), Some(2));
    assert_eq!(top.remove(&1), None);
    assert!(top.is_empty());
    let mut out = Vec::new();
    Json::new().encode(&top, &mut out).unwrap();
    assert_eq!(Json::<TopN<i32>>::new().decode(&out).unwrap(), top);
}

#[test]
fn what_grows_replaces_itself_wherever_it_is() {
    let mut top = TopN::new(2);
    let same = |old: &Article, new: &Article| old.title == new.title;
    for (title, views) in [("a", 1), ("b", 2), ("c", 3), ("a", 4), ("a", 5), ("b", 3), ("b", 6)] {
        top.replace(article(title, views), same);
    }
    assert_eq!(top.into_vec(), [article("b", 6), article("a", 5)]);
}

#[test]
fn it_is_the_head_of_a_sorted_list_of_everything_that_only_grows() {
    let mut seed = 1_u64;
    let mut draw = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for run in 0..500 {
        let n = usize::try_from(draw(6)).unwrap();
        let mut top = TopN::new(n);
        let mut model = std::collections::BTreeMap::new();
        for _ in 0..draw(60) {
            let title = format!("t{}", draw(10));
            let views = model.entry(title.clone()).or_insert(0);
            *views += draw(4);
            top.replace(article(&title, *views), |old, new| old.title == new.title);
            // What is stored is what is in memory.
            let mut out = Vec::new();
            Json::new().encode(&top, &mut out).unwrap();
            assert_eq!(Json::<TopN<Article>>::new().decode(&out).unwrap(), top);
        }
        let mut all: Vec<_> = model.iter().map(|(title, views)| article(title, *views)).collect();
        all.sort_by(|a, b| b.cmp(a));
        all.truncate(n);
        assert_eq!(top.as_slice(), all, "run {run}");
    }
}

#[test]
fn without_a_limit_removals_are_exact_too() {
    let mut seed = 7_u64;
    let mut draw = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let (mut top, mut model) = (TopN::new(usize::MAX), Vec::new());
    for _ in 0..3000 {
        let n = draw(50);
        if draw(2) == 0 {
            assert_eq!(top.insert(n), None);
            model.push(n);
        } else {
            let at = model.iter().position(|m| *m == n);
            assert_eq!(top.remove(&n), at.map(|at| model.remove(at)));
        }
        model.sort_by(|a, b| b.cmp(a));
        assert_eq!(top.as_slice(), model);
    }
}

#[test]
fn what_was_written_in_another_order_or_beyond_the_limit_is_put_right() {
    let top: TopN<i64> = Json::new().decode(br#"{"n":2,"items":[1,3,2]}"#).unwrap();
    assert_eq!(top.as_slice(), [3, 2]);
    assert_eq!(top.limit(), 2);
}

#[test]
fn a_table_of_them_survives_a_crash() -> Done {
    with_both(|guarantee| {
        let mut g = Group::define("top").table(Json::<TopN<Article>>::new());
        g.input("views", Json::<Article>::new(), |ctx, article| {
            let mut top = ctx.value()?.unwrap_or_else(|| TopN::new(2));
            top.replace(article, |old, new| old.title == new.title);
            ctx.set(top)
        });
        let tester = Tester::new();
        tester.add_with(g.build()?, move |p| p.guarantee(guarantee))?;
        let views = tester.input("views", Json::<Article>::new());
        for (title, n) in [("a", 1), ("b", 2), ("c", 3)] {
            views.send("news", article(title, n))?;
        }
        tester.crash("top")?;
        tester.restart("top")?;
        views.send("news", article("a", 9))?;
        let top = tester.table("top", Json::<TopN<Article>>::new()).get("news")?.unwrap();
        assert_eq!(top.as_slice(), [article("a", 9), article("c", 3)]);
        Ok(())
    })
}
