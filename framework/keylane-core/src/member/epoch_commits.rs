//! The commits of one epoch of one partition.

use std::sync::Arc;
use std::time::Duration;

use super::point::{CommitPoint, OPENING};
use super::{MetadataLimit, TopicPartition};
use crate::offset::Epoch;
use crate::partition::Mark;
use crate::time::Moment;

/// How soon after its first records an epoch usually requests its first mark.
const FIRST_MARK_SOON: Duration = Duration::from_secs(1);

/// What has to be committed for one epoch of one partition.
#[derive(Clone, Debug)]
pub struct EpochCommits {
    place: TopicPartition,
    epoch: Epoch,
    /// The newest commit point.
    stored: Option<CommitPoint>,
    /// When it is to be sent; `None` where it was.
    due: Option<Due>,
    /// Refused, it is not due at once before.
    at_once_from: Moment,
    /// The latest mark that the broker has.
    confirmed: Option<Mark>,
    /// The first position of a partition that had none is not known to be on the broker.
    opening: bool,
}

/// A new point of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The point.
    pub point: CommitPoint,
    /// Its epoch ends: the partition is given back, or its owner has ended.
    pub ending: bool,
}

/// When a point is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// With the next commit of the interval.
    AtInterval,
    /// As soon as no other commit is under way. The first point of an epoch: it may lie before
    /// what was committed, where a log was cut or its topic re-created, and the next owner would
    /// skip records once the log has grown past that. And a point that takes back that records
    /// run: a shutdown may be cut short.
    AtOnce,
    /// As a mark, which starts wait for.
    AsMark,
}

impl EpochCommits {
    /// Nothing is to be committed.
    pub fn new(place: TopicPartition, epoch: Epoch) -> Self {
        Self {
            place,
            epoch,
            stored: None,
            due: None,
            at_once_from: Moment::ORIGIN,
            confirmed: None,
            opening: false,
        }
    }

    /// The next point is the first position of a partition that had none. It is committed with an
    /// answer.
    pub fn open_at_first_position(&mut self) {
        self.opening = true;
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

    /// When the newest point is to be sent. `None` where the broker has it, or it is on its way.
    pub fn due(&self) -> Option<Due> {
        match self.unconfirmed_mark() {
            Some(_) => Some(Due::AsMark),
            None => self.due,
        }
    }

    /// Whether it is to be sent at once.
    pub(super) fn is_due_at_once(&self, now: Moment) -> bool {
        self.due() == Some(Due::AtOnce) && now >= self.at_once_from
    }

    /// Takes in what the owner reports. `None` where nothing is new.
    pub fn take(&mut self, report: Report, limit: MetadataLimit) -> Option<Due> {
        let Report { mut point, ending } = report;
        limit.fit(&mut point);
        // A point that takes the first position's place before the broker has that needs an answer
        // as well. The last point of an epoch does not wait for that.
        if self.opening && !ending {
            point.mark.get_or_insert(OPENING);
        }
        if self.stored.as_ref() == Some(&point) {
            return None;
        }
        let is_urgent = self.stored.is_none() || (self.runs() && !point.running);
        let due = if is_urgent {
            Due::AtOnce
        } else {
            Due::AtInterval
        };
        self.stored = Some(point);
        self.owe(due);
        self.due()
    }

    /// What is stored is to be sent.
    pub(super) fn owe(&mut self, due: Due) {
        self.due = self.due.max(Some(due));
    }

    /// The same after a refusal: at once means from this moment on.
    pub(super) fn owe_again(&mut self, due: Due, at_once_from: Moment) {
        self.owe(due);
        self.at_once_from = at_once_from;
    }

    /// What is stored is on its way. Returns when it was due.
    pub(super) fn sent(&mut self) -> Option<Due> {
        self.due.take()
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
        if self.due.is_some() {
            self.owe_again(Due::AtOnce, Moment::ORIGIN);
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
