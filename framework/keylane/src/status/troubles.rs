//! What is wrong at present, for the status and the logs. When a trouble begins and ends is decided
//! in [`keylane_core::Troubles`]; this adds the clock, the words and the lock.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Instant, SystemTime};

use keylane_core::{Moment, Noted, Over, Sign};

use super::snapshot::{Trouble, TroubleKind, TroublePlace};
use crate::support::lock::lock;
use crate::support::without_secrets;

/// All troubles of a subscription.
pub(crate) struct Troubles {
    began: Instant,
    /// Read for every batch and every write; the rest only when it is set.
    any: AtomicBool,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    table: keylane_core::Troubles<TroubleKind, TroublePlace, Said>,
    /// Partitions that may not be read, whose client reports that once. Bounded by the assignment.
    unreadable: BTreeSet<(String, i32)>,
}

#[derive(Clone)]
struct Said {
    message: String,
    since: SystemTime,
}

impl Default for Troubles {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            any: AtomicBool::new(false),
            known: Mutex::default(),
        }
    }
}

impl fmt::Debug for Troubles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.lasting()).finish()
    }
}

impl Troubles {
    /// Something is wrong. The beginning is logged and dated; repetitions only replace the message.
    pub(crate) fn note(&self, kind: TroubleKind, place: TroublePlace, message: &str) {
        let message = &*without_secrets(message);
        let mut known = self.known();
        if kind == TroubleKind::Connection && known.is_refused(&place) {
            return;
        }
        let noted = known
            .table
            .note(kind, place.clone(), self.now(), |said| Said {
                message: message.to_owned(),
                since: said.map_or_else(SystemTime::now, |said| said.since),
            });
        self.any.store(true, Ordering::Relaxed);
        drop(known);
        log_noted(noted, kind, &place, message);
    }

    /// A sign of health: `about` returns what it means for a kind at a place, where partitions may
    /// not be read, or may be.
    pub(crate) fn healthy(&self, about: impl Fn(TroubleKind, &TroublePlace, bool) -> Option<Sign>) {
        if !self.any() {
            return;
        }
        let Known { table, unreadable } = &mut *self.known();
        table.healthy(|kind, place| {
            let is_here = |topic: &str| match place {
                TroublePlace::Topic(other) => other == topic,
                _ => true,
            };
            about(
                *kind,
                place,
                unreadable.iter().any(|(topic, _)| is_here(topic)),
            )
        });
    }

    /// All is well at this very place, whatever the kind.
    pub(crate) fn passed(&self, place: &TroublePlace) {
        self.healthy(|_, other, _| (other == place).then_some(Sign::There));
    }

    /// The topic of this place is there.
    pub(crate) fn found(&self, place: &TroublePlace) {
        self.healthy(|kind, other, _| {
            (kind == TroubleKind::MissingTopic && other == place).then_some(Sign::There)
        });
    }

    /// Whether this kind of trouble lasts at this place.
    pub(crate) fn has_at(&self, kind: TroubleKind, place: &TroublePlace) -> bool {
        self.lasting()
            .iter()
            .any(|trouble| trouble.kind == kind && trouble.place == *place)
    }

    /// Logs what is over; to be called about once a second.
    pub(crate) fn end_due(&self) {
        if !self.any() {
            return;
        }
        let over = {
            let mut known = self.known();
            let over = known.table.end_due(self.now());
            self.any.store(!known.table.is_empty(), Ordering::Relaxed);
            over
        };
        over.iter().for_each(log_end);
    }

    /// Whether there are any, also such as may be over.
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Whether this kind of trouble lasts.
    pub(crate) fn has(&self, kind: TroubleKind) -> bool {
        self.any() && self.known().lasts(kind)
    }

    /// What lasts, the worst first.
    pub(crate) fn lasting(&self) -> Vec<Trouble> {
        if !self.any() {
            return Vec::new();
        }
        let known = self.known();
        let trouble = |(kind, place, said): (&TroubleKind, &TroublePlace, &Said)| Trouble {
            kind: *kind,
            place: place.clone(),
            message: said.message.clone(),
            since: said.since,
        };
        let mut lasting: Vec<_> = known.table.lasting().map(trouble).collect();
        lasting.sort_by_key(|trouble| (trouble.kind, trouble.since));
        lasting
    }

    /// The brokers that are in trouble.
    pub(crate) fn brokers(&self) -> Vec<i32> {
        let broker = |trouble: Trouble| match trouble.place {
            TroublePlace::Broker(id) => Some(id),
            _ => None,
        };
        self.lasting().into_iter().filter_map(broker).collect()
    }

    /// A partition may not be read.
    pub(crate) fn unreadable(&self, topic: &str, partition: i32) {
        self.known()
            .unreadable
            .insert((topic.to_owned(), partition));
    }

    /// A fetch of this partition was answered. True where it was the topic's last one that could
    /// not be read.
    pub(crate) fn readable(&self, topic: &str, partition: i32) -> bool {
        if !self.any() {
            return false;
        }
        let mut known = self.known();
        let was_refused = known.unreadable.remove(&(topic.to_owned(), partition));
        was_refused && !known.unreadable.iter().any(|(other, _)| other == topic)
    }

    /// A new assignment: what may still not be read is reported again.
    pub(crate) fn forget_unreadable(&self) {
        self.known().unreadable.clear();
    }

    fn now(&self) -> Moment {
        Moment::new(self.began.elapsed())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }
}

