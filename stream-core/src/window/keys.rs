//! Keys of a group's own tables.
//!
//! `<group>-time`: one byte says what an entry is.
//!
//! | key | value |
//! |---|---|
//! | `0` | stream time |
//! | `1` name `0` key | when a timer is due |
//! | `2` due name `0` key, `3` due name `0` key | what a timer carries: of stream time, of the wall clock |
//! | `4` topic, `5` name | the state's positions and meanings, see `processor::positions` |
//!
//! A window's table: start and key, with the accumulator. Times sort as numbers, so that what is due next comes first.
//!
//! These are formats on disk and in topics: they must never change without a new name for the topic.

/// The key of stream time.
pub(crate) const STREAM_TIME: &[u8] = &[0];
/// The first byte of the keys of due times of timers.
pub(crate) const TIMER: u8 = 1;

/// The time that a timer goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    StreamTime,
    WallClock,
}

impl By {
    /// The first byte of the keys of such timers.
    pub(crate) fn prefix(self) -> &'static [u8] {
        match self {
            Self::StreamTime => &[2],
            Self::WallClock => &[3],
        }
    }
}

/// A time as bytes that sort as it does.
pub(crate) fn time(ms: i64) -> [u8; 8] {
    (ms.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

/// The time that bytes begin with, and what follows.
pub(crate) fn read_time(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (time, rest) = bytes.split_first_chunk::<8>()?;
    Some(((u64::from_be_bytes(*time) ^ (1 << 63)).cast_signed(), rest))
}

/// The key of a timer's due time.
pub(crate) fn timer(name: &str, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 + name.len() + key.len());
    bytes.push(TIMER);
    name_and_key(&mut bytes, name, key);
    bytes
}

/// The key of a timer by its due time.
pub(crate) fn due(by: By, due: i64, name: &str, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(10 + name.len() + key.len());
    bytes.extend_from_slice(by.prefix());
    bytes.extend_from_slice(&time(due));
    name_and_key(&mut bytes, name, key);
    bytes
}

/// The name and the key of a timer, of what follows its due time. Names have no zero byte.
pub(crate) fn read_name(rest: &[u8]) -> Option<(&str, &[u8])> {
    let end = rest.iter().position(|b| *b == 0)?;
    let (name, key) = rest.split_at_checked(end)?;
    Some((std::str::from_utf8(name).ok()?, key.get(1..)?))
}

fn name_and_key(bytes: &mut Vec<u8>, name: &str, key: &[u8]) {
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(key);
}

/// The key of a window's accumulator for a key.
pub(crate) fn window(start: i64, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + key.len());
    bytes.extend_from_slice(&time(start));
    bytes.extend_from_slice(key);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_sort_as_numbers_and_come_back() {
        let times = [i64::MIN, -5, -1, 0, 1, 255, 256, i64::MAX];
        assert!(times.windows(2).all(|w| time(w[0]) < time(w[1])));
        for ms in times {
            assert_eq!(read_time(&window(ms, b"key")), Some((ms, &b"key"[..])));
        }
    }

    #[test]
    fn a_timer_key_gives_its_name_and_key_back_whatever_the_key_is() {
        let key = due(By::WallClock, 77, "remind", b"\0a\0");
        let (at, rest) = read_time(key.strip_prefix(By::WallClock.prefix()).unwrap()).unwrap();
        assert_eq!((at, read_name(rest)), (77, Some(("remind", &b"\0a\0"[..]))));
    }
}
