//! What is wrong at present, by kind and place: when a trouble begins, and when it is over.
//!
//! Complaints and signs of health come in turn while a part of something is away: one broker of
//! three is down, and the other two deliver. So a sign counts only for the place it is about, and a
//! trouble is over only after a while without a complaint: see [`Sign`]. Then one outage is one
//! trouble, however often it is reported.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Moment;

/// The most troubles that are kept. Beyond that, each kind keeps at least one, and then the worst
/// kinds are kept.
pub const MOST_TROUBLES: usize = 64;

/// The troubles of one subscription, each with the shell's description. Kinds are ordered, the
/// worst first.
#[derive(Clone, Debug)]
pub struct Troubles<K, P, T> {
    entries: BTreeMap<(K, P), Entry<T>>,
}

#[derive(Clone, Debug)]
struct Entry<T> {
    what: T,
    last_complaint: Moment,
    /// The best sign of health since the last complaint.
    sign: Option<Sign>,
}

/// How strong a sign of health is against a trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sign {
    /// It comes from a neighbouring place: another broker has answered.
    Near,
    /// It comes from the place itself: this broker has answered.
    There,
}

impl Sign {
    /// How long there must be no complaint until a trouble counts as over. Clients repeat a
    /// complaint about every 40 s as long as they need the place. The time for near signs relies on
    /// that.
    pub const fn quiet(self) -> Duration {
        Duration::from_secs(match self {
            Self::Near => 60,
            Self::There => 30,
        })
    }
}

/// What a complaint has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// A new trouble of a kind that there was none of.
    Begun,
    /// The same kind is in trouble elsewhere.
    Spread,
    /// The trouble was there already.
    Repeated,
    /// It was left out: there are too many with a higher rank.
    LeftOut,
}

/// A trouble that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Over<K, P, T> {
    /// Its kind.
    pub kind: K,
    /// Its place.
    pub place: P,
    /// Its description.
    pub what: T,
    /// Whether its kind is in trouble nowhere else.
    pub is_last: bool,
}

