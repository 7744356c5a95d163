//! JSON, by serde.

use std::any::type_name;
use std::fmt;
use std::io;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Serializer;
use serde_json::ser::Formatter;

use super::{Codec, CodecError, finite};

/// JSON of whatever serde can write and read.
///
/// It gives back what it was given as far as JSON can: a float that is no number (NaN, infinity) has no JSON, and is an
/// error wherever it is in the value; object keys must be strings or numbers.
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
        let mut null = false;
        let mut to = Serializer::with_formatter(out, NoteNull(&mut null));
        value.serialize(&mut to).map_err(|error| problem::<T>("has no JSON", &error))?;
        if null {
            finite::check(value).map_err(|error| problem::<T>("has no JSON", &error))?;
        }
        Ok(())
    }

    fn decode(&self, bytes: &[u8]) -> Result<T, CodecError> {
        serde_json::from_slice(bytes).map_err(|error| problem::<T>("can't be read from this JSON", &error))
    }

    fn name(&self) -> &str {
        "json"
    }
}

/// Compact JSON, and whether it has a null: only then can a float be lost.
struct NoteNull<'a>(&'a mut bool);

impl Formatter for NoteNull<'_> {
    fn write_null<W: io::Write + ?Sized>(&mut self, to: &mut W) -> io::Result<()> {
        *self.0 = true;
        to.write_all(b"null")
    }
}

fn problem<T>(what: &str, error: &impl fmt::Display) -> CodecError {
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
    fn a_float_that_is_no_number_is_an_error_wherever_it_is() {
        #[derive(Serialize, serde::Deserialize)]
        enum Shape {
            Point(f64, Option<f32>),
            Circle { radius: f64 },
            Flat(f32),
        }
        type Nested = BTreeMap<String, Vec<Option<f64>>>;
        let nan = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        for nan in nan {
            assert!(Json::new().encode(&nan, &mut Vec::new()).is_err());
            assert!(Json::new().encode(&Some(nan), &mut Vec::new()).is_err());
            assert!(Json::new().encode(&(1, nan), &mut Vec::new()).is_err());
            let nested: Nested = BTreeMap::from([("a".to_owned(), vec![None, Some(nan)])]);
            assert!(Json::new().encode(&nested, &mut Vec::new()).is_err());
            for shape in [Shape::Point(nan, None), Shape::Circle { radius: nan }] {
                assert!(Json::new().encode(&shape, &mut Vec::new()).is_err());
            }
        }
        let narrow = [Shape::Flat(f32::NAN), Shape::Point(0.0, Some(f32::INFINITY))];
        assert!(narrow.iter().all(|shape| Json::new().encode(shape, &mut Vec::new()).is_err()));
        // A null that is meant stays one.
        let mut out = Vec::new();
        Json::new().encode(&Some(Shape::Point(1.0, None)), &mut out).unwrap();
        Json::new().encode(&(None::<f64>, "null".to_owned(), ()), &mut out).unwrap();
        assert_eq!(out, br#"{"Point":[1.0,null]}[null,"null",null]"#);
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
