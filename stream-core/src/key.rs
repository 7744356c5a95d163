//! Keys: types that become a record's key, and keys that become types again.
//!
//! Bytes and text are keys as they are. [`BigEndian`] makes keys of integers, as Kafka's own serializers do, and [`Sorted`]
//! makes them of tuples whose bytes sort as the tuples do. Both are written where a key is asked for, and read by
//! [`Ctx::key_as`](crate::context::Ctx::key_as).
//!
//! A key's bytes decide its partition, so they must never depend on anything but its value.

use std::ops::Deref;

use crate::codec::CodecError;

/// A type that can be a key: bytes or text, an optional one of either, [`BigEndian`] and [`Sorted`].
pub trait Key {
    /// Its bytes; `None` for no key.
    fn bytes(&self) -> Option<KeyBytes<'_>>;
}

/// A type that can be read from a key.
pub trait FromKey: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// When the bytes are no such key.
    fn from_key(bytes: &[u8]) -> Result<Self, CodecError>;
}

/// The bytes of a key.
#[derive(Clone, Debug)]
pub struct KeyBytes<'a>(Repr<'a>);

#[derive(Clone, Debug)]
enum Repr<'a> {
    Borrowed(&'a [u8]),
    Short { bytes: [u8; 16], len: usize },
    Owned(Vec<u8>),
}

impl KeyBytes<'_> {
    /// A few bytes that need no memory of their own; `None` if there are more than 16.
    fn short(of: &[u8]) -> Option<KeyBytes<'static>> {
        let mut bytes = [0; 16];
        bytes.get_mut(..of.len())?.copy_from_slice(of);
        Some(KeyBytes(Repr::Short { bytes, len: of.len() }))
    }
}

impl Deref for KeyBytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Borrowed(bytes) => bytes,
            Repr::Short { bytes, len } => bytes.get(..*len).unwrap_or_default(),
            Repr::Owned(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for KeyBytes<'_> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl<'a> From<&'a [u8]> for KeyBytes<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self(Repr::Borrowed(bytes))
    }
}

impl From<Vec<u8>> for KeyBytes<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Repr::Owned(bytes))
    }
}

macro_rules! borrowed {
    ($($key:ty, $of:ident => $bytes:expr);+ $(;)?) => {
        $(impl Key for $key {
            fn bytes(&self) -> Option<KeyBytes<'_>> {
                let $of = self;
                Some(KeyBytes(Repr::Borrowed($bytes)))
            }
        })+
    };
}
borrowed!(
    &[u8], key => key;
    &Vec<u8>, key => key;
    &str, key => key.as_bytes();
    &String, key => key.as_bytes();
    String, key => key.as_bytes();
    Vec<u8>, key => key;
);

impl<const N: usize> Key for &[u8; N] {
    fn bytes(&self) -> Option<KeyBytes<'_>> {
        Some(KeyBytes(Repr::Borrowed(*self)))
    }
}

impl<K: Key> Key for Option<K> {
    fn bytes(&self) -> Option<KeyBytes<'_>> {
        self.as_ref().and_then(Key::bytes)
    }
}

impl FromKey for Vec<u8> {
    fn from_key(bytes: &[u8]) -> Result<Self, CodecError> {
        Ok(bytes.to_vec())
    }
}

impl FromKey for String {
    fn from_key(bytes: &[u8]) -> Result<Self, CodecError> {
        text(bytes.to_vec())
    }
}

fn text(bytes: Vec<u8>) -> Result<String, CodecError> {
    String::from_utf8(bytes).map_err(|error| CodecError::Invalid(error.to_string()))
}

/// An integer as a key: its bytes, the most significant first, as Kafka's `LongSerializer`, `IntegerSerializer` and so on
/// write it. Negative ones sort behind the others; [`Sorted`] puts them first.
///
/// ```
/// use stream_core::key::BigEndian;
/// use stream_core::prelude::*;
///
/// let mut g = Group::define("by-customer");
/// let out = g.output("orders-by-customer", Text);
/// g.input("orders", Text, move |ctx, order| {
///     let BigEndian(order_id) = ctx.key_as::<BigEndian<i64>>()?;
///     ctx.emit(out, BigEndian(order_id % 1000), order)
/// });
/// # g.build()?;
/// # Ok::<(), BuildError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BigEndian<N>(pub N);

