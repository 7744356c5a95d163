//! Text.

use super::{Codec, CodecError};

/// Text in UTF-8. Bytes that are none are an error; nothing is replaced.
///
/// ```
/// use stream_core::codec::{Codec, Text};
///
/// let mut out = Vec::new();
/// Text.encode(&"héllo".to_owned(), &mut out)?;
/// assert_eq!(Text.decode(&out)?, "héllo");
/// # Ok::<(), stream_core::codec::CodecError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Text;

impl Codec<String> for Text {
    fn encode(&self, value: &String, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(value.as_bytes());
        Ok(())
    }

    fn encode_str(&self, text: &str, out: &mut Vec<u8>) -> Option<Result<(), CodecError>> {
        out.extend_from_slice(text.as_bytes());
        Some(Ok(()))
    }

    fn decode(&self, bytes: &[u8]) -> Result<String, CodecError> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => Err(CodecError::invalid(format!("not text: {error}"))),
        }
    }

    fn reads_back(&self) -> bool {
        true
    }

    fn name(&self) -> &str {
        "text"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_back() {
        for value in ["", "a", "naïve ✓ 🦀", "\0\n"] {
            let mut out = Vec::new();
            Text.encode(&value.to_owned(), &mut out).unwrap();
            assert_eq!(out, value.as_bytes());
            assert_eq!(Text.decode(&out).unwrap(), value);
        }
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let error = Text.decode(b"ab\xff").unwrap_err();
        assert!(matches!(&error, CodecError::Invalid(reason) if reason.contains("index 2")), "{error}");
    }
}
