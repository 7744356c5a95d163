//! How products become bytes: JSON, or Avro with a schema registry.

use std::sync::Arc;

use clap::ValueEnum;
use processors_common::{CommonArgs, Exit};
use stream_core::codec::{Codec, Json};

use crate::product::Product;

/// A codec of products, of either format.
pub type ProductCodec = Arc<dyn Codec<Product>>;

/// How products are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Plain JSON
    #[default]
    Json,
    /// Avro, its schema in the schema registry
    Avro,
}

impl Format {
    /// The codec. One serves all topics.
    ///
    /// # Errors
    /// For Avro: when no registry is given, or this build has no Avro.
    pub fn codec(self, common: &CommonArgs) -> Result<ProductCodec, Exit> {
        match self {
            Self::Json => Ok(json()),
            Self::Avro => avro(common),
        }
    }
}

/// JSON.
pub fn json() -> ProductCodec {
    Arc::new(Json::<Product>::new())
}

#[cfg(feature = "avro")]
fn avro(common: &CommonArgs) -> Result<ProductCodec, Exit> {
    use stream_core::codec::Avro;
    Ok(Arc::new(Avro::<Product>::new(crate::product::AVRO_SCHEMA, &common.registry()?)?))
}

#[cfg(not(feature = "avro"))]
fn avro(_: &CommonArgs) -> Result<ProductCodec, Exit> {
    Err(Exit::usage(
        "this build has no Avro: build it with the cargo feature \"avro\"; with make: CARGO_FLAGS=\"--features avro\"",
    ))
}
