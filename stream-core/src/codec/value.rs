//! Values as callers have them: owned, borrowed, or text and bytes that are in no `String` or `Vec`.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use super::{Codec, CodecError};

/// A type that can be written where a value of `V` is: the value itself, a reference to it, and for text and bytes a `str` or a
/// slice.
///
/// ```
/// use stream_core::prelude::*;
///
/// let mut g = Group::define("seen").table(Text);
/// let out = g.output("first", Text);
/// g.input("words", Text, move |ctx, word| {
///     if ctx.value()?.is_none() {
///         ctx.emit(out, ctx.key(), "new")?; // text
///     }
///     ctx.emit(out, ctx.key(), &word)?; // a reference
///     ctx.set(word) // a value
/// });
/// # g.build()?;
/// # Ok::<(), BuildError>(())
/// ```
///
/// A program may implement it for types that can be turned into its values.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a value of type `{V}`",
    label = "the codec takes values of type `{V}`",
    note = "pass a `{V}` or a reference to one; for the codec `Text`, a `&str` will do"
)]
pub trait ValueOf<V> {
    /// Appends the bytes of the value to `out`.
    ///
    /// # Errors
    /// As [`Codec::encode`].
    fn encode_by(&self, codec: &dyn Codec<V>, out: &mut Vec<u8>) -> Result<(), CodecError>;

    /// Whether it is written as a record without a value ([`Codec::is_null`]); `false` by default.
    fn is_null_by(&self, codec: &dyn Codec<V>) -> bool {
        let _ = codec;
        false
    }
}

impl<V: 'static> ValueOf<V> for V {
    fn encode_by(&self, codec: &dyn Codec<V>, out: &mut Vec<u8>) -> Result<(), CodecError> {
        codec.encode(self, out)
    }
    fn is_null_by(&self, codec: &dyn Codec<V>) -> bool {
        codec.is_null(self)
    }
}

macro_rules! pointers {
    ($($pointer:ty),+) => {
        $(impl<V: 'static> ValueOf<V> for $pointer {
            fn encode_by(&self, codec: &dyn Codec<V>, out: &mut Vec<u8>) -> Result<(), CodecError> {
                codec.encode(self, out)
            }
            fn is_null_by(&self, codec: &dyn Codec<V>) -> bool {
                codec.is_null(self)
            }
        })+
    };
}
pointers!(&V, &mut V, Arc<V>, Rc<V>, Box<V>);

impl ValueOf<String> for &str {
    fn encode_by(&self, codec: &dyn Codec<String>, out: &mut Vec<u8>) -> Result<(), CodecError> {
        codec.encode_str(self, out).unwrap_or_else(|| codec.encode(&(*self).to_owned(), out))
    }
}

impl ValueOf<String> for Cow<'_, str> {
    fn encode_by(&self, codec: &dyn Codec<String>, out: &mut Vec<u8>) -> Result<(), CodecError> {
        (&**self).encode_by(codec, out)
    }
}

impl ValueOf<Vec<u8>> for &[u8] {
    fn encode_by(&self, codec: &dyn Codec<Vec<u8>>, out: &mut Vec<u8>) -> Result<(), CodecError> {
        codec.encode_slice(self, out).unwrap_or_else(|| codec.encode(&self.to_vec(), out))
    }
}

impl<const N: usize> ValueOf<Vec<u8>> for &[u8; N] {
    fn encode_by(&self, codec: &dyn Codec<Vec<u8>>, out: &mut Vec<u8>) -> Result<(), CodecError> {
        self.as_slice().encode_by(codec, out)
    }
}

/// Appends the bytes of a value that becomes state: what can't be read back never does.
pub(crate) fn encode_state<T: 'static>(
    codec: &dyn Codec<T>,
    value: &impl ValueOf<T>,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    let start = out.len();
    value.encode_by(codec, out)?;
    if codec.reads_back() {
        return Ok(());
    }
    match codec.decode(out.get(start..).unwrap_or_default()) {
        Err(CodecError::Invalid(reason)) => {
            Err(CodecError::Invalid(format!("it is encoded as something that can't be read back: {reason}")))
        }
        // What has to be loaded first says nothing about the value.
        Ok(_) | Err(CodecError::NotLoaded(_) | CodecError::Unavailable(_)) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Bytes, Json, Text};

    fn bytes<V: 'static>(codec: impl Codec<V>, value: impl ValueOf<V>) -> Vec<u8> {
        let mut out = b"before ".to_vec();
        value.encode_by(&codec, &mut out).unwrap();
        out.strip_prefix(b"before ").unwrap().to_vec()
    }

    #[test]
    fn text_and_bytes_are_the_same_in_each_form() {
        let text = "naïve \"✓\"";
        assert_eq!(bytes(Text, text), text.as_bytes());
        assert_eq!(bytes(Text, text.to_owned()), text.as_bytes());
        let owned = text.to_owned();
        assert_eq!((bytes(Text, &owned), bytes(Text, owned.clone())), (text.into(), text.into()));
        assert_eq!(bytes(Text, Cow::Borrowed(text)), text.as_bytes());
        assert_eq!(bytes(Arc::new(Text), Arc::new(text.to_owned())), text.as_bytes());
        assert_eq!(bytes(Json::<String>::new(), text), bytes(Json::<String>::new(), text.to_owned()));
        assert_eq!(bytes(Bytes, &b"abc"[..]), b"abc");
        assert_eq!(bytes(Bytes, b"abc"), bytes(Bytes, b"abc".to_vec()));
        assert_eq!(bytes(Json::<Vec<u8>>::new(), b"a"), b"[97]");
        assert_eq!(bytes(crate::codec::Int64, 7), b"7");
    }

    /// A codec that knows nothing of `str` gets a `String`.
    #[test]
    fn a_custom_codec_encodes_text_by_its_own_rules() {
        struct Loud;
        impl Codec<String> for Loud {
            fn encode(&self, value: &String, out: &mut Vec<u8>) -> Result<(), CodecError> {
                out.extend_from_slice(value.to_uppercase().as_bytes());
                Ok(())
            }
            fn decode(&self, bytes: &[u8]) -> Result<String, CodecError> {
                Text.decode(bytes)
            }
        }
        assert_eq!(bytes(Loud, "loud"), b"LOUD");
    }
}
