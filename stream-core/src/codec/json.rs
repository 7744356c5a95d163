//! JSON, by serde.

use std::any::type_name;
use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Codec, CodecError};

/// JSON of whatever serde can write and read.
///
/// It gives back what it was given as far as JSON can: a float that is no number (NaN, infinity) has no JSON, is written
/// as `null` and can't be read again; object keys must be strings or numbers.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use stream_core::codec::{Codec, Json};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// struct Click {
///     user: String,
///     count: u64,
/// }
///
/// let codec = Json::<Click>::new();
/// let click = Click { user: "alice".into(), count: 7 };
/// let mut out = Vec::new();
/// codec.encode(&click, &mut out)?;
/// assert_eq!(out, br#"{"user":"alice","count":7}"#);
/// assert_eq!(codec.decode(&out)?, click);
/// # Ok::<(), stream_core::codec::CodecError>(())
/// ```
pub struct Json<T>(PhantomData<fn(T) -> T>);

impl<T> Json<T> {
    /// The codec.
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: Serialize + DeserializeOwned + 'static> Codec<T> for Json<T> {
    fn encode(&self, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        serde_json::to_writer(out, value).map_err(|error| problem::<T>("has no JSON", &error))
    }

    fn decode(&self, bytes: &[u8]) -> Result<T, CodecError> {
        serde_json::from_slice(bytes).map_err(|error| problem::<T>("can't be read from this JSON", &error))
    }

    fn name(&self) -> &str {
        "json"
    }
}

fn problem<T>(what: &str, error: &serde_json::Error) -> CodecError {
    CodecError::invalid(format!("{} {what}: {error}", type_name::<T>()))
}

// By hand: what a derive would ask of `T` is not needed.

impl<T> Clone for Json<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Json<T> {}

impl<T> Default for Json<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Json<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Json<{}>", type_name::<T>())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn values_come_back() {
        let value = BTreeMap::from([("a".to_owned(), vec![1.5, -2.0]), (String::new(), vec![])]);
        let codec = Json::new();
        let mut out = b"before".to_vec();
        codec.encode(&value, &mut out).unwrap();
        assert_eq!(out, br#"before{"":[],"a":[1.5,-2.0]}"#);
        assert_eq!(codec.decode(&out[6..]).unwrap(), value);
        // Numbers keep every digit.
        let mut out = Vec::new();
        Json::new().encode(&(u64::MAX, i64::MIN, 0.1), &mut out).unwrap();
        assert_eq!(Json::<(u64, i64, f64)>::new().decode(&out).unwrap(), (u64::MAX, i64::MIN, 0.1));
    }

    #[test]
    fn errors_tell_the_type_and_the_place() {
        let error = Json::<Vec<u8>>::new().decode(b"[1, x]").unwrap_err().to_string();
        assert!(error.contains("Vec<u8>") && error.contains("column 5"), "{error}");
        // Nothing may follow.
        assert!(Json::<u8>::new().decode(b"1 2").is_err());
        assert!(Json::<u8>::new().decode(b"").is_err());
        let keyed_by_pairs = BTreeMap::from([((1, 2), 3)]);
        assert!(Json::new().encode(&keyed_by_pairs, &mut Vec::new()).is_err());
    }
}
