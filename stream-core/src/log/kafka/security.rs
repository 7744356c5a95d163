//! Encryption and authentication of a connection to Kafka.
//!
//! Secrets stay inside this module's types: they must never be printed, so `Debug` masks them here, once.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::log::{LogError, LogResult};

/// A value that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl<S: Into<String>> From<S> for Secret {
    fn from(value: S) -> Self {
        Self(value.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Encryption and authentication.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Security {
    /// Neither.
    #[default]
    Plaintext,
    /// TLS, with a client certificate if one is given.
    Tls(Tls),
    /// A user and a password.
    Sasl(Sasl),
}

/// TLS.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Tls {
    /// The authorities to trust (PEM); the system's when `None`.
    pub ca: Option<PathBuf>,
    /// Our certificate (PEM).
    pub cert: Option<PathBuf>,
    /// Our certificate's key (PEM).
    pub key: Option<PathBuf>,
    /// The password that the key is encrypted with.
    pub key_password: Option<Secret>,
    /// Whether the broker's certificate must be for its host name.
    pub verify_hostname: bool,
}

impl Default for Tls {
    fn default() -> Self {
        Self { ca: None, cert: None, key: None, key_password: None, verify_hostname: true }
    }
}

/// SASL.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Sasl {
    /// How the password is proved.
    pub mechanism: SaslMechanism,
    /// Who.
    pub user: String,
    /// The password.
    pub password: Secret,
    /// Encryption; without it others can listen.
    pub tls: Option<Tls>,
}

impl Sasl {
    /// A user, without TLS.
    pub fn new(mechanism: SaslMechanism, user: impl Into<String>, password: impl Into<Secret>) -> Self {
        Self { mechanism, user: user.into(), password: password.into(), tls: None }
    }

    /// Adds TLS.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }
}

/// How a password is proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SaslMechanism {
    /// It is sent as it is: use TLS.
    Plain,
    /// SCRAM-SHA-256.
    ScramSha256,
    /// SCRAM-SHA-512.
    ScramSha512,
}

impl SaslMechanism {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

impl Security {
    pub(super) fn check(&self) -> LogResult<()> {
        match self {
            Self::Plaintext => Ok(()),
            Self::Tls(tls) => tls.check(),
            Self::Sasl(sasl) => {
                if sasl.user.is_empty() {
                    return Err(config("Kafka SASL", "the user is empty".into()));
                }
                if sasl.mechanism != SaslMechanism::Plain {
                    feature(sasl.mechanism.name())?;
                }
                sasl.tls.as_ref().map_or(Ok(()), Tls::check)
            }
        }
    }
}

impl Tls {
    fn check(&self) -> LogResult<()> {
        feature("TLS")?;
        if self.cert.is_some() != self.key.is_some() {
            return Err(config("Kafka TLS", "a client certificate and its key go together, one is missing".into()));
        }
        for (what, path) in [("CA", &self.ca), ("certificate", &self.cert), ("key", &self.key)] {
            path.as_deref().map_or(Ok(()), |path| readable(what, path))?;
        }
        Ok(())
    }
}

fn readable(what: &str, path: &Path) -> LogResult<()> {
    let opened = std::fs::File::open(path).map(drop);
    opened.map_err(|e| config("Kafka TLS", format!("the {what} file {} can't be read: {e}", path.display())))
}

fn feature(what: &str) -> LogResult<()> {
    if cfg!(feature = "tls") {
        return Ok(());
    }
    Err(config(
        &format!("Kafka {what}"),
        "this build has no TLS; build stream-core with the cargo feature \"tls\" (it needs the OpenSSL headers)".into(),
    ))
}

pub(super) fn config(what: &str, reason: String) -> LogError {
    LogError::Config { what: what.to_owned(), reason }
}
