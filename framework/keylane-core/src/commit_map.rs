//! The settled-ahead map and the crash evidence as the text of a commit's metadata.
//!
//! ```text
//! kl1.<base64url, no padding>
//!   4 bytes   CRC-32 of: the committed position (8 bytes), the version (1 byte), everything that follows
//!   sections  each: tag (1 byte), length (varint), content
//!     1       settled ranges: pairs of numbers (offsets to leave out, offsets that are settled), from the position on, in
//!             Elias gamma code; to the very first number, which may be zero, one is added
//!     2       crash evidence: flags (1: running, 2: a record is named alone, 4: some are named together), the process, unclean
//!             starts, the named records' offsets (with 4: their number first), then pairs (offset, twice the crashes and one
//!             more where it has run alone since and the process lived) of suspects; all but the flags are varints, and each
//!             offset is the distance from the one before it
//!     3       the log that the position is about: 8 bytes, see [`LogId`]
//!     4       the leader epoch of the highest record that was read, a varint; only with ranges, see [`About`]
//! ```
//! * The checksum covers the position, because the metadata is only true for it. A tool that copies
//!   metadata to another offset would otherwise mark the wrong records as settled, and they would
//!   be lost silently.
//! * A reader skips an unknown tag, so a new section has to be safe to ignore. Anything else needs
//!   a new version, which this reader refuses.
//! * Sections are written in the order log, evidence, ranges. What no longer fits is left out: a
//!   shorter map only redelivers more. Where the leader epoch is known, ranges are not written
//!   without it. An older reader, which skips the epoch, takes the ranges as true, as before.
//! * Empty metadata is the empty text, which is also what a commit of any other program carries.
//!
//! # How much fits
#![doc = include_str!("commit_map/capacity.md")]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use thiserror::Error;

use crate::elias_gamma;
use crate::evidence::Evidence;
use crate::log_id::LogId;
use crate::offset::{LeaderEpoch, Offset, Position};
use crate::settled_map::{SettledMap, SettledRange};
use crate::varint;

/// The most that is written by default: below the broker's `offset.metadata.max.bytes` of 4,096.
pub const MAX_METADATA_BYTES: usize = 4_000;

/// What a commit carries beside its position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitMetadata {
    /// The metadata's text, ASCII; empty where there is nothing to record.
    pub text: String,
    /// Whether something had to be left out for lack of room: still true, it only redelivers more.
    pub truncated: bool,
}

const MAGIC: &str = "kl";
const VERSION: u8 = 1;
const PREFIX: &str = "kl1.";
const CHECKSUM_BYTES: usize = 4;
/// A tag and the longest varint of a length below `MAX_TEXT_BYTES`.
const SECTION_HEAD_BYTES: usize = 1 + 3;
/// A string of the Kafka protocol is no longer than this.
pub(crate) const MAX_TEXT_BYTES: usize = i16::MAX as usize;

const SETTLED_RANGES: u8 = 1;
const EVIDENCE: u8 = 2;
const LOG: u8 = 3;
const LEADER_EPOCH: u8 = 4;

/// What the numbers of a commit are about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The log, where it is known.
    pub log: Option<LogId>,
    /// The leader epoch of the highest record that was read, where there is one. Of the offsets
    /// that the map names no record has a later one, unless the log was cut and written again.
    pub leader_epoch: Option<LeaderEpoch>,
}

impl From<Option<LogId>> for About {
    fn from(log: Option<LogId>) -> Self {
        Self {
            log,
            leader_epoch: None,
        }
    }
}

/// The content of a commit's metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitContent {
    /// What is settled above it.
    pub settled: SettledMap,
    /// How the owner that wrote it stood.
    pub evidence: Evidence,
    /// The log it is about; `None` where the writer had no id of it.
    pub log: Option<LogId>,
    /// The leader epoch of the highest record its writer had read; `None` where that is not known,
    /// or nothing is settled above the position.
    pub leader_epoch: Option<LeaderEpoch>,
}

/// The same as [`encode_for`], for an unknown log.
pub fn encode(
    position: Position,
    ranges: impl IntoIterator<Item = SettledRange>,
    evidence: &Evidence,
    max_bytes: usize,
) -> CommitMetadata {
    encode_for(About::default(), position, ranges, evidence, max_bytes)
}

