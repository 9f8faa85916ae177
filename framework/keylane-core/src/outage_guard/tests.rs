use proptest::prelude::*;

use super::settings::LONGEST_ATTEMPT;
use super::*;
use crate::failure::Failure;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// A guard that has seen as many lanes fail as make an outage, each with its own error, and no
/// success.
pub(crate) fn total_outage(now: Moment) -> OutageGuard {
    let mut guard = OutageGuard::default();
    let source = guard.join();
    for lane in 0..OUTAGE_LANES as u64 {
        let attempt = FailedAttempt {
            class: ErrorClass::new(lane),
            ..Failure::Retryable.into()
        };
        let report = Report {
            source,
            lane: 1_000_000 + lane,
            is_first_hand: true,
        };
        assert!(guard.failed(report, attempt, now));
    }
    guard
}

fn at(after: Duration) -> Moment {
    Moment::new(after)
}

fn fail(
    guard: &mut OutageGuard,
    lanes: std::ops::Range<u64>,
    class: u64,
    place: Option<Place>,
    now: Moment,
) {
    for lane in lanes {
        let attempt = FailedAttempt {
            failure: Failure::Retryable,
            class: ErrorClass::new(class),
            place,
        };
        guard.failed(
            Report {
                source: Source(1),
                lane,
                is_first_hand: true,
            },
            attempt,
            now,
        );
    }
}

fn judge(guard: &mut OutageGuard, class: u64, now: Moment) -> Option<HeldBy> {
    judge_at(guard, class, None, now)
}

fn judge_at(
    guard: &mut OutageGuard,
    class: u64,
    place: Option<Place>,
    now: Moment,
) -> Option<HeldBy> {
    let case = Case {
        reason: Reason::Exhausted,
        class: ErrorClass::new(class),
        place,
        held_for: Duration::ZERO,
    };
    guard.judge(case, now)
}

#[test]
fn fewer_than_five_lanes_are_each_their_own() {
    let mut guard = OutageGuard::default();
    fail(&mut guard, 0..4, 1, None, at(SECOND));
    fail(&mut guard, 0..4, 1, None, at(MINUTE));
    assert_eq!(judge(&mut guard, 1, at(MINUTE)), None);
    assert!(guard.holds_nothing(at(MINUTE)));
    fail(&mut guard, 4..5, 2, None, at(MINUTE));
    assert_eq!(judge(&mut guard, 1, at(MINUTE)), Some(HeldBy::Outage));
    assert_eq!(
        guard.state(at(MINUTE)).total,
        None,
        "it is shown when it lasts"
    );
    assert_eq!(guard.state(at(MINUTE + 5 * SECOND)).total, Some(at(MINUTE)));
}

#[test]
fn a_total_outage_holds_without_end_and_ends_with_the_first_success() {
    let mut guard = OutageGuard::default();
    for hour in 0..100 {
        fail(&mut guard, 0..5, 1, None, at(hour * HOUR));
        (0..5).for_each(|lane| guard.expects(lane, at((hour + 1) * HOUR)));
        assert_eq!(judge(&mut guard, 9, at(hour * HOUR)), Some(HeldBy::Outage));
    }
    let now = at(99 * HOUR + SECOND);
    guard.succeeded(now);
    assert_eq!(judge(&mut guard, 9, now), None);
    assert_eq!(guard.state(now).total, None);
}

#[test]
fn a_success_from_before_is_no_sign_that_something_works() {
    let mut guard = OutageGuard::default();
    guard.succeeded(at(SECOND));
    fail(&mut guard, 0..5, 1, None, at(2 * SECOND));
    assert_eq!(judge(&mut guard, 9, at(2 * SECOND)), Some(HeldBy::Outage));
    guard.succeeded(at(SECOND));
    assert_eq!(
        judge(&mut guard, 9, at(2 * SECOND)),
        Some(HeldBy::Outage),
        "told late"
    );
    guard.succeeded(at(3 * SECOND));
    assert_eq!(judge(&mut guard, 9, at(3 * SECOND)), None);
}

#[test]
fn a_success_in_the_very_moment_of_the_outage_counts_by_the_order_in_which_it_is_told() {
    let mut guard = OutageGuard::default();
    guard.succeeded(at(SECOND));
    fail(&mut guard, 0..5, 1, None, at(SECOND));
    assert_eq!(
        judge(&mut guard, 9, at(SECOND)),
        Some(HeldBy::Outage),
        "it was before"
    );
    guard.succeeded(at(SECOND));
    assert_eq!(judge(&mut guard, 9, at(SECOND)), None, "it was after");
}

