//! Looks through the part of sled's log that sled is about to replay, for damage that it would pass over.
//!
//! sled 0.34 ends a torn log at the tear, which is right: what is left is an earlier state, its checkpoint included. But
//! in a part of the log that it knows to be complete, it skips the rest of a segment after a record that fails its
//! checksum, and all of a segment whose header does. Later segments, and with them a later checkpoint, are replayed: a
//! checkpoint that the data does not back. What a snapshot covers is not at risk, for there a page that fails its
//! checksum is an error when it is read.
//!
//! A segment that is missing is passed over likewise. That alone is no damage, for a segment whose pages were all written
//! again is used again. It is damage when the file is also shorter than it was last known to be (`length`).
//! Not found is the loss of what the file grew by since its last checkpoint, when later parts of the log lie before it.
//!
//! The file is a row of segments, in any order. Each begins with its position in the log (LSN) and the position up to
//! which the log was complete at that time; records follow, each with its length, the segment's number and a checksum.
//! Reads only; sled's format is fixed within 0.34.
//!
//! A segment that was being used again when the process died may look damaged. Then a sound store is thrown away, which
//! costs a restore and loses nothing.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Bytes of a segment: sled's default.
const SEGMENT: u64 = 512 * 1024;
const SEGMENT_HEADER: usize = 20;
/// The largest size of a record's header; a segment ends when less is left.
const RECORD_HEADER: usize = 32;
/// Kind of the record that ends a segment early.
const CAP: u8 = 2;
const LAST_KIND: u8 = 11;

/// The place of a segment, and its header.
struct Segment {
    offset: u64,
    lsn: u64,
    complete_to: u64,
}

/// Removes what a process left that died while it wrote a snapshot: sled would take it for the newest one.
pub(super) fn remove_half_snapshots(store: &Path) -> io::Result<()> {
    for name in names(store)? {
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(store.join(name))?;
        }
    }
    Ok(())
}

/// The state of a store's log before it is opened.
#[derive(Default)]
pub(super) struct Looked {
    /// The damage, if there is any.
    pub(super) damage: Option<&'static str>,
    /// Bytes of the file.
    pub(super) length: u64,
    /// Whether sled will pass over a segment that is not there: one that was used again, or one that was lost.
    pub(super) has_gaps: bool,
}

/// Looks at it.
pub(super) fn look(store: &Path) -> io::Result<Looked> {
    let mut file = match File::open(store.join("db")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Looked::default()),
        other => other?,
    };
    let length = file.metadata()?.len();
    let damaged = |damage| Ok(Looked { damage: Some(damage), length, has_gaps: false });
    let replayed_from = snapshot_position(store)? / SEGMENT * SEGMENT;
    let mut segments = Vec::new();
    let mut offset = 0;
    while offset + SEGMENT_HEADER as u64 <= length {
        match read_header(&mut file, offset)? {
            Some(segment) if segment.lsn >= replayed_from => segments.push(segment),
            Some(_) => {}
            // sled itself blanks segments behind a tear.
            None if is_blank(&mut file, offset)? => {}
            None => return damaged("the header of a segment of its log is damaged"),
        }
        offset += SEGMENT;
    }
    let complete_to = segments.iter().map(|segment| segment.complete_to).max().unwrap_or(0);
    // From there on tears are to be expected, and sled finds them.
    segments.retain(|segment| segment.lsn < complete_to);
    let mut bytes = Vec::new();
    for segment in &segments {
        read_segment(&mut file, segment.offset, &mut bytes)?;
        if !is_whole(&bytes, segment.lsn / SEGMENT, complete_to - segment.lsn) {
            return damaged("a record in its log is damaged");
        }
    }
    let complete_segments = complete_to.saturating_sub(replayed_from).div_ceil(SEGMENT);
    Ok(Looked { damage: None, length, has_gaps: (segments.len() as u64) < complete_segments })
}

