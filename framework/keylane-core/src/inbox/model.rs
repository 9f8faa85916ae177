//! The argument of the inbox beside random schedules: members that lose the partition and go on for
//! less than the margin, that stand still in the middle of an attempt for any time, retries with copies
//! written twice, and a sweeper.

use std::time::Duration;

use proptest::prelude::*;

use super::{Judgement, Retried, Times};

const WAIT: u64 = 40;
const MARGIN: u64 = 8;

/// What is tried of one record. All times are in seconds.
#[derive(Clone, Debug)]
struct Schedule {
    /// The owners, one after the other: how long each has the partition, and how long it takes itself
    /// for the owner afterwards.
    owners: Vec<(u64, u64)>,
    /// Attempts: whose, when within its time, how long it stands still before its entry, how it ends.
    attempts: Vec<(usize, u64, u64, End)>,
    /// Attempts of copies on the retry topic: which copy, how long after its writing it begins, how long
    /// it stands still.
    retries: Vec<(usize, u64, u64)>,
    /// How long after a commit the sweeper looks.
    sweeps_every: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// It reports what the inbox said.
    Settles,
    /// It fails before it asks the inbox; the record goes to the retry topic.
    Fails,
    /// Its transaction commits, and it is repeated: the answer was lost.
    IsLost,
}

/// What is broken in a model that has to fail.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Planted {
    Nothing,
    /// The age of an attempt is not looked at.
    NoLimit,
    /// Entries are swept as soon as the position has passed.
    NoWait,
    /// Retries are always taken for safe.
    RetriesAreSafe,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// An attempt of the origin topic inserts its entry.
    Entry {
        began: u64,
        /// Of a retry, and which copy it is.
        first_failure: Option<(u64, usize)>,
        end: End,
        owner: Option<usize>,
    },
    /// An attempt of the origin topic fails, and a copy is written.
    Fail {
        owner: usize,
        copy: usize,
    },
    /// The position passes the record, if this owner still has the partition.
    Pass {
        owner: usize,
    },
    Sweep,
}

struct Run {
    times: Times,
    planted: Planted,
    events: Vec<(u64, Event)>,
    /// When each owner got the partition and lost it.
    spans: Vec<(u64, u64)>,
    /// When the position passed the record, and by which owner.
    passed: Option<(u64, usize)>,
    /// Copies that are on the retry topic.
    written: Vec<usize>,
    seen_passed: Option<u64>,
    entry: Option<u64>,
    effects: u32,
}

impl Run {
    /// Whether a safe attempt made the effect a second time.
    fn repeats(schedule: &Schedule, planted: Planted) -> bool {
        let seconds = Duration::from_secs;
        let mut run = Self {
            times: Times::new(seconds(WAIT), seconds(MARGIN)).expect("times"),
            planted,
            events: Vec::new(),
            spans: Vec::new(),
            written: Vec::new(),
            passed: None,
            seen_passed: None,
            entry: None,
            effects: 0,
        };
        run.plan(schedule);
        let mut events = std::mem::take(&mut run.events);
        let last = events.iter().map(|(at, _)| *at).max().unwrap_or(0);
        let sweeps = (0..=last / schedule.sweeps_every).map(|n| n * schedule.sweeps_every);
        events.extend(sweeps.map(|at| (at, Event::Sweep)));
        // In the order of time; what is added while it runs comes in where it belongs.
        events.sort_by_key(|(at, _)| *at);
        let mut repeats = false;
        while !events.is_empty() {
            let (now, event) = events.remove(0);
            for (at, follows) in run.take(now, event, &mut repeats) {
                let place = events.partition_point(|(other, _)| *other <= at);
                events.insert(place, (at, follows));
            }
        }
        repeats
    }

    /// Attempts of the origin topic begin while the owner takes itself for one, and copies are written in
    /// that time. A commit after the loss is refused.
    fn plan(&mut self, schedule: &Schedule) {
        let mut from = 0;
        let mut spans = Vec::new();
        for (has, believes) in &schedule.owners {
            spans.push((from, from + has + believes));
            from += has;
            self.spans.push((from - has, from));
        }
        let mut copies = Vec::new();
        for (owner, at, still, end) in &schedule.attempts {
            let owner = owner % spans.len();
            let (from, until) = spans[owner];
            let began = from + at % (until - from).max(1);
            match end {
                // Written at once: later the lease does not allow it.
                End::Fails => {
                    let copy = copies.len();
                    copies.push(began);
                    self.events.push((began, Event::Fail { owner, copy }));
                }
                _ => self.events.push((
                    began + still,
                    Event::Entry {
                        began,
                        first_failure: None,
                        end: *end,
                        owner: Some(owner),
                    },
                )),
            }
        }
        for (copy, after, still) in &schedule.retries {
            let copy = copy % copies.len().max(1);
            let Some(first_failure) = copies.get(copy).copied() else {
                continue;
            };
            let began = first_failure + after;
            self.events.push((
                began + still,
                Event::Entry {
                    began,
                    first_failure: Some((first_failure, copy)),
                    end: End::Settles,
                    owner: None,
                },
            ));
        }
    }