#[test]
fn an_outage_that_begins_beside_failing_lanes_is_total_after_the_quiet_time() {
    let mut guard = OutageGuard::default();
    fail(&mut guard, 0..5, 1, None, at(SECOND));
    guard.succeeded(at(10 * SECOND));
    fail(&mut guard, 0..5, 1, None, at(30 * SECOND));
    assert_eq!(judge(&mut guard, 9, at(69 * SECOND)), None);
    assert_eq!(judge(&mut guard, 9, at(70 * SECOND)), Some(HeldBy::Outage));
    assert_eq!(
        guard.state(at(80 * SECOND)).total,
        Some(at(10 * SECOND)),
        "since the last success"
    );
}

#[test]
fn an_outage_of_a_place_ends_when_a_lane_that_failed_there_succeeds() {
    let (mut guard, here, there) = (
        OutageGuard::default(),
        Some(Place::new(1)),
        Some(Place::new(2)),
    );
    fail(&mut guard, 0..5, 1, here, at(SECOND));
    guard.succeeded(at(2 * SECOND));
    guard.release_classes();
    let now = at(3 * SECOND);
    assert_eq!(
        judge_at(&mut guard, 1, here, now),
        Some(HeldBy::Place(Place::new(1)))
    );
    assert_eq!(judge_at(&mut guard, 1, there, now), None);
    assert_eq!(judge(&mut guard, 1, now), None);
    guard.cleared(7, Some(now));
    assert!(
        judge_at(&mut guard, 1, here, now).is_some(),
        "7 has not failed"
    );
    let held_for = OUTAGE_PATIENCE;
    let case = Case {
        reason: Reason::Exhausted,
        class: ErrorClass::new(1),
        place: here,
        held_for,
    };
    assert_eq!(
        guard.judge(case, now),
        None,
        "it was held for the whole patience"
    );
    guard.cleared(3, Some(now));
    assert_eq!(judge_at(&mut guard, 1, here, now), None);
}

#[test]
fn a_partial_outage_holds_its_class_until_the_patience_is_used_up() {
    let mut guard = OutageGuard::new(OutageSettings {
        patience: 10 * MINUTE,
        ..OutageSettings::default()
    });
    let mut now = Duration::ZERO;
    let mut held_until = None;
    while now < HOUR {
        fail(&mut guard, 0..5, 1, None, at(now));
        guard.succeeded(at(now + SECOND));
        now += 10 * SECOND;
        assert_eq!(judge(&mut guard, 2, at(now)), None, "another class");
        if judge(&mut guard, 1, at(now)) == Some(HeldBy::Class(ErrorClass::new(1))) {
            held_until = Some(now);
        }
    }
    assert_eq!(held_until, Some(10 * MINUTE), "the first second was total");
    let state = guard.state(at(now));
    assert_eq!(
        (state.classes[0].patience_left, state.classes[0].lanes),
        (Duration::ZERO, 5)
    );
    assert!(guard.holds_nothing(at(now)), "it holds no longer");
}

#[test]
fn a_record_is_held_in_partial_outages_for_the_patience_at_most() {
    let mut guard = OutageGuard::default();
    fail(&mut guard, 0..5, 1, None, at(SECOND));
    guard.succeeded(at(2 * SECOND));
    let case = |held_for| Case {
        reason: Reason::TimedOut,
        class: ErrorClass::new(1),
        place: None,
        held_for,
    };
    assert!(
        guard
            .judge(case(OUTAGE_PATIENCE - SECOND), at(3 * SECOND))
            .is_some()
    );
    assert!(guard.judge(case(OUTAGE_PATIENCE), at(3 * SECOND)).is_none());
}

#[test]
fn the_patience_does_not_run_while_the_outage_is_total() {
    let mut guard = OutageGuard::new(OutageSettings {
        patience: 10 * MINUTE,
        ..OutageSettings::default()
    });
    for minute in 1..=300 {
        fail(&mut guard, 0..5, 1, None, at(minute * MINUTE));
        (0..5).for_each(|lane| guard.expects(lane, at((minute + 1) * MINUTE)));
    }
    let now = 300 * MINUTE + SECOND;
    guard.succeeded(at(now));
    assert_eq!(
        judge(&mut guard, 1, at(now)),
        Some(HeldBy::Class(ErrorClass::new(1)))
    );
    assert_eq!(
        guard.state(at(now + 10 * SECOND)).classes[0].patience_left,
        10 * MINUTE - 10 * SECOND
    );
}

