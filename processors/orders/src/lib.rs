//! Orders: taken over HTTP, routed by priority and city, mailed, and written to a database.
//!
//! ```text
//! orders-api ─► product_orders ─► order-router ─┬─► order_emails ─────► order-mailer ─► SMTP
//!                                               ├─► orders_city_<slug>
//!                                               └─► its table ────────► order-sink ───► Postgres
//!                                                       └─► orders-api reads it
//! ```
//!
//! | binary | what it does |
//! |---|---|
//! | `orders-api` | validates orders, writes them to `product_orders`, and shows those that were routed |
//! | `order-router` | lets each order through once: a mail if it is urgent, a record for its city, a row of its table |
//! | `order-mailer` | mails what is in `order_emails` |
//! | `order-sink` | keeps the Postgres table `orders` as the router's table is |
//! | `demo-orders` | all of it in one process, on the embedded log, with a made-up mail server and database |
//!
//! The binaries are thin; what they do is here, one concern a module: [`order`] (what an order is), [`router`], [`city`]
//! and [`cities`] (which topic a city has), [`mailer`], [`sink`], `api`, [`generator`] (made-up orders), [`topics`] (names).

// Library code meets bad data with an error, never with a panic.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

#[cfg(feature = "api")]
pub mod api;
pub mod cities;
pub mod city;
pub mod generator;
pub mod mailer;
pub mod order;
#[cfg(feature = "sink")]
pub mod postgres;
pub mod router;
pub mod sink;
#[cfg(feature = "mailer")]
pub mod smtp;
pub mod topics;

pub use self::cities::Cities;
pub use self::generator::Generator;
pub use self::order::{Order, Priority};
pub use self::router::Accepted;