/// Writes the log's name, the evidence and the ranges, which ascend from `position`, into at most
/// `max_bytes` of text.
///
/// Where the ranges do not all fit, the longest prefix that fits is kept. Ranges that touch are
/// joined. A name that does not fit is left out: it takes 23 bytes. So is evidence: it takes less
/// than 50, and some more for each record in it.
pub fn encode_for(
    about: impl Into<About>,
    position: Position,
    ranges: impl IntoIterator<Item = SettledRange>,
    evidence: &Evidence,
    max_bytes: usize,
) -> CommitMetadata {
    let About { log, leader_epoch } = about.into();
    let mut ranges = ranges.into_iter().peekable();
    let leader_epoch = leader_epoch.filter(|_| ranges.peek().is_some());
    let payload_room = payload_room(max_bytes);
    let (mut head, mut head_fits) = (Vec::new(), true);
    for section in [log_section(log), evidence_section(position, evidence)] {
        match head.len() + section.len() <= payload_room {
            true => head.extend(section),
            false => head_fits = false,
        }
    }
    let epoch = leader_epoch_section(leader_epoch);
    let room = payload_room.saturating_sub(head.len() + epoch.len() + SECTION_HEAD_BYTES);
    let without_epoch = head.len();
    head.extend(epoch);
    let mut writer = RangeWriter::new(position, room);
    let mut joined: Option<SettledRange> = None;
    for range in ranges {
        match &mut joined {
            Some(open) if open.last.next() == Position::before(range.first) => {
                open.last = range.last
            }
            Some(open) => {
                let fits = writer.push(*open);
                *open = range;
                if !fits {
                    break;
                }
            }
            None => joined = Some(range),
        }
    }
    if let (Some(range), false) = (joined, writer.full) {
        writer.push(range);
    }
    if writer.is_empty() {
        head.truncate(without_epoch);
    }
    let truncated = writer.full || !head_fits;
    CommitMetadata {
        text: text(position, &writer.numbers.into_bytes(), &head),
        truncated,
    }
}

/// The metadata of an orderly end in place of `text`, for an owner that cannot write it itself.
pub fn without_mark(position: Position, text: &str, max_bytes: usize) -> String {
    match decode(position, text) {
        Ok(CommitContent {
            settled,
            evidence,
            log,
            leader_epoch,
        }) => {
            let about = About { log, leader_epoch };
            encode_for(
                about,
                position,
                settled.ranges(),
                &evidence.ended(),
                max_bytes,
            )
            .text
        }
        Err(_) => String::new(),
    }
}

/// The same without the map, for a broker that takes only little.
pub fn without_map(position: Position, text: &str) -> String {
    match decode(position, text) {
        Ok(content) => {
            encode_for(
                content.log,
                position,
                [],
                &content.evidence,
                MAX_METADATA_BYTES,
            )
            .text
        }
        Err(_) => String::new(),
    }
}

/// Reads a commit's metadata, which is only true together with the committed `position`.
///
/// # Errors
/// [`MapError::Foreign`] where another program wrote it; [`MapError::Version`] where another
/// version of this library did; [`MapError::Damaged`] where it was changed, or written for another
/// position. The caller counts it and goes on with an empty map: records are redelivered, none is
/// lost.
pub fn decode(position: Position, text: &str) -> Result<CommitContent, MapError> {
    if text.is_empty() {
        return Ok(CommitContent::default());
    }
    let payload = payload(position, text)?;
    let (mut map, mut evidence, mut log, mut leader_epoch) = (None, None, None, None);
    let mut rest = payload.as_slice();
    while let Some((&tag, after_tag)) = rest.split_first() {
        rest = after_tag;
        let length = varint::read(&mut rest).and_then(|length| usize::try_from(length).ok());
        let content = length.and_then(|length| rest.split_at_checked(length));
        let Some((content, after_content)) = content else {
            return Err(MapError::Damaged);
        };
        rest = after_content;
        if tag == SETTLED_RANGES {
            let read = read_ranges(position, content).ok_or(MapError::Damaged)?;
            if map.replace(read).is_some() {
                return Err(MapError::Damaged);
            }
        } else if tag == EVIDENCE {
            let read = Evidence::read(position, content).ok_or(MapError::Damaged)?;
            if evidence.replace(read).is_some() {
                return Err(MapError::Damaged);
            }
        } else if tag == LOG {
            let read = content
                .try_into()
                .map(LogId::from_bytes)
                .map_err(|_| MapError::Damaged)?;
            if log.replace(read).is_some() {
                return Err(MapError::Damaged);
            }
        } else if tag == LEADER_EPOCH {
            let read = read_leader_epoch(content).ok_or(MapError::Damaged)?;
            if leader_epoch.replace(read).is_some() {
                return Err(MapError::Damaged);
            }
        }
    }
    Ok(CommitContent {
        settled: map.unwrap_or_default(),
        evidence: evidence.unwrap_or_default(),
        log,
        leader_epoch,
    })
}