#[test]
fn a_partial_outage_that_comes_and_goes_is_one() {
    let mut guard = OutageGuard::default();
    fail(&mut guard, 0..5, 1, None, at(SECOND));
    guard.succeeded(at(2 * SECOND));
    guard.cleared(0, Some(at(2 * SECOND)));
    assert!(judge(&mut guard, 1, at(61 * SECOND)).is_some());
    fail(&mut guard, 0..5, 1, None, at(61 * SECOND));
    guard.succeeded(at(62 * SECOND));
    guard.cleared(0, Some(at(62 * SECOND)));
    assert!(judge(&mut guard, 1, at(121 * SECOND)).is_some());
    assert!(
        judge(&mut guard, 1, at(122 * SECOND)).is_none(),
        "for the quiet time too few lanes failed"
    );
}

#[test]
fn a_lane_leaves_a_minute_after_its_next_attempt_had_to_have_ended() {
    let mut guard = OutageGuard::default();
    fail(&mut guard, 0..5, 1, None, at(SECOND));
    (0..5).for_each(|lane| guard.expects(lane, at(HOUR)));
    let leaves = HOUR + LONGEST_ATTEMPT + MINUTE;
    assert!(judge(&mut guard, 9, at(leaves - SECOND)).is_some());
    assert!(judge(&mut guard, 9, at(leaves + 2 * SECOND)).is_none());
}

#[test]
fn an_epoch_takes_its_lanes_with_it() {
    let mut guard = total_outage(at(SECOND));
    let other = guard.join();
    guard.set_held(other, 3);
    guard.leave(other);
    assert_eq!(
        (
            guard.state(at(SECOND)).held,
            judge(&mut guard, 9, at(SECOND))
        ),
        (0, Some(HeldBy::Outage))
    );
    guard.leave(Source(1));
    assert_eq!(judge(&mut guard, 9, at(SECOND)), None);
    assert!(guard.state(at(HOUR)).is_calm());
}

#[test]
fn an_operators_release_ends_with_what_was_released() {
    let mut guard = OutageGuard::default();
    fail(&mut guard, 0..5, 1, None, at(SECOND));
    guard.release(at(SECOND));
    assert_eq!(judge(&mut guard, 1, at(SECOND)), None);
    assert!(guard.state(at(MINUTE)).released && guard.state(at(MINUTE)).total.is_some());
    guard.succeeded(at(MINUTE));
    (0..5).for_each(|lane| guard.cleared(lane, Some(at(MINUTE))));
    assert!(guard.state(at(3 * MINUTE)).is_calm());
    fail(&mut guard, 0..5, 1, None, at(4 * MINUTE));
    assert_eq!(judge(&mut guard, 1, at(4 * MINUTE)), Some(HeldBy::Outage));
}

fn give_up(guard: &mut OutageGuard, reason: Reason, records: u32, lanes: u64) {
    (0..records).for_each(|record| guard.gave_up(u64::from(record) % lanes, reason, at(SECOND)));
}

fn holds(guard: &mut OutageGuard, reason: Reason) -> bool {
    let case = Case {
        reason,
        class: ErrorClass::UNKNOWN,
        place: None,
        held_for: Duration::ZERO,
    };
    guard
        .judge(case, at(SECOND))
        .is_some_and(|by| by == HeldBy::Deployment)
}

#[test]
fn a_bad_deployment_takes_twenty_records_of_five_lanes_without_a_success() {
    let mut guard = OutageGuard::default();
    give_up(&mut guard, Reason::Fatal, 1_000, 4);
    assert!(!holds(&mut guard, Reason::Fatal), "four lanes");
    guard.succeeded(at(SECOND));
    give_up(&mut guard, Reason::Fatal, BAD_DEPLOYMENT_RECORDS - 1, 5);
    assert!(!holds(&mut guard, Reason::Fatal));
    give_up(&mut guard, Reason::Undecodable, 1, 5);
    assert!(holds(&mut guard, Reason::Fatal) && holds(&mut guard, Reason::Undecodable));
    assert!(holds(&mut guard, Reason::Panicked) && !holds(&mut guard, Reason::Exhausted));
    assert_eq!(guard.state(at(SECOND)).bad_deployment, Some(at(SECOND)));
    guard.succeeded(at(SECOND));
    assert!(!holds(&mut guard, Reason::Fatal) && guard.state(at(SECOND)).is_calm());
}

#[test]
fn a_record_that_decodes_lets_the_undecodable_ones_go_and_no_others() {
    let mut guard = OutageGuard::default();
    give_up(&mut guard, Reason::Undecodable, 20, 5);
    guard.decoded();
    assert!(!holds(&mut guard, Reason::Undecodable));
    give_up(&mut guard, Reason::Panicked, 20, 5);
    guard.decoded();
    assert!(holds(&mut guard, Reason::Fatal));
    guard.release(at(SECOND));
    assert!(!holds(&mut guard, Reason::Fatal));
}

