//! What has to hold for any bytes: one function for each way into the metadata of a commit. Each
//! panics where its input is misread.
//!
//! Not part of the interface: it is compiled for the fuzzers in `framework/fuzz` and for the tests
//! below, which replay what the fuzzers have found.

mod input;
mod reference;
#[cfg(test)]
mod tests;

use input::Input;

use crate::commit_map::{self, About, CommitContent, MapError, decode, encode_for};
use crate::evidence::{Evidence, GROUP, Instance, MAX_SUSPECTS, Named, Suspect};
use crate::log_id::LogId;
use crate::offset::{LeaderEpoch, Offset, Position};
use crate::settled_map::SettledRange;

/// Any text at any position: the position, then the text.
pub fn commit_text(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let position = Position::new(input.i64());
    let mask = input.u32();
    let Ok(text) = std::str::from_utf8(input.rest()) else {
        return;
    };
    if let Ok(content) = decode(position, text) {
        assert_well_formed(position, &content);
        assert_survives(position, &content);
        if !text.is_empty() {
            assert_bound_to(position, mask, text);
        }
    }
}

/// Any sections behind a checksum that is right: what only a later version, or malice, could have
/// written.
pub fn commit_sections(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let position = Position::new(input.i64());
    let sections = input.rest();
    let text = commit_map::sealed(position, sections);
    let read = decode(position, &text);
    let expected = reference::read(position, sections);
    if let Ok(content) = &read {
        let expected = expected
            .as_ref()
            .expect("what is read can be read by the book");
        assert_eq!(ranges(content), expected.settled);
        assert_eq!(content.evidence, expected.evidence);
        assert_eq!(content.log, expected.log);
        assert_eq!(content.leader_epoch, expected.leader_epoch);
        assert_well_formed(position, content);
        assert_survives(position, content);
    } else if let Some(expected) = expected
        && text.len() <= commit_map::MAX_TEXT_BYTES
    {
        assert!(
            expected.has_other_tags,
            "{read:?} for sections that can be read by the book"
        );
    }
}

/// A log, a map and evidence of any shape come back, or a prefix of them; once changed on the way
/// they are refused.
pub fn commit_round_trip(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let position = Position::new(input.i64());
    let evidence = any_evidence(&mut input, position);
    let max_bytes = usize::from(input.u16());
    let mask = input.u32();
    let changes: Vec<_> = (0..input.u8() % 4)
        .map(|_| (input.u8(), input.u16(), input.u8()))
        .collect();
    let written = any_ranges(&mut input, position);
    let log = (mask % 2 == 1).then(|| LogId::from_bytes(u64::from(mask).to_le_bytes()));

    let leader_epoch = (mask & 2 != 0).then(|| LeaderEpoch::new(mask >> 2));
    let about = About { log, leader_epoch };

    let metadata = encode_for(
        about,
        position,
        written.iter().copied(),
        &evidence,
        max_bytes,
    );
    let text = metadata.text;
    assert!(text.len() <= max_bytes && text.is_ascii());
    let content = decode(position, &text).expect("what was written is read");
    assert_well_formed(position, &content);
    let read: Vec<_> = content.settled.ranges().collect();
    assert_eq!(read, written[..read.len()], "a prefix of what was written");
    assert!(content.evidence == evidence || (content.evidence.is_empty() && metadata.truncated));
    assert!(content.log == log || (content.log.is_none() && metadata.truncated));
    let is_whole =
        read.len() == written.len() && content.evidence == evidence && content.log == log;
    assert_eq!(metadata.truncated, !is_whole);
    assert_eq!(
        content.leader_epoch,
        leader_epoch.filter(|_| !read.is_empty())
    );
    assert_parts_survive(position, &text, &content);
    if text.is_empty() {
        return;
    }

    assert_bound_to(position, mask, &text);
    if let Some(relabelled) = text.strip_prefix("kl1").map(|rest| format!("kl2{rest}")) {
        assert_eq!(decode(position, &relabelled), Err(MapError::Version(2)));
    }
    let changed = changes.into_iter().fold(text.into_bytes(), changed);
    // A broker keeps metadata as text; what is empty by now claims nothing.
    if let Ok(changed) = std::str::from_utf8(&changed)
        && !changed.is_empty()
        && let Ok(read) = decode(position, changed)
    {
        assert_eq!(read, content, "{changed:?} was taken for something else");
    }
}

/// Nothing is claimed below the position, or twice, and nothing exceeds its bounds.
fn assert_well_formed(position: Position, content: &CommitContent) {
    let mut cursor = i128::from(position.get());
    for (at, range) in content.settled.ranges().enumerate() {
        let (first, last) = (i128::from(range.first.get()), i128::from(range.last.get()));
        // Ranges that touch are one range.
        let lowest = if at == 0 { cursor } else { cursor + 1 };
        assert!(
            first >= lowest && first <= last,
            "{range:?} from {cursor} on"
        );
        cursor = last + 1;
    }
    let evidence = &content.evidence;
    assert!(evidence.suspects.len() <= MAX_SUSPECTS);
    assert!(evidence.suspects.is_sorted_by(|a, b| a.offset < b.offset));
    assert!(
        evidence
            .suspects
            .iter()
            .all(|suspect| position.covers(suspect.offset))
    );
    let named = evidence.named.offsets();
    assert!(named.len() <= GROUP && named.is_sorted_by(|a, b| a < b));
    assert!(named.iter().all(|&named| position.covers(named)));
    assert_ne!(evidence.named, Named::Together(Vec::new()));
}

