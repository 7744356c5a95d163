//! What is sold. Field names and their order are the original system's; they must not change.

use serde::{Deserialize, Serialize};

/// A product, keyed by its `product_id`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are what they are called")]
pub struct Product {
    /// 13 digits, the last of them the check digit.
    pub product_id: String,
    pub name: String,
    pub description: String,
    pub price: Price,
    pub category: String,
    pub brand: String,
    pub stock: Stock,
    pub sku: String,
    pub tags: Vec<String>,
    pub images: Vec<Image>,
    pub specifications: Specifications,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339.
    pub updated_at: String,
    pub index: String,
    pub store_id: String,
}

/// What it costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are what they are called")]
pub struct Price {
    pub amount: i32,
    pub currency: String,
}

/// How many there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are what they are called")]
pub struct Stock {
    pub available: i32,
    pub reserved: i32,
}

/// A picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are what they are called")]
pub struct Image {
    pub url: String,
    pub alt: String,
}

/// What it is like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are what they are called")]
pub struct Specifications {
    pub weight: String,
    pub dimensions: String,
    pub battery_life: String,
    pub water_resistance: String,
}

/// The Avro schema of a [`Product`].
#[cfg(feature = "avro")]
pub const AVRO_SCHEMA: &str = include_str!("product.avsc");
