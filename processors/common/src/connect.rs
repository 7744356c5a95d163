//! From flags to a connection and to a processor's options.
//!
//! Secrets are read here and go straight into the connection's options; they must never be logged.

use std::sync::Arc;

use stream_core::group::GroupGraph;
use stream_core::log::LogHandle;
use stream_core::processor::{Guarantee, OnLostPosition, OnPositionMismatch, Processor, Standbys};
use stream_core::topics::TopicOptions;

use crate::args::{
    CommonArgs, GuaranteeArg, KafkaArgs, LostPositionArg, MaxAheadArg, PositionMismatchArg, ProcessingArgs, StandbysArg,
};
use crate::exit::Exit;

const NO_BROKERS: &str = "no Kafka broker given: use --brokers HOST:PORT, or set KAFKA_BROKERS
  a broker on this machine:   make kafka-up
  all of it without a broker: make demo";

impl CommonArgs {
    /// Starts logging and makes the connection to Kafka.
    ///
    /// # Errors
    /// When no broker is given, or options make no sense. A broker that can't be reached shows with the first use.
    pub fn connect(&self, client: &str) -> Result<LogHandle, Exit> {
        crate::logging::start(&self.log)?;
        let brokers = self.kafka.brokers.as_deref().map(str::trim).filter(|b| !b.is_empty());
        open(brokers.ok_or_else(|| Exit::usage(NO_BROKERS))?, client, &self.kafka)
    }

    /// How missing topics are made.
    pub fn topic_options(&self) -> TopicOptions {
        let mut options = TopicOptions::default();
        options.partitions = Some(self.topics.partitions);
        options.replication = self.topics.replication;
        options
    }

    /// A processor of a group, set up as the flags say.
    pub fn processor(&self, graph: Arc<GroupGraph>, log: LogHandle) -> Processor {
        let ProcessingArgs { state_dir, guarantee, standbys, commit_interval, instance_id, .. } = &self.processing;
        let mut processor = Processor::new(graph, log).state_dir(state_dir).topics(self.topic_options());
        if *guarantee == GuaranteeArg::ExactlyOnce {
            processor = processor.guarantee(Guarantee::ExactlyOnce);
        }
        processor = processor.on_lost_position(match self.processing.on_lost_position {
            LostPositionArg::Fail => OnLostPosition::Fail,
            LostPositionArg::Earliest => OnLostPosition::Earliest,
            LostPositionArg::Latest => OnLostPosition::Latest,
        });
        processor = processor.on_position_mismatch(match self.processing.on_position_mismatch {
            PositionMismatchArg::Fail => OnPositionMismatch::Fail,
            PositionMismatchArg::Committed => OnPositionMismatch::Committed,
            PositionMismatchArg::State => OnPositionMismatch::State,
        });
        processor = match self.processing.max_ahead {
            None => processor,
            Some(MaxAheadArg::Any) => processor.max_ahead(None),
            Some(MaxAheadArg::Within(limit)) => processor.max_ahead(limit),
        };
        if *standbys == StandbysArg::All {
            processor = processor.standbys(Standbys::All);
        }
        if let Some(every) = commit_interval {
            processor = processor.commit_interval(*every);
        }
        if let Some(id) = instance_id {
            processor = processor.instance_id(id.as_str());
        }
        processor
    }

    /// The schema registry.
    ///
    /// # Errors
    /// When none is given, or what is given is no URL.
    #[cfg(feature = "avro")]
    pub fn registry(&self) -> Result<stream_core::codec::SchemaRegistry, Exit> {
        let url = self.schema_registry.as_deref().map(str::trim).filter(|u| !u.is_empty());
        let url = url.ok_or_else(|| {
            Exit::usage("Avro needs a schema registry: use --schema-registry URL, or set SCHEMA_REGISTRY_URL")
        })?;
        stream_core::codec::SchemaRegistry::new(url).map_err(Exit::usage)
    }
}

