//! The orders, in memory, on a real Kafka and on a real Postgres: the groups, the binaries, the demo.

#[cfg(feature = "mailer")]
mod fake_smtp;

#[cfg(feature = "api")]
mod api;
#[cfg(all(feature = "kafka", feature = "api", feature = "mailer", feature = "sink"))]
mod binaries;
mod cities;
mod demo;
#[cfg(all(feature = "kafka", feature = "api", feature = "mailer", feature = "sink"))]
mod kafka;
mod mailer;
#[cfg(feature = "sink")]
mod postgres;
#[cfg(feature = "sink")]
mod postgres_restart;
mod router;
mod sink;
#[cfg(feature = "mailer")]
mod smtp;
