//! Schemas, parsed and resolved once each, for reading and writing any number of values.
//!
//! A prepared reader or writer borrows from its schema. So that both can be kept, a schema stays for the life of the
//! process, once for each text: there are as many as types and versions of them, not as values.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema::{ResolvedSchema, Schema};
use apache_avro::writer::datum::GenericDatumWriter;
use apache_avro::{Error, from_value};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::aliases::renamed;
use crate::codec::CodecError;

/// Every schema there has been, by its text.
static SCHEMAS: Mutex<BTreeMap<String, &'static Schema>> = Mutex::new(BTreeMap::new());

/// Parses a schema, or finds it.
fn parse(json: &str) -> Result<&'static Schema, Error> {
    let mut schemas = SCHEMAS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(schema) = schemas.get(json) {
        return Ok(schema);
    }
    let schema: &'static Schema = Box::leak(Box::new(Schema::parse_str(json)?));
    schemas.insert(json.to_owned(), schema);
    Ok(schema)
}

/// A type's own schema.
pub(super) struct Own {
    json: String,
    schema: &'static Schema,
    resolved: ResolvedSchema<'static>,
    writer: GenericDatumWriter<'static>,
    reader: Arc<Reader>,
}

impl Own {
    pub(super) fn parse(json: &str) -> Result<Self, CodecError> {
        let prepared = || {
            let schema = parse(json)?;
            let resolved = ResolvedSchema::try_from(schema)?;
            let writer = GenericDatumWriter::builder(schema).resolved_schemata(resolved.clone()).build()?;
            let datum = GenericDatumReader::builder(schema).resolved_writer_schemata(resolved.clone()).build()?;
            Ok(Self { json: json.to_owned(), schema, resolved, writer, reader: Reader::new(datum, true) })
        };
        prepared().map_err(|error: Error| CodecError::invalid(format!("not an Avro schema: {}", reason(&error))))
    }

    pub(super) fn json(&self) -> &str {
        &self.json
    }

    /// The full name, or of a schema without one its canonical form, such as `"long"`.
    pub(super) fn name(&self) -> String {
        self.schema.name().map_or_else(|| self.schema.canonical_form(), ToString::to_string)
    }

    /// Appends a value's bytes.
    pub(super) fn write(&self, value: &impl Serialize, out: &mut Vec<u8>) -> Result<(), String> {
        self.writer.write_ser(out, value).map(drop).map_err(|error| reason(&error))
    }

    /// Reads values written by this schema.
    pub(super) fn reader(&self) -> Arc<Reader> {
        Arc::clone(&self.reader)
    }

    /// Reads values written by another schema.
    pub(super) fn reader_of(&self, json: &str) -> Result<Arc<Reader>, String> {
        self.resolving(json).map_err(|error| reason(&error))
    }

    fn resolving(&self, json: &str) -> Result<Arc<Reader>, Error> {
        let writer = parse(json)?;
        if writer == self.schema {
            // The same but for what does not show in the bytes.
            return Ok(self.reader());
        }
        let writer = match renamed(json, self.schema, self.resolved.get_names()) {
            Some(json) => parse(&json)?,
            None => writer,
        };
        if writer == self.schema {
            return Ok(self.reader());
        }
        let datum = GenericDatumReader::builder(writer)
            .reader_schema(self.schema)
            .resolved_reader_schemata(self.resolved.clone())
            .build()?;
        Ok(Reader::new(datum, false))
    }
}

/// Reads the values of one writer's schema.
pub(super) struct Reader {
    datum: GenericDatumReader<'static>,
    /// Whether the schemas are the same and values can be read without a detour. Cleared when that turns out to fail
    /// where the detour does not: it wants structs to be called as their records are.
    direct: AtomicBool,
}

impl Reader {
    fn new(datum: GenericDatumReader<'static>, direct: bool) -> Arc<Self> {
        Arc::new(Self { datum, direct: AtomicBool::new(direct) })
    }

    pub(super) fn read<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, String> {
        let direct = self.direct.load(Ordering::Relaxed);
        if direct && let Ok(value) = all_of(bytes, |bytes| self.datum.read_deser(bytes)) {
            return Ok(value);
        }
        let value = all_of(bytes, |bytes| from_value(&self.datum.read_value(bytes)?))?;
        if direct {
            self.direct.store(false, Ordering::Relaxed);
        }
        Ok(value)
    }
}

/// Reads a value and sees that nothing is left.
fn all_of<T>(mut bytes: &[u8], read: impl FnOnce(&mut &[u8]) -> Result<T, Error>) -> Result<T, String> {
    match read(&mut bytes) {
        Ok(value) if bytes.is_empty() => Ok(value),
        Ok(_) => Err(format!("{} bytes are left over", bytes.len())),
        Err(error) => Err(reason(&error)),
    }
}

/// The text of an error, without the whole schema that some of them add.
fn reason(error: &Error) -> String {
    const LONGEST: usize = 300;
    let text = error.to_string();
    match text.char_indices().nth(LONGEST) {
        None => text,
        Some((end, _)) => format!("{} …", text.get(..end).unwrap_or_default()),
    }
}
