//! Who searched for what is in the shop: the filtered products joined with the searches.
//!
//! Two groups, so that what the one waits for does not hold up the other's time:
//! - The **join** brings together products and searches by the product's name and the search's text, within an hour of
//!   each other, whichever comes first, and writes the pairs to `personal_recom`. A name matches a text that is the same,
//!   letter for letter, as in the original's `ap.name = af.find`: whoever searches for a part of a name finds nothing.
//! - The **users'** group reads those, sends each to its user, and keeps every user's newest in its table.

use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use stream_core::codec::Json;
use stream_core::group::{BuildError, Group, GroupBuilder, GroupGraph, Side, Table, table_topic};
use stream_core::window::{JoinWindows, Nulls};

use crate::codec::ProductCodec;
use crate::recommendation::{Latest, Recommendation, Recommended};
use crate::search::Find;
use crate::topics::TopicNames;

/// The join's name within its group, and in the names of its topics.
pub const JOIN: &str = "found";

/// Which products are recommended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Products that somebody searched for
    #[default]
    Inner,
    /// Every product: at once, without a search if there is none yet, and again with each that comes, as ksqlDB does
    Left,
}

/// How products and searches are joined.
#[derive(Clone, Copy, Debug)]
pub struct Matching {
    /// Which products are recommended.
    pub kind: Kind,
    /// How far apart in time they may be.
    pub within: Duration,
    /// How far behind the others a record may come without missing a match.
    ///
    /// Both sides go through topics of the group's own, so that after a downtime the records of one partition may be read
    /// long before those of another; a grace that is longer than any downtime loses nothing. What it costs is that each
    /// product and search is kept for that much longer.
    pub grace: Duration,
}

/// An hour, as in the original's statement, and the grace that ksqlDB has where a statement says none.
const HOUR: Duration = Duration::from_secs(3600);

impl Default for Matching {
    fn default() -> Self {
        Self { kind: Kind::Inner, within: HOUR, grace: 24 * HOUR }
    }
}

/// The group that joins.
///
/// A product that leaves the filter's table is a null value, which means nothing to the join. One that changes is a
/// product anew.
///
/// # Errors
/// When a name is none that Kafka takes.
pub fn join(names: &TopicNames, codec: ProductCodec, how: Matching) -> Result<Arc<GroupGraph>, BuildError> {
    let mut g = Group::define(names.recom_group.as_str());
    let found = g.output(names.recom_topic.as_str(), Json::<Recommendation>::new());
    let products = Side::topic(&*table_topic(&names.filter_group), codec).key_by(|product| product.name.clone());
    let searches = Side::topic(names.find_topic.as_str(), Json::<Find>::new()).key_by(|search| search.find.clone());
    let windows = JoinWindows::around(how.within).grace(how.grace);
    let pairs = g.stream_join(JOIN, windows, products, searches);
    match how.kind {
        Kind::Inner => pairs.inner(move |ctx, product, search| {
            ctx.emit(found, product.name.as_str(), Recommendation::new(product, Some(search)))
        }),
        Kind::Left => pairs.nulls(Nulls::Eager).left(move |ctx, product, search| {
            ctx.emit(found, product.name.as_str(), Recommendation::new(product, search))
        }),
    };
    g.build()
}

/// The group that keeps every user's newest recommendations, so many of them, in its table.
pub fn users(names: &TopicNames, keep: usize) -> GroupBuilder<Table<Latest>> {
    let mut g = Group::define(names.users_group()).table(Json::<Latest>::new());
    let to_user = g.loopback(Json::<Recommendation>::new());
    g.input(names.recom_topic.as_str(), Json::<Recommendation>::new(), move |ctx, recommendation| {
        match recommendation.user_id.as_deref() {
            Some(user) if !user.is_empty() => ctx.loopback(to_user, user, &recommendation),
            // A product that nobody searched for.
            _ => Ok(()),
        }
    });
    g.on_loop(to_user, move |ctx, recommendation| {
        let Recommendation { find_id, find, product, .. } = recommendation;
        let (find_id, find) = (find_id.unwrap_or_default(), find.unwrap_or_default());
        let new = Recommended { at_ms: ctx.timestamp(), find_id, find, product };
        let mut latest = ctx.value()?.unwrap_or_default();
        if latest.take_in(new, keep) { ctx.set(latest) } else { Ok(()) }
    });
    g
}
