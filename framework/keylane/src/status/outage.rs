//! The outages of this member: its guard, its log lines, and its status.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use keylane_core::{ErrorClass, Moment, OutageGuard, OutageState, Place};
use serde::Serialize;

use super::fault_names::FaultNames;
use super::json;
use crate::support::clock;
use crate::support::lock::lock;

/// The present outages, and what is held because of them. See [`Outage`](crate::config::Outage).
///
/// # Examples
/// ```
/// use keylane::status::SubscriptionStatus;
///
/// fn report(status: &SubscriptionStatus) {
///     if let Some(outage) = &status.outage {
///         let kinds: Vec<_> = outage.ongoing.iter().map(|outage| outage.kind.as_str()).collect();
///         println!("{} records are held: {kinds:?}", outage.held);
///     }
/// }
/// # let _ = report;
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct OutageStatus {
    /// The outages that go on.
    pub ongoing: Vec<OngoingOutage>,
    /// Records that would have been given up and are held instead. They are tried again at the
    /// longest back-off.
    pub held: u64,
    /// Whether records are held while a partition has reached one of its limits and reads no
    /// further. There may be good records behind those that are held, and they are not tried.
    pub window_full: bool,
}

impl OutageStatus {
    /// These outages, and no record that is held because of them.
    ///
    /// # Examples
    /// ```
    /// use keylane::status::{OngoingOutage, OutageKind, OutageStatus};
    ///
    /// let mut status = OutageStatus::new([OngoingOutage::new(OutageKind::Total)]);
    /// status.held = 5;
    /// ```
    pub fn new(ongoing: impl IntoIterator<Item = OngoingOutage>) -> Self {
        Self {
            ongoing: ongoing.into_iter().collect(),
            held: 0,
            window_full: false,
        }
    }
}

/// An outage that goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct OngoingOutage {
    /// What fails.
    pub kind: OutageKind,
    /// The place that fails, in an outage of a [place](OutageKind::Place).
    #[serde(serialize_with = "json::known_text")]
    pub place: Option<Arc<str>>,
    /// The class of the errors, in an outage of a [class](OutageKind::Class).
    #[serde(serialize_with = "json::known_text")]
    pub class: Option<Arc<str>>,
    /// When it began, by this member's own attempts.
    #[serde(serialize_with = "json::date")]
    pub since: SystemTime,
}

impl OngoingOutage {
    /// An outage of this kind that begins now, at no named place.
    pub fn new(kind: OutageKind) -> Self {
        Self {
            kind,
            place: None,
            class: None,
            since: clock::wall(),
        }
    }
}

/// What fails in an outage.
///
/// # Examples
/// ```
/// assert_eq!(keylane::status::OutageKind::BadDeployment.as_str(), "bad_deployment");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum OutageKind {
    /// Everything: nothing succeeds in the subscription.
    Total,
    /// Many keys, at one place ([`TaskError::at`](crate::TaskError::at)), and none of them
    /// succeeds, while others do.
    Place,
    /// Many keys, in the same way, while others succeed.
    Class,
    /// Many records are undecodable, fatal, or panic, and none of them succeeds.
    BadDeployment,
    /// Something that a few keys need, too few for one of the other kinds. They wait for what the
    /// processor calls [unavailable](crate::TaskError::unavailable), or, after an outage, for their
    /// next attempt. [`OngoingOutage::place`] is `None` then, also where their errors name one:
    /// with too few keys it is not a [`Place`](Self::Place).
    Unavailable,
}

impl OutageKind {
    pub(crate) const ALL: [Self; 5] = [
        Self::Total,
        Self::Place,
        Self::Class,
        Self::BadDeployment,
        Self::Unavailable,
    ];

    /// Its name in lower case: the value of the `kind` label of metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Place => "place",
            Self::Class => "class",
            Self::BadDeployment => "bad_deployment",
            Self::Unavailable => "unavailable",
        }
    }
}

/// An outage that comes back within this time is the same one in the log.
const LINGERS: Duration = Duration::from_secs(30);
/// Holding without an outage is logged when it has lasted for this long. After an outage some
/// records are held until their next attempt, which needs no line.
const FEW_ARE_NEWS_AFTER: Duration = Duration::from_secs(15);

