//! Integers as decimal text, which is what Goka's `codec.Int64` writes and reads.
//!
//! Text costs a few bytes more than a binary form, and in return counters can be read by every tool that shows a topic.

use std::io::Write;

use super::{Codec, CodecError};

macro_rules! integer {
    ($codec:ident, $value:ty, $name:literal, $example:literal) => {
        #[doc = concat!("An `", stringify!($value), "` as decimal text, such as `", $example, "`.")]
        ///
        /// A leading `+` and leading zeros are read; spaces, an empty value and numbers out of range are errors.
        ///
        /// ```
        #[doc = concat!("use stream_core::codec::{Codec, ", stringify!($codec), "};")]
        ///
        /// let mut out = Vec::new();
        #[doc = concat!(stringify!($codec), ".encode(&", $example, ", &mut out)?;")]
        #[doc = concat!("assert_eq!(out, b\"", $example, "\");")]
        #[doc = concat!("assert_eq!(", stringify!($codec), ".decode(&out)?, ", $example, ");")]
        /// # Ok::<(), stream_core::codec::CodecError>(())
        /// ```
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $codec;

        impl Codec<$value> for $codec {
            fn encode(&self, value: &$value, out: &mut Vec<u8>) -> Result<(), CodecError> {
                write!(out, "{value}").map_err(|error| CodecError::invalid(error.to_string()))
            }

            fn decode(&self, bytes: &[u8]) -> Result<$value, CodecError> {
                let number = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
                number.ok_or_else(|| {
                    let shown = String::from_utf8_lossy(bytes.get(..40).unwrap_or(bytes));
                    CodecError::invalid(format!(concat!("not a decimal ", stringify!($value), ": {:?}"), shown))
                })
            }

            fn reads_back(&self) -> bool {
                true
            }

            fn name(&self) -> &str {
                $name
            }
        }
    };
}

integer!(Int64, i64, "int64", "-42");
integer!(UInt64, u64, "uint64", "42");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for (value, text) in
            [(0, "0"), (-1, "-1"), (i64::MAX, "9223372036854775807"), (i64::MIN, "-9223372036854775808")]
        {
            let mut out = Vec::new();
            Int64.encode(&value, &mut out).unwrap();
            assert_eq!(out, text.as_bytes());
            assert_eq!(Int64.decode(&out).unwrap(), value);
        }
        let mut out = Vec::new();
        UInt64.encode(&u64::MAX, &mut out).unwrap();
        assert_eq!(out, b"18446744073709551615");
        assert_eq!(UInt64.decode(&out).unwrap(), u64::MAX);
    }

    #[test]
    fn reads_what_goka_reads() {
        assert_eq!(Int64.decode(b"+7").unwrap(), 7);
        assert_eq!(Int64.decode(b"007").unwrap(), 7);
        for bad in [&b""[..], b" 7", b"7\n", b"0x7", b"1_000", b"7.0", b"\xff", b"9223372036854775808", b"-"] {
            assert!(matches!(Int64.decode(bad), Err(CodecError::Invalid(_))), "{bad:?}");
        }
        assert!(UInt64.decode(b"-1").is_err());
        let long = Int64.decode(&[b'x'; 10_000]).unwrap_err().to_string();
        assert!(long.len() < 100, "{long}");
    }
}
