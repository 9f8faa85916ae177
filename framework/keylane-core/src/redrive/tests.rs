//! Random letters, and a run of the shell that may be killed at any step.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::{MAX_METADATA_BYTES, Moment, Offset, Position};

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

fn index(log: &Log) -> Index {
    let mut index = Index::new(IndexLimits::default());
    for ((partition, offset), letter) in log.iter().filter(|(_, letter)| letter.is_wanted) {
        let letter = Letter {
            partition: *partition,
            offset: Offset::new(*offset),
            key: letter.key,
            origin: letter
                .origin
                .map(|(topic, partition, offset)| LetterOrigin {
                    topic: TOPICS[usize::from(topic)],
                    partition,
                    offset,
                }),
        };
        index.add(&letter).expect("it is small");
    }
    index
}

/// As a stored commit: what survives a kill.
type Stored = Vec<(i32, Position, String)>;

fn stored(progress: &Progress) -> Stored {
    let of = |it: &PartitionProgress| (it.partition, it.position, it.metadata());
    progress.partitions.iter().map(of).collect()
}

fn read(stored: &Stored) -> Progress {
    let read = |(partition, position, text): &(i32, Position, String)| {
        PartitionProgress::read(*partition, *position, text)
    };
    Progress {
        partitions: stored.iter().map(read).collect(),
    }
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

fn rank(letter: &Written) -> (bool, Option<(&'static str, i32, i64)>) {
    let origin = letter.origin;
    let named =
        origin.map(|(topic, partition, offset)| (TOPICS[usize::from(topic)], partition, offset));
    (named.is_none(), named)
}

/// What a run of the shell does next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Next,
    /// The acknowledgement of one of the copies under way, by number.
    Acknowledge(usize),
    /// A write that failed.
    Fail(usize),
    /// A commit is sent, of what is done now.
    Send,
    /// The broker answers it.
    Confirm,
    /// The process is killed, after the broker has the commit that was sent last, or before.
    Kill {
        is_committed: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        10 => Just(Step::Next),
        6 => (0..8_usize).prop_map(Step::Acknowledge),
        1 => (0..8_usize).prop_map(Step::Fail),
        4 => Just(Step::Send),
        4 => Just(Step::Confirm),
        1 => any::<bool>().prop_map(|is_committed| Step::Kill { is_committed }),
    ];
    proptest::collection::vec(step, 0..400)
}

struct Run {
    log: Log,
    settings: PlanSettings,
    digest: u64,
    plan: Plan,
    stored: Stored,
    /// A commit that is under way.
    sent: Option<Progress>,
    /// The copies in this life that are not acknowledged.
    under_way: Vec<Copy>,
    /// Every copy that reached the target, in order, with the life it is of.
    target: Vec<(u32, (i32, i64))>,
    life: u32,
}

impl Run {
    fn new(log: Log, settings: PlanSettings) -> Self {
        let plan = Plan::new(index(&log), settings, None, &Progress::default()).unwrap();
        Self {
            digest: plan.digest(),
            stored: Stored::new(),
            sent: None,
            under_way: Vec::new(),
            target: Vec::new(),
            life: 0,
            log,
            settings,
            plan,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Next => {
                if let Next::Copy(copy) = self.plan.next(Moment::ORIGIN) {
                    self.under_way.push(copy);
                    assert!(self.under_way.len() <= self.settings.window);
                }
            }
            Step::Acknowledge(at) if !self.under_way.is_empty() => {
                let copy = self.under_way.remove(at % self.under_way.len());
                self.target
                    .push((self.life, (copy.partition, copy.offset.get())));
                self.plan.acknowledged(copy.turn);
            }
            Step::Fail(at) if !self.under_way.is_empty() => {
                let copy = self.under_way.remove(at % self.under_way.len());
                self.plan.failed(copy.turn);
            }
            Step::Send => self.sent = Some(self.plan.progress()),
            Step::Confirm => {
                let Some(progress) = self.sent.take() else {
                    return;
                };
                self.stored = stored(&progress);
                let is_whole = |it: &(_, _, String)| it.2.len() <= MAX_METADATA_BYTES;
                assert!(self.stored.iter().all(is_whole));
                self.plan.committed(&progress);
            }
            Step::Kill { is_committed } => {
                if let Some(progress) = self.sent.take().filter(|_| is_committed) {
                    self.stored = stored(&progress);
                }
                // Some of what was under way has reached the broker.
                for copy in self.under_way.drain(..).step_by(2) {
                    self.target
                        .push((self.life, (copy.partition, copy.offset.get())));
                }
                self.life += 1;
                let index = index(&self.log);
                let digest = Some(self.digest);
                self.plan = Plan::new(index, self.settings, digest, &read(&self.stored)).unwrap();
            }
            Step::Acknowledge(_) | Step::Fail(_) => {}
        }
    }

    fn commit(&mut self) {
        self.step(Step::Send);
        self.step(Step::Confirm);
    }

    fn finish(&mut self) {
        for _ in 0..10_000 {
            match self.plan.next(Moment::ORIGIN) {
                Next::Copy(copy) => self.under_way.push(copy),
                Next::InFlight if self.under_way.is_empty() => self.commit(),
                Next::InFlight => self.step(Step::Acknowledge(0)),
                _ => return,
            }
        }
        panic!("it does not end");
    }

    /// The letters that were copied, each once.
    fn copied(&self) -> BTreeSet<(i32, i64)> {
        self.target.iter().map(|(_, place)| *place).collect()
    }

    /// In each life the copies of a key are in the order of their origins. So are the first copies
    /// of all lives together, and the last ones: a repeated copy is followed by all later ones of
    /// its key.
    fn check_order(&self) {
        let (mut last_copies, mut next_of_all) = (BTreeSet::new(), BTreeMap::new());
        for (_, place) in self.target.iter().rev() {
            let letter = &self.log[place];
            let Some(key) = letter.key.filter(|_| last_copies.insert(*place)) else {
                continue;
            };
            let rank = (rank(letter), *place);
            let after = next_of_all.insert(key, rank);
            assert!(after.is_none_or(|after| after > rank), "{place:?} last");
        }
        let mut last_of_life = BTreeMap::new();
        let mut first_copies = BTreeSet::new();
        let mut last_of_all = BTreeMap::new();
        for (life, place) in &self.target {
            let letter = &self.log[place];
            let Some(key) = letter.key else { continue };
            let rank = (rank(letter), *place);
            let before = last_of_life.insert((*life, key), rank);
            assert!(
                before.is_none_or(|before| before < rank),
                "{place:?} in one life"
            );
            if first_copies.insert(*place) {
                let before = last_of_all.insert(key, rank);
                assert!(
                    before.is_none_or(|before| before < rank),
                    "{place:?} over all"
                );
            }
        }
    }
}

proptest! {
    #[test]
    fn every_match_is_copied_in_order_and_a_kill_repeats_at_most_the_window(
        log in logs(), steps in steps(), window in 1..9_usize,
    ) {
        let settings = PlanSettings { window, ..PlanSettings::default() };
        let mut run = Run::new(log, settings);
        for step in steps {
            run.step(step);
        }
        run.finish();
        prop_assert_eq!(run.plan.next(Moment::ORIGIN), Next::Done);

        let wanted = run.log.iter().filter(|(_, letter)| letter.is_wanted);
        let wanted: BTreeSet<_> = wanted.map(|(place, _)| *place).collect();
        prop_assert_eq!(run.copied(), wanted);
        let repeated = run.target.len() - run.copied().len();
        prop_assert!(repeated <= window * run.life as usize, "{} in {} lives", repeated, run.life);
        run.check_order();
        let planned = run.copied().len() as u64;
        prop_assert_eq!(run.plan.counts(), (planned, planned));
    }

    #[test]
    fn max_is_a_fixed_set_that_kills_do_not_widen(log in logs(), steps in steps(), max in 0..30_u64) {
        let settings = PlanSettings { window: 4, max: Some(max), ..PlanSettings::default() };
        let mut whole = Run::new(log.clone(), settings);
        whole.finish();
        let mut run = Run::new(log, settings);
        for step in steps {
            run.step(step);
        }
        run.finish();
        prop_assert_eq!(run.copied(), whole.copied());
        prop_assert_eq!(whole.target.len() as u64, max.min(whole.plan.counts().0));
        run.check_order();
    }

    #[test]
    fn nothing_behind_the_canary_begins_before_it_succeeded(
        log in logs(), copies in 1..20_u32, percent in 0..=100_u8, successes in proptest::collection::vec(any::<bool>(), 20),
    ) {
        let canary = Some(Canary { copies, percent });
        let mut run = Run::new(log, PlanSettings { window: 4, canary, ..PlanSettings::default() });
        run.finish();
        let (all, done) = run.plan.counts();
        prop_assert_eq!(done, all.min(copies.into()));
        let awaited: Vec<_> = run.plan.awaited().collect();
        let mut succeeded = 0;
        for (copy, success) in awaited.iter().zip(successes) {
            run.plan.outcome(copy.turn, success);
            succeeded += u64::from(success);
        }
        run.finish();
        let passes = succeeded * 100 >= awaited.len() as u64 * u64::from(percent);
        let end = run.plan.next(Moment::ORIGIN);
        match done == all || passes {
            true => prop_assert_eq!(end, Next::Done),
            false => prop_assert_eq!(end, Next::Stopped(Stopped::CanaryFailed)),
        }
        prop_assert_eq!(run.plan.counts().1 == all, done == all || passes);
    }
}

#[test]
fn a_run_that_goes_on_behind_the_canary_waits_for_no_outcome_again() {
    let canary = Some(Canary {
        copies: 2,
        percent: 100,
    });
    let settings = PlanSettings {
        canary,
        ..PlanSettings::default()
    };
    let log = letters(6, |offset| offset.unsigned_abs(), |it| it);
    let mut run = Run::new(log, settings);
    run.finish();
    assert_eq!(run.plan.next(Moment::ORIGIN), Next::Canary);
    let awaited: Vec<_> = run.plan.awaited().map(|copy| copy.turn).collect();
    let kill = Step::Kill { is_committed: true };
    run.step(kill);
    assert_eq!(
        run.plan.next(Moment::ORIGIN),
        Next::Canary,
        "nothing is known of it"
    );
    awaited
        .iter()
        .for_each(|turn| run.plan.outcome(*turn, true));
    run.step(Step::Next);
    run.step(Step::Acknowledge(0));
    run.commit();
    run.step(kill);
    run.finish();
    assert_eq!(run.plan.next(Moment::ORIGIN), Next::Done);
    assert_eq!(run.target.len(), 6);
}

fn letters(count: i64, key: impl Fn(i64) -> u64, origin: impl Fn(i64) -> i64) -> Log {
    let letter = |offset| Written {
        key: Some(key(offset)),
        origin: Some((0, 0, origin(offset))),
        is_wanted: true,
    };
    (0..count)
        .map(|offset| ((0, offset * 1_000_000), letter(offset)))
        .collect()
}

/// The worst for a map: what may begin, begins, and every second letter waits.
#[test]
fn the_map_of_the_widest_plan_fits_into_a_commit() {
    let log = letters(
        2_000,
        |offset| {
            if offset % 2 == 0 {
                0
            } else {
                1 + offset.unsigned_abs()
            }
        },
        |it| it,
    );
    let settings = PlanSettings {
        window: MAX_WINDOW,
        ..PlanSettings::default()
    };
    let mut run = Run::new(log, settings);
    run.step(Step::Next);
    let first = run.under_way.pop().expect("the first letter of key 0");
    loop {
        while matches!(run.plan.next(Moment::ORIGIN), Next::Copy(copy) if {
            run.under_way.push(copy);
            true
        }) {}
        if run.under_way.is_empty() {
            break;
        }
        while !run.under_way.is_empty() {
            run.step(Step::Acknowledge(0));
        }
        run.commit();
    }
    let progress = run.plan.progress();
    assert_eq!(progress.partitions[0].done.ranges().count(), MAX_AHEAD / 2);
    assert_eq!(run.plan.counts().1, MAX_AHEAD as u64 / 2, "no more is done");
    assert_eq!(read(&stored(&progress)), progress, "nothing was left out");
    run.plan.acknowledged(first.turn);
    run.finish();
    assert_eq!(run.plan.next(Moment::ORIGIN), Next::Done);
}

#[test]
fn a_rate_spaces_the_copies_and_a_rest_gives_no_burst() {
    let settings = PlanSettings {
        rate: Some(10),
        ..PlanSettings::default()
    };
    let mut run = Run::new(
        letters(20, |offset| offset.unsigned_abs(), |it| it),
        settings,
    );
    let at = |millis| Moment::new(std::time::Duration::from_millis(millis));
    let mut copies = 0;
    for millis in 5_000..6_000 {
        match run.plan.next(at(millis)) {
            Next::Copy(_) => copies += 1,
            Next::Wait(until) => assert!(until > at(millis)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(copies, 10);
}

/// Commits of two partitions that were not one request.
#[test]
fn a_turn_before_which_one_is_not_done_is_not_done_either() {
    let letter = |origin| Written {
        key: Some(1),
        origin: Some((0, 0, origin)),
        is_wanted: true,
    };
    let log = Log::from([((0, 5), letter(1)), ((1, 5), letter(2))]);
    let progress = Progress {
        partitions: vec![PartitionProgress::read(1, Position::new(6), "")],
    };
    let mut plan = Plan::new(index(&log), PlanSettings::default(), None, &progress).unwrap();
    assert_eq!(plan.counts(), (2, 0));
    let Next::Copy(first) = plan.next(Moment::ORIGIN) else {
        panic!("nothing is done");
    };
    assert_eq!(plan.next(Moment::ORIGIN), Next::InFlight);
    plan.acknowledged(first.turn);
    assert!(matches!(plan.next(Moment::ORIGIN), Next::Copy(_)));
}

/// Of several partitions the one that is least far is next.
#[test]
fn partitions_take_turns() {
    let letter = Written {
        key: None,
        origin: None,
        is_wanted: true,
    };
    let places = (0..2).flat_map(|partition| (0..3).map(move |offset| (partition, offset)));
    let log = places.map(|place| (place, letter.clone())).collect();
    let mut run = Run::new(log, PlanSettings::default());
    (0..6).for_each(|_| run.step(Step::Next));
    let order: Vec<_> = run.under_way.iter().map(|copy| copy.partition).collect();
    assert_eq!(order, [0, 1, 0, 1, 0, 1]);
}

#[test]
fn letters_that_are_gone_are_noticed_by_a_run_that_goes_on() {
    let mut log = letters(9, |offset| offset.unsigned_abs() % 2, |offset| -offset);
    let mut run = Run::new(log.clone(), PlanSettings::default());
    run.step(Step::Next);
    log.pop_first();
    let progress = run.plan.progress();
    let digest = Some(run.plan.digest());
    let again = Plan::new(index(&log), PlanSettings::default(), digest, &progress);
    assert_eq!(again.err(), Some(PlanError::Changed));
}

#[test]
fn a_cancelled_plan_ends_when_nothing_is_in_flight() {
    let mut run = Run::new(letters(9, |_| 1, |it| it), PlanSettings::default());
    run.step(Step::Next);
    run.plan.cancel();
    assert_eq!(run.plan.next(Moment::ORIGIN), Next::InFlight);
    run.finish();
    assert_eq!(
        run.plan.next(Moment::ORIGIN),
        Next::Stopped(Stopped::Cancelled)
    );
    assert_eq!(run.target.len(), 1);
}
