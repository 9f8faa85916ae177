//! An operator moves a group's position: what that repeats, what it passes over, and the metadata
//! that is true at the new position.

use crate::beginning::LogRange;
use crate::commit_map::{About, CommitContent, MAX_METADATA_BYTES, encode_for};
use crate::evidence::{Evidence, Named};
use crate::log_id::{LogId, Resume};
use crate::offset::{Offset, Position};
use crate::settled_map::SettledRange;

/// What a reset does with what is settled at the new position and above it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SettledAbove {
    /// It is processed again: a replay. Crash evidence is cleared too, so that a record that was
    /// poison is tried again.
    #[default]
    Repeated,
    /// It stays settled, and crash evidence stays with it.
    Kept,
}

/// What a reset of one partition comes to.
///
/// Offsets are counted, not records: what compaction removed and the markers of transactions count
/// as well.
///
/// # Examples
/// ```
/// use keylane_core::{CommitContent, LogRange, OffsetReset, Position, SettledAbove};
///
/// let range = LogRange { first: Position::new(0), end: Position::new(100) };
/// let committed = Some((Position::new(40), CommitContent::default()));
/// let to = Position::new(30);
/// let back = OffsetReset::plan(committed, to, range, None, SettledAbove::Repeated);
/// assert_eq!((back.repeated, back.skipped), (Some(10), Some(0)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetReset {
    /// How many settled offsets are processed once more; `None` where it is unknown what was
    /// settled.
    pub repeated: Option<u64>,
    /// How many unsettled offsets are never processed; `None` where it is unknown.
    pub skipped: Option<u64>,
    /// How many offsets above the new position stay settled.
    pub kept: u64,
    /// The text for the new commit.
    pub metadata: String,
}

impl OffsetReset {
    /// Moves a position to `target`, which lies in `range`; `log` is the one that is there.
    ///
    /// What was committed for another log counts as nothing.
    pub fn plan(
        committed: Option<(Position, CommitContent)>,
        target: Position,
        range: LogRange,
        log: Option<LogId>,
        above: SettledAbove,
    ) -> Self {
        let of_this_log =
            |content: &CommitContent| matches!(Resume::of(content.log, log), Resume::Committed(_));
        let committed = committed.filter(|(_, content)| of_this_log(content));
        let Some((position, content)) = committed else {
            return Self {
                repeated: (target >= range.end).then_some(0),
                skipped: (target <= range.first).then_some(0),
                kept: 0,
                metadata: only_the_log(log, target),
            };
        };
        let within = |from: Position, to: Position| {
            let (from, to) = (from.max(range.first), to.min(range.end));
            u64::try_from(to.get() - from.get()).unwrap_or(0)
        };
        let settled = |from: Position, to: Position| -> u64 {
            let ranges = content.settled.ranges();
            let part = |range: SettledRange| {
                let first = from.max(Position::before(range.first));
                within(first, to.min(range.last.next()))
            };
            ranges.map(part).sum()
        };
        let log = log.or(content.log);
        let below = within(target, position);
        let ahead = settled(target.max(position), range.end);
        let skipped = Some(within(position, target) - settled(position, target));
        match above {
            SettledAbove::Repeated => Self {
                repeated: Some(below + ahead),
                skipped,
                kept: 0,
                metadata: only_the_log(log, target),
            },
            SettledAbove::Kept => Self {
                repeated: Some(below),
                skipped,
                kept: ahead,
                metadata: with_the_map(content, log, target),
            },
        }
    }
}

fn only_the_log(log: Option<LogId>, target: Position) -> String {
    let evidence = Evidence::default();
    encode_for(log, target, [], &evidence, MAX_METADATA_BYTES).text
}

/// What `content` says about offsets from `target` on.
fn with_the_map(content: CommitContent, log: Option<LogId>, target: Position) -> String {
    let about = About {
        log,
        leader_epoch: content.leader_epoch,
    };
    let above = content.settled.ranges().filter_map(|range| {
        let first = range.first.max(Offset::new(target.get()));
        (first <= range.last).then_some(SettledRange { first, ..range })
    });
    let evidence = evidence_from(target, content.evidence);
    encode_for(about, target, above, &evidence, MAX_METADATA_BYTES).text
}

/// What it says about offsets from `target` on.
fn evidence_from(target: Position, mut evidence: Evidence) -> Evidence {
    let is_left = |offset: &Offset| target.covers(*offset);
    evidence.suspects.retain(|it| is_left(&it.offset));
    evidence.named = match evidence.named {
        Named::Nobody => return evidence,
        Named::Alone(offset) if is_left(&offset) => return evidence,
        Named::Alone(_) => Named::Nobody,
        Named::Together(mut offsets) => {
            offsets.retain(is_left);
            match offsets.is_empty() {
                true => Named::Nobody,
                false => Named::Together(offsets),
            }
        }
    };
    // What had run and could have ended the process is passed over.
    match evidence.named {
        Named::Nobody => evidence.ended(),
        _ => evidence,
    }
}

#[cfg(test)]
mod tests;
