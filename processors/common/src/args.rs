//! The flags that every binary takes. Nothing is done with them here but checking: see `connect`.
#![allow(clippy::doc_markdown, reason = "the comments of flags are what --help shows")]

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, ValueEnum};

/// The flags that every binary takes. Flatten it into a binary's own.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct CommonArgs {
    /// How to reach Kafka.
    #[command(flatten)]
    pub kafka: KafkaArgs,

    /// How missing topics are made.
    #[command(flatten)]
    pub topics: TopicArgs,

    /// How a processor works.
    #[command(flatten)]
    pub processing: ProcessingArgs,

    /// URL of a schema registry, for Avro values
    #[arg(
        long,
        value_name = "URL",
        env = "SCHEMA_REGISTRY_URL",
        hide_env_values = true,
        help_heading = "Values and logs"
    )]
    pub schema_registry: Option<String>,

    /// What to log on stderr: error, warn, info, debug, trace, or by target: warn,stream_core=debug
    #[arg(
        long,
        value_name = "FILTER",
        env = "RUST_LOG",
        default_value = "info",
        hide_env_values = true,
        help_heading = "Values and logs"
    )]
    pub log: String,
}

/// How to reach Kafka.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Kafka")]
#[group(skip)]
pub struct KafkaArgs {
    /// Kafka brokers, as HOST:PORT separated by commas
    #[arg(long, value_name = "LIST", env = "KAFKA_BROKERS", hide_env_values = true)]
    pub brokers: Option<String>,

    /// Encrypt, trusting the system's authorities [implied by the other --tls flags]
    #[arg(long, env = "KAFKA_TLS", hide_env_values = true, value_parser = clap::builder::FalseyValueParser::new())]
    pub tls: bool,

    /// Encrypt, trusting the authorities of this PEM file
    #[arg(long, value_name = "FILE", env = "KAFKA_TLS_CA", hide_env_values = true)]
    pub tls_ca: Option<PathBuf>,

    /// This client's certificate, a PEM file; goes with --tls-key
    #[arg(long, value_name = "FILE", env = "KAFKA_TLS_CERT", hide_env_values = true)]
    pub tls_cert: Option<PathBuf>,

    /// The key of this client's certificate, a PEM file
    #[arg(long, value_name = "FILE", env = "KAFKA_TLS_KEY", hide_env_values = true)]
    pub tls_key: Option<PathBuf>,

    /// How the user proves the password [default: scram-sha-512]
    #[arg(long, value_name = "NAME", env = "KAFKA_SASL_MECHANISM", hide_env_values = true)]
    pub sasl_mechanism: Option<Mechanism>,

    /// Log in as this user. The password comes from $KAFKA_SASL_PASSWORD or a file, never from a flag
    #[arg(long, value_name = "NAME", env = "KAFKA_SASL_USER", hide_env_values = true)]
    pub sasl_user: Option<String>,

    /// File that holds the password
    #[arg(long, value_name = "FILE", env = "KAFKA_SASL_PASSWORD_FILE", hide_env_values = true)]
    pub sasl_password_file: Option<PathBuf>,
}

/// SASL mechanisms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mechanism {
    /// The password is sent as it is: only with TLS
    Plain,
    /// SCRAM-SHA-256
    #[value(name = "scram-sha-256", alias = "SCRAM-SHA-256")]
    ScramSha256,
    /// SCRAM-SHA-512
    #[value(name = "scram-sha-512", alias = "SCRAM-SHA-512")]
    ScramSha512,
}

/// How missing topics are made.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Topics that are missing")]
#[group(skip)]
pub struct TopicArgs {
    /// Partitions of topics that have to be made
    #[arg(long, value_name = "N", env = "PARTITIONS", hide_env_values = true, default_value_t = 2, value_parser = clap::value_parser!(i32).range(1..))]
    pub partitions: i32,

    /// Replicas of topics that have to be made [default: the broker's]
    #[arg(long, value_name = "N", env = "REPLICATION", hide_env_values = true, value_parser = clap::value_parser!(i32).range(1..))]
    pub replication: Option<i32>,
}

/// What a processor guarantees.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuaranteeArg {
    /// Nothing is lost; some may be done twice
    AtLeastOnce,
    /// Nothing is doubled either: tables, emits and offsets are one Kafka transaction
    ExactlyOnce,
}

/// Where to go on in a partition whose position is lost.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostPositionArg {
    /// Nowhere: end with an error that names the position and what the topic has
    Fail,
    /// At the topic's first record
    Earliest,
    /// Behind the topic's last record
    Latest,
}

/// Which position counts where the committed offset differs from the state's.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum PositionMismatchArg {
    /// Neither: end with an error that names both
    Fail,
    /// The committed offset
    Committed,
    /// The state's position
    State,
}

/// How far a record's time may be ahead of the host's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxAheadArg {
    /// As far as it is.
    Any,
    /// So far at most.
    Within(Duration),
}

