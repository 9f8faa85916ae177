//! Which program requeued a record last: how often it was retried, and when it is due.
//!
//! Several programs may write to one retry topic. Each keeps the headers of the others, and changes
//! only its own. So a record may have headers of several retries, and those of the last one count.
//!
//! * keylane writes round and due time twice: in its own headers, and in a `dt_meta` behind them.
//!   Decaton removes every `dt_meta` and writes one of its own. So a `dt_meta` that differs from
//!   keylane's own headers is of a later retry.
//! * Spring Kafka writes neither. Its due time is of a later retry if it lies behind keylane's. If
//!   it does not, the order of the two is not known, and the record waits for the later time.

/// What keylane's own headers contain. A value that is absent or damaged is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnRetry {
    /// How often the record went through the retry topic.
    pub round: Option<u32>,
    /// How often it was tried.
    pub attempts: Option<u32>,
    /// Not to be tried before this time, in milliseconds since the Unix epoch.
    pub due_millis: Option<i64>,
}

/// What the last `dt_meta` of a record contains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecatonRetry {
    /// How often the record went through a retry topic.
    pub retry_count: i64,
    /// Not to be tried before this time, in milliseconds since the Unix epoch; 0 is at once.
    pub scheduled_time_millis: i64,
}

/// What the headers of Spring Kafka contain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpringRetry {
    /// The number of the attempt that comes next, from 1.
    pub next_attempt: Option<u32>,
    /// Not to be tried before this time, in milliseconds since the Unix epoch.
    pub due_millis: i64,
}

/// The last retry of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastRetry {
    /// How often the record went through the retry topic.
    pub round: u32,
    /// How often it was tried.
    pub attempts: u32,
    /// Not to be tried before this time; `None` is at once.
    pub due_millis: Option<i64>,
    /// Another program has requeued the record since keylane did.
    pub requeued: bool,
}

impl OwnRetry {
    /// Whether keylane wrote this `dt_meta`, together with its own headers.
    ///
    /// # Examples
    /// ```
    /// use keylane_core::{DecatonRetry, OwnRetry};
    ///
    /// let own = OwnRetry { round: Some(2), attempts: Some(7), due_millis: Some(77) };
    /// let same = DecatonRetry { retry_count: 2, scheduled_time_millis: 77 };
    /// assert!(own.wrote(same));
    /// assert!(!own.wrote(DecatonRetry { retry_count: 3, ..same }), "of a later retry");
    /// ```
    pub fn wrote(self, decaton: DecatonRetry) -> bool {
        self.round.is_some() && !self.was_before(decaton)
    }

    /// Without a round keylane never put the record on a retry topic: a count is another program's.
    fn was_before(self, decaton: DecatonRetry) -> bool {
        let round = self.round.unwrap_or(0);
        decaton.retry_count != i64::from(round)
            || (self.due_millis).is_some_and(|due| due != decaton.scheduled_time_millis)
    }

    /// The last retry. `decaton` is the last `dt_meta`, `spring` is `None` where Spring's headers
    /// are absent or not to be read.
    ///
    /// A program that requeued the record tried it once at least. So round and attempts grow by one
    /// at least, also where that program counts from its own first retry.
    ///
    /// # Examples
    /// Decaton has requeued what keylane wrote:
    /// ```
    /// use keylane_core::{DecatonRetry, LastRetry, OwnRetry};
    ///
    /// let own = OwnRetry { round: Some(2), attempts: Some(7), due_millis: Some(77) };
    /// let decaton = DecatonRetry { retry_count: 3, scheduled_time_millis: 90 };
    /// let last = LastRetry { round: 3, attempts: 8, due_millis: Some(90), requeued: true };
    /// assert_eq!(own.last_retry(Some(decaton), None), last);
    /// ```
    pub fn last_retry(
        self,
        decaton: Option<DecatonRetry>,
        spring: Option<SpringRetry>,
    ) -> LastRetry {
        let scheduled = decaton.map(|decaton| decaton.scheduled_time_millis);
        let scheduled = scheduled.filter(|scheduled| *scheduled > 0);
        let mut last = LastRetry {
            round: self.round.unwrap_or(0),
            attempts: self.attempts.or(self.round).unwrap_or(0),
            due_millis: self.due_millis.or(scheduled),
            requeued: false,
        };
        if let Some(decaton) = decaton.filter(|decaton| self.was_before(*decaton)) {
            // More than fits is still many.
            let retries = u32::try_from(decaton.retry_count.max(0)).unwrap_or(u32::MAX);
            last = self.followed_by(last, retries);
            last.due_millis = scheduled;
        }
        let is_later =
            |spring: &SpringRetry| last.due_millis.is_none_or(|due| spring.due_millis > due);
        if let Some(spring) = spring.filter(is_later) {
            let retries = spring.next_attempt.map_or(0, |next| next.saturating_sub(1));
            last = self.followed_by(last, retries);
            last.due_millis = Some(spring.due_millis);
        }
        last
    }

    /// After a retry of another program, which counts `retries`.
    fn followed_by(self, last: LastRetry, retries: u32) -> LastRetry {
        let (round, attempts) = match self.round {
            Some(_) => {
                let round = retries.max(last.round.saturating_add(1));
                (round, last.attempts.saturating_add(round - last.round))
            }
            // A dead letter that was copied back has attempts, and its old count. A round is at
            // least one attempt.
            None => (retries.max(last.round), last.attempts.max(retries)),
        };
        LastRetry {
            round,
            attempts,
            requeued: true,
            ..last
        }
    }
}

#[cfg(test)]
mod tests;
