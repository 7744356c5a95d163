//! The largest of many values, as one value of a table.
//!
//! [`TopN`] owns its order: it is sorted after every call and after it is decoded. It must never hold more than its limit.

use std::slice;
use std::vec;

use serde::{Deserialize, Serialize};

/// The `n` largest values by their order ([`Ord`]), the largest first: a table's value by
/// [`Json`](crate::codec::Json).
///
/// - Values are a multiset. One that equals another by its order comes after it, and is the first to fall out.
/// - What falls out is forgotten. If one of the `n` is removed, or replaced by a smaller one, the next largest does not come
///   back. Where values only grow, as counts do, it is exact nonetheless: what grew comes in again by
///   [`replace`](Self::replace). Where they shrink, keep more than you show, up to all of them with a limit of
///   [`usize::MAX`].
/// - With a limit of 0 it holds nothing, and everything that is inserted falls out.
///
/// Every call is a walk over the values, and the table writes them all: it is for tens or hundreds of them.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use stream_core::prelude::*;
/// use stream_core::top::TopN;
///
/// // Ordered by its fields, the first one first.
/// #[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
/// struct Article {
///     views: u64,
///     title: String,
/// }
///
/// // The hundred articles of each industry that are read most.
/// let mut g = Group::define("top-articles").table(Json::<TopN<Article>>::new());
/// g.input("views-per-article", Json::<Article>::new(), |ctx, article| {
///     let mut top = ctx.value()?.unwrap_or_else(|| TopN::new(100));
///     top.replace(article, |old, new| old.title == new.title);
///     ctx.set(top)
/// });
/// # g.build()?;
/// # Ok::<(), BuildError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Unsorted<T>", bound(deserialize = "T: Ord + Deserialize<'de>"))]
pub struct TopN<T> {
    n: usize,
    items: Vec<T>,
}

/// As it is encoded: a later release of the program may order its values otherwise.
#[derive(Deserialize)]
struct Unsorted<T> {
    n: usize,
    items: Vec<T>,
}

impl<T: Ord> From<Unsorted<T>> for TopN<T> {
    fn from(Unsorted { n, mut items }: Unsorted<T>) -> Self {
        items.sort_by(|a, b| b.cmp(a));
        items.truncate(n);
        Self { n, items }
    }
}

impl<T> TopN<T> {
    /// Holds nothing yet, and at most `n` values.
    pub const fn new(n: usize) -> Self {
        Self { n, items: Vec::new() }
    }

    /// How many values it holds at most.
    pub const fn limit(&self) -> usize {
        self.n
    }

    /// Sets how many values it holds at most; the smallest fall out if they are more.
    ///
    /// ```
    /// use stream_core::top::TopN;
    ///
    /// let mut top = TopN::new(3);
    /// top.extend([1, 2, 3]);
    /// top.set_limit(2);
    /// assert_eq!(top.as_slice(), [3, 2]);
    /// ```
    pub fn set_limit(&mut self, n: usize) {
        self.n = n;
        self.items.truncate(n);
    }

    /// How many values it holds.
    pub const fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether it holds none.
    pub const fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The values, the largest first.
    pub fn iter(&self) -> slice::Iter<'_, T> {
        self.items.iter()
    }

    /// The values, the largest first.
    pub fn as_slice(&self) -> &[T] {
        &self.items
    }

    /// The values, the largest first.
    pub fn into_vec(self) -> Vec<T> {
        self.items
    }

    /// Removes the values for which `keep` is false.
    ///
    /// ```
    /// use stream_core::top::TopN;
    ///
    /// let mut top = TopN::new(3);
    /// top.extend([1, 2, 3]);
    /// top.retain(|n| *n != 2);
    /// assert_eq!(top.as_slice(), [3, 1]);
    /// ```
    pub fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        self.items.retain(keep);
    }
}

impl<T: Ord> TopN<T> {
    /// Adds a value. Gives what falls out: the smallest, or the value itself.
    ///
    /// ```
    /// use stream_core::top::TopN;
    ///
    /// let mut top = TopN::new(2);
    /// assert_eq!(top.insert(5), None);
    /// assert_eq!(top.insert(7), None);
    /// assert_eq!(top.insert(6), Some(5));
    /// assert_eq!(top.insert(1), Some(1));
    /// assert_eq!(top.as_slice(), [7, 6]);
    /// ```
    pub fn insert(&mut self, item: T) -> Option<T> {
        let at = self.items.partition_point(|other| other.cmp(&item).is_ge());
        if at >= self.n {
            return Some(item);
        }
        self.items.insert(at, item);
        if self.items.len() > self.n { self.items.pop() } else { None }
    }

    /// Removes the first value that equals this one by its order, and gives it.
    ///
    /// ```
    /// use stream_core::top::TopN;
    ///
    /// let mut top = TopN::new(3);
    /// top.extend([4, 4, 1]);
    /// assert_eq!(top.remove(&4), Some(4));
    /// assert_eq!(top.remove(&2), None);
    /// assert_eq!(top.as_slice(), [4, 1]);
    /// ```
    pub fn remove(&mut self, item: &T) -> Option<T> {
        let at = self.items.partition_point(|other| other.cmp(item).is_gt());
        self.items.get(at).is_some_and(|other| other.cmp(item).is_eq()).then(|| self.items.remove(at))
    }

    /// Removes the values that are the same thing as this one, by an id of theirs, and adds it. Gives what falls out, as
    /// [`insert`](Self::insert). `same` gets the old value, then the new one.
    ///
    /// ```
    /// use stream_core::top::TopN;
    ///
    /// let mut top = TopN::new(2);
    /// top.extend([(3, "ann"), (2, "bob")]);
    /// top.replace((5, "bob"), |old, new| old.1 == new.1);
    /// assert_eq!(top.as_slice(), [(5, "bob"), (3, "ann")]);
    /// ```
    pub fn replace(&mut self, item: T, same: impl Fn(&T, &T) -> bool) -> Option<T> {
        self.items.retain(|old| !same(old, &item));
        self.insert(item)
    }
}

impl<T: Ord> Extend<T> for TopN<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, items: I) {
        for item in items {
            self.insert(item);
        }
    }
}

impl<T> IntoIterator for TopN<T> {
    type Item = T;
    type IntoIter = vec::IntoIter<T>;

    fn into_iter(self) -> vec::IntoIter<T> {
        self.items.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a TopN<T> {
    type Item = &'a T;
    type IntoIter = slice::Iter<'a, T>;

    fn into_iter(self) -> slice::Iter<'a, T> {
        self.iter()
    }
}
