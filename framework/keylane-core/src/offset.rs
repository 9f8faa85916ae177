//! Offsets of records, positions between them, and the epoch both belong to.
//!
//! "The last record done" and "the next record to read" differ by one, and mixing them up loses or
//! repeats a record. They are two types here: [`Offset::next`] goes past a record,
//! [`Position::before`] stays in front of it.

use std::fmt;

/// The offset of one record in its partition.
///
/// # Examples
/// ```
/// use keylane_core::{Offset, Position};
///
/// let record = Offset::new(7);
/// assert_eq!(record.next(), Position::new(8));
/// assert_eq!(Position::before(record), Position::new(7));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(i64);

impl Offset {
    /// An offset as Kafka numbers it, from 0.
    pub const fn new(offset: i64) -> Self {
        Self(offset)
    }

    /// The number.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The position behind this record: committing it means that this record is finished.
    pub const fn next(self) -> Position {
        Position(self.0.saturating_add(1))
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The offset of the next record to read: what Kafka commits.
///
/// # Examples
/// ```
/// use keylane_core::{Offset, Position};
///
/// assert!(Position::new(7).covers(Offset::new(7)), "it is read again from there");
/// assert!(!Position::new(8).covers(Offset::new(7)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Position(i64);

impl Position {
    /// A position as Kafka numbers it, from 0.
    pub const fn new(position: i64) -> Self {
        Self(position)
    }

    /// The number.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The position in front of `record`: committing it means that this record is to be read again.
    pub const fn before(record: Offset) -> Self {
        Self(record.0)
    }

    /// Whether reading from here still delivers `record`.
    pub const fn covers(self, record: Offset) -> bool {
        record.0 >= self.0
    }
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The epoch of the partition's leader that took a record. It never falls along a log; a log that
/// was cut is written on under a later one.
///
/// # Examples
/// ```
/// use keylane_core::LeaderEpoch;
///
/// assert_eq!(LeaderEpoch::of_record(-1), None);
/// assert!(LeaderEpoch::of_record(4) > Some(LeaderEpoch::new(3)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaderEpoch(u32);

impl LeaderEpoch {
    /// The epoch of this number.
    pub const fn new(epoch: u32) -> Self {
        Self(epoch)
    }

    /// The epoch in the form of Kafka's protocol: negative is none.
    pub fn of_record(epoch: i32) -> Option<Self> {
        u32::try_from(epoch).ok().map(Self)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// One assignment of one partition to this member. The shell numbers them; no two assignments share
/// a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch of this number.
    pub const fn new(epoch: u64) -> Self {
        Self(epoch)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_excludes_the_record_and_before_includes_it() {
        let record = Offset::new(7);
        assert_eq!(record.next(), Position::new(8));
        assert!(!record.next().covers(record));
        assert!(Position::before(record).covers(record));
        assert_eq!(Offset::new(i64::MAX).next(), Position::new(i64::MAX));
    }
}
