//! A schema registry in this process: for tests, and for programs on the in-memory log.

use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::codec::CodecError;

const NAME: &str = "schema registry in memory";

/// Schemas by subject. The id of a schema is its place and one; the same schema has the same id under every subject, as in
/// Confluent's registry.
#[derive(Default)]
pub(super) struct InMemoryRegistry(Mutex<State>);

#[derive(Default)]
struct State {
    schemas: Vec<(Value, String)>,
    subjects: Vec<(String, u32)>,
}

impl State {
    fn id_of(&self, schema: &Value) -> Option<u32> {
        let at = self.schemas.iter().position(|(of, _)| of == schema)?;
        u32::try_from(at + 1).ok()
    }
}

impl InMemoryRegistry {
    /// The id of a schema under a subject, registered if need be and allowed. Nothing checks whether it goes with earlier ones.
    pub(super) fn id_of(&self, subject: &str, schema: &str, register: bool) -> Result<u32, CodecError> {
        let parsed = serde_json::from_str(schema);
        let parsed: Value = parsed
            .map_err(|error| CodecError::invalid(format!("{NAME}: refused the schema for {subject}: {error}")))?;
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = state.id_of(&parsed);
        let is_there = known.is_some_and(|id| state.subjects.iter().any(|(of, its)| of == subject && *its == id));
        if !register && !is_there {
            let what =
                format!("{NAME}: the schema is not registered under subject {subject}, and auto_register is off");
            return Err(CodecError::invalid(what));
        }
        let id = known.unwrap_or_else(|| {
            state.schemas.push((parsed, schema.to_owned()));
            u32::try_from(state.schemas.len()).unwrap_or(u32::MAX)
        });
        if !is_there {
            state.subjects.push((subject.to_owned(), id));
        }
        Ok(id)
    }

    /// The schema of an id.
    pub(super) fn schema(&self, id: u32) -> Result<String, CodecError> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = usize::try_from(id).ok().and_then(|id| id.checked_sub(1));
        let found = at.and_then(|at| state.schemas.get(at)).map(|(_, schema)| schema.clone());
        found.ok_or_else(|| CodecError::invalid(format!("{NAME}: knows no schema of id {id}")))
    }
}
