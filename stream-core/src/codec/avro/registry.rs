//! The conversation with a schema registry, and its credentials.
//!
//! Credentials go into requests and nowhere else: no error, log or debug form may hold them. Every error names the
//! registry.
//!
//! The registry's answer decides how an error is classed. Only that it does not know a schema, or does not want one, is
//! final ([`CodecError::Invalid`]). Everything else, wrong credentials included, is [`CodecError::Unavailable`]: it says
//! nothing about the value, which must not be skipped for it.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use schema_registry_converter::async_impl::schema_registry::{
    SrSettings, get_schema_by_id, perform_sr_call, post_schema,
};
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{RawError, SchemaType, SrCall, SuppliedSchema};

use super::in_memory::InMemoryRegistry;
use crate::codec::CodecError;

/// Codes of a registry's answers.
mod code {
    pub(super) const NO_SUBJECT: u32 = 40401;
    pub(super) const NO_VERSION: u32 = 40402;
    pub(super) const NO_SCHEMA: u32 = 40403;
    pub(super) const INVALID_SCHEMA: u32 = 42201;
    pub(super) const INCOMPATIBLE: u32 = 409;
}

/// A user and a password.
type User = (String, Option<String>);

/// How to reach a schema registry that speaks Confluent's protocol: Confluent's own, Apicurio, Karapace, Redpanda's.
///
/// The runtime that codecs are prepared on must have its I/O driver enabled (`enable_all`).
///
/// ```
/// use stream_core::codec::SchemaRegistry;
///
/// let registry = SchemaRegistry::new("http://localhost:8081")?
///     .basic_auth("me", Some("secret"))
///     .auto_register(false);
/// assert!(!format!("{registry:?}").contains("secret"));
/// # Ok::<(), stream_core::codec::CodecError>(())
/// ```
#[derive(Clone)]
pub struct SchemaRegistry {
    /// Of one in this process, which has no URL.
    in_memory: Option<Arc<InMemoryRegistry>>,
    urls: Vec<String>,
    user: Option<User>,
    auto_register: bool,
    timeout: Duration,
}

impl SchemaRegistry {
    /// A registry at a URL, or several URLs of one with commas between, which are tried in turn. A user and a password
    /// in front of the host are taken as [`basic_auth`](Self::basic_auth), letter by letter.
    ///
    /// # Errors
    /// When that is no URL, or one of `https` without the feature `tls`.
    pub fn new(urls: &str) -> Result<Self, CodecError> {
        let mut registry = Self::none();
        for url in urls.split(',') {
            let (url, user) = split_user(url.trim())?;
            registry.urls.push(url);
            registry.user = registry.user.or(user);
        }
        Ok(registry)
    }

