//! The records that mark letters as handled by hand, and that take this back. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::records::{OpsKey, Place, Resolution, written};
use super::{Handled, OpsState};

/// Letters by partition, first and last offset.
pub(super) type Ranges = Vec<(i32, RangeInclusive<i64>)>;
type Record = (OpsKey, Option<Vec<u8>>);

fn handled(ranges: Ranges) -> Handled {
    let ranges = ranges.into_iter();
    let ends = ranges.map(|(partition, range)| (partition, *range.start(), *range.end()));
    ends.collect()
}

fn place(topic: &str, partition: i32, first: i64, last: i64) -> Place {
    Place {
        topic: topic.to_owned(),
        partition,
        first,
        last,
    }
}

/// Marks these letters. Those that are marked keep what was said about them.
pub(super) fn resolved(
    state: &OpsState,
    topic: &str,
    ranges: Ranges,
    who: &str,
    why: &str,
) -> Vec<Record> {
    let before = state.resolved(topic).map(|(at, range, _)| (at, range));
    let before = handled(before.collect());
    let log = state.log(topic).map(str::to_owned);
    let resolution = written(&Resolution::new(log, who, why));
    let mut records = Vec::new();
    for (partition, first, last) in handled(ranges).ranges() {
        for (first, last) in before.without(partition, first, last) {
            let key = OpsKey::Resolved(place(topic, partition, first, last));
            records.push((key, Some(resolution.clone())));
        }
    }
    records
}

/// Takes back what was said about these letters: of each range that has some of them. What remains
/// of it is marked again, as it was.
pub(super) fn reopened(
    state: &OpsState,
    topic: &str,
    ranges: Ranges,
    who: &str,
    why: &str,
) -> Vec<Record> {
    let holes = handled(ranges);
    let taken_back = written(&Resolution::new(None, who, why).taken_back());
    let (mut records, mut parts, mut others) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
    for (partition, range, resolution) in state.resolved(topic) {
        let (first, last) = (*range.start(), *range.end());
        let place = |first, last| place(topic, partition, first, last);
        let rest = holes.without(partition, first, last);
        if rest == [(first, last)] {
            others.insert(place(first, last));
            continue;
        }
        let key = OpsKey::Resolved(place(first, last));
        records.push((key, Some(taken_back.clone())));
        parts.extend(
            rest.into_iter()
                .map(|(first, last)| (place(first, last), resolution)),
        );
    }
    let parts = parts.into_iter().filter(|(part, _)| !others.contains(part));
    // The parts first: a reader that sees only some of these records has no letter as open that
    // stays resolved.
    let parts = parts.map(|(part, it)| (OpsKey::Resolved(part), Some(written(it))));
    parts.chain(records).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn apply(state: &mut OpsState, records: Vec<Record>) {
        for (key, value) in records {
            state.apply(Some(key.text().as_bytes()), value.map(Into::into));
        }
    }

    fn step() -> impl Strategy<Value = (bool, Ranges)> {
        let range = (0..2_i32, 0..30_i64, -2..8_i64);
        let range = range.prop_map(|(at, first, more)| (at, first..=first + more));
        (any::<bool>(), proptest::collection::vec(range, 1..4))
    }

    proptest! {
        #[test]
        fn after_any_sequence_those_letters_are_resolved_that_were_and_were_not_taken_back(
            steps in proptest::collection::vec(step(), 1..12),
        ) {
            let (mut state, mut model) = (OpsState::default(), BTreeSet::new());
            let mut first_who = BTreeMap::new();
            for (number, (resolves, ranges)) in steps.into_iter().enumerate() {
                let letters = ranges.iter().flat_map(|(at, range)| range.clone().map(|it| (*at, it)));
                let letters: BTreeSet<(i32, i64)> = letters.collect();
                let who = format!("operator {number}");
                let records = match resolves {
                    true => resolved(&state, "dead", ranges, &who, ""),
                    false => reopened(&state, "dead", ranges, &who, ""),
                };
                apply(&mut state, records);
                for letter in letters {
                    if resolves {
                        first_who.entry(letter).or_insert(who.clone());
                        model.insert(letter);
                    } else {
                        first_who.remove(&letter);
                        model.remove(&letter);
                    }
                }
                let handled = state.handled("dead");
                for letter in (0..2).flat_map(|at| (0..40).map(move |it| (at, it))) {
                    prop_assert_eq!(handled.contains(letter.0, letter.1), model.contains(&letter), "{:?}", letter);
                }
                for (at, range, resolution) in state.resolved("dead") {
                    for offset in range {
                        prop_assert_eq!(Some(&resolution.who), first_who.get(&(at, offset)));
                    }
                }
            }
        }

        /// Two of them have read the same state.
        #[test]
        fn what_one_resolves_stays_resolved_whatever_another_one_resolves_meanwhile(
            before in step(), one in step(), other in step(),
        ) {
            let mut state = OpsState::default();
            let records = resolved(&state, "dead", before.1, "ada", "");
            apply(&mut state, records);
            let records = [&one, &other].map(|it| resolved(&state, "dead", it.1.clone(), "ada", ""));
            records.into_iter().for_each(|it| apply(&mut state, it));
            let handled = state.handled("dead");
            for (at, range) in one.1.into_iter().chain(other.1) {
                for offset in range {
                    prop_assert!(handled.contains(at, offset));
                }
            }
        }
    }

    #[test]
    fn who_took_it_back_is_recorded_and_nothing_is_written_for_letters_that_are_open() {
        let mut state = OpsState::default();
        let records = resolved(&state, "dead", vec![(0, 3..=7)], "ada", "refunded");
        apply(&mut state, records);
        assert!(resolved(&state, "dead", vec![(0, 4..=5)], "bob", "").is_empty());
        assert!(reopened(&state, "dead", vec![(0, 8..=9), (1, 4..=4)], "bob", "").is_empty());
        let records = reopened(&state, "dead", vec![(0, 4..=4)], "bob", "a typo");
        let texts = records.iter().map(|(key, value)| {
            let value: Resolution = super::super::records::read(value.as_deref().unwrap()).unwrap();
            (key.text(), value.who, value.why, value.taken_back)
        });
        let text = |key: &str, who: &str, why: &str, back| {
            (key.to_owned(), who.to_owned(), why.to_owned(), back)
        };
        let expected = [
            text("resolved/dead/0/3/3", "ada", "refunded", false),
            text("resolved/dead/0/5/7", "ada", "refunded", false),
            text("resolved/dead/0/3/7", "bob", "a typo", true),
        ];
        assert_eq!(texts.collect::<Vec<_>>(), expected);
    }
}
