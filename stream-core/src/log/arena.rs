//! One buffer for the bytes of many records, and the headers of one of them.

use std::ops::Range;

/// A place in a batch's buffer, or a null.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    pub(super) start: usize,
    /// Length, or `usize::MAX` for null.
    pub(super) len: usize,
}

impl Span {
    pub(super) const NULL: Self = Self { start: 0, len: usize::MAX };

    pub(super) fn of(self, data: &[u8]) -> Option<&[u8]> {
        if self.len == usize::MAX { None } else { data.get(self.start..self.start + self.len) }
    }

    /// The same place once what began at `from` begins at `to`.
    pub(super) fn moved(self, from: usize, to: usize) -> Self {
        if self.len == usize::MAX { self } else { Self { start: self.start - from + to, len: self.len } }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct HeaderSpan {
    pub(super) name: Span,
    pub(super) value: Span,
}

/// The memory behind both kinds of batch.
#[derive(Clone, Debug, Default)]
pub(super) struct Arena {
    pub(super) data: Vec<u8>,
    pub(super) headers: Vec<HeaderSpan>,
}

impl Arena {
    pub(super) fn put(&mut self, bytes: Option<&[u8]>) -> Span {
        let Some(bytes) = bytes else { return Span::NULL };
        let start = self.data.len();
        self.data.extend_from_slice(bytes);
        Span { start, len: bytes.len() }
    }

    pub(super) fn put_headers<'h>(&mut self, headers: impl Iterator<Item = (&'h str, Option<&'h [u8]>)>) -> (u32, u32) {
        let start = self.headers.len();
        for (name, value) in headers {
            let name = self.put(Some(name.as_bytes()));
            let value = self.put(value);
            self.headers.push(HeaderSpan { name, value });
        }
        (small(start), small(self.headers.len()))
    }

    pub(super) fn headers(&self, range: (u32, u32)) -> Headers<'_> {
        let range: Range<usize> = range.0 as usize..range.1 as usize;
        Headers { spans: self.headers.get(range).unwrap_or_default(), data: &self.data }
    }
}

pub(super) fn small(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The headers of a record, in order; names may repeat, values may be null.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    spans: &'a [HeaderSpan],
    data: &'a [u8],
}

impl<'a> Headers<'a> {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> + use<'a> {
        let data = self.data;
        self.spans.iter().map(move |h| {
            let name = h.name.of(data).and_then(|n| std::str::from_utf8(n).ok()).unwrap_or_default();
            (name, h.value.of(data))
        })
    }

    /// The value of the last header of that name, if it is not null.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        let mut found = None;
        for (n, value) in self.iter() {
            if n == name {
                found = value;
            }
        }
        found
    }

    /// Number of headers.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }
}