/// What was read once is read the same when it is written again.
fn assert_survives(position: Position, content: &CommitContent) {
    let about = About {
        log: content.log,
        leader_epoch: content.leader_epoch,
    };
    let again = encode_for(
        about,
        position,
        content.settled.ranges(),
        &content.evidence,
        usize::MAX,
    );
    let read = decode(position, &again.text).expect("what was written is read");
    if !again.truncated {
        assert_eq!(read.settled, content.settled);
        assert_eq!(read.evidence, content.evidence);
        assert_eq!(read.log, content.log);
        assert_eq!(
            read.leader_epoch,
            content.leader_epoch.filter(|_| !read.settled.is_empty())
        );
    }
    assert_parts_survive(position, &again.text, &read);
}

fn assert_parts_survive(position: Position, text: &str, content: &CommitContent) {
    let alone = decode(position, &commit_map::without_map(position, text))
        .expect("what was written is read");
    assert!(alone.settled.is_empty());
    assert_eq!(
        (&alone.evidence, alone.log),
        (&content.evidence, content.log)
    );
    let ended = decode(
        position,
        &commit_map::without_mark(position, text, usize::MAX),
    )
    .expect("what was written is read");
    assert_eq!((&ended.settled, ended.log), (&content.settled, content.log));
    assert_eq!(
        ended.leader_epoch,
        content.leader_epoch.filter(|_| !content.settled.is_empty())
    );
    assert_eq!(ended.evidence, content.evidence.clone().ended());
}

/// A checksum of 32 bits notices every change of up to 32 bits in a row, so this holds always and
/// not just nearly.
fn assert_bound_to(position: Position, mask: u32, text: &str) {
    for shift in [0, 7, 32] {
        let moved = position.get() ^ (i64::from(mask) << shift);
        if moved != position.get() {
            assert!(
                decode(Position::new(moved), text).is_err(),
                "{text:?} of {position} is read at {moved}"
            );
        }
    }
}

fn ranges(content: &CommitContent) -> Vec<(i128, i128)> {
    content
        .settled
        .ranges()
        .map(|range| (range.first.get().into(), range.last.get().into()))
        .collect()
}

fn any_evidence(input: &mut Input<'_>, position: Position) -> Evidence {
    // The highest offset is left out: nothing could follow it.
    let above = |base: i64, gap: u16| {
        base.checked_add(gap.into())
            .filter(|&offset| offset < i64::MAX)
            .map(Offset::new)
    };
    let flags = input.u8();
    let running = (flags & 1 != 0).then(|| Instance::new(input.u32()));
    let count = if flags & 2 != 0 {
        usize::from(input.u8()) % (GROUP + 1)
    } else {
        0
    };
    let mut named = Vec::new();
    let mut base = position.get();
    for _ in 0..count {
        let Some(offset) = above(base, input.u16()) else {
            break;
        };
        named.push(offset);
        base = offset.get() + 1;
    }
    let named = match named.first() {
        None => Named::Nobody,
        Some(&first) if flags & 16 == 0 => Named::Alone(first),
        Some(_) => Named::Together(named),
    };
    let unclean_starts = if flags & 4 != 0 { input.u32() } else { 0 };
    let count = if flags & 8 != 0 {
        usize::from(input.u8()) % (MAX_SUSPECTS + 1)
    } else {
        0
    };
    let mut suspects = Vec::new();
    let mut base = position.get();
    for _ in 0..count {
        let Some(offset) = above(base, input.u16()) else {
            break;
        };
        suspects.push(Suspect {
            offset,
            crashes: u32::from(input.u8()),
            survived: input.u8() & 1 == 1,
        });
        base = offset.get() + 1;
    }
    Evidence {
        running,
        named,
        unclean_starts,
        suspects,
    }
}

fn any_ranges(input: &mut Input<'_>, position: Position) -> Vec<SettledRange> {
    let mut ranges: Vec<SettledRange> = Vec::new();
    let mut cursor = position.get();
    while !input.is_empty() {
        let gap = input.number() + i64::from(!ranges.is_empty());
        let run = input.number() + 1;
        let Some(first) = cursor.checked_add(gap) else {
            break;
        };
        let Some(next) = first.checked_add(run) else {
            break;
        };
        ranges.push(SettledRange {
            first: Offset::new(first),
            last: Offset::new(next - 1),
        });
        cursor = next;
    }
    ranges
}

/// One accident: a bit turned over, a byte replaced, lost, doubled or added, the rest lost, two
/// bytes swapped.
fn changed(mut text: Vec<u8>, (kind, at, value): (u8, u16, u8)) -> Vec<u8> {
    if text.is_empty() {
        return text;
    }
    let at = usize::from(at) % text.len();
    match kind % 7 {
        0 => text[at] ^= 1 << (value % 8),
        1 => text[at] = value,
        2 => drop(text.remove(at)),
        3 => text.insert(at, text[at]),
        4 => text.insert(at, value),
        5 => text.truncate(at),
        _ => {
            let other = usize::from(value) % text.len();
            text.swap(at, other);
        }
    }
    text
}