/// The end of the newest snapshot, by its name.
fn snapshot_position(store: &Path) -> io::Result<u64> {
    let positions = names(store)?.into_iter().filter_map(|name| {
        let position = name.strip_prefix("snap.")?;
        u64::from_str_radix(position, 16).ok()
    });
    Ok(positions.max().unwrap_or(0))
}

fn names(store: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(store) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect(),
    }
}

/// Reads a segment's header; `None` when it fails its checksum.
fn read_header(file: &mut File, offset: u64) -> io::Result<Option<Segment>> {
    let mut header = [0; SEGMENT_HEADER];
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(&mut header)?;
    let Some((checksum, rest)) = header.split_first_chunk::<4>() else { return Ok(None) };
    if u32::from_le_bytes(*checksum) != !crc32fast::hash(rest) {
        return Ok(None);
    }
    let Some((lsn, complete_to)) = rest.split_first_chunk::<8>() else { return Ok(None) };
    let complete_to = complete_to.first_chunk::<8>().copied().unwrap_or_default();
    // They are stored inverted, but for the sign.
    let position = |stored| u64::from_le_bytes(stored) ^ 0x7fff_ffff_ffff_ffff;
    let (lsn, complete_to) = (position(*lsn), i64::try_from(position(complete_to)).unwrap_or(0).unsigned_abs());
    Ok(Some(Segment { offset, lsn, complete_to }))
}

fn read_segment(file: &mut File, offset: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
    bytes.clear();
    file.seek(SeekFrom::Start(offset))?;
    file.take(SEGMENT).read_to_end(bytes)?;
    Ok(())
}

fn is_blank(file: &mut File, offset: u64) -> io::Result<bool> {
    let mut bytes = Vec::new();
    read_segment(file, offset, &mut bytes)?;
    Ok(bytes.iter().all(|byte| *byte == 0))
}

/// Whether a segment's records are sound up to its end, or up to where the log is known to be complete, if that is
/// within it.
fn is_whole(segment: &[u8], number: u64, complete: u64) -> bool {
    let end = usize::try_from(SEGMENT).unwrap_or(usize::MAX) - RECORD_HEADER;
    let complete = usize::try_from(complete).unwrap_or(usize::MAX);
    let mut at = SEGMENT_HEADER;
    while at <= end && at < complete {
        let Some((kind, length)) = segment.get(at..).and_then(|rest| read_record(rest, number)) else {
            return false;
        };
        if kind == CAP {
            return true;
        }
        at += length;
    }
    true
}

/// Kind and length of the record that these bytes begin with; `None` when it is not sound.
fn read_record(bytes: &[u8], number: u64) -> Option<(u8, usize)> {
    let (checksum, header) = bytes.split_first_chunk::<4>()?;
    let (&kind, mut rest) = header.split_first()?;
    let body_length = usize::try_from(read_number(&mut rest)?).ok()?;
    let segment_number = read_number(&mut rest)?;
    let _page = read_number(&mut rest)?;
    let header = header.get(..header.len() - rest.len())?;
    let body = rest.get(..body_length)?;
    let mut crc = crc32fast::Hasher::new();
    crc.update(body);
    crc.update(header);
    let sound =
        (1..=LAST_KIND).contains(&kind) && segment_number == number && u32::from_le_bytes(*checksum) == !crc.finalize();
    sound.then_some((kind, 4 + header.len() + body_length))
}

/// Reads a number of one to nine bytes.
fn read_number(bytes: &mut &[u8]) -> Option<u64> {
    let (&first, rest) = bytes.split_first()?;
    let (number, rest) = match first {
        ..=240 => (u64::from(first), rest),
        241..=248 => {
            let (&low, rest) = rest.split_first()?;
            (240 + 256 * (u64::from(first) - 241) + u64::from(low), rest)
        }
        249 => {
            let ([high, low], rest) = rest.split_first_chunk()?;
            (2288 + 256 * u64::from(*high) + u64::from(*low), rest)
        }
        250.. => {
            let (low, rest) = rest.split_at_checked(usize::from(first) - 247)?;
            (low.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)), rest)
        }
    };
    *bytes = rest;
    Some(number)
}
