//! Values too large for a page: stored in parts, so that sled never makes a separate file for them.
//!
//! sled 0.34 writes a page above 128 KB, which can be one value or sixteen of 8 KB, to a file in `blobs/`. It removes the
//! file only when the log segment that replaced the page is full, and pointers fill a segment very slowly; a restart
//! before that forgets the removal, and some replacements never ask for one. So no page may get that large: a leaf has at
//! most twenty entries, and no entry's value is above [`INLINE`] bytes by much.
//!
//! ```text
//! keys    <key>          a value up to INLINE bytes, as it is; or a head: the first INLINE bytes of a larger one, then
//!                        the value's number (8 bytes), length (8) and CRC-32 (4)
//! parts   <number><n>    the bytes from INLINE + n * PART on
//! owners  <number>       the key whose value has or had this number
//! ```
//!
//! A number is never used for a second value while a part of the first one exists, so that parts of two values are never
//! mixed. The order of writing is owner, parts, head, and of removing: head, parts, owner. Therefore a head has all its
//! parts at every point of the log, and a part has its owner: [`sweep`](LargeValues::sweep) finds what a crash left.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sled::{Db, Error, Tree};

use super::key;
use crate::store::folder::EngineError;

/// Bytes of the largest value that is stored as it is.
pub(super) const INLINE: usize = 5 * 1024;
/// Bytes of a part.
const PART: usize = 5 * 1024;

/// The parts of the large values of a store.
pub(super) struct LargeValues {
    parts: Tree,
    owners: Tree,
    next: AtomicU64,
    /// Whether there may be any.
    any: AtomicBool,
}

/// The head that stands in the place of a large value.
#[derive(Clone, Copy)]
pub(super) struct Head<'a> {
    start: &'a [u8],
    number: u64,
    length: u64,
    checksum: u32,
}

impl<'a> Head<'a> {
    /// Reads what is stored at a key; `None` when it is the value itself.
    pub(super) fn of(stored: &'a [u8]) -> Result<Option<Self>, Error> {
        if stored.len() <= INLINE {
            return Ok(None);
        }
        Self::parse(stored).map(Some).ok_or_else(|| Error::unreadable("head of a large value"))
    }

    fn parse(stored: &'a [u8]) -> Option<Self> {
        let (start, trailer) = stored.split_at_checked(INLINE)?;
        let (number, trailer) = trailer.split_first_chunk()?;
        let (length, checksum) = trailer.split_first_chunk()?;
        let head = Self {
            start,
            number: u64::from_be_bytes(*number),
            length: u64::from_be_bytes(*length),
            checksum: u32::from_be_bytes(checksum.try_into().ok()?),
        };
        (head.length > INLINE as u64).then_some(head)
    }

    fn parts(&self) -> u64 {
        (self.length - INLINE as u64).div_ceil(PART as u64)
    }

    /// Whether both stand for the same write.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl LargeValues {
    /// Takes the trees of a database.
    pub(super) fn open(db: &Db) -> Result<Self, Error> {
        let parts = db.open_tree("parts")?;
        let owners = db.open_tree("owners")?;
        let last = owners.last()?.map(|(number, _)| number_of(&number)).transpose()?;
        let (next, any) = last.map_or((0, false), |last| (last.saturating_add(1), true));
        Ok(Self { parts, owners, next: AtomicU64::new(next), any: AtomicBool::new(any) })
    }

    /// Whether there may be any large value.
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Writes the parts of a value above [`INLINE`] bytes, and makes the head, which is to be stored at the key then.
    pub(super) fn write(&self, key: &[u8], value: &[u8], head: &mut Vec<u8>) -> Result<(), Error> {
        self.any.store(true, Ordering::Release);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (start, rest) = value.split_at_checked(INLINE).ok_or_else(|| Error::unreadable("large value"))?;
        let mut spelled = Vec::new();
        self.owners.insert(key::encode(&number.to_be_bytes(), &mut spelled), key)?;
        for (n, part) in (0_u64..).zip(rest.chunks(PART)) {
            self.parts.insert(key::encode(&part_key(number, n), &mut spelled), part)?;
        }
        head.clear();
        head.extend_from_slice(start);
        head.extend_from_slice(&number.to_be_bytes());
        head.extend_from_slice(&(value.len() as u64).to_be_bytes());
        head.extend_from_slice(&crc32fast::hash(value).to_be_bytes());
        Ok(())
    }

    /// Reads a value; `None` when a part is missing, for which the reason can be that the key was written meanwhile.
    pub(super) fn read(&self, head: &Head<'_>) -> Result<Option<Vec<u8>>, Error> {
        // A length that memory can't hold is no length that was written.
        let length = usize::try_from(head.length).map_err(|_| Error::unreadable("length of a large value"))?;
        let mut value = Vec::with_capacity(length.min(16 << 20));
        value.extend_from_slice(head.start);
        let mut spelled = Vec::new();
        for n in 0..head.parts() {
            let Some(part) = self.parts.get(key::encode(&part_key(head.number, n), &mut spelled))? else {
                return Ok(None);
            };
            value.extend_from_slice(&part);
        }
        if value.len() != length || crc32fast::hash(&value) != head.checksum {
            return Err(Error::unreadable("large value"));
        }
        Ok(Some(value))
    }

    /// Removes the parts of a value whose head is no longer stored.
    pub(super) fn remove(&self, head: &Head<'_>) -> Result<(), Error> {
        let mut spelled = Vec::new();
        for n in 0..head.parts() {
            self.parts.remove(key::encode(&part_key(head.number, n), &mut spelled))?;
        }
        self.owners.remove(key::encode(&head.number.to_be_bytes(), &mut spelled))?;
        Ok(())
    }

    /// Removes parts that no head stands for: a process died between them and the head.
    pub(super) fn sweep(&self, keys: &Tree) -> Result<(), Error> {
        let mut found = Vec::new();
        for owner in &self.owners {
            let (spelled, key) = owner?;
            let number = number_of(&spelled)?;
            let stored = keys.get(&key)?;
            let head = stored.as_deref().map(Head::of).transpose()?.flatten();
            if head.is_none_or(|head| head.number != number) {
                found.push((number, spelled));
            }
        }
        for (number, owner) in found {
            let mut spelled = Vec::new();
            let from = key::encode(&part_key(number, 0), &mut spelled).to_vec();
            let to = key::encode(&part_key(number, u64::MAX), &mut spelled).to_vec();
            for part in self.parts.range(from..to).keys() {
                self.parts.remove(part?)?;
            }
            self.owners.remove(owner)?;
        }
        Ok(())
    }

    /// Removes everything, when no head is left.
    pub(super) fn clear(&self) -> Result<(), Error> {
        self.parts.clear()?;
        self.owners.clear()
    }
}

fn part_key(number: u64, part: u64) -> [u8; 16] {
    let mut key = [0; 16];
    let (first, second) = key.split_at_mut(8);
    first.copy_from_slice(&number.to_be_bytes());
    second.copy_from_slice(&part.to_be_bytes());
    key
}

fn number_of(spelled: &[u8]) -> Result<u64, Error> {
    let number = key::decode(spelled).and_then(|bytes| Some(u64::from_be_bytes(bytes.try_into().ok()?)));
    number.ok_or_else(|| Error::unreadable("number of a large value"))
}