impl OutageGuard {
    fn release_classes(&mut self) {
        self.classes.values_mut().for_each(Episode::release);
    }
}

/// What happens to lanes, as a list.
#[derive(Clone, Debug)]
enum Step {
    Fail {
        lane: u64,
        class: u64,
        place: Option<u16>,
    },
    Clear {
        lane: u64,
    },
    Succeed,
    Pass {
        seconds: u64,
    },
}

fn any_step() -> impl Strategy<Value = Step> {
    let place = prop_oneof![Just(None), (0_u16..3).prop_map(Some)];
    prop_oneof![
        8 => (0_u64..9, 0_u64..3, place).prop_map(|(lane, class, place)| Step::Fail { lane, class, place }),
        3 => (0_u64..9).prop_map(|lane| Step::Clear { lane }),
        1 => Just(Step::Succeed),
        4 => (1_u64..40).prop_map(|seconds| Step::Pass { seconds }),
    ]
}

#[derive(Clone, Copy)]
struct Lane {
    lane: u64,
    class: u64,
    place: Option<u16>,
    until: u64,
}

proptest! {
    /// The guard counts as a list of lanes does. Lanes leave up to a second late.
    #[test]
    fn what_holds_follows_from_a_list_of_failing_lanes(steps in proptest::collection::vec(any_step(), 1..150)) {
        let mut guard = OutageGuard::new(OutageSettings { lanes: 3, patience: HOUR, quiet: MINUTE, ..OutageSettings::default() });
        let (mut now, mut list, mut crossed, mut success) = (100_u64, Vec::<Lane>::new(), None, None);
        for step in steps {
            let moment = at(Duration::from_secs(now));
            match step {
                Step::Fail { lane, class, place } => {
                    fail(&mut guard, lane..lane + 1, class, place.map(Place::new), moment);
                    list.retain(|other| other.lane != lane);
                    list.push(Lane { lane, class, place, until: now + 60 });
                }
                Step::Clear { lane } => {
                    guard.cleared(lane, Some(moment));
                    list.retain(|other| other.lane != lane);
                }
                Step::Succeed => {
                    guard.succeeded(moment);
                    success = crossed.map(|_| now);
                }
                Step::Pass { seconds } => {
                    // One second at a time, since lanes leave at a look.
                    for _ in 0..seconds {
                        now += 1;
                        guard.look(at(Duration::from_secs(now)));
                        list.retain(|lane| lane.until > now);
                        crossed = if list.len() < 3 { None } else { crossed.or(Some(now)) };
                        success = success.filter(|_| crossed.is_some());
                    }
                }
            }
            crossed = if list.len() < 3 { None } else { crossed.or(Some(now)) };
            success = success.filter(|_| crossed.is_some());
            let works = success.is_some_and(|success| now - success < 60);
            let is_total = crossed.is_some() && !works;
            let now = at(Duration::from_secs(now));
            prop_assert_eq!(judge(&mut guard, 77, now) == Some(HeldBy::Outage), is_total);
            for class in 0..3 {
                let lanes = list.iter().filter(|lane| lane.class == class).count();
                let holds = judge(&mut guard, class, now).is_some();
                prop_assert!(holds || (!is_total && lanes < 3), "class {} of {} lanes", class, lanes);
            }
            for place in 0..3 {
                let lanes = list.iter().filter(|lane| lane.place == Some(place)).count();
                let held = judge_at(&mut guard, 77, Some(Place::new(place)), now);
                prop_assert!(held != Some(HeldBy::Place(Place::new(place))) || lanes >= 3);
            }
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn what_the_guard_keeps_is_bounded(
        failures in proptest::collection::vec((0_u64..100_000, 0_u64..200, 0_u16..200), 1..3_000),
    ) {
        let mut guard = OutageGuard::default();
        for (lane, class, place) in failures {
            fail(&mut guard, lane..lane + 1, class, Some(Place::new(place)), at(SECOND));
            prop_assert!(guard.lanes.len() <= (TRACKED + 1) * TRACKED);
            prop_assert!(guard.classes.len() <= TRACKED + 1 && guard.places.len() <= TRACKED);
        }
        guard.look(at(HOUR));
        guard.look(at(2 * HOUR));
        guard.look(at(3 * HOUR));
        prop_assert!(guard.lanes.len() == 0 && guard.classes.is_empty() && guard.places.is_empty());
    }
}
