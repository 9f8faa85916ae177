//! Which log a position is about: a topic that is deleted and re-created keeps its name, not its
//! log.
//!
//! A position, and all state about offsets, is true for one log only. Applied to another one it
//! passes over records silently. So every commit names its log, and every epoch compares the name
//! with the brokers' answer.

/// The identity of a log among all that ever had its topic's name: 64 bits of the topic id from the
/// brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogId(u64);

impl LogId {
    /// From the two halves of a topic's id; `None` for the null id, which is what brokers without
    /// topic ids have.
    ///
    /// Topic ids are random, so 64 of their bits are enough: two topics of one name share them once
    /// in 10^19 times.
    pub const fn of_topic(high: u64, low: u64) -> Option<Self> {
        if high == 0 && low == 0 {
            None
        } else {
            Some(Self(high ^ low))
        }
    }

    /// Reads the form in a commit.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(u64::from_le_bytes(bytes))
    }

    /// What [`from_bytes`](Self::from_bytes) takes.
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0.to_le_bytes()
    }
}

/// Where an epoch starts, by the log its commit names and the one that is there.
///
/// # Examples
/// ```
/// use keylane_core::{LogId, Resume};
///
/// let (old, new) = (LogId::of_topic(1, 2), LogId::of_topic(3, 4));
/// assert_eq!(Resume::of(old, old), Resume::Committed(old));
/// assert_eq!(Resume::of(old, new), Resume::FromStart(new.expect("an id")));
/// assert_eq!(Resume::of(None, new), Resume::Committed(new), "without a name it is valid");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// At the committed position. Nothing indicates that it is about another log.
    Committed(Option<LogId>),
    /// At the beginning of this log: what was committed is about another one.
    FromStart(LogId),
}

impl Resume {
    /// The rule: only two names that differ make a new log. A commit without a name (of an older
    /// version, of another program, or damaged) is assumed to be about the present log. Where the
    /// brokers do not answer, a commit's name is kept.
    pub fn of(committed: Option<LogId>, there: Option<LogId>) -> Self {
        match (committed, there) {
            (Some(committed), Some(there)) if committed != there => Self::FromStart(there),
            (Some(_), _) => Self::Committed(committed),
            (None, there) => Self::Committed(there),
        }
    }
}

/// The identity of an epoch's log.
///
/// The name is never exchanged: if the log turns out to be another one, another epoch is due. Until
/// then its commits still name the log that their positions are about, so that a later reader
/// detects the change too.
///
/// # Examples
/// ```
/// use keylane_core::{Identity, LogId, Seen};
///
/// let [old, new] = [1, 2].map(|high| LogId::of_topic(high, 0).expect("an id"));
/// let mut identity = Identity::new(Some(old));
/// assert_eq!(identity.see(new), Seen::Doubtful, "a broker may lag behind");
/// assert_eq!(identity.see(new), Seen::Another);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Identity {
    log: Option<LogId>,
    doubt: Option<LogId>,
}

/// What an answer of the brokers means to an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The log of this epoch.
    Same,
    /// The log had no name before, and has one now.
    Learned,
    /// Another one, for the first time: a broker that lags behind may answer that too. The query is
    /// to be repeated.
    Doubtful,
    /// Another one, for the second time in a row: a new epoch is due.
    Another,
}

impl Identity {
    /// The identity of an epoch that reads `log`.
    pub fn new(log: Option<LogId>) -> Self {
        Self { log, doubt: None }
    }

    /// The log this epoch's positions are about.
    pub fn log(&self) -> Option<LogId> {
        self.log
    }

    /// Whether an answer is to be confirmed.
    pub fn is_doubtful(&self) -> bool {
        self.doubt.is_some()
    }

    /// Takes the brokers' answer: the log that exists now.
    pub fn see(&mut self, there: LogId) -> Seen {
        let doubt = self.doubt.take();
        match self.log {
            None => {
                self.log = Some(there);
                Seen::Learned
            }
            Some(log) if log == there => Seen::Same,
            Some(_) if doubt == Some(there) => Seen::Another,
            Some(_) => {
                self.doubt = Some(there);
                Seen::Doubtful
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: LogId = LogId(1);
    const NEW: LogId = LogId(2);

    #[test]
    fn only_a_commit_that_names_another_log_is_left() {
        assert_eq!(Resume::of(Some(OLD), Some(NEW)), Resume::FromStart(NEW));
        assert_eq!(
            Resume::of(Some(OLD), Some(OLD)),
            Resume::Committed(Some(OLD))
        );
        assert_eq!(
            Resume::of(Some(OLD), None),
            Resume::Committed(Some(OLD)),
            "it keeps its name until the brokers answer"
        );
        assert_eq!(Resume::of(None, Some(NEW)), Resume::Committed(Some(NEW)));
        assert_eq!(Resume::of(None, None), Resume::Committed(None));
    }

    #[test]
    fn another_log_is_believed_when_it_is_named_twice_in_a_row() {
        let mut identity = Identity::new(Some(OLD));
        let seen: Vec<_> = [OLD, NEW, OLD, NEW, NEW]
            .into_iter()
            .map(|there| identity.see(there))
            .collect();
        assert_eq!(
            seen,
            [
                Seen::Same,
                Seen::Doubtful,
                Seen::Same,
                Seen::Doubtful,
                Seen::Another
            ]
        );
        assert_eq!(
            identity.log(),
            Some(OLD),
            "its commits are still about the old one"
        );
    }

    #[test]
    fn two_different_names_in_a_row_are_not_one_twice() {
        let mut identity = Identity::new(Some(OLD));
        assert_eq!(
            [NEW, LogId(3)].map(|there| identity.see(there)),
            [Seen::Doubtful; 2]
        );
        assert_eq!(identity.see(LogId(3)), Seen::Another);
    }

    #[test]
    fn an_epoch_that_did_not_know_learns_from_the_first_answer() {
        let mut identity = Identity::default();
        assert_eq!(
            (identity.see(NEW), identity.log()),
            (Seen::Learned, Some(NEW))
        );
        assert_eq!(identity.see(OLD), Seen::Doubtful);
    }

    #[test]
    fn the_null_id_names_nothing_and_a_name_survives_its_bytes() {
        assert_eq!(LogId::of_topic(0, 0), None);
        let log = LogId::of_topic(0x0123_4567_89ab_cdef, 0x8000_0000_0000_0001).unwrap();
        assert_eq!(LogId::from_bytes(log.to_bytes()), log);
        assert_ne!(
            LogId::of_topic(0x0123_4567_89ab_cdef, 0x8000_0000_0000_0002),
            Some(log)
        );
    }
}
