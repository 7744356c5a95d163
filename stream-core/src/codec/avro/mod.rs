//! Avro values whose schemas are in a schema registry.
//!
//! On the wire a value is what Confluent's serialisers write: a zero byte, the writer's schema as a big-endian id of the
//! registry in four bytes, then Avro binary. The reader's schema is the type's own; where the writer's is another, Avro's
//! rules of schema resolution apply.
//!
//! - `aliases` finds fields that were written under another name;
//! - `in_memory` is a registry in this process;
//! - `registry` talks to the registry, and knows the credentials: they never leave it;
//! - `schema` prepares schemas for reading and writing, once each.
//!
//! Values are encoded and decoded without waiting for anything: an id that is not known yet is
//! [`CodecError::NotLoaded`], and [`Codec::load`] fetches its schema.

mod aliases;
mod in_memory;
mod registry;
mod schema;

use std::any::type_name;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use apache_avro::AvroSchema;
use futures::future::BoxFuture;
use rustc_hash::FxHashMap;
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::registry::Registry;
pub use self::registry::SchemaRegistry;
use self::schema::{Own, Reader};
use super::{Codec, CodecError};

/// The first byte of each value.
const MAGIC: u8 = 0;
/// Bytes of the magic byte and the schema's id.
const FRAME: usize = 5;

/// Avro of whatever serde can write and read by a schema, with a schema registry.
///
/// Before the first value of a topic, the type's schema is registered under the subject `<topic>-value`, or, with
/// [`SchemaRegistry::auto_register`] off, looked up there. One codec can serve several topics, whose values then carry
/// the id that the schema got first: ids belong to schemas, not to subjects.
///
/// Values are read by the schema that they were written with and brought into the shape of the type's own: a field that
/// the writer did not have takes its default, one that the type does not have is left out. A field that was renamed is read
/// under its earlier names, which the type's schema has as `aliases`; a field of the same name goes before an alias. What
/// the two schemas do not allow is [`CodecError::Invalid`].
///
/// The registry is asked once for each schema; there is no retry inside. While it can't be reached, values of known
/// schemas go on being read and written, and the others are [`CodecError::Unavailable`], which may be tried again.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use stream_core::codec::{Avro, Codec, SchemaRegistry};
///
/// #[derive(Serialize, Deserialize)]
/// struct Click {
///     user: String,
///     count: i64,
/// }
///
/// # fn main() -> Result<(), stream_core::codec::CodecError> {
/// let registry = SchemaRegistry::new("http://localhost:8081")?.basic_auth("me", Some("secret"));
/// let schema = r#"{
///     "type": "record", "name": "Click", "namespace": "shop",
///     "fields": [
///         {"name": "user", "type": "string"},
///         {"name": "count", "type": "long", "default": 0}
///     ]
/// }"#;
/// let codec = Avro::<Click>::new(schema, &registry)?;
/// assert_eq!(codec.name(), "avro shop.Click");
/// # Ok(())
/// # }
/// ```
pub struct Avro<T> {
    /// The type's schema: values are written by it and read into it.
    own: Own,
    name: String,
    registry: Registry,
    /// The id of the type's schema, once it is known.
    id: OnceLock<u32>,
    /// How to read values, by the id of the schema that they were written with.
    readers: RwLock<FxHashMap<u32, Arc<Reader>>>,
    values: PhantomData<fn(T) -> T>,
}

impl<T> Avro<T> {
    /// A codec by a schema, in JSON.
    ///
    /// # Errors
    /// When the schema is none.
    pub fn new(schema: &str, registry: &SchemaRegistry) -> Result<Self, CodecError> {
        let own = Own::parse(schema)?;
        Ok(Self {
            name: format!("avro {}", own.name()),
            registry: registry.connect()?,
            own,
            id: OnceLock::new(),
            readers: RwLock::default(),
            values: PhantomData,
        })
    }

    /// A codec by the schema that the type brings along, such as by `#[derive(AvroSchema)]` of `apache-avro`.
    ///
    /// # Errors
    /// When the schema has no JSON.
    pub fn derived(registry: &SchemaRegistry) -> Result<Self, CodecError>
    where
        T: AvroSchema,
    {
        let schema = serde_json::to_string(&T::get_schema());
        let schema = schema.map_err(|error| CodecError::invalid(format!("{}: {error}", type_name::<T>())))?;
        Self::new(&schema, registry)
    }

    fn reader(&self, id: u32) -> Option<Arc<Reader>> {
        self.readers.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    fn add_reader(&self, id: u32, reader: Arc<Reader>) {
        self.readers.write().unwrap_or_else(PoisonError::into_inner).insert(id, reader);
    }
}

impl<T: Serialize + DeserializeOwned + 'static> Codec<T> for Avro<T> {
    fn encode(&self, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let id = self.id.get().ok_or_else(|| {
            CodecError::invalid(format!(
                "the schema of {} has no id: the codec was not prepared for a topic",
                self.name
            ))
        })?;
        out.push(MAGIC);
        out.extend_from_slice(&id.to_be_bytes());
        self.own.write(value, out).map_err(|error| {
            CodecError::invalid(format!("{} does not fit its schema ({}): {error}", type_name::<T>(), self.name))
        })
    }

    fn decode(&self, bytes: &[u8]) -> Result<T, CodecError> {
        let Some(([MAGIC, id @ ..], body)) = bytes.split_first_chunk::<FRAME>() else {
            return Err(CodecError::invalid(format!(
                "{} bytes that begin with {:02x?} are no Avro of a schema registry: a 00 and 4 bytes of a schema id are \
                 expected first",
                bytes.len(),
                bytes.get(..FRAME).unwrap_or(bytes),
            )));
        };
        let id = u32::from_be_bytes(*id);
        let reader = self.reader(id).ok_or(CodecError::NotLoaded(id))?;
        reader.read(body).map_err(|error| {
            CodecError::invalid(format!(
                "a value of schema {id} can't be read as {} ({}): {error}",
                type_name::<T>(),
                self.name
            ))
        })
    }

    fn prepare<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<(), CodecError>> {
        Box::pin(async move {
            let subject = format!("{topic}-value");
            let id = self.registry.id_of(&subject, self.own.json()).await?;
            // Values of the codec's own schema need no resolution and no request.
            self.add_reader(id, self.own.reader());
            self.id.get_or_init(|| id);
            Ok(())
        })
    }

    fn load(&self, id: u32) -> BoxFuture<'_, Result<(), CodecError>> {
        Box::pin(async move {
            if self.reader(id).is_none() {
                let json = self.registry.schema(id).await?;
                let reader = self.own.reader_of(&json);
                let reader =
                    reader.map_err(|error| CodecError::invalid(format!("schema {id} is of no use: {error}")))?;
                self.add_reader(id, reader);
            }
            Ok(())
        })
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl<T> fmt::Debug for Avro<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Avro").field("name", &self.name).field("registry", &self.registry).finish_non_exhaustive()
    }
}
