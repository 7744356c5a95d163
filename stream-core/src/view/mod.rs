//! Views.

mod copies;

pub(crate) use self::copies::Copies;
