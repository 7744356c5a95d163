//! Fields that were written under another name: the names of a writer's schema, where the reader's schema has them as aliases,
//! become the reader's.
//!
//! Avro binary has no names, so that the bytes are read by the renamed schema as by the writer's. The library that resolves
//! schemas knows fields by their names only.

use apache_avro::schema::{NamesRef, RecordField, RecordSchema, Schema};
use serde_json::{Map, Value};

/// The writer's schema with the reader's names; `None` if no alias applies.
///
/// A name goes before an alias: a field that the reader has under the same name stays.
pub(super) fn renamed(writer: &str, reader: &Schema, names: &NamesRef<'_>) -> Option<String> {
    let mut writer: Value = serde_json::from_str(writer).ok()?;
    let mut renaming = Renaming { names, is_renamed: false };
    renaming.schema(&mut writer, reader);
    renaming.is_renamed.then(|| writer.to_string())
}

struct Renaming<'a> {
    /// The named schemas of the reader.
    names: &'a NamesRef<'a>,
    is_renamed: bool,
}

impl Renaming<'_> {
    fn schema(&mut self, writer: &mut Value, reader: &Schema) {
        match writer {
            Value::Array(variants) => variants.iter_mut().for_each(|variant| self.schema(variant, reader)),
            Value::Object(writer) => self.object(writer, reader),
            _ => {}
        }
    }

    fn object(&mut self, writer: &mut Map<String, Value>, reader: &Schema) {
        let Some(Value::String(kind)) = writer.get("type") else {
            if let Some(inner) = writer.get_mut("type") {
                self.schema(inner, reader);
            }
            return;
        };
        let name = writer.get("name").and_then(Value::as_str).map(unqualified).unwrap_or_default();
        let Some(reader) = counterpart(self.names, kind, name, reader) else { return };
        match reader {
            Schema::Record(record) => {
                if let Some(Value::Array(fields)) = writer.get_mut("fields") {
                    self.fields(fields, record);
                }
            }
            Schema::Array(array) => {
                if let Some(items) = writer.get_mut("items") {
                    self.schema(items, &array.items);
                }
            }
            Schema::Map(map) => {
                if let Some(values) = writer.get_mut("values") {
                    self.schema(values, &map.types);
                }
            }
            _ => {}
        }
    }

    fn fields(&mut self, written: &mut [Value], record: &RecordSchema) {
        let place = |written: &[Value], name: &str| written.iter().position(|field| name_of(field) == Some(name));
        for field in &record.fields {
            let mut free = field.aliases.iter().filter(|alias| !has(&record.fields, alias));
            let at = place(written, &field.name).or_else(|| free.find_map(|alias| place(written, alias)));
            let Some(at) = at else { continue };
            let Some(Value::Object(found)) = written.get_mut(at) else { continue };
            let name = Value::String(field.name.clone());
            if found.get("name") != Some(&name) {
                found.insert("name".to_owned(), name);
                self.is_renamed = true;
            }
            if let Some(of) = found.get_mut("type") {
                self.schema(of, &field.schema);
            }
        }
    }
}

/// The reader's schema that a writer's of this kind and name is read by.
fn counterpart<'s>(names: &'s NamesRef<'s>, kind: &str, name: &str, reader: &'s Schema) -> Option<&'s Schema> {
    let is_of_kind = |schema: &&Schema| match schema {
        Schema::Record(_) => matches!(kind, "record" | "error"),
        Schema::Array(_) => kind == "array",
        Schema::Map(_) => kind == "map",
        _ => false,
    };
    match named(names, reader)? {
        Schema::Union(union) => {
            let of_kind = || union.variants().iter().filter_map(|of| named(names, of)).filter(is_of_kind);
            of_kind().find(|variant| is_called(variant, name)).or_else(|| of_kind().next())
        }
        schema => Some(schema).filter(is_of_kind),
    }
}

/// The schema behind a reference.
fn named<'s>(names: &'s NamesRef<'s>, schema: &'s Schema) -> Option<&'s Schema> {
    match schema {
        Schema::Ref { name } => names.get(name).copied(),
        schema => Some(schema),
    }
}

/// Whether a reader's schema has this name, or is read under it.
fn is_called(schema: &Schema, name: &str) -> bool {
    let aliases = schema.aliases().into_iter().flatten();
    schema.name().is_some_and(|of| of.name() == name) || aliases.into_iter().any(|alias| alias.name() == name)
}

fn has(fields: &[RecordField], name: &str) -> bool {
    fields.iter().any(|field| field.name == name)
}

fn name_of(field: &Value) -> Option<&str> {
    field.get("name").and_then(Value::as_str)
}

fn unqualified(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}
