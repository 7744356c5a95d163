//! The tables that a group writes, and the one numbering of them.
//!
//! A [`TableId`] names the same table in the graph, in a task, in what is staged and in what is on its way. How it finds its
//! table is known here only: nobody else counts.

/// The number of a table that a group writes. It does not depend on whether the group has a group table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TableId(usize);

impl TableId {
    /// The group table.
    pub(crate) const GROUP: Self = Self(0);
    /// `<group>-time`, the first of the library's own.
    pub(crate) const TIME: Self = Self(1);

    /// The place of the table among the library's own; `None` for the group table.
    fn own(self) -> Option<usize> {
        self.0.checked_sub(Self::TIME.0)
    }
}

/// Something for each table that a group writes: its group table, if it has one, and the library's own.
///
/// The library's own are co-partitioned, changelogged and restored as the group table is. The first is `<group>-time`, if
/// there is any; then one for each window, session, batch, join of two topics and side of a table join.
#[derive(Clone, Debug)]
pub(crate) struct Tables<T> {
    pub(crate) group: Option<T>,
    own: Vec<T>,
}

impl<T> Default for Tables<T> {
    fn default() -> Self {
        Self { group: None, own: Vec::new() }
    }
}

impl<T> Tables<T> {
    pub(crate) fn get(&self, id: TableId) -> Option<&T> {
        match id.own() {
            None => self.group.as_ref(),
            Some(index) => self.own.get(index),
        }
    }

    pub(crate) fn get_mut(&mut self, id: TableId) -> Option<&mut T> {
        match id.own() {
            None => self.group.as_mut(),
            Some(index) => self.own.get_mut(index),
        }
    }

    /// Adds one of the library's own.
    pub(crate) fn add_own(&mut self, of: T) -> TableId {
        self.own.push(of);
        TableId(self.own.len())
    }

    /// The group table, then the library's own.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.group.iter().chain(&self.own)
    }

    /// The same, with their numbers.
    pub(crate) fn with_ids(&self) -> impl Iterator<Item = (TableId, &T)> {
        let own = (TableId::TIME.0..).map(TableId).zip(&self.own);
        self.group.iter().map(|table| (TableId::GROUP, table)).chain(own)
    }

    /// The library's own.
    pub(crate) fn own(&self) -> &[T] {
        &self.own
    }

    /// That of `<group>-time`, if the group keeps time.
    pub(crate) fn time(&self) -> Option<&T> {
        self.get(TableId::TIME)
    }

    pub(crate) fn as_ref(&self) -> Tables<&T> {
        Tables { group: self.group.as_ref(), own: self.own.iter().collect() }
    }

    pub(crate) fn map<U>(self, of: impl Fn(T) -> U) -> Tables<U> {
        Tables { group: self.group.map(&of), own: self.own.into_iter().map(of).collect() }
    }
}