    /// A registry in this process, which its clones share: for tests, and for programs on the in-memory log. It takes every
    /// schema, also one that does not go with the earlier ones of its subject.
    ///
    /// ```
    /// use stream_core::codec::{Avro, SchemaRegistry};
    /// use stream_core::prelude::*;
    /// use stream_core::testing::Tester;
    ///
    /// let schema = r#"{"type": "record", "name": "Click", "fields": [{"name": "count", "type": "long"}]}"#;
    /// #[derive(serde::Serialize, serde::Deserialize)]
    /// struct Click {
    ///     count: i64,
    /// }
    ///
    /// let registry = SchemaRegistry::in_memory();
    /// let mut g = Group::define("sums").table(Int64);
    /// g.input("clicks", Avro::<Click>::new(schema, &registry)?, |ctx, click| {
    ///     ctx.update(|sum| sum.unwrap_or(0) + click.count)
    /// });
    /// let tester = Tester::new();
    /// tester.add(g.build()?)?;
    /// tester.input("clicks", Avro::<Click>::new(schema, &registry)?).send("me", Click { count: 2 })?;
    /// assert_eq!(tester.table("sums", Int64).get("me")?, Some(2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn in_memory() -> Self {
        Self { in_memory: Some(Arc::default()), ..Self::none() }
    }

    fn none() -> Self {
        let (urls, timeout) = (Vec::new(), Duration::from_secs(10));
        Self { in_memory: None, urls, user: None, auto_register: true, timeout }
    }

    /// Sends a user and a password. They are never printed.
    #[must_use]
    pub fn basic_auth(mut self, user: impl Into<String>, password: Option<&str>) -> Self {
        self.user = Some((user.into(), password.map(str::to_owned)));
        self
    }

    /// Whether a type's schema is registered when a topic needs it; default `true`. If not, it must be there.
    #[must_use]
    pub fn auto_register(mut self, on: bool) -> Self {
        self.auto_register = on;
        self
    }

    /// How long a request may take; default 10 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Makes the client; nothing is sent.
    pub(super) fn connect(&self) -> Result<Registry, CodecError> {
        if let Some(registry) = &self.in_memory {
            return Ok(Registry::InMemory(Arc::clone(registry), self.auto_register));
        }
        let mut urls = self.urls.iter().cloned();
        let mut settings = SrSettings::new_builder(urls.next().unwrap_or_default());
        for url in urls {
            settings.add_url(url);
        }
        if let Some((user, password)) = &self.user {
            settings.set_basic_authorization(user, password.as_deref());
        }
        // A connection that is kept belongs to the runtime it was made on, and codecs are used from several. Requests
        // are few, so that each can have its own.
        settings.add_header("connection", "close").set_timeout(self.timeout);
        let name = self.urls.join(",");
        let settings = settings.build();
        let settings =
            settings.map_err(|error| CodecError::invalid(format!("schema registry {name}: {}", reason(&error))))?;
        Ok(Registry::Http(HttpRegistry { name, settings, auto_register: self.auto_register }))
    }
}

impl fmt::Debug for SchemaRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchemaRegistry")
            .field("in_memory", &self.in_memory.is_some())
            .field("urls", &self.urls)
            .field("with_user", &self.user.is_some())
            .field("auto_register", &self.auto_register)
            .finish_non_exhaustive()
    }
}

/// Takes `user:password@` out of a URL.
fn split_user(url: &str) -> Result<(String, Option<User>), CodecError> {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) if !rest.is_empty() => (scheme, rest.trim_end_matches('/')),
        // It is not repeated: it may hold a password.
        _ => {
            return Err(CodecError::invalid(
                "the schema registry's URL must begin with http:// or https:// and a host",
            ));
        }
    };
    if scheme == "https" && !cfg!(feature = "tls") {
        return Err(CodecError::invalid("a schema registry by https needs stream-core's feature `tls`"));
    }
    let host_end = rest.find('/').unwrap_or(rest.len());
    let (user, rest) = match rest.split_at(host_end).0.rfind('@') {
        None => (None, rest),
        Some(at) => {
            let (user, rest) = rest.split_at(at);
            let (user, password) = user.split_once(':').map_or((user, None), |(user, password)| (user, Some(password)));
            (Some((user.to_owned(), password.map(str::to_owned))), rest.trim_start_matches('@'))
        }
    };
    Ok((format!("{scheme}://{rest}"), user))
}

/// A registry to ask.
pub(super) enum Registry {
    Http(HttpRegistry),
    /// And whether schemas are registered.
    InMemory(Arc<InMemoryRegistry>, bool),
}

impl Registry {
    /// The id of a schema under a subject, registered if need be.
    pub(super) async fn id_of(&self, subject: &str, schema: &str) -> Result<u32, CodecError> {
        match self {
            Self::Http(registry) => registry.id_of(subject, schema).await,
            Self::InMemory(registry, register) => registry.id_of(subject, schema, *register),
        }
    }

    /// The schema of an id.
    pub(super) async fn schema(&self, id: u32) -> Result<String, CodecError> {
        match self {
            Self::Http(registry) => registry.schema(id).await,
            Self::InMemory(registry, _) => registry.schema(id),
        }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(HttpRegistry { name, .. }) => f.debug_tuple("Registry").field(name).finish(),
            Self::InMemory(..) => f.write_str("Registry(in memory)"),
        }
    }
}

/// One that is asked by HTTP.
pub(super) struct HttpRegistry {
    /// Its URLs, without credentials.
    name: String,
    settings: SrSettings,
    auto_register: bool,
}