/// The guard of a subscription, shared by its owners, its polling thread and its handles.
#[derive(Debug)]
pub(crate) struct OutageWatch {
    guard: Mutex<OutageGuard>,
    names: FaultNames,
    /// What the core's moments count from.
    origin_of_time: Instant,
    seen: Mutex<Vec<Seen>>,
}

/// An outage at the polling thread's last look.
#[derive(Clone, Copy, Debug)]
struct Seen {
    what: What,
    since: Moment,
    last: Moment,
    most_held: usize,
    /// Whether the log has a line for its beginning.
    is_logged: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Total,
    Place(Place),
    Class(ErrorClass),
    BadDeployment,
    Unavailable,
}

/// A line for the log.
enum Line {
    Begin(Seen),
    End(Seen),
}

impl OutageWatch {
    pub(crate) fn new(guard: OutageGuard) -> Self {
        Self {
            guard: Mutex::new(guard),
            names: FaultNames::default(),
            origin_of_time: clock::now(),
            seen: Mutex::default(),
        }
    }

    pub(crate) fn guard(&self) -> MutexGuard<'_, OutageGuard> {
        lock(&self.guard)
    }

    #[cfg(test)]
    pub(super) fn is_locked(&self) -> bool {
        self.guard.try_lock().is_err() || self.seen.try_lock().is_err()
    }

    pub(crate) fn names(&self) -> &FaultNames {
        &self.names
    }

    pub(crate) fn origin_of_time(&self) -> Instant {
        self.origin_of_time
    }

    fn now(&self) -> Moment {
        Moment::new(clock::elapsed(self.origin_of_time))
    }

    fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        lock(&self.seen)
    }

    /// Whether a total outage is suspected.
    pub(crate) fn nothing_succeeds(&self) -> bool {
        let now = self.now();
        self.guard().nothing_succeeds(now)
    }

    /// Releases what is held, until the present outages have ended.
    pub(crate) fn release(&self) {
        let now = self.now();
        self.guard().release(now);
    }

    /// `None` where there is no outage and nothing is held.
    pub(crate) fn status(&self, takes_in_no_more: bool) -> Option<OutageStatus> {
        let now = self.now();
        let state = self.guard().state(now);
        if state.is_calm() {
            return None;
        }
        let began = |what, since| match since {
            Some(since) => since,
            None => self
                .seen()
                .iter()
                .find(|seen| seen.what == what)
                .map_or(now, |seen| seen.since),
        };
        let ongoing = ongoing(&state)
            .into_iter()
            .map(|(what, since)| self.shown(what, now.since(began(what, since))));
        let (ongoing, held) = (ongoing.collect(), state.held as u64);
        Some(OutageStatus {
            ongoing,
            held,
            window_full: held > 0 && takes_in_no_more,
        })
    }

    fn shown(&self, what: What, for_long: Duration) -> OngoingOutage {
        let (kind, place, class) = match what {
            What::Total => (OutageKind::Total, None, None),
            What::Place(place) => (
                OutageKind::Place,
                Some(self.names.name_of_place(place)),
                None,
            ),
            What::Class(class) => (
                OutageKind::Class,
                None,
                Some(self.names.name_of_class(class)),
            ),
            What::BadDeployment => (OutageKind::BadDeployment, None, None),
            What::Unavailable => (OutageKind::Unavailable, None, None),
        };
        let now = clock::wall();
        OngoingOutage {
            kind,
            place,
            class,
            since: now.checked_sub(for_long).unwrap_or(now),
        }
    }

    /// Writes a log line for each outage that has begun or ended since the last call, and returns
    /// what there is now. To be called about once a second.
    pub(crate) fn report(&self, subscription: &str) -> (Vec<OutageKind>, usize) {
        let now = self.now();
        let state = self.guard().state(now);
        let ongoing = ongoing(&state);
        // Written when the lock is free again, for other readers of the status.
        let mut lines = Vec::new();
        let mut all = self.seen();
        for &(what, since) in &ongoing {
            let at = all
                .iter()
                .position(|seen| seen.what == what)
                .unwrap_or_else(|| {
                    let since = since.unwrap_or(now);
                    all.push(Seen {
                        what,
                        since,
                        last: now,
                        most_held: 0,
                        is_logged: false,
                    });
                    all.len() - 1
                });
            let Some(seen) = all.get_mut(at) else {
                continue;
            };
            seen.last = now;
            seen.most_held = seen.most_held.max(state.held);
            if !seen.is_logged
                && (what != What::Unavailable || now.since(seen.since) >= FEW_ARE_NEWS_AFTER)
            {
                seen.is_logged = true;
                lines.push(Line::Begin(*seen));
            }
        }
        all.retain(|seen| {
            // An outage that had no line yet counts from the beginning the next time.
            let lingers = if seen.is_logged {
                LINGERS
            } else {
                Duration::ZERO
            };
            let goes_on = now.since(seen.last) <= lingers;
            if !goes_on && seen.is_logged {
                lines.push(Line::End(*seen));
            }
            goes_on
        });
        drop(all);
        for line in lines {
            match line {
                Line::Begin(seen) => self.log_begin(subscription, seen, state.held, now),
                Line::End(seen) => self.log_end(subscription, seen),
            }
        }
        (
            ongoing
                .into_iter()
                .map(|(what, _)| self.shown(what, Duration::ZERO).kind)
                .collect(),
            state.held,
        )
    }

    fn log_begin(&self, subscription: &str, seen: Seen, held: usize, now: Moment) {
        let OngoingOutage {
            kind, place, class, ..
        } = self.shown(seen.what, Duration::ZERO);
        let (kind, lasts) = (kind.as_str(), now.since(seen.since));
        let (place, class) = (place.as_deref(), class.as_deref());
        tracing::warn!(
            subscription,
            kind,
            place,
            class,
            held,
            ?lasts,
            "an outage is suspected: records that are out of retries are held, and not given up"
        );
    }

    fn log_end(&self, subscription: &str, seen: Seen) {
        let OngoingOutage {
            kind, place, class, ..
        } = self.shown(seen.what, Duration::ZERO);
        let (kind, lasted, most_held) =
            (kind.as_str(), seen.last.since(seen.since), seen.most_held);
        let (place, class) = (place.as_deref(), class.as_deref());
        tracing::warn!(
            subscription,
            kind,
            place,
            class,
            most_held,
            ?lasted,
            "the suspected outage is over"
        );
    }
}