#[cfg(feature = "kafka")]
fn open(brokers: &str, client: &str, flags: &KafkaArgs) -> Result<LogHandle, Exit> {
    use stream_core::log::kafka::{Kafka, KafkaOptions};
    let options = KafkaOptions::new(brokers).client_id(client).security(flags.security()?);
    Ok(Kafka::connect(options).map_err(Exit::usage)?)
}

#[cfg(not(feature = "kafka"))]
fn open(_: &str, _: &str, _: &KafkaArgs) -> Result<LogHandle, Exit> {
    Err(Exit::usage("this build has no Kafka: build it with the cargo feature \"kafka\""))
}

#[cfg(feature = "kafka")]
mod security {
    use stream_core::log::kafka::{Sasl, SaslMechanism, Secret, Security, Tls};

    use crate::args::{KafkaArgs, Mechanism};
    use crate::exit::Exit;

    const PASSWORD: &str = "KAFKA_SASL_PASSWORD";

    fn no_tls(what: &str) -> Exit {
        Exit::usage(format_args!(
            "this build has no {what}: build it with the cargo feature \"tls\", which needs the OpenSSL headers; \
             with make: CARGO_FLAGS=\"--features tls\""
        ))
    }

    impl KafkaArgs {
        pub(super) fn security(&self) -> Result<Security, Exit> {
            let tls = self.tls();
            if !cfg!(feature = "tls") && tls.is_some() {
                return Err(no_tls("TLS"));
            }
            let Some(user) = self.sasl_user.as_deref().filter(|u| !u.is_empty()) else {
                return match self.part_of_a_login() {
                    Some(part) => Err(Exit::usage(format_args!(
                        "{part} is set, but no user: use --sasl-user NAME, or set KAFKA_SASL_USER"
                    ))),
                    None => Ok(tls.map_or(Security::Plaintext, Security::Tls)),
                };
            };
            let mechanism = match self.sasl_mechanism {
                Some(Mechanism::Plain) => SaslMechanism::Plain,
                Some(Mechanism::ScramSha256) => SaslMechanism::ScramSha256,
                Some(Mechanism::ScramSha512) | None => SaslMechanism::ScramSha512,
            };
            let mut sasl = Sasl::new(mechanism, user, self.password(user)?);
            if !cfg!(feature = "tls") && mechanism != SaslMechanism::Plain {
                return Err(no_tls("SCRAM"));
            }
            sasl.tls = tls;
            Ok(Security::Sasl(sasl))
        }

        /// What only makes sense with a user. Without one, nobody would log in, and nobody would know.
        fn part_of_a_login(&self) -> Option<&'static str> {
            if self.sasl_mechanism.is_some() {
                Some("--sasl-mechanism (KAFKA_SASL_MECHANISM)")
            } else if self.sasl_password_file.is_some() {
                Some("--sasl-password-file (KAFKA_SASL_PASSWORD_FILE)")
            } else if std::env::var_os(PASSWORD).is_some_and(|p| !p.is_empty()) {
                Some(PASSWORD)
            } else {
                None
            }
        }

        fn tls(&self) -> Option<Tls> {
            let asked = self.tls || self.tls_ca.is_some() || self.tls_cert.is_some() || self.tls_key.is_some();
            asked.then(|| {
                let mut tls = Tls::default();
                (tls.ca, tls.cert, tls.key) = (self.tls_ca.clone(), self.tls_cert.clone(), self.tls_key.clone());
                tls
            })
        }

        fn password(&self, user: &str) -> Result<Secret, Exit> {
            if let Some(path) = &self.sasl_password_file {
                let text = std::fs::read_to_string(path).map_err(|e| {
                    Exit::usage(format_args!("the password file {} can't be read: {e}", path.display()))
                })?;
                return Ok(text.trim_end_matches(['\n', '\r']).into());
            }
            match std::env::var(PASSWORD) {
                Ok(password) if !password.is_empty() => Ok(password.into()),
                _ => Err(Exit::usage(format_args!(
                    "no password for user {user}: set {PASSWORD}, or use --sasl-password-file FILE"
                ))),
            }
        }
    }
}