impl Known {
    fn lasts(&self, kind: TroubleKind) -> bool {
        self.table.lasting().any(|(other, _, _)| *other == kind)
    }

    /// Whether credentials are refused there. "All brokers are down", or the coordinator, follows
    /// every refusal, and is less specific; another broker may be away for a reason of its own.
    fn is_refused(&self, place: &TroublePlace) -> bool {
        let follows = matches!(place, TroublePlace::Cluster | TroublePlace::Coordinator);
        let mut refused = self
            .table
            .lasting()
            .filter(|(kind, ..)| **kind == TroubleKind::Authentication);
        refused.any(|(_, at, _)| follows || at == place)
    }
}

fn log_noted(noted: Noted, kind: TroubleKind, place: &TroublePlace, message: &str) {
    let outage = matches!(kind, TroubleKind::Connection | TroubleKind::Authentication);
    let kind = kind.as_str();
    match (noted, place) {
        (Noted::Repeated, _) => {}
        (Noted::LeftOut, _) => {
            tracing::debug!(kind, %place, message, "a trouble beside many others is not shown");
        }
        // Another broker, or the coordinator's role of one: the same outage.
        (Noted::Spread, _) if outage => {
            tracing::info!(kind, %place, message, "the trouble is in another place too")
        }
        (_, TroublePlace::WritesTo(_)) => tracing::error!(
            kind, %place, message,
            "the brokers refuse writes that records wait for; they stay unsettled, and the writes are tried again"
        ),
        _ => {
            tracing::warn!(kind, %place, message, "there is trouble; the subscription keeps trying")
        }
    }
}

fn log_end(over: &Over<TroubleKind, TroublePlace, Said>) {
    let (kind, place) = (over.kind.as_str(), &over.place);
    let lasted = over.what.since.elapsed().unwrap_or_default();
    match over.is_last {
        true => tracing::info!(kind, %place, ?lasted, "the trouble has passed"),
        false => {
            tracing::debug!(kind, %place, ?lasted, "the trouble has passed here, and lasts elsewhere")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_unreadable_partition_of_a_topic_ends_it_and_others_do_not() {
        let troubles = Troubles::default();
        assert!(!troubles.readable("a", 0));
        troubles.note(
            TroubleKind::Authorization,
            TroublePlace::Topic("a".into()),
            "no",
        );
        for (topic, partition) in [("a", 0), ("a", 1), ("b", 0)] {
            troubles.unreadable(topic, partition);
        }
        assert!(!troubles.readable("c", 0) && !troubles.readable("a", 0));
        assert!(troubles.readable("a", 1));
        assert!(!troubles.readable("a", 1));
        troubles.healthy(|_, _, unreadable| {
            assert!(!unreadable, "the other topic is another place");
            None
        });
    }

    #[test]
    fn a_refused_write_is_trouble_until_one_to_the_same_topic_is_acknowledged() {
        let troubles = Troubles::default();
        let (dead, retry) = (
            TroublePlace::WritesTo("dead".into()),
            TroublePlace::WritesTo("retry".into()),
        );
        troubles.passed(&dead);
        troubles.note(TroubleKind::Authorization, dead.clone(), "no");
        let since = troubles.lasting()[0].since;
        troubles.note(TroubleKind::Authorization, dead.clone(), "still no");
        troubles.passed(&retry);
        let lasting = troubles.lasting();
        assert_eq!(
            (lasting[0].message.as_str(), lasting[0].since),
            ("still no", since)
        );
        troubles.passed(&dead);
        assert_eq!(troubles.lasting(), []);
    }

    #[test]
    fn the_worst_comes_first_and_brokers_that_are_down_add_nothing_to_refused_credentials() {
        let troubles = Troubles::default();
        troubles.note(TroubleKind::Commit, TroublePlace::Coordinator, "commit");
        troubles.note(
            TroubleKind::Connection,
            TroublePlace::Broker(3),
            "connection",
        );
        troubles.note(
            TroubleKind::Authentication,
            TroublePlace::Broker(1),
            "authentication",
        );
        troubles.note(
            TroubleKind::Connection,
            TroublePlace::Cluster,
            "all brokers are down",
        );
        let kinds: Vec<_> = troubles
            .lasting()
            .iter()
            .map(|trouble| trouble.kind)
            .collect();
        assert_eq!(
            kinds,
            [
                TroubleKind::Authentication,
                TroubleKind::Connection,
                TroubleKind::Commit
            ]
        );
        assert_eq!(troubles.brokers(), [1, 3]);
    }

    #[test]
    fn refused_credentials_hide_no_other_broker_that_is_away() {
        let troubles = Troubles::default();
        troubles.note(
            TroubleKind::Authentication,
            TroublePlace::Broker(1),
            "authentication",
        );
        for place in [
            TroublePlace::Broker(1),
            TroublePlace::Coordinator,
            TroublePlace::Broker(2),
        ] {
            troubles.note(TroubleKind::Connection, place, "connection");
        }
        let places: Vec<_> = troubles
            .lasting()
            .into_iter()
            .map(|trouble| (trouble.kind, trouble.place))
            .collect();
        let expected = [
            (TroubleKind::Authentication, 1),
            (TroubleKind::Connection, 2),
        ];
        assert_eq!(
            places,
            expected.map(|(kind, id)| (kind, TroublePlace::Broker(id)))
        );
    }
}
