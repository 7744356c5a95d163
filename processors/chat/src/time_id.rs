//! Times as UUIDs of version 1, which is how the original system names a message's time and asks for pages.
//!
//! As text such a UUID does not sort by time; [`sortable`] does: by time, then by the UUID.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use uuid::{ContextV1, Uuid};

/// Makes ids of the present. Those of one maker differ, even within one tick of the clock.
#[derive(Debug)]
pub struct TimeIds {
    context: ContextV1,
    node: [u8; 6],
}

impl TimeIds {
    /// A maker. It differs from others by a random number, not by the machine's address.
    #[allow(clippy::new_without_default, reason = "two of them are not the same")]
    pub fn new() -> Self {
        let [mut node @ .., _, _, _, _, _, _, _, _, _, _] = Uuid::new_v4().into_bytes();
        // By this bit no network card has such an address.
        node[0] |= 1;
        Self { context: ContextV1::new_random(), node }
    }

    /// The present.
    pub fn now(&self) -> Uuid {
        Uuid::new_v1(uuid::Timestamp::now(&self.context), &self.node)
    }
}

/// Text that sorts as the times do, ties by the UUID. `None` if it is no UUID of version 1.
pub fn sortable(id: Uuid) -> Option<String> {
    let ticks = id.get_timestamp().filter(|_| id.get_version_num() == 1)?.to_gregorian().0;
    Some(format!("{ticks:015x}/{id}"))
}

/// The time as the original writes it, in UTC: `2023-08-28T01:24:10.473126`. `None` as for [`sortable`].
pub fn iso(id: Uuid) -> Option<String> {
    let (seconds, nanos) = id.get_timestamp().filter(|_| id.get_version_num() == 1)?.to_unix();
    let at = Timestamp::new(i64::try_from(seconds).ok()?, i32::try_from(nanos).ok()?).ok()?;
    Some(format!("{:.6}", TimeZone::UTC.to_datetime(at)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::instant;

    #[test]
    fn they_differ_and_sort_by_time() {
        let ids = TimeIds::new();
        let made: Vec<Uuid> = (0..1000).map(|_| ids.now()).collect();
        let mut sorted = made.clone();
        sorted.sort_by_key(|id| sortable(*id));
        sorted.dedup();
        assert_eq!(sorted.len(), 1000);
        let ticks = |id: &Uuid| id.get_timestamp().unwrap().to_gregorian().0;
        assert!(sorted.is_sorted_by_key(ticks));
        // The low bits come first in a UUID, so its own order is another.
        let (early, late) = ("ffffffff-0000-11ee-8000-0242ac120002", "00000000-0001-11ee-8000-0242ac120002");
        let place = |id: &str| sortable(id.parse().unwrap()).unwrap();
        assert!(early > late && place(early) < place(late));
    }

    #[test]
    fn the_time_is_written_with_microseconds() {
        let id: Uuid = "97110a80-4541-11ee-be56-0242ac120002".parse().unwrap();
        let text = iso(id).unwrap();
        assert_eq!(text, "2023-08-28T01:24:10.473126");
        let (seconds, nanos) = id.get_timestamp().unwrap().to_unix();
        assert_eq!(
            instant(&text).unwrap().as_microsecond(),
            i64::try_from(seconds).unwrap() * 1_000_000 + i64::from(nanos / 1000)
        );
        assert_eq!(iso(Uuid::new_v4()), None);
        assert_eq!(sortable(Uuid::new_v4()), None);
    }
}
