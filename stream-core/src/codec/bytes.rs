//! Bytes as they are.

use super::{Codec, CodecError};

/// Bytes as they are: nothing is read into them, nothing can be wrong with them.
///
/// ```
/// use stream_core::codec::{Bytes, Codec};
///
/// let mut out = Vec::new();
/// Bytes.encode(&vec![1, 2, 3], &mut out)?;
/// assert_eq!(Bytes.decode(&out)?, [1, 2, 3]);
/// # Ok::<(), stream_core::codec::CodecError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes;

impl Codec<Vec<u8>> for Bytes {
    fn encode(&self, value: &Vec<u8>, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(value);
        Ok(())
    }

    fn encode_slice(&self, bytes: &[u8], out: &mut Vec<u8>) -> Option<Result<(), CodecError>> {
        out.extend_from_slice(bytes);
        Some(Ok(()))
    }

    fn decode(&self, bytes: &[u8]) -> Result<Vec<u8>, CodecError> {
        Ok(bytes.to_vec())
    }

    fn reads_back(&self) -> bool {
        true
    }

    fn name(&self) -> &str {
        "bytes"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_goes_in_comes_out() {
        for value in [vec![], vec![0], (0..=255).collect::<Vec<u8>>()] {
            let mut out = b"before".to_vec();
            Bytes.encode(&value, &mut out).unwrap();
            assert_eq!(out.strip_prefix(b"before"), Some(&value[..]));
            assert_eq!(Bytes.decode(&value).unwrap(), value);
        }
    }
}