    fn take(&mut self, now: u64, event: Event, repeats: &mut bool) -> Vec<(u64, Event)> {
        match event {
            Event::Pass { owner } if now < self.spans[owner].1 => {
                self.passed.get_or_insert((now, owner));
            }
            Event::Pass { .. } => {}
            Event::Fail { owner, copy } if self.is_delivered(owner, now) => {
                self.written.push(copy);
                return vec![(now, Event::Pass { owner })];
            }
            Event::Fail { .. } => {}
            Event::Sweep => self.sweep(now),
            Event::Entry {
                began,
                first_failure,
                end,
                owner,
            } => {
                let is_there = match (owner, first_failure) {
                    (Some(owner), _) => self.is_delivered(owner, began),
                    (None, Some((_, copy))) => self.written.contains(&copy),
                    (None, None) => false,
                };
                if !is_there {
                    return Vec::new();
                }
                let first_failure = first_failure.map(|(at, _)| at);
                let is_done = self.insert(now, began, first_failure, repeats);
                if let (Some(owner), End::Settles, true) = (owner, end, is_done) {
                    return vec![(now + 1, Event::Pass { owner })];
                }
            }
        }
        Vec::new()
    }

    /// It is not delivered below the position, nor again to the owner that has settled it.
    fn is_delivered(&self, owner: usize, began: u64) -> bool {
        self.passed
            .is_none_or(|(at, by)| self.spans[owner].0 < at && (by != owner || began < at))
    }

    /// Whether the attempt ended well.
    fn insert(
        &mut self,
        now: u64,
        began: u64,
        first_failure: Option<u64>,
        repeats: &mut bool,
    ) -> bool {
        if self.entry.is_some() {
            return true;
        }
        let seconds = Duration::from_secs;
        let retried = match first_failure {
            Some(first) => Retried::For(seconds(now - first)),
            None => Retried::No,
        };
        let mut judgement = self.times.judge(seconds(now - began), retried);
        match self.planted {
            Planted::NoLimit if judgement == Judgement::TooLate => judgement = Judgement::Safe,
            Planted::RetriesAreSafe if judgement == Judgement::Unprotected => {
                judgement = Judgement::Safe;
            }
            _ => {}
        }
        if judgement == Judgement::TooLate {
            return false;
        }
        *repeats |= judgement == Judgement::Safe && self.effects > 0;
        self.effects += 1;
        self.entry = Some(now);
        true
    }

    fn sweep(&mut self, now: u64) {
        if self.passed.is_some() {
            self.seen_passed.get_or_insert(now);
        }
        let wait = match self.planted {
            Planted::NoWait => 0,
            _ => WAIT,
        };
        let is_over = |since: Option<u64>| since.is_some_and(|since| now - since >= wait);
        if is_over(self.seen_passed) && is_over(self.entry) {
            self.entry = None;
        }
    }
}

fn schedules() -> impl Strategy<Value = Schedule> {
    let end = prop_oneof![Just(End::Settles), Just(End::Fails), Just(End::IsLost)];
    let still = || prop_oneof![0..3_u64, 0..WAIT * 3];
    (
        proptest::collection::vec((1..30_u64, 0..MARGIN), 1..4),
        proptest::collection::vec((0..4_usize, 0..60_u64, still(), end), 1..6),
        proptest::collection::vec((0..4_usize, 0..WAIT * 2, still()), 0..4),
        1..5_u64,
    )
        .prop_map(|(owners, attempts, retries, sweeps_every)| Schedule {
            owners,
            attempts,
            retries,
            sweeps_every,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_safe_attempt_makes_an_effect_a_second_time(schedule in schedules()) {
        prop_assert!(!Run::repeats(&schedule, Planted::Nothing));
    }
}

/// A model that cannot fail would prove nothing.
#[test]
fn each_planted_fault_is_found() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    for planted in [Planted::NoLimit, Planted::NoWait, Planted::RetriesAreSafe] {
        let finds = (0..20_000).any(|_| {
            let schedule = schedules()
                .new_tree(&mut runner)
                .expect("a schedule")
                .current();
            Run::repeats(&schedule, planted)
        });
        assert!(finds, "{planted:?}");
    }
}