/// The present outages and their beginnings; the guard has no beginning for the last kind.
fn ongoing(state: &OutageState) -> Vec<(What, Option<Moment>)> {
    let total = state.total.map(|since| (What::Total, Some(since)));
    let places = state
        .places
        .iter()
        .map(|(place, since)| (What::Place(*place), Some(*since)));
    // While nothing succeeds they are a part of that.
    let is_partial = state.total.is_none();
    let classes = state.classes.iter().filter(|_| is_partial);
    let classes = classes.map(|outage| (What::Class(outage.class), Some(outage.since)));
    let bad = state
        .bad_deployment
        .map(|since| (What::BadDeployment, Some(since)));
    let mut ongoing: Vec<_> = total
        .into_iter()
        .chain(places)
        .chain(classes)
        .chain(bad)
        .collect();
    if ongoing.is_empty() && state.held > 0 {
        ongoing.push((What::Unavailable, None));
    }
    ongoing
}

#[cfg(test)]
// Clippy allows it in test functions only, not in what they call.
#[allow(clippy::unwrap_used)]
mod tests {
    use keylane_core::{
        Delivery, Epoch, FailedAttempt, Failure, InPlace, Offset, Partition, PartitionSettings,
        Position, RetryPolicy, SettledMap,
    };
    use tracing::field::{Field, Visit};
    use tracing::{Event, Level, Subscriber};
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

    use super::*;