/// Metadata that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MapError {
    /// Not written by keylane.
    #[error("commit metadata was not written by keylane: it is treated as empty")]
    Foreign,
    /// Changed since it was written, or written for another position.
    #[error("commit metadata is damaged or belongs to another offset: it is treated as empty")]
    Damaged,
    /// Written by another version.
    #[error(
        "commit metadata has version {0}, this library reads version {VERSION}: it is treated as empty"
    )]
    Version(u32),
}

/// Room for sections.
fn payload_room(max_bytes: usize) -> usize {
    let characters = max_bytes.min(MAX_TEXT_BYTES).saturating_sub(PREFIX.len());
    (characters * 3 / 4).saturating_sub(CHECKSUM_BYTES)
}

/// Writes nothing where there is nothing to record.
fn log_section(log: Option<LogId>) -> Vec<u8> {
    let mut section = Vec::new();
    if let Some(log) = log {
        push_section(&mut section, LOG, &log.to_bytes());
    }
    section
}

/// Writes nothing where there is nothing to record.
fn leader_epoch_section(epoch: Option<LeaderEpoch>) -> Vec<u8> {
    let mut section = Vec::new();
    if let Some(epoch) = epoch {
        let mut content = Vec::new();
        varint::write(&mut content, epoch.get().into());
        push_section(&mut section, LEADER_EPOCH, &content);
    }
    section
}

fn read_leader_epoch(mut content: &[u8]) -> Option<LeaderEpoch> {
    let epoch = varint::read(&mut content).and_then(|epoch| u32::try_from(epoch).ok())?;
    content.is_empty().then_some(LeaderEpoch::new(epoch))
}

/// Writes nothing where there is nothing to record.
fn evidence_section(position: Position, evidence: &Evidence) -> Vec<u8> {
    let mut section = Vec::new();
    if !evidence.is_empty() {
        let mut content = Vec::new();
        evidence.write(position, &mut content);
        push_section(&mut section, EVIDENCE, &content);
    }
    section
}

fn push_section(payload: &mut Vec<u8>, tag: u8, content: &[u8]) {
    payload.push(tag);
    varint::write(payload, content.len() as u64);
    payload.extend_from_slice(content);
}

struct RangeWriter {
    numbers: elias_gamma::Writer,
    room_bytes: usize,
    /// Up to here, exclusively, everything is written.
    cursor: i64,
    full: bool,
}

impl RangeWriter {
    fn new(position: Position, room_bytes: usize) -> Self {
        Self {
            numbers: elias_gamma::Writer::default(),
            room_bytes,
            cursor: position.get(),
            full: false,
        }
    }