/// A tuple as a key that sorts as the tuple does: integers by their value, text and bytes by their bytes, earlier parts before
/// later ones. The bytes of the first parts alone are a prefix of the whole, for [`View::prefix`](crate::View::prefix).
///
/// ```
/// use stream_core::key::{Key, Sorted};
///
/// let key = |region: &str, n: i64| Sorted((region, n)).bytes().unwrap().to_vec();
/// assert!(key("eu", -1) < key("eu", 7) && key("eu", 7) < key("us", 0));
/// let all_of_eu = Sorted(("eu",)).bytes().unwrap().to_vec();
/// assert!(key("eu", 7).starts_with(&all_of_eu) && !key("eu2", 7).starts_with(&all_of_eu));
/// ```
///
/// The format, for other programs: an unsigned integer is its bytes, the most significant first; a signed one has its sign bit
/// flipped; a `bool` is 0 or 1; text and bytes have 0 written as `00 FF`, and end in `00 00`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sorted<T>(pub T);

/// A part of a [`Sorted`] key.
pub trait SortedPart {
    /// Appends its bytes.
    fn append(&self, out: &mut Vec<u8>);
}

/// A part of a [`Sorted`] key that can be read again.
pub trait FromSorted: Sized {
    /// Takes it from the beginning of `bytes`.
    ///
    /// # Errors
    /// When they begin with no such part.
    fn take(bytes: &mut &[u8]) -> Result<Self, CodecError>;
}

fn cut<'a>(bytes: &mut &'a [u8], len: usize) -> Result<&'a [u8], CodecError> {
    let cut = bytes.split_at_checked(len);
    let (of, rest) = cut.ok_or_else(|| CodecError::invalid("the key ends in the middle of one of its parts"))?;
    *bytes = rest;
    Ok(of)
}

macro_rules! integers {
    ($($n:ident $flip:expr),+) => {$(
        impl Key for BigEndian<$n> {
            fn bytes(&self) -> Option<KeyBytes<'_>> {
                KeyBytes::short(&self.0.to_be_bytes())
            }
        }
        impl FromKey for BigEndian<$n> {
            fn from_key(bytes: &[u8]) -> Result<Self, CodecError> {
                let len = bytes.len();
                let wrong = |_| CodecError::invalid(format!("{} bytes expected, not {len}", size_of::<$n>()));
                bytes.try_into().map($n::from_be_bytes).map(Self).map_err(wrong)
            }
        }
        impl SortedPart for $n {
            fn append(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&(self ^ $flip).to_be_bytes());
            }
        }
        impl FromSorted for $n {
            fn take(bytes: &mut &[u8]) -> Result<Self, CodecError> {
                let BigEndian(n) = BigEndian::<$n>::from_key(cut(bytes, size_of::<$n>())?)?;
                Ok(n ^ $flip)
            }
        }
    )+};
}
integers!(
    u8 0, u16 0, u32 0, u64 0, u128 0,
    i8 i8::MIN, i16 i16::MIN, i32 i32::MIN, i64 i64::MIN, i128 i128::MIN
);