/// Which tables an instance keeps warm copies of.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandbysArg {
    /// Its own partitions' only; what it takes over is restored first
    None,
    /// Every partition's, so that it takes over without a restore
    All,
}

/// How a processor works.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Processing")]
#[group(skip)]
pub struct ProcessingArgs {
    /// Where the tables lie; each instance on a machine needs its own
    #[arg(long, value_name = "DIR", env = "STATE_DIR", hide_env_values = true, default_value = "state")]
    pub state_dir: PathBuf,

    /// What becomes of a record's effects after a crash
    #[arg(long, value_name = "WHICH", env = "GUARANTEE", hide_env_values = true, default_value = "at-least-once")]
    pub guarantee: GuaranteeArg,

    /// Where to go on in a partition whose position is lost: its topic was recreated, or no longer has it
    #[arg(long, value_name = "WHERE", env = "ON_LOST_POSITION", hide_env_values = true, default_value = "fail")]
    pub on_lost_position: LostPositionArg,

    /// Which position counts with exactly-once where the committed offset was set by a tool
    #[arg(long, value_name = "WHICH", env = "ON_POSITION_MISMATCH", hide_env_values = true, default_value = "fail")]
    pub on_position_mismatch: PositionMismatchArg,

    /// How far a record's time may be ahead of this host's clock, as 1h, or none for any time [default: 1h]
    #[arg(long, value_name = "TIME", env = "MAX_AHEAD", hide_env_values = true, value_parser = max_ahead)]
    pub max_ahead: Option<MaxAheadArg>,

    /// Which partitions' tables to keep warm copies of, beside this instance's own
    #[arg(long, value_name = "WHICH", env = "STANDBYS", hide_env_values = true, default_value = "none")]
    pub standbys: StandbysArg,

    /// How often progress is committed, as 1s or 500ms [default: 1s, exactly-once 100ms]
    #[arg(long, value_name = "TIME", env = "COMMIT_INTERVAL", hide_env_values = true, value_parser = duration)]
    pub commit_interval: Option<Duration>,

    /// A name for this instance that stays: a restart within the session then moves no partition
    #[arg(long, value_name = "ID", env = "INSTANCE_ID", hide_env_values = true)]
    pub instance_id: Option<String>,
}

fn max_ahead(text: &str) -> Result<MaxAheadArg, String> {
    if text == "none" { Ok(MaxAheadArg::Any) } else { duration(text).map(MaxAheadArg::Within) }
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|e| format!("{e}; write it as 1s, 500ms or 2m"))?;
    if duration.is_zero() { Err("must be longer than nothing".into()) } else { Ok(duration) }
}

/// The flags of [`TopicArgs`], for [`parse`].
pub const TOPIC_FLAGS: &[&str] = &["partitions", "replication"];
/// The flags of [`ProcessingArgs`], for [`parse`].
pub const PROCESSING_FLAGS: &[&str] = &[
    "state_dir",
    "guarantee",
    "on_lost_position",
    "on_position_mismatch",
    "max_ahead",
    "standbys",
    "commit_interval",
    "instance_id",
];
/// The flag of the schema registry, for [`parse`].
pub const REGISTRY_FLAGS: &[&str] = &["schema_registry"];

/// Reads the command line. The `unused` flags are taken, so that all binaries of a system can be started with the same
/// ones, but are left out of `--help`, since they change nothing here.
pub fn parse<T: Parser>(unused: &[&[&str]]) -> T {
    let hidden = unused.concat();
    let command = T::command().mut_args(|arg| {
        let hide = hidden.contains(&arg.get_id().as_str());
        arg.hide(hide)
    });
    T::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Parser, Debug)]
    struct Cli {
        #[command(flatten)]
        common: CommonArgs,
    }

    #[test]
    fn durations_are_readable_and_not_nothing() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert!(duration("0s").unwrap_err().contains("longer"));
        assert!(duration("soon").unwrap_err().contains("500ms"));
        assert_eq!(max_ahead("none"), Ok(MaxAheadArg::Any));
        assert_eq!(max_ahead("2h"), Ok(MaxAheadArg::Within(Duration::from_secs(7200))));
    }

    #[test]
    fn flags_that_can_be_hidden_exist() {
        let command = <Cli as clap::CommandFactory>::command();
        command.clone().debug_assert();
        for flag in [TOPIC_FLAGS, PROCESSING_FLAGS, REGISTRY_FLAGS].concat() {
            assert!(command.get_arguments().any(|a| a.get_id() == flag), "{flag}");
        }
    }

    #[test]
    fn a_password_is_no_flag() {
        let error = Cli::try_parse_from(["x", "--sasl-password", "hush"]).unwrap_err();
        assert_eq!(error.kind(), clap::error::ErrorKind::UnknownArgument);
    }
}
