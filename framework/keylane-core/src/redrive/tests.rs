//! Random letters, and a run of the shell that may be killed at any step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{Moment, Offset};

/// A letter by its place: its key, and where its record was read first.
#[derive(Clone, Debug)]
struct Written {
    key: Option<u64>,
    origin: Option<(u8, i32, i64)>,
    is_wanted: bool,
}

/// A dead-letter topic as it was when the task began.
type Log = BTreeMap<(i32, i64), Written>;

const TOPICS: [&str; 3] = ["b", "c", "a"];

fn order(log: &Log) -> Order {
    let mut index = Index::new(IndexLimits::default());
    for ((partition, offset), letter) in log {
        let origin = letter
            .origin
            .map(|(topic, partition, offset)| LetterOrigin {
                topic: TOPICS[usize::from(topic)],
                partition,
                offset,
            });
        let letter = Letter {
            partition: *partition,
            offset: Offset::new(*offset),
            key: letter.key,
            origin,
            target: u16::from(letter.is_wanted),
        };
        index.add(&letter).expect("it is small");
    }
    index.retain(|partition, offset| log[&(partition, offset.get())].is_wanted);
    let wanted = log.values().filter(|it| it.is_wanted).count() as u64;
    let targets: Vec<_> = index.targets().into_iter().collect();
    assert_eq!(
        targets,
        (wanted > 0)
            .then_some((1, wanted))
            .into_iter()
            .collect::<Vec<_>>()
    );
    index.into_order()
}

fn written() -> impl Strategy<Value = Written> {
    let key = proptest::option::weighted(0.9, 0..6_u64);
    let origin = proptest::option::weighted(0.9, (0..3_u8, 0..2, 0..40_i64));
    (key, origin, any::<bool>()).prop_map(|(key, origin, is_wanted)| Written {
        key,
        origin,
        is_wanted,
    })
}

fn logs() -> impl Strategy<Value = Log> {
    proptest::collection::btree_map((0..3, 0..60_i64), written(), 0..80)
}

/// What a letter is ordered with, and where.
fn sequence(letter: &Written) -> (Option<(u8, i32)>, i64) {
    let origin = letter.origin;
    let partition = origin.map(|(topic, partition, _)| (topic, partition));
    (partition, origin.map_or(0, |it| it.2))
}