impl SortedPart for bool {
    fn append(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl FromSorted for bool {
    fn take(bytes: &mut &[u8]) -> Result<Self, CodecError> {
        match cut(bytes, 1)? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(CodecError::invalid("a part of the key is no bool")),
        }
    }
}

impl SortedPart for [u8] {
    fn append(&self, out: &mut Vec<u8>) {
        for byte in self {
            match byte {
                0 => out.extend_from_slice(&[0, 0xFF]),
                byte => out.push(*byte),
            }
        }
        out.extend_from_slice(&[0, 0]);
    }
}

impl FromSorted for Vec<u8> {
    fn take(bytes: &mut &[u8]) -> Result<Self, CodecError> {
        let mut found = Self::new();
        loop {
            match cut(bytes, 1)? {
                [0] => match cut(bytes, 1)? {
                    [0xFF] => found.push(0),
                    [0] => return Ok(found),
                    _ => return Err(CodecError::invalid("a part of the key is no text or bytes")),
                },
                other => found.extend_from_slice(other),
            }
        }
    }
}

impl FromSorted for String {
    fn take(bytes: &mut &[u8]) -> Result<Self, CodecError> {
        text(Vec::take(bytes)?)
    }
}

macro_rules! as_bytes {
    ($($part:ty),+) => {
        $(impl SortedPart for $part {
            fn append(&self, out: &mut Vec<u8>) {
                let bytes: &[u8] = self.as_ref();
                bytes.append(out);
            }
        })+
    };
}
as_bytes!(Vec<u8>, str, String);

impl<P: SortedPart + ?Sized> SortedPart for &P {
    fn append(&self, out: &mut Vec<u8>) {
        (**self).append(out);
    }
}

macro_rules! tuples {
    ($($(($part:ident, $n:tt)),+);+ $(;)?) => {$(
        impl<$($part: SortedPart),+> Key for Sorted<($($part,)+)> {
            fn bytes(&self) -> Option<KeyBytes<'_>> {
                let mut out = Vec::new();
                $(self.0.$n.append(&mut out);)+
                Some(out.into())
            }
        }
        impl<$($part: FromSorted),+> FromKey for Sorted<($($part,)+)> {
            fn from_key(mut bytes: &[u8]) -> Result<Self, CodecError> {
                let key = Self(($($part::take(&mut bytes)?,)+));
                match bytes {
                    [] => Ok(key),
                    more => Err(CodecError::invalid(format!("the key has {} bytes behind its last part", more.len()))),
                }
            }
        }
    )+};
}
tuples!(
    (A, 0);
    (A, 0), (B, 1);
    (A, 0), (B, 1), (C, 2);
    (A, 0), (B, 1), (C, 2), (D, 3);
    (A, 0), (B, 1), (C, 2), (D, 3), (E, 4);
    (A, 0), (B, 1), (C, 2), (D, 3), (E, 4), (F, 5);
);

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(key: impl Key) -> Vec<u8> {
        key.bytes().unwrap().to_vec()
    }

    #[test]
    fn integers_are_as_kafka_writes_them() {
        assert_eq!(bytes(BigEndian(1_i64)), [0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(bytes(BigEndian(-2_i32)), [0xFF, 0xFF, 0xFF, 0xFE]);
        assert_eq!(bytes(BigEndian(7_u128)).len(), 16);
        assert_eq!(BigEndian::<i32>::from_key(&[0xFF, 0xFF, 0xFF, 0xFE]), Ok(BigEndian(-2)));
        let error = BigEndian::<i64>::from_key(b"123").unwrap_err();
        assert_eq!(error.to_string(), "8 bytes expected, not 3");
    }

    /// Each pair of keys sorts as their tuples do, and each is read as it was.
    #[test]
    fn tuples_sort_as_their_bytes_do() {
        let texts = ["", "\0", "\0\0", "\0a", "a", "a\0", "a\0\0", "a\0b", "a\u{1}", "ab", "b", "\u{ff}", "ÿ"];
        let numbers = [i64::MIN, -1_000, -1, 0, 1, 255, 256, i64::MAX];
        let all: Vec<_> = (texts.iter()).flat_map(|text| numbers.map(|n| (*text, n, n > 0))).collect();
        for a in &all {
            let key = bytes(Sorted(*a));
            assert_eq!(Sorted::<(String, i64, bool)>::from_key(&key), Ok(Sorted((a.0.to_owned(), a.1, a.2))));
            assert!(key.starts_with(&bytes(Sorted((a.0, a.1)))) && key.starts_with(&bytes(Sorted((a.0,)))));
            for b in &all {
                assert_eq!(key.cmp(&bytes(Sorted(*b))), a.cmp(b), "{a:?} {b:?}");
                // The text comes before the number, and may be the second part as well.
                let turned = |(text, n, _): (&'static str, i64, bool)| (n, text.as_bytes());
                let of = bytes(Sorted(turned(*a))).cmp(&bytes(Sorted(turned(*b))));
                assert_eq!(of, turned(*a).cmp(&turned(*b)), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn bytes_that_are_no_such_key_are_an_error() {
        type Pair = Sorted<(String, u16)>;
        let error = |bytes: &[u8]| Pair::from_key(bytes).unwrap_err().to_string();
        assert!(error(b"").contains("ends in the middle"));
        assert!(error(b"a\0\0\x01").contains("ends in the middle"));
        assert!(error(b"a\0\x07\0\0\0\x01").contains("no text"));
        assert!(error(b"\xC3\0\0\0\x01").contains("utf-8"));
        assert!(error(b"a\0\0\0\x01\0").contains("1 bytes behind"));
        assert_eq!(Pair::from_key(b"a\0\0\0\x01"), Ok(Sorted(("a".to_owned(), 1))));
        assert!(Sorted::<(bool,)>::from_key(&[2]).is_err());
    }
}
