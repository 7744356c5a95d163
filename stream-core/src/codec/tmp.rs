//! tmp
use super::{Codec, CodecError};
use std::marker::PhantomData;
/// Text
#[derive(Debug, Clone, Copy)]
pub struct Text;
impl Codec<String> for Text {
    fn encode(&self, v: &String, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(v.as_bytes());
        Ok(())
    }
    fn decode(&self, b: &[u8]) -> Result<String, CodecError> {
        String::from_utf8(b.to_vec()).map_err(|e| CodecError::invalid(e.to_string()))
    }
}
/// Int64
#[derive(Debug, Clone, Copy)]
pub struct Int64;
impl Codec<i64> for Int64 {
    fn encode(&self, v: &i64, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(v.to_string().as_bytes());
        Ok(())
    }
    fn decode(&self, b: &[u8]) -> Result<i64, CodecError> {
        std::str::from_utf8(b).ok().and_then(|s| s.parse().ok()).ok_or_else(|| CodecError::invalid("not an integer"))
    }
}
/// Json
#[derive(Debug, Clone, Copy)]
pub struct Json<T>(PhantomData<fn(T)>);
impl<T> Json<T> {
    /// new
    pub fn new() -> Self {
        Self(PhantomData)
    }
}
impl<T: serde::Serialize + serde::de::DeserializeOwned + 'static> Codec<T> for Json<T> {
    fn encode(&self, v: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        serde_json::to_writer(out, v).map_err(|e| CodecError::invalid(e.to_string()))
    }
    fn decode(&self, b: &[u8]) -> Result<T, CodecError> {
        serde_json::from_slice(b).map_err(|e| CodecError::invalid(e.to_string()))
    }
}