proptest! {
    #[test]
    fn every_letter_has_one_turn_and_those_of_a_key_and_an_origin_partition_are_in_its_order(log in logs()) {
        let order = order(&log);
        let places: Vec<_> = order.turns().iter().map(|it| (it.partition, it.offset.get())).collect();
        let wanted: BTreeSet<_> =
            log.iter().filter(|(_, letter)| letter.is_wanted).map(|(place, _)| *place).collect();
        prop_assert_eq!(places.len(), wanted.len());
        prop_assert_eq!(places.iter().copied().collect::<BTreeSet<_>>(), wanted);
        let mut last = BTreeMap::new();
        for place in &places {
            let Some(key) = log[place].key else { continue };
            let (origin, offset) = sequence(&log[place]);
            let before = last.insert((key, origin), (offset, *place));
            prop_assert!(before.is_none_or(|before| before < (offset, *place)), "{:?}", place);
        }
        // Their turns are places of such letters.
        for (turn, place) in places.iter().zip(log.iter().filter(|(_, it)| it.is_wanted)) {
            prop_assert_eq!(log[turn].key, place.1.key);
            if log[turn].key.is_some() {
                prop_assert_eq!(sequence(&log[turn]).0, sequence(place.1).0);
            }
        }
    }

    /// Some lives end before their transaction does, and some transactions have fewer copies.
    #[test]
    fn every_turn_is_copied_once_in_order_and_never_more_than_the_window(
        turns in 0..300_u64, window in 1..40_u32, max in proptest::option::of(0..300_u64),
        lives in proptest::collection::vec((0..5_u64, any::<bool>()), 0..60),
    ) {
        let settings = RunSettings { window, max, ..RunSettings::default() };
        let mut run = Run::new(turns, 0, 0, settings);
        let (mut stored, mut copied) = (0, Vec::new());
        let mut lives = lives.into_iter();
        loop {
            match run.next(Moment::ORIGIN) {
                Next::Copy(range) => {
                    prop_assert!(range.start < range.end && range.end - range.start <= u64::from(window));
                    let (fewer, is_killed) = lives.next().unwrap_or((0, false));
                    let until = (range.end - fewer.min(range.end - range.start - 1)).max(range.start);
                    run.begun(until, Moment::ORIGIN);
                    if is_killed {
                        run = Run::new(turns, stored, stored, settings);
                        continue;
                    }
                    copied.extend(range.start..until);
                    stored = until;
                    run.copied(until, until - range.start);
                }
                next => {
                    prop_assert_eq!(next, Next::Done);
                    break;
                }
            }
        }
        let end = max.unwrap_or(turns).min(turns);
        prop_assert_eq!(copied, (0..end).collect::<Vec<_>>());
        prop_assert_eq!(run.counts(), (end, end));
    }

    #[test]
    fn nothing_behind_the_canary_begins_before_it_succeeded(
        turns in 1..200_u64, copies in 1..60_u32, percent in 0..=100_u8, succeeded in 0..60_u32,
        gone in proptest::collection::btree_set(0..200_u64, 0..60),
    ) {
        let canary = Canary { copies, percent };
        let settings = RunSettings { window: 7, canary: Some(canary), ..RunSettings::default() };
        let mut run = Run::new(turns, 0, 0, settings);
        let finish = |run: &mut Run| loop {
            match run.next(Moment::ORIGIN) {
                Next::Copy(range) => {
                    let without = range.clone().filter(|turn| gone.contains(turn)).count() as u64;
                    run.copied(range.end, range.end - range.start - without);
                }
                next => return next,
            }
        };
        let next = finish(&mut run);
        // The canary ends with its last copy: turns without one show nothing.
        let there = (0..turns).filter(|turn| !gone.contains(turn));
        let last = there.clone().nth(copies as usize - 1);
        let of_canary = last.map_or(turns, |last| last + 1);
        prop_assert_eq!(run.counts().1, of_canary);
        if of_canary == turns {
            prop_assert_eq!(next, Next::Done);
            return Ok(());
        }
        prop_assert_eq!(next, Next::AwaitCanary);
        let resumed = |more| Run::new(turns, of_canary + more, u64::from(copies) + more, settings);
        // A run that is killed here waits again.
        prop_assert_eq!(resumed(0).next(Moment::ORIGIN), Next::AwaitCanary);
        let succeeded = succeeded.min(copies);
        let outcomes = Outcomes { succeeded, failed: copies - succeeded, open: 0 };
        let verdict = canary.verdict(outcomes);
        prop_assert_eq!(verdict == Verdict::Passed, succeeded * 100 >= copies * u32::from(percent));
        run.canary(verdict);
        let expected = match verdict {
            Verdict::Passed => Next::Done,
            _ => Next::Stopped(Stopped::CanaryFailed),
        };
        prop_assert_eq!(finish(&mut run), expected);
        // One that went on behind it does not wait again.
        prop_assert!(matches!(resumed(1).next(Moment::ORIGIN), Next::Copy(_) | Next::Done));
    }

    #[test]
    fn a_verdict_is_the_one_that_the_open_outcomes_cannot_change(
        percent in 0..=100_u8, succeeded in 0..30_u32, failed in 0..30_u32, open in 0..30_u32,
    ) {
        let canary = Canary { copies: 90, percent };
        let verdict = canary.verdict(Outcomes { succeeded, failed, open });
        let ends = (0..=open).map(|more| {
            canary.verdict(Outcomes { succeeded: succeeded + more, failed: failed + open - more, open: 0 })
        });
        let ends: Vec<_> = ends.collect();
        prop_assert!(!ends.contains(&Verdict::Open));
        match verdict {
            Verdict::Open => prop_assert!(ends.contains(&Verdict::Passed) && ends.contains(&Verdict::Failed)),
            sure => prop_assert!(ends.iter().all(|end| *end == sure)),
        }
    }

    #[test]
    fn a_rate_spaces_the_copies_and_a_rest_gives_no_burst(rate in 1..3_000_u32, window in 1..400_u32) {
        let settings = RunSettings { window, rate: Some(rate), ..RunSettings::default() };
        let mut run = Run::new(u64::MAX, 0, 0, settings);
        let at = |millis| Moment::new(Duration::from_millis(millis));
        // It was away for a minute.
        let (begin, mut now) = (60_000, 60_000);
        let mut largest = 0;
        while now < begin + 2_000 {
            match run.next(at(now)) {
                Next::Copy(range) => {
                    largest = largest.max(range.end - range.start);
                    run.begun(range.end, at(now));
                    run.copied(range.end, range.end - range.start);
                }
                Next::Wait(until) => {
                    prop_assert!(until > at(now));
                    now += 1;
                }
                next => prop_assert!(false, "{:?}", next),
            }
        }
        let copied = run.counts().1;
        prop_assert!(copied <= 2 * u64::from(rate) + largest, "{}", copied);
        // A millisecond is lost at most for each transaction.
        let transactions = copied / largest;
        prop_assert!(copied + transactions * u64::from(rate) / 1_000 + largest >= 2 * u64::from(rate));
    }
}

#[test]
fn a_cancelled_run_copies_nothing_more_and_one_that_is_done_is_done() {
    let mut run = Run::new(9, 3, 3, RunSettings::default());
    run.cancel();
    assert_eq!(run.next(Moment::ORIGIN), Next::Stopped(Stopped::Cancelled));
    run.copied(9, 6);
    assert_eq!(run.next(Moment::ORIGIN), Next::Done);
}