    /// One attempt of each key.
    fn guard_after_attempts(failures: impl Iterator<Item = FailedAttempt>) -> OutageGuard {
        let retry = RetryPolicy {
            in_place: InPlace::Times(0),
            dead_letter_topic: true,
            ..Default::default()
        };
        let settings = PartitionSettings {
            retry,
            ..Default::default()
        };
        let (epoch, start) = (Epoch::new(1), Some(Position::new(0)));
        let mut partition = Partition::new(Arc::new(settings), epoch, start, SettledMap::new());
        let mut guard = OutageGuard::default();
        for (key, attempt) in (0..).zip(failures) {
            let (offset, lane) = (Offset::new(i64::try_from(key).unwrap()), Some(key));
            let (rounds, attempts, retried_for) = (0, 0, Duration::ZERO);
            let delivery = Delivery {
                offset,
                lane,
                bytes: 0,
                due: None,
                rounds,
                attempts,
                retried_for,
                record: (),
            };
            partition.deliver(delivery, Moment::ORIGIN);
            if let Some(mark) = partition
                .next_start_needs_mark()
                .then(|| partition.wanted_mark().unwrap())
            {
                partition.mark_confirmed(mark);
            }
            let ticket = partition.next_start().unwrap().ticket;
            let _ = partition.fail(ticket, attempt, 0, Moment::ORIGIN, &mut guard);
        }
        partition.report_to_guard(&mut guard, Moment::ORIGIN);
        guard
    }

    fn guard_after(failure: Failure, keys: u64) -> OutageGuard {
        guard_after_attempts((0..keys).map(|_| failure.into()))
    }

    #[test]
    fn what_is_held_counts_and_good_records_may_wait_behind_it_where_a_limit_is_reached() {
        let watch = OutageWatch::new(guard_after(Failure::Undecodable, 25));
        for window_full in [false, true] {
            let status = watch.status(window_full).unwrap();
            assert_eq!((status.held, status.window_full), (5, window_full));
            assert_eq!(status.ongoing[0].kind, OutageKind::BadDeployment);
        }
        watch.release();
        assert!(watch.guard().state(watch.now()).released);
    }

    #[test]
    fn an_outage_of_everything_and_one_of_a_place_are_both_listed() {
        let place = Some(Place::new(0));
        let guard = guard_after_attempts((0..9).map(|_| FailedAttempt {
            place,
            ..Failure::Retryable.into()
        }));
        let status = OutageWatch::new(guard).status(false).unwrap();
        let kinds: Vec<_> = status.ongoing.iter().map(|outage| outage.kind).collect();
        assert_eq!(kinds, [OutageKind::Total, OutageKind::Place]);
    }

    /// Each line's level and fields.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<(Level, String)>>>);

    impl Lines {
        fn take(&self) -> Vec<(Level, String)> {
            std::mem::take(&mut *self.0.lock().unwrap())
        }
    }

    impl<S: Subscriber> Layer<S> for Lines {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            struct Text(String);
            impl Visit for Text {
                fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                    self.0 += &format!("{field}={value:?} ");
                }
            }
            let mut text = Text(String::new());
            event.record(&mut text);
            self.0
                .lock()
                .unwrap()
                .push((*event.metadata().level(), text.0));
        }
    }

    fn outage() -> OutageGuard {
        guard_after(Failure::Retryable, 9)
    }

    #[test]
    fn an_outage_has_one_line_when_it_begins_and_one_when_it_is_over() {
        let lines = Lines::default();
        let _guard =
            tracing::subscriber::set_default(tracing_subscriber::registry().with(lines.clone()));
        let mut watch = OutageWatch::new(outage());
        let report = |watch: &OutageWatch| {
            watch.report("orders");
            lines.take()
        };
        let begun = report(&watch);
        let [(Level::WARN, text)] = &begun[..] else {
            panic!("{begun:?}")
        };
        for part in [
            "an outage is suspected",
            "subscription=\"orders\"",
            "kind=\"total\"",
            "held=5",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(report(&watch), [], "it goes on");
        *watch.guard() = OutageGuard::default();
        assert_eq!(report(&watch), [], "it may come back");
        *watch.guard() = outage();
        assert_eq!(report(&watch), [], "it is the same");
        *watch.guard() = OutageGuard::default();
        watch.origin_of_time = watch.origin_of_time.checked_sub(LINGERS * 2).unwrap();
        let over = report(&watch);
        let [(Level::WARN, text)] = &over[..] else {
            panic!("{over:?}")
        };
        for part in [
            "the suspected outage is over",
            "kind=\"total\"",
            "most_held=5",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(report(&watch), []);
    }
}