impl<K, P, T> Default for Troubles<K, P, T> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Clone, P: Ord + Clone, T> Troubles<K, P, T> {
    /// Notes a complaint. `what` makes its description, from the previous one if any.
    pub fn note(
        &mut self,
        kind: K,
        place: P,
        now: Moment,
        what: impl FnOnce(Option<&T>) -> T,
    ) -> Noted {
        let spreads = self.has(&kind);
        let key = (kind, place);
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.what = what(Some(&entry.what));
            entry.last_complaint = now;
            entry.sign = None;
            return Noted::Repeated;
        }
        if !self.make_room(&key.0, spreads) {
            return Noted::LeftOut;
        }
        self.entries.insert(
            key,
            Entry {
                what: what(None),
                last_complaint: now,
                sign: None,
            },
        );
        if spreads { Noted::Spread } else { Noted::Begun }
    }

    /// Leaves another trouble out where there are too many, if this one ranks higher: it is the
    /// first of its kind, or of a worse kind. The last one of a kind stays. So a kind that has
    /// begun also ends.
    fn make_room(&mut self, kind: &K, spreads: bool) -> bool {
        if self.entries.len() < MOST_TROUBLES {
            return true;
        }
        let count = |kind: &K| {
            self.entries
                .keys()
                .filter(|(other, _)| other == kind)
                .count()
        };
        let ranks_lower = |other: &K| (!spreads || other > kind) && count(other) > 1;
        let left_out = self
            .entries
            .keys()
            .rev()
            .find(|(other, _)| ranks_lower(other))
            .cloned();
        left_out.is_some_and(|key| self.entries.remove(&key).is_some())
    }

    /// Notes a sign of health: `about` returns what it means for a kind at a place.
    pub fn healthy(&mut self, about: impl Fn(&K, &P) -> Option<Sign>) {
        for ((kind, place), entry) in &mut self.entries {
            entry.sign = entry.sign.max(about(kind, place));
        }
    }

    /// Ends what is over by now.
    pub fn end_due(&mut self, now: Moment) -> Vec<Over<K, P, T>> {
        let is_due = |entry: &Entry<T>| {
            entry
                .sign
                .is_some_and(|sign| now.since(entry.last_complaint) >= sign.quiet())
        };
        let due: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| is_due(entry))
            .map(|(key, _)| key.clone())
            .collect();
        let mut over = Vec::new();
        for (kind, place) in due {
            if let Some(entry) = self.entries.remove(&(kind.clone(), place.clone())) {
                let is_last = !self.has(&kind);
                over.push(Over {
                    kind,
                    place,
                    what: entry.what,
                    is_last,
                });
            }
        }
        over
    }

    /// Whether there are none, also none that may be over.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What lasts, by kind and place: without that whose place was healthy since the last
    /// complaint.
    pub fn lasting(&self) -> impl Iterator<Item = (&K, &P, &T)> {
        let lasts = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.sign < Some(Sign::There));
        lasts.map(|((kind, place), entry)| (kind, place, &entry.what))
    }

    fn has(&self, kind: &K) -> bool {
        self.entries.keys().any(|(other, _)| other == kind)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Small = Troubles<&'static str, u8, u32>;

    fn at(seconds: u64) -> Moment {
        Moment::new(Duration::from_secs(seconds))
    }

    /// Counts the complaints.
    fn note(troubles: &mut Small, place: u8, now: u64) -> Noted {
        troubles.note("connection", place, at(now), |count| {
            count.map_or(1, |count| count + 1)
        })
    }

    fn about(place: u8) -> impl Fn(&&str, &u8) -> Option<Sign> {
        move |_, other| {
            Some(if place == *other {
                Sign::There
            } else {
                Sign::Near
            })
        }
    }

    fn lasting(troubles: &Small) -> Vec<u8> {
        troubles.lasting().map(|(_, place, _)| *place).collect()
    }

    /// D-C: one of three brokers is away for an hour, complained about every second, and the others
    /// deliver all the time.
    #[test]
    fn a_partial_outage_begins_once_lasts_and_ends_once() {
        let mut troubles = Small::default();
        let mut begun = 0;
        for second in 0..3_600 {
            begun += u32::from(note(&mut troubles, 1, second) != Noted::Repeated);
            troubles.healthy(about(2));
            assert_eq!(lasting(&troubles), [1]);
            assert_eq!(troubles.end_due(at(second)), []);
        }
        assert_eq!(begun, 1);
        troubles.healthy(about(1));
        assert_eq!(lasting(&troubles), [], "the broker itself has answered");
        assert_eq!(troubles.end_due(at(3_599 + 29)), []);
        let over = troubles.end_due(at(3_599 + 30));
        assert_eq!(
            over,
            [Over {
                kind: "connection",
                place: 1,
                what: 3_600,
                is_last: true
            }]
        );
        assert!(troubles.is_empty());
    }

    /// The client reports an identical error of a broker every 30 s at most, and waits up to 10 s
    /// between two tries.
    #[test]
    fn seldom_complaints_of_a_place_that_is_away_are_one_trouble() {
        let mut troubles = Small::default();
        assert_eq!(note(&mut troubles, 1, 0), Noted::Begun);
        for complaint in 1..100 {
            for second in (complaint - 1) * 40..complaint * 40 {
                troubles.healthy(about(2));
                assert_eq!(troubles.end_due(at(second)), []);
            }
            assert_eq!(note(&mut troubles, 1, complaint * 40), Noted::Repeated);
        }
        troubles.healthy(about(2));
        assert_eq!(troubles.end_due(at(99 * 40 + 59)), []);
        assert_eq!(
            troubles.end_due(at(99 * 40 + 60)).len(),
            1,
            "nothing more needs it"
        );
    }

    #[test]
    fn a_place_that_comes_and_goes_is_one_trouble_and_shows_only_while_it_is_away() {
        let mut troubles = Small::default();
        for second in 0..100 {
            let noted = note(&mut troubles, 1, 20 * second);
            assert_eq!(
                noted,
                if second == 0 {
                    Noted::Begun
                } else {
                    Noted::Repeated
                }
            );
            assert_eq!(lasting(&troubles), [1]);
            troubles.healthy(about(1));
            assert_eq!(lasting(&troubles), []);
            assert_eq!(troubles.end_due(at(20 * second + 19)), []);
        }
    }

    #[test]
    fn a_kind_begins_with_its_first_place_and_ends_with_its_last() {
        let mut troubles = Small::default();
        assert_eq!(note(&mut troubles, 1, 0), Noted::Begun);
        assert_eq!(note(&mut troubles, 2, 1), Noted::Spread);
        assert_eq!(troubles.note("commit", 1, at(1), |_| 0), Noted::Begun);
        troubles.healthy(|_, place| (*place == 1).then_some(Sign::There));
        let ended = |over: Vec<Over<_, _, _>>| -> Vec<_> {
            over.into_iter().map(|it| (it.kind, it.is_last)).collect()
        };
        assert_eq!(
            ended(troubles.end_due(at(31))),
            [("commit", true), ("connection", false)]
        );
        troubles.healthy(about(2));
        assert_eq!(ended(troubles.end_due(at(31))), [("connection", true)]);
    }

    #[test]
    fn there_are_so_many_and_no_more() {
        let mut troubles = Small::default();
        for place in 0..u8::MAX {
            let noted = note(&mut troubles, place, 0);
            assert_eq!(noted == Noted::LeftOut, usize::from(place) >= MOST_TROUBLES);
        }
        assert_eq!(note(&mut troubles, 3, 0), Noted::Repeated);
        assert_eq!(troubles.lasting().count(), MOST_TROUBLES);
    }

    #[test]
    fn the_worst_are_kept_and_one_of_each_kind() {
        let mut troubles = Small::default();
        let mut note = |kind, place| troubles.note(kind, place, at(0), |_| 0);
        let most = u8::try_from(MOST_TROUBLES).expect("it is small");
        for place in 0..most {
            note("b", place);
        }
        assert_eq!(
            note("c", 0),
            Noted::Begun,
            "the first of its kind, although it is not as bad"
        );
        assert_eq!(note("c", 1), Noted::LeftOut);
        for place in 0..most {
            let noted = note("a", place);
            assert_eq!(noted == Noted::LeftOut, place >= most - 2, "{place}");
        }
        let kinds: Vec<_> = troubles.lasting().map(|(kind, ..)| *kind).collect();
        let count = |kind| kinds.iter().filter(|other| **other == kind).count();
        assert_eq!(
            (count("a"), count("b"), count("c")),
            (MOST_TROUBLES - 2, 1, 1)
        );
        assert_eq!(kinds.len(), MOST_TROUBLES);
    }

    proptest! {
        /// Against a model that keeps the whole history of each place.
        #[test]
        fn it_ends_as_its_history_says(steps in prop::collection::vec((0..4_u8, 0..3_u8, 0..40_u64), 0..200)) {
            let mut troubles = Small::default();
            let mut now = 0;
            // By place: the last complaint, and the best sign since.
            let mut model: BTreeMap<u8, (u64, Option<Sign>)> = BTreeMap::new();
            for (step, place, wait) in steps {
                now += wait;
                match step {
                    0 => {
                        let is_known = model.insert(place, (now, None)).is_some();
                        prop_assert_eq!(note(&mut troubles, place, now) == Noted::Repeated, is_known);
                    }
                    1 => {
                        troubles.healthy(about(place));
                        for (other, (_, sign)) in &mut model {
                            *sign = (*sign).max(about(place)(&"", other));
                        }
                    }
                    _ => {
                        let over: Vec<_> = troubles.end_due(at(now)).into_iter().map(|over| over.place).collect();
                        let quiet = |sign| if sign == Sign::There { 30 } else { 60 };
                        let is_due = |(last, sign): &(u64, Option<Sign>)| {
                            sign.is_some_and(|sign| now - last >= quiet(sign))
                        };
                        let due: Vec<_> = model.iter().filter(|it| is_due(it.1)).map(|it| *it.0).collect();
                        prop_assert_eq!(&over, &due);
                        model.retain(|place, _| !due.contains(place));
                    }
                }
                let lasts: Vec<_> =
                    model.iter().filter(|it| it.1.1 != Some(Sign::There)).map(|it| *it.0).collect();
                prop_assert_eq!(lasting(&troubles), lasts);
            }
        }
    }
}
