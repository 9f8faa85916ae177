//! The commits of one epoch of one partition.

use std::sync::Arc;
use std::time::Duration;

use super::point::{ClientPosition, CommitPoint, OPENING};
use super::{MetadataLimit, TopicPartition};
use crate::offset::{Epoch, Offset};
use crate::partition::Mark;

/// How soon after its first records an epoch usually wants its first mark.
const FIRST_MARK_SOON: Duration = Duration::from_secs(1);

/// What was committed for one epoch of one partition, and what has to be.
///
/// There are three ways to a commit. The client commits what is stored with it by itself, at the
/// commit interval and with every unassign. What it would leave out is committed
/// [explicitly](Explicit), without an answer. Points with a [`Mark`] need an answer: those go
/// through [`Commits`](super::Commits).
#[derive(Clone, Debug)]
pub struct EpochCommits {
    place: TopicPartition,
    epoch: Epoch,
    /// The newest commit point.
    stored: Option<CommitPoint>,
    /// The latest position this partition was committed at or stored, as far as it is known. The
    /// client commits by itself only what it takes for a later one.
    latest: Option<ClientPosition>,
    /// The latest mark that the broker has.
    confirmed: Option<Mark>,
    /// The first position of a partition that had none is not known to be on the broker.
    opening: bool,
}

/// Where a member stands when a point is new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Situation {
    /// The client does not commit by itself: a revoke waits for its answer.
    pub suspended: bool,
    /// The epoch ends: its partition is given back, or its owner has ended.
    pub ending: bool,
}

/// How a new point is committed. It is stored with the client in any case, or the client's next
/// commit would take it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// By the client.
    ByClient,
    /// At once, without an answer.
    Explicitly(Explicit),
    /// With an answer, which starts wait for.
    WithAnswer,
}

/// Why the client would not commit a point by itself, or not soon enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Explicit {
    /// Only the metadata is another one.
    SamePosition,
    /// It lies before an earlier commit: the log was cut, or its topic re-created. Not committed,
    /// it would make the next owner skip records once the log has grown past the earlier position.
    Earlier,
    /// It takes back that records run. A shutdown may be cut short.
    MarkWithdrawn,
    /// The client does not commit at present.
    Suspended,
}

impl EpochCommits {
    /// Of an epoch that begins behind what was committed, if anything was.
    pub fn new(place: TopicPartition, epoch: Epoch, committed: Option<ClientPosition>) -> Self {
        Self {
            place,
            epoch,
            stored: None,
            latest: committed,
            confirmed: None,
            opening: false,
        }
    }

    /// The next point is the first position of a partition that had none. It is committed with an
    /// answer.
    pub fn open_at_first_position(&mut self) {
        self.opening = true;
    }

    /// The topic was re-created, and what was committed at `left` is about the old one. The very
    /// position that was left has to be committed again, explicitly: it is about this log now.
    pub fn leave(&mut self, left: ClientPosition) {
        self.latest = Some(ClientPosition {
            position: Offset::new(left.position.get()).next(),
            ..left
        });
    }

    /// This epoch follows another one of the same assignment: the client still compares with the
    /// positions of that.
    pub fn follow(&mut self, earlier: &Self) {
        let latest = self.latest.map(|latest| latest.later(earlier.latest));
        self.latest = latest.or(earlier.latest);
    }

    /// The partition.
    pub fn place(&self) -> &TopicPartition {
        &self.place
    }

    /// The partition's topic.
    pub fn topic(&self) -> &Arc<str> {
        &self.place.topic
    }

    /// The epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The newest commit point.
    pub fn stored(&self) -> Option<&CommitPoint> {
        self.stored.as_ref()
    }

    /// The latest position that the client may compare with.
    pub fn latest(&self) -> Option<ClientPosition> {
        self.latest
    }

    /// Takes in what the owner reports. `None` where nothing is new.
    pub fn take(
        &mut self,
        mut point: CommitPoint,
        limit: MetadataLimit,
        situation: Situation,
    ) -> Option<Committed> {
        limit.fit(&mut point);
        // A point that takes the first position's place before the broker has that needs an answer
        // as well. The last point of an epoch does not wait for that.
        if self.opening && !situation.ending {
            point.mark.get_or_insert(OPENING);
        }
        // The client also leaves out the first point of an epoch that lies where the last one of
        // the epoch before was committed.
        let before = match &self.stored {
            Some(stored) => Some(stored.position),
            None => self.latest.map(|latest| latest.position),
        };
        let has_moved = before != Some(point.position);
        if !has_moved && self.stored.as_ref() == Some(&point) {
            return None;
        }
        let at = point.client_position();
        let is_earlier = self.latest.is_some_and(|latest| latest.is_after(at));
        let withdraws = self.runs() && !point.running;
        self.latest = Some(at.later(self.latest));
        self.stored = Some(point);
        if self.unconfirmed_mark().is_some() {
            return Some(Committed::WithAnswer);
        }
        Some(if is_earlier {
            Committed::Explicitly(Explicit::Earlier)
        } else if !has_moved {
            Committed::Explicitly(Explicit::SamePosition)
        } else if withdraws {
            Committed::Explicitly(Explicit::MarkWithdrawn)
        } else if situation.suspended {
            Committed::Explicitly(Explicit::Suspended)
        } else {
            Committed::ByClient
        })
    }

    /// The last point of an epoch whose owner has not reported one: it is blocked, or has panicked.
    /// The process is alive, and what the owner had goes to the next one in order.
    pub fn last_point(&self) -> Option<CommitPoint> {
        self.stored
            .as_ref()
            .filter(|stored| stored.running)
            .map(CommitPoint::without_mark)
    }

    fn runs(&self) -> bool {
        self.stored.as_ref().is_some_and(|stored| stored.running)
    }

    /// The broker takes less metadata than before.
    pub(super) fn shrink(&mut self, limit: MetadataLimit) {
        if let Some(stored) = &mut self.stored {
            limit.fit(stored);
        }
    }

    /// The mark in the stored point, where the broker is not known to have it.
    pub fn unconfirmed_mark(&self) -> Option<Mark> {
        let mark = self.stored.as_ref()?.mark?;
        (self.confirmed < Some(mark)).then_some(mark)
    }

    /// Whether a mark is likely to be wanted at any moment: the first one of the epoch, or always
    /// where each record needs its own (`isolated`).
    pub fn awaits_mark(&self, isolated: bool, since_first_records: Option<Duration>) -> bool {
        let begins = since_first_records.is_some_and(|since| since < FIRST_MARK_SOON);
        isolated || (begins && self.confirmed.is_none_or(|mark| mark == OPENING))
    }

    /// Whether the first position needs an answer that has not come. It is more than a mark: also
    /// where the broker takes no metadata it is committed, and its answer waited for.
    pub fn is_opening(&self) -> bool {
        self.opening
    }

    /// The broker has this mark.
    pub(super) fn confirm(&mut self, mark: Mark) {
        self.confirmed = self.confirmed.max(Some(mark));
        self.opening = false;
    }
}

#[cfg(test)]
mod tests;
