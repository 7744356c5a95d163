//! Answers in JSON, errors among them.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::value::RawValue;

use super::base64;
use crate::processor::ReadError;

/// An answer that is an error: `{"code", "message"}` and what belongs to the code.
#[derive(Debug, Serialize)]
pub(super) struct Refusal {
    #[serde(skip)]
    status: StatusCode,
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<Vec<i32>>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl ToString) -> Self {
        Self { status, code, message: message.to_string(), field: None, partition: None, held: None }
    }

    /// A parameter that makes no sense.
    pub(super) fn parameter(name: &str, reason: impl std::fmt::Display) -> Self {
        let message = format!("{name} {reason}");
        Self { field: Some(name.to_owned()), ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message) }
    }

    pub(super) fn unknown_table(name: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown_table", format_args!("there is no table {name:?} here"))
    }

    pub(super) fn unknown_key() -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown_key", "the table has no value for this key")
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        let unavailable = |code| Self::new(StatusCode::SERVICE_UNAVAILABLE, code, &error);
        let elsewhere = |partition, held: &[i32]| Self {
            partition,
            held: Some(held.to_vec()),
            ..Self::new(StatusCode::MISDIRECTED_REQUEST, "not_here", &error)
        };
        match &error {
            ReadError::NotHere { partition, held, .. } => elsewhere(Some(*partition), held),
            ReadError::NothingHere { .. } => elsewhere(None, &[]),
            ReadError::Restoring { partition, .. } => Self { partition: Some(*partition), ..unavailable("restoring") },
            ReadError::NotRunning { .. } => unavailable("not_running"),
            ReadError::Interrupted { .. } => unavailable("moving"),
            ReadError::NoTable { .. } | ReadError::OtherType { .. } => {
                Self::new(StatusCode::NOT_FOUND, "unknown_table", &error)
            }
            ReadError::Decode { .. } | ReadError::Store { .. } => {
                tracing::warn!(?error, "a table can't be read");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", "the table can't be read; the log says why")
            }
        }
    }
}

/// Answered as [`Tables`](super::Tables) does, in servers of your own, too.
impl IntoResponse for ReadError {
    fn into_response(self) -> Response {
        Refusal::from(self).into_response()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        json(self.status, &self)
    }
}

pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(error) => {
            tracing::error!(?error, "an answer has no JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// A key and its value as JSON can say them. The value's own JSON stays as it is, to the last digit.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_encoding: Option<&'static str>,
    value: Box<RawValue>,
    /// The form of `value`: `json` is the value itself, `text` a string of it, `base64` a string of its bytes.
    encoding: &'static str,
    partition: i32,
}

impl Shown {
    /// `codec` is the codec's name: what is text is not taken for JSON because it looks like it.
    pub(super) fn new(codec: &str, key: &[u8], value: Vec<u8>, partition: i32) -> Result<Self, Refusal> {
        let (key, key_encoding) = match std::str::from_utf8(key) {
            Ok(key) => (key.to_owned(), None),
            Err(_) => (base64::encode(key), Some("base64")),
        };
        let quoted = |text: &str| serde_json::value::to_raw_value(text);
        let (value, encoding) = match String::from_utf8(value) {
            Err(bytes) => (quoted(&base64::encode(bytes.as_bytes())), "base64"),
            Ok(text) if codec == "text" => (quoted(&text), "text"),
            Ok(text) => match RawValue::from_string(text.clone()) {
                Ok(value) => (Ok(value), "json"),
                Err(_) if text.chars().any(|c| c.is_control() && !c.is_whitespace()) => {
                    (quoted(&base64::encode(text.as_bytes())), "base64")
                }
                Err(_) => (quoted(&text), "text"),
            },
        };
        match value {
            Ok(value) => Ok(Self { key, key_encoding, value, encoding, partition }),
            Err(error) => Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(codec: &str, key: &[u8], value: &[u8]) -> String {
        serde_json::to_string(&Shown::new(codec, key, value.to_vec(), 1).unwrap()).unwrap()
    }

    #[test]
    fn each_error_says_whom_to_ask_again() {
        let group = || "g".to_owned();
        for (error, status, body) in [
            (
                ReadError::NotHere { group: group(), partition: 3, held: vec![0, 1] },
                421,
                r#""code":"not_here","partition":3,"held":[0,1]"#,
            ),
            (ReadError::NothingHere { group: group() }, 421, r#""code":"not_here","held":[]"#),
            (ReadError::Restoring { group: group(), partition: 2 }, 503, r#""code":"restoring","partition":2"#),
            (ReadError::Interrupted { group: group() }, 503, r#""code":"moving""#),
            (ReadError::NoTable { group: group() }, 404, r#""code":"unknown_table""#),
        ] {
            let mut refusal = Refusal::from(error);
            assert!(!refusal.message.is_empty());
            refusal.message.clear();
            let json = serde_json::to_string(&refusal)
                .unwrap()
                .replace(r#""message":"","#, "")
                .replace(r#","message":"""#, "");
            assert_eq!((refusal.status.as_u16(), json), (status, format!("{{{body}}}")));
        }
    }

    #[test]
    fn values_say_what_they_are() {
        let cases: [(&str, &[u8], &str); 6] = [
            // Order, spaces and digits stay.
            (
                "json",
                br#"{"b": 1.50, "a":18446744073709551616}"#,
                r#"{"b": 1.50, "a":18446744073709551616},"encoding":"json""#,
            ),
            ("int64", b"42", r#"42,"encoding":"json""#),
            ("text", b"42", r#""42","encoding":"text""#),
            ("custom", b"plain \"words\"\n", r#""plain \"words\"\n","encoding":"text""#),
            ("custom", b"\0\0\0\0\x07\x02a", r#""AAAAAAcCYQ==","encoding":"base64""#),
            ("text", b"\xff\xfe", r#""//4=","encoding":"base64""#),
        ];
        for (codec, value, expected) in cases {
            assert_eq!(shown(codec, b"k", value), format!(r#"{{"key":"k","value":{expected},"partition":1}}"#));
        }
        let binary = shown("text", b"\xff", b"x");
        assert!(binary.starts_with(r#"{"key":"/w==","key_encoding":"base64","value":"x""#), "{binary}");
    }
}