impl HttpRegistry {
    /// The id of a schema under a subject, registered if need be.
    async fn id_of(&self, subject: &str, schema: &str) -> Result<u32, CodecError> {
        if !self.auto_register {
            return self.find(subject, schema).await;
        }
        let supplied = SuppliedSchema::new(None, SchemaType::Avro, schema.to_owned());
        match post_schema(&self.settings, subject.to_owned(), supplied).await {
            Ok(registered) => Ok(registered.id),
            Err(error) => Err(match code_of(&error) {
                Some(code::INCOMPATIBLE) => CodecError::invalid(format!(
                    "schema registry {}: the schema does not go with the earlier ones of subject {subject} ({}): give new \
                     fields a default, or change the subject's compatibility level",
                    self.name,
                    reason(&error)
                )),
                Some(code::INVALID_SCHEMA) => CodecError::invalid(format!(
                    "schema registry {}: refused the schema for subject {subject}: {}",
                    self.name,
                    reason(&error)
                )),
                _ => self.unavailable(&format!("could not register the schema of subject {subject}"), &error),
            }),
        }
    }

    /// The id of a schema that must be registered under a subject.
    async fn find(&self, subject: &str, schema: &str) -> Result<u32, CodecError> {
        let body = serde_json::json!({ "schema": schema, "schemaType": "AVRO" }).to_string();
        let error = match perform_sr_call(&self.settings, SrCall::PostForVersion(subject, &body)).await {
            Ok(found) => {
                let none =
                    || CodecError::Unavailable(format!("schema registry {}: an answer without an id", self.name));
                return found.id.ok_or_else(none);
            }
            Err(error) => error,
        };
        let there_is = match code_of(&error) {
            Some(code::NO_SUBJECT | code::NO_VERSION) => "nothing is registered there".to_owned(),
            Some(code::NO_SCHEMA) => match perform_sr_call(&self.settings, SrCall::GetLatest(subject)).await {
                Ok(latest) => format!(
                    "its latest schema, version {}, is another",
                    latest.version.map_or_else(|| "unknown".to_owned(), |version| version.to_string())
                ),
                Err(_) => "others are".to_owned(),
            },
            _ => return Err(self.unavailable(&format!("could not look up the schema of subject {subject}"), &error)),
        };
        Err(CodecError::invalid(format!(
            "schema registry {}: the schema is not registered under subject {subject}, {there_is}. auto_register is off, \
             so register it first (POST {}/subjects/{subject}/versions), or turn auto_register on. The schema: {schema}",
            self.name,
            self.name.split(',').next().unwrap_or_default(),
        )))
    }

    /// The schema of an id.
    async fn schema(&self, id: u32) -> Result<String, CodecError> {
        let found = match get_schema_by_id(id, &self.settings).await {
            Ok(found) => found,
            Err(error) if code_of(&error) == Some(code::NO_SCHEMA) => {
                return Err(CodecError::invalid(format!("schema registry {}: knows no schema of id {id}", self.name)));
            }
            Err(error) => return Err(self.unavailable(&format!("could not fetch schema {id}"), &error)),
        };
        if found.schema_type != SchemaType::Avro {
            let kind = found.schema_type;
            return Err(CodecError::invalid(format!(
                "schema registry {}: schema {id} is {kind:?}, not Avro",
                self.name
            )));
        }
        if !found.references.is_empty() {
            return Err(CodecError::invalid(format!(
                "schema registry {}: schema {id} refers to other schemas, which is not supported",
                self.name
            )));
        }
        Ok(found.schema)
    }

    fn unavailable(&self, what: &str, error: &SRCError) -> CodecError {
        CodecError::Unavailable(format!("schema registry {}: {what}: {}", self.name, reason(error)))
    }
}

/// The registry's own code for what is wrong; `None` when it is not the registry that answered.
fn code_of(error: &SRCError) -> Option<u32> {
    let answer = error.source()?.downcast_ref::<RawError>()?;
    (answer.error_code != 0).then_some(answer.error_code)
}

/// An error with its causes, the last of which says most.
fn reason(error: &SRCError) -> String {
    let mut reason = error.error.clone();
    let mut cause = error.source();
    while let Some(error) = cause {
        reason = format!("{reason}: {error}");
        cause = error.source();
    }
    reason
}
