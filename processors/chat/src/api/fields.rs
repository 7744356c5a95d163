//! The fields of a body, and what is wrong with them.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use processors_common::http::Refusal;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::BODY;

/// A JSON object.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    pub(super) fn read(body: Result<Bytes, BytesRejection>) -> Result<Self, Refusal> {
        let body = body.map_err(|e| Refusal::body(&e, BODY))?;
        match serde_json::from_slice(&body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(Refusal::invalid("body", "must be a JSON object")),
            Err(error) => Err(Refusal::invalid("body", format_args!("is not JSON: {error}"))),
        }
    }

    fn get(&self, name: &'static str) -> Result<&Value, Refusal> {
        self.0.get(name).ok_or_else(|| Refusal::invalid(name, "is missing"))
    }

    /// A text with at least one and at most so many characters.
    pub(super) fn text(&self, name: &'static str, most: usize) -> Result<&str, Refusal> {
        text(name, self.get(name)?, most)
    }

    pub(super) fn uuid(&self, name: &'static str) -> Result<Uuid, Refusal> {
        let text = self.text(name, 64)?;
        text.parse().map_err(|_| Refusal::invalid(name, "must be a UUID"))
    }

    /// Two texts.
    pub(super) fn pair(&self, name: &'static str, most: usize) -> Result<[String; 2], Refusal> {
        match self.get(name)?.as_array().map(Vec::as_slice) {
            Some([first, second]) => Ok([text(name, first, most)?.to_owned(), text(name, second, most)?.to_owned()]),
            _ => Err(Refusal::invalid(name, "must be an array of two texts")),
        }
    }
}

fn text<'a>(name: &'static str, value: &'a Value, most: usize) -> Result<&'a str, Refusal> {
    let text = value.as_str().ok_or_else(|| Refusal::invalid(name, "must be a text"))?;
    if text.trim().is_empty() {
        return Err(Refusal::invalid(name, "must not be empty"));
    }
    if text.chars().count() > most {
        return Err(Refusal::invalid(name, format_args!("must have at most {most} characters")));
    }
    Ok(text)
}
