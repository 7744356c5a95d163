//! A shop: products, a filter over them that can be changed while it runs, and what people search for.
//!
//! | binary | what it does |
//! |---|---|
//! | `shop` | writes made-up products to `shop_products` |
//! | `product-filter` | keeps the products that pass the rule in the table `analytic_products_filtered-table` |
//! | `search-prompt` | writes searches to `analytic_products_find` |
//! | `personal-recommendations` | joins the two into `personal_recom`, and serves each user's newest over HTTP |
//! | `shop-topics` | makes and deletes the topics |
//! | `demo` | all of it in one process, on the embedded log |
//!
//! The binaries are thin; what they do is here, one concern a module: [`product`] (what is sold), [`generator`] (made-up
//! products), [`sell`](mod@sell) (writing them at a pace), [`rule`] and [`rules`] (what passes, and setting it), [`filter`] (its group), [`search`],
//! [`recommend`] (the join, and each user's newest), [`recommendation`], `api` (over HTTP), [`topics`] (names).

// Library code meets bad data with an error, never with a panic.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

#[cfg(feature = "http")]
pub mod api;
pub mod codec;
pub mod filter;
pub mod generator;
pub mod product;
pub mod recommend;
pub mod recommendation;
pub mod rule;
pub mod rules;
pub mod search;
pub mod sell;
pub mod topics;
mod words;

pub use self::codec::Format;
pub use self::generator::Generator;
pub use self::product::Product;
pub use self::recommendation::{Latest, Recommendation, Recommended};
pub use self::rule::{Matcher, Rule};
pub use self::search::Find;
