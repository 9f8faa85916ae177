//! What an operator orders, with who ordered it and why.

use crate::log_id::LogId;
use crate::offset::LeaderEpoch;

/// An order of an operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Who ordered it; empty where that was left out.
    pub by: String,
    /// Why; empty where that was left out.
    pub why: String,
    /// When, in milliseconds since the Unix epoch, by the clock of the program that wrote it.
    pub at_millis: Option<i64>,
    /// When it ends by itself, in the same form. A member judges it by its own clock.
    pub until_millis: Option<i64>,
    /// Of a skip: the log that it is about; it is void for another one. `None` is refused where
    /// topics have ids.
    pub log: Option<LogId>,
    /// Of a skip: the leader epoch of its record. A record of another one is another record, as
    /// after an unclean election. `None` is refused.
    pub leader_epoch: Option<LeaderEpoch>,
}

impl Order {
    /// Whether it has not ended by itself.
    pub fn is_in_force(&self, now_millis: i64) -> bool {
        self.until_millis.is_none_or(|until| now_millis < until)
    }

    /// Whether it is about this log. One that names a log says nothing about an unknown one.
    pub fn is_about(&self, log: Option<LogId>) -> bool {
        self.log.is_none() || self.log == log
    }
}

/// The value of a record of the control topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A tombstone: nothing holds for its key.
    Nothing,
    /// An order.
    Order(Order),
    /// Of a version that is newer than the reader's.
    Newer(u64),
    /// It cannot be read, with the reason.
    Invalid(String),
}