    /// Writes the range, or remembers that it did not fit.
    fn push(&mut self, range: SettledRange) -> bool {
        let (first, last) = (range.first.get(), range.last.get());
        let Some(cursor) = last.checked_add(1) else {
            return true;
        };
        let left_out = i128::from(first) - i128::from(self.cursor) + i128::from(self.is_empty());
        let settled = i128::from(cursor) - i128::from(first);
        // Ledgers give ascending ranges; a range that is not is left out, which is true and only
        // redelivers more.
        let (Ok(left_out @ 1..), Ok(settled @ 1..)) =
            (u64::try_from(left_out), u64::try_from(settled))
        else {
            debug_assert!(
                false,
                "range {first}..={last} does not ascend from {}",
                self.cursor
            );
            return true;
        };
        let needed_bits = elias_gamma::length_bits(left_out) + elias_gamma::length_bits(settled);
        if self.numbers.length_bits() + needed_bits > self.room_bytes * 8 {
            self.full = true;
            return false;
        }
        self.numbers.push(left_out);
        self.numbers.push(settled);
        self.cursor = cursor;
        true
    }

    fn is_empty(&self) -> bool {
        self.numbers.length_bits() == 0
    }
}

/// `head`: the sections but the ranges.
fn text(position: Position, ranges: &[u8], head: &[u8]) -> String {
    if ranges.is_empty() && head.is_empty() {
        return String::new();
    }
    let mut payload =
        Vec::with_capacity(CHECKSUM_BYTES + SECTION_HEAD_BYTES + ranges.len() + head.len());
    payload.extend_from_slice(&[0; CHECKSUM_BYTES]);
    if !ranges.is_empty() {
        push_section(&mut payload, SETTLED_RANGES, ranges);
    }
    payload.extend_from_slice(head);
    let checksum = checksum(position, &payload[CHECKSUM_BYTES..]);
    payload[..CHECKSUM_BYTES].copy_from_slice(&checksum);
    let mut text = String::with_capacity(PREFIX.len() + payload.len() * 4 / 3 + 2);
    text.push_str(PREFIX);
    URL_SAFE_NO_PAD.encode_string(&payload, &mut text);
    text
}

/// The sections behind a text's prefix and checksum.
fn payload(position: Position, text: &str) -> Result<Vec<u8>, MapError> {
    let (version, encoded) = text
        .strip_prefix(MAGIC)
        .and_then(|rest| rest.split_once('.'))
        .ok_or(MapError::Foreign)?;
    if version.is_empty() || !version.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(MapError::Foreign);
    }
    match version.parse::<u32>() {
        Ok(version) if version == u32::from(VERSION) => {}
        Ok(version) => return Err(MapError::Version(version)),
        Err(_) => return Err(MapError::Foreign),
    }
    if text.len() > MAX_TEXT_BYTES {
        return Err(MapError::Damaged);
    }
    let mut payload = URL_SAFE_NO_PAD
        .decode(encoded)
        .map_err(|_| MapError::Damaged)?;
    if payload.len() < CHECKSUM_BYTES {
        return Err(MapError::Damaged);
    }
    let sections = payload.split_off(CHECKSUM_BYTES);
    if payload != checksum(position, &sections) {
        return Err(MapError::Damaged);
    }
    Ok(sections)
}

/// `None` where the ranges leave the range of offsets or end in the middle. That they ascend and do
/// not touch is in the code: it has no zero. A range takes two bits at least, so that four of them
/// stand in a byte at most.
fn read_ranges(position: Position, content: &[u8]) -> Option<SettledMap> {
    let mut map = SettledMap::new();
    let mut cursor = position.get();
    let mut numbers = elias_gamma::Reader::new(content);
    while !numbers.is_at_end() {
        let left_out = numbers.next()? - u64::from(map.is_empty());
        let settled = numbers.next()?;
        let first = cursor.checked_add_unsigned(left_out)?;
        cursor = first.checked_add_unsigned(settled)?;
        map.append(SettledRange {
            first: Offset::new(first),
            last: Offset::new(cursor - 1),
        });
    }
    Some(map)
}

fn checksum(position: Position, sections: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&position.get().to_le_bytes());
    hasher.update(&[VERSION]);
    hasher.update(sections);
    hasher.finalize().to_le_bytes()
}

/// A text with a right checksum around any sections: what a hostile or future writer could produce.
#[cfg(any(test, fuzzing))]
pub(crate) fn sealed(position: Position, sections: &[u8]) -> String {
    let mut payload = checksum(position, sections).to_vec();
    payload.extend_from_slice(sections);
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(payload))
}

#[cfg(test)]
mod tests;
