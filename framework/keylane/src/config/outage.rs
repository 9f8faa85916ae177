//! When failures are an outage rather than the records' own.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// When failures count as an outage, and for how long records are held then.
///
/// A record whose retries are used up is given up only where nothing indicates an outage. Each
/// member judges by its own attempts. It counts the *lanes* (keys) whose latest attempt failed.
/// Fewer than [`lanes`](Self::lanes) are no outage: each record has its [retry
/// time](crate::Retry::for_at_least) and no more.
///
/// | what fails | what happens to records that are out of retries |
/// |---|---|
/// | that many lanes, and nothing has succeeded since in the subscription | a **total** outage: they are held, without end, until something succeeds |
/// | that many lanes at one [place](crate::TaskError::at), and none of them has succeeded since, while others succeed | an **outage of a place**: they are held until a lane that failed there succeeds, for at most [`patience`](Self::patience) |
/// | that many lanes of one [class](crate::TaskError::of_class) of errors, while others succeed | a **partial** outage: they are held for at most [`patience`](Self::patience), then given up |
/// | 20 records of that many lanes were given up as undecodable, fatal or panicking, with no success among them | a **bad deployment**: further ones are held until one succeeds (or decodes), or the process restarts |
///
/// A member that reads only partitions of the retry topic processes only records that have failed
/// before. Where no other record fails in it, and nothing has succeeded since it started, a total
/// outage too holds a record for at most [`patience`](Self::patience).
///
/// When an outage is over, the retry time of the records it held begins again. The time that is
/// given back is subtracted from [`patience`](Self::patience). So bad records are given up also on
/// a topic where minutes pass between successes, and each gap looks like a total outage. The time
/// in the gaps does not count. Through a retry topic the time that was given back counts again, and
/// each delivery has its own patience.
///
/// For what may be away longer, return [unavailable](crate::TaskError::unavailable): keylane waits
/// for it without end.
///
/// A held record is tried again at the longest back-off
/// ([`Retry::backoff`](crate::Retry::backoff)), and its key waits. Whenever records are held, there
/// is a line in the log, a reason in the health, an entry in
/// [`SubscriptionStatus::outage`](crate::status::SubscriptionStatus::outage), and a metric with an
/// alert.
///
/// [`SubscriptionHandle::release_held`](crate::SubscriptionHandle::release_held) ends the waiting:
/// records that are out of retries are given up, until the outage ends.
///
/// Without a dead-letter topic nothing is given up in any case. An action of
/// [`Retry::on`](crate::Retry#structfield.on) is taken also during an outage.
///
/// # Examples
/// ```
/// use keylane::config::Outage;
/// use keylane::Subscription;
/// use std::time::Duration;
///
/// let outage = Outage::default().lanes(10).patience(Duration::from_secs(6 * 60 * 60));
/// let builder = Subscription::builder("parking-notifier", "parking-events").outage(outage);
/// # let _ = builder;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Outage {
    /// How many lanes have to fail (default 5). In a topic with fewer keys than that, no outage is
    /// ever found.
    pub lanes: usize,
    /// The longest time a record is held while others succeed (default 2 h).
    #[serde(with = "crate::config::duration")]
    pub patience: Duration,
}

impl Default for Outage {
    fn default() -> Self {
        Self {
            lanes: 5,
            patience: Duration::from_secs(2 * 60 * 60),
        }
    }
}

impl Outage {
    /// Sets [`lanes`](Self::lanes).
    #[must_use]
    pub const fn lanes(self, lanes: usize) -> Self {
        Self { lanes, ..self }
    }

    /// Sets [`patience`](Self::patience).
    #[must_use]
    pub const fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }
}
