//! Outages and bad records, judged over hours of virtual time.
//!
//! In an outage no good record is dead-lettered: if it is total and five lanes or more are active,
//! if five lanes or more are affected and it is shorter than the patience, or if it is shorter than
//! the retry time. By count the five have to fail before the attempts of the first are used up,
//! which may be seconds. Without an outage each bad record is dead-lettered within retry time and
//! patience, one capped back-off with its jitter for each of the two, and the attempts in between.
//! Where minutes pass between successes, each gap looks like an outage: what that gives back is
//! bounded too.
//!
//! # Does it notice anything?
//! The mistakes of a shell are in the tests below. Of those of a core, put in by hand, these were
//! noticed here: no number of lanes makes a total outage; a success does not end it; a partial
//! outage ends as soon as it is below the threshold. How patience, retry time and attempts are
//! counted is judged by the unit tests of the guard and of the partition. Of operators' acts
//! (`outages/acts.rs`): a resumed key that does not go on.

mod acts;
mod scenario;
mod world;

use std::time::Duration;

use keylane_core::{Backoff, Failure, InPlace, OutageSettings, Place, RetryPolicy, TopicRetry};
use scenario::{Bad, Fault, Scenario};
use world::{Report, World};

use crate::random::Random;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const OUTAGE_BEGINS: u64 = 3 * MINUTE;
const RETRY_TIME: Duration = Duration::from_secs(15 * 60);
const DEFAULT_RUNS: u64 = 20;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Time,
    TimeThenTopic,
    Count,
}

fn policy(kind: Kind) -> RetryPolicy {
    let topic = TopicRetry {
        rounds: 10,
        backoff: Backoff::exponential(Duration::from_secs(10), Duration::from_secs(600)),
    };
    let policy = RetryPolicy {
        dead_letter_topic: true,
        in_place: InPlace::Times(10),
        ..RetryPolicy::default()
    };
    match kind {
        Kind::Time => RetryPolicy {
            for_at_least: Some(RETRY_TIME),
            ..policy
        },
        Kind::TimeThenTopic => RetryPolicy {
            for_at_least: Some(RETRY_TIME),
            topic: Some(topic),
            ..policy
        },
        Kind::Count => RetryPolicy {
            in_place: InPlace::Times(5),
            ..policy
        },
    }
}

/// Everything works, for as long as it takes to see that an outage would have been over.
fn calm(kind: Kind, keys: u64, records: usize, until: u64) -> Scenario {
    let policy = policy(kind);
    Scenario {
        partitions: 2,
        keys,
        without_keys: false,
        concurrency: 16,
        settled_ahead: u64::MAX,
        slowest_attempt: 200,
        hangs_for: None,
        records,
        produced_until: until,
        bad: Bad::None,
        outages: Vec::new(),
        one_in: 1,
        classes: 1,
        place: None,
        bad_place: None,
        unavailable: false,
        downtimes: Vec::new(),
        released_at: None,
        acts: 0,
        acts_until: 0,
        releases: false,
        ends_at: until + HOUR,
        guard: OutageSettings::for_backoff(&policy.backoff),
        policy,
        fault: Fault::None,
    }
}

/// An outage of this length. Each key has a record about every minute.
fn outage(random: &mut Random, kind: Kind, keys: u64, one_in: u64, length: u64) -> Scenario {
    let until = OUTAGE_BEGINS + length + 3 * MINUTE;
    let records = (keys * until / MINUTE).clamp(200, 6_000) as usize;
    let mut scenario = calm(kind, keys, records, until);
    scenario.outages = vec![(OUTAGE_BEGINS, OUTAGE_BEGINS + length)];
    scenario.one_in = one_in;
    scenario.classes = 1 + random.below(2);
    scenario.partitions = 1 + random.index(3);
    scenario.concurrency = random.pick(&[1, 4, 32]);
    scenario.slowest_attempt = random.pick(&[5, 200]);
    if random.percent(30) {
        scenario.place = Some(Place::new(7));
    }
    scenario.without_keys = one_in == 1 && random.percent(15);
    scenario
}

/// Of keys and lengths. By count a record is given up after seconds, and five lanes hardly ever fail
/// too late.
fn size(random: &mut Random, kind: Kind, few_keys: u64) -> (u64, u64) {
    match kind {
        Kind::Count => (
            400,
            random.pick(&[SECOND, 4 * SECOND, 30 * SECOND, 5 * MINUTE]),
        ),
        _ => (
            random.pick(&[few_keys, 15.max(few_keys), 100, 400]),
            any_length(random),
        ),
    }
}

fn any_length(random: &mut Random) -> u64 {
    random.pick(&[
        SECOND,
        4 * SECOND,
        30 * SECOND,
        5 * MINUTE,
        14 * MINUTE,
        30 * MINUTE,
        HOUR,
    ])
}

/// Ups and downs within an hour.
fn flaps(random: &mut Random) -> Vec<(u64, u64)> {
    let (mut outages, mut now) = (Vec::new(), OUTAGE_BEGINS);
    while now < OUTAGE_BEGINS + 50 * MINUTE {
        let down = SECOND * (5 + random.below(300));
        outages.push((now, now + down));
        now += down + SECOND * (1 + random.below(30));
    }
    outages
}

fn runs() -> u64 {
    crate::number("KEYLANE_SIM_RUNS").unwrap_or(DEFAULT_RUNS)
}

fn for_each_seed(mut run: impl FnMut(u64, &mut Random)) {
    crate::for_each_seed(DEFAULT_RUNS, |seed| run(seed, &mut Random::new(seed)));
}

fn no_good_record_is_given_up(scenario: &Scenario, seed: u64) -> Result<Report, String> {
    let report = World::run(scenario.clone(), seed);
    let shown = Scenario {
        outages: scenario.outages.iter().copied().take(3).collect(),
        ..scenario.clone()
    };
    if report.good_dead > 0 {
        return Err(format!(
            "seed {seed}: {} good records dead-lettered: {report:?} {shown:?}",
            report.good_dead
        ));
    }
    let ended = report.good_done + report.good_dead_too_early + report.good_given_up_by_order;
    let left = report.good - ended;
    if left > 0 {
        return Err(format!(
            "seed {seed}: {left} good records are left: {report:?} {shown:?}"
        ));
    }
    Ok(report)
}

fn check(scenario: &Scenario, seed: u64) -> Report {
    no_good_record_is_given_up(scenario, seed).unwrap_or_else(|broken| panic!("{broken}"))
}

/// Every bad record is dead-lettered in time.
fn bad_records_are_given_up(scenario: &Scenario, seed: u64) -> Result<Report, String> {
    let longest = scenario.policy.for_at_least.unwrap_or_default() + scenario.guard.patience;
    bad_records_are_given_up_within(longest, scenario, seed)
}

/// The gaps between successes give retry time back, out of the patience, and do not count
/// themselves: two thirds of the time at most. The last delivery has a patience of its own.
fn bad_records_of_a_slow_topic_are_given_up(
    scenario: &Scenario,
    seed: u64,
) -> Result<Report, String> {
    let deliveries = if scenario.policy.topic.is_some() {
        2
    } else {
        1
    };
    let (retry, patience) = (
        scenario.policy.for_at_least.unwrap_or_default(),
        scenario.guard.patience,
    );
    bad_records_are_given_up_within(3 * (retry + deliveries * patience), scenario, seed)
}

fn bad_records_are_given_up_within(
    longest: Duration,
    scenario: &Scenario,
    seed: u64,
) -> Result<Report, String> {
    let report = World::run(scenario.clone(), seed);
    let capped = scenario.policy.backoff.max.mul_f64(1.2);
    let round = scenario
        .policy
        .topic
        .map_or(Duration::ZERO, |topic| topic.backoff.max.mul_f64(1.2));
    let last_delivery = if scenario.policy.topic.is_some() {
        10 * capped
    } else {
        Duration::ZERO
    };
    // By count it is the attempts; by time the one that runs when time is up, and those of the last
    // delivery.
    let hanging = scenario
        .hangs_for
        .map_or(Duration::ZERO, |millis| 12 * Duration::from_millis(millis));
    let longest = longest + 2 * capped + round + last_delivery + hanging + Duration::from_secs(10);
    let latest = report
        .bad_dead_after
        .iter()
        .max()
        .copied()
        .unwrap_or_default();
    if report.bad_dead_after.len() != report.bad {
        return Err(format!(
            "seed {seed}: bad records are left: {report:?} {scenario:?}"
        ));
    }
    if latest > longest {
        return Err(format!(
            "seed {seed}: a bad record was given up after {latest:?}, {longest:?} was the limit"
        ));
    }
    if report.good_dead > 0 || report.good_done != report.good {
        return Err(format!(
            "seed {seed}: good records have suffered: {report:?}"
        ));
    }
    Ok(report)
}

#[test]
fn no_good_record_is_given_up_in_a_total_outage() {
    let mut most_held = 0;
    for_each_seed(|seed, random| {
        let kind = random.pick(&[Kind::Time, Kind::TimeThenTopic, Kind::Count]);
        let (keys, length) = size(random, kind, 6);
        let mut scenario = outage(random, kind, keys, 1, length);
        // It holds without end: neither patience nor class has to do with it.
        if random.percent(50) {
            scenario.guard.patience = Duration::from_secs(60);
            scenario.classes = random.pick(&[1, 50]);
        }
        let report = check(&scenario, seed);
        most_held = most_held.max(report.most_held);
    });
    assert!(
        most_held > 0 || runs() < DEFAULT_RUNS,
        "the guard had nothing to do"
    );
}

/// Attempts hang until they time out, and records come one by one. That a lane fails is seen only
/// after the time-out.
#[test]
fn no_good_record_is_given_up_where_attempts_hang_in_a_total_outage() {
    let mut most_held = 0;
    for_each_seed(|seed, random| {
        let kind = random.pick(&[Kind::Time, Kind::TimeThenTopic, Kind::Count]);
        let gap = random.pick(&[20 * SECOND, 30 * SECOND, MINUTE]);
        let records = random.pick(&[15, 60]);
        let until = OUTAGE_BEGINS + records * gap;
        let mut scenario = calm(kind, 1_000, records as usize, until);
        scenario.partitions = 1 + random.index(3);
        scenario.concurrency = 1_000;
        scenario.outages = vec![(0, until + HOUR)];
        scenario.hangs_for = Some(5 * MINUTE);
        scenario.ends_at = until + 3 * HOUR;
        let report = check(&scenario, seed);
        most_held = most_held.max(report.most_held);
    });
    assert!(
        most_held > 0 || runs() < DEFAULT_RUNS,
        "the guard had nothing to do"
    );
}

#[test]
fn bad_records_that_hang_are_given_up_within_the_retry_time() {
    for_each_seed(|seed, random| {
        let kind = random.pick(&[Kind::Time, Kind::TimeThenTopic, Kind::Count]);
        let mut scenario = calm(kind, 10, 100, 20 * MINUTE);
        scenario.bad = Bad::First(1 + random.index(4));
        scenario.hangs_for = Some(5 * MINUTE);
        scenario.guard.patience = Duration::ZERO;
        scenario.ends_at = 4 * HOUR;
        let report =
            bad_records_are_given_up(&scenario, seed).unwrap_or_else(|broken| panic!("{broken}"));
        assert_eq!(report.most_held, 0, "seed {seed}");
    });
}

#[test]
fn no_good_record_is_given_up_where_half_of_the_keys_are_out() {
    let mut most_held = 0;
    for_each_seed(|seed, random| {
        let kind = random.pick(&[Kind::Time, Kind::TimeThenTopic, Kind::Count]);
        let (keys, length) = size(random, kind, 20);
        let report = check(&outage(random, kind, keys, 2, length), seed);
        most_held = most_held.max(report.most_held);
    });
    assert!(
        most_held > 0 || runs() < DEFAULT_RUNS,
        "the guard had nothing to do"
    );
}

#[test]
fn no_good_record_is_given_up_where_one_key_in_fifty_is_out() {
    for_each_seed(|seed, random| {
        let kind = random.pick(&[Kind::Time, Kind::TimeThenTopic]);
        // Two lanes are too few for the guard: they have their retry time.
        let (keys, length) = match random.percent(50) {
            true => (1_000, any_length(random)),
            false => (
                100,
                random.pick(&[SECOND, 30 * SECOND, 5 * MINUTE, 14 * MINUTE]),
            ),
        };
        check(&outage(random, kind, keys, 50, length), seed);
    });
}

#[test]
fn no_good_record_is_given_up_in_an_outage_that_comes_and_goes() {
    for_each_seed(|seed, random| {
        // Not by count: the few seconds may be used up before the guard has seen five lanes fail
        // again.
        let kind = random.pick(&[Kind::Time, Kind::TimeThenTopic]);
        let (keys, one_in) = random.pick(&[(20, 1), (100, 1), (400, 1), (100, 2), (400, 2)]);
        let mut scenario = outage(random, kind, keys, one_in, 50 * MINUTE);
        scenario.outages = flaps(random);
        check(&scenario, seed);
    });
}

#[test]
fn no_good_record_is_given_up_across_restarts_and_after_a_cold_start() {
    for_each_seed(|seed, random| {
        let kind = random.pick(&[Kind::Time, Kind::TimeThenTopic]);
        let (keys, one_in) = random.pick(&[(20, 1), (100, 1), (400, 1), (100, 2), (400, 2)]);
        let hours = random.percent(30);
        let length = if hours {
            5 * HOUR
        } else {
            random.pick(&[10 * MINUTE, HOUR])
        };
        let mut scenario = outage(random, kind, keys, one_in, length);
        if hours {
            // It goes down in the outage, and comes back hours later, still in it.
            let down = OUTAGE_BEGINS + MINUTE + random.below(20 * MINUTE);
            scenario.downtimes = vec![(down, down + 4 * HOUR)];
            scenario.produced_until = down;
        } else {
            let mut now = OUTAGE_BEGINS;
            while now < OUTAGE_BEGINS + length {
                now += SECOND * (5 + random.below(900));
                scenario
                    .downtimes
                    .push((now, now + random.below(30 * SECOND)));
                now += 30 * SECOND;
            }
        }
        check(&scenario, seed);
    });
}

#[test]
fn what_is_unavailable_is_waited_for_however_few_are_affected() {
    for_each_seed(|seed, random| {
        let kind = random.pick(&[Kind::Time, Kind::TimeThenTopic, Kind::Count]);
        let mut scenario = outage(random, kind, 100, 50, HOUR);
        scenario.unavailable = true;
        let report = check(&scenario, seed);
        assert!(report.most_held > 0, "it is shown");
    });
}

#[test]
fn one_bad_record_or_two_are_given_up_within_the_retry_time() {
    for_each_seed(|seed, random| {
        let kind = random.pick(&[Kind::Time, Kind::TimeThenTopic, Kind::Count]);
        let count = 1 + random.index(2);
        let mut scenario = calm(kind, 10, random.pick(&[count, 100]), MINUTE);
        scenario.bad = Bad::First(count);
        scenario.guard.patience = Duration::ZERO;
        let report =
            bad_records_are_given_up(&scenario, seed).unwrap_or_else(|broken| panic!("{broken}"));
        assert_eq!(report.most_held, 0, "seed {seed}");
    });
}

fn a_steady_percent(random: &mut Random) -> Scenario {
    let kind = random.pick(&[Kind::Time, Kind::TimeThenTopic, Kind::Count]);
    // Where only bad ones are left, it looks like a total outage: so good ones go on coming.
    let mut scenario = calm(kind, 200, 8_000, 2 * HOUR);
    scenario.bad = Bad::PercentUntil(1, 50 * MINUTE);
    scenario.guard.patience = Duration::from_secs(20 * 60);
    scenario
}

#[test]
fn a_steady_percent_of_bad_records_is_given_up_within_retry_time_and_patience() {
    for_each_seed(|seed, random| {
        let scenario = a_steady_percent(random);
        bad_records_are_given_up(&scenario, seed).unwrap_or_else(|broken| panic!("{broken}"));
    });
}

/// That good records succeed at the place is not seen: a success names none.
#[test]
fn steadily_bad_records_that_name_a_place_are_given_up_within_retry_time_and_patience() {
    let mut saw_place = false;
    for_each_seed(|seed, random| {
        let scenario = Scenario {
            bad_place: Some(Place::new(3)),
            ..a_steady_percent(random)
        };
        let report =
            bad_records_are_given_up(&scenario, seed).unwrap_or_else(|broken| panic!("{broken}"));
        saw_place |= report.saw_place;
    });
    assert!(saw_place || runs() < DEFAULT_RUNS, "no place was suspected");
}

/// Six bad records among good ones that come so rarely that each gap looks like a total outage.
fn six_bad_ones_on_a_slow_topic(random: &mut Random) -> Scenario {
    let kind = random.pick(&[Kind::Time, Kind::TimeThenTopic, Kind::Count]);
    let gap = random.pick(&[50 * SECOND, 90 * SECOND, 2 * MINUTE]);
    let mut scenario = calm(kind, 100_000, (10 * HOUR / gap) as usize, 10 * HOUR);
    scenario.bad = Bad::First(6);
    scenario.guard.patience = Duration::from_secs(20 * 60);
    scenario
}

/// A record a minute, and a third of them bad.
fn a_third_of_a_slow_topic(random: &mut Random) -> Scenario {
    let kind = random.pick(&[Kind::Time, Kind::TimeThenTopic]);
    let mut scenario = calm(kind, 100_000, 18 * 60, 18 * HOUR);
    scenario.bad = Bad::PercentUntil(30, 4 * HOUR);
    scenario
}

#[test]
fn bad_records_of_a_slow_topic_are_given_up_within_retry_time_and_patience() {
    for_each_seed(|seed, random| {
        let of_the_first = random.percent(50);
        let mut scenario = if of_the_first {
            six_bad_ones_on_a_slow_topic(random)
        } else {
            a_third_of_a_slow_topic(random)
        };
        scenario.bad_place = random.percent(50).then_some(Place::new(3));
        bad_records_of_a_slow_topic_are_given_up(&scenario, seed)
            .unwrap_or_else(|broken| panic!("{broken}"));
    });
}

/// Six bad records at the beginning of a partition, and many times as many good ones behind as may
/// be settled ahead of them.
fn six_bad_ones_and_a_full_window(random: &mut Random) -> Scenario {
    let kind = random.pick(&[Kind::Time, Kind::TimeThenTopic, Kind::Count]);
    let mut scenario = calm(kind, 1_000, 3_000, 30 * MINUTE);
    scenario.partitions = 1;
    scenario.settled_ahead = random.pick(&[1, 10, 100]);
    scenario.bad = Bad::First(6);
    scenario.guard.patience = Duration::from_secs(20 * 60);
    scenario.ends_at = 6 * HOUR;
    scenario
}

#[test]
fn bad_records_with_a_full_window_behind_them_are_given_up_within_retry_time_and_patience() {
    for_each_seed(|seed, random| {
        let scenario = six_bad_ones_and_a_full_window(random);
        bad_records_of_a_slow_topic_are_given_up(&scenario, seed)
            .unwrap_or_else(|broken| panic!("{broken}"));
    });
}

#[test]
fn a_pause_that_lasts_while_nothing_succeeds_is_noticed() {
    caught(
        Fault::StaysPausedWhileNothingSucceeds,
        bad_records_of_a_slow_topic_are_given_up,
        six_bad_ones_and_a_full_window,
    );
}

#[test]
fn a_deployment_that_cannot_process_anything_gives_up_twenty_records_and_holds_the_rest() {
    for_each_seed(|seed, random| {
        let mut scenario = calm(Kind::Time, 100, 500, 10 * MINUTE);
        scenario.bad = Bad::AllUntilRestart(random.pick(&[Failure::Undecodable, Failure::Fatal]));
        scenario.downtimes = vec![(20 * MINUTE, 21 * MINUTE)];
        scenario.ends_at = HOUR;
        let report = World::run(scenario, seed);
        assert_eq!(report.good_dead, 20, "seed {seed}: {report:?}");
        assert_eq!(
            report.good_done,
            report.good - 20,
            "seed {seed}: {report:?}"
        );
        assert!(
            report.saw_bad_deployment && report.most_held > 0,
            "seed {seed}: {report:?}"
        );
    });
}

#[test]
fn an_operator_lets_go_what_a_total_outage_holds() {
    for_each_seed(|seed, random| {
        let mut scenario = outage(random, Kind::Count, 20, 1, HOUR);
        scenario.outages = vec![(0, 3 * HOUR)];
        (scenario.records, scenario.produced_until) = (100, MINUTE);
        scenario.released_at = Some(30 * MINUTE);
        scenario.ends_at = HOUR;
        scenario.without_keys = false;
        let report = World::run(scenario, seed);
        assert!(report.good_dead >= 20, "seed {seed}: {report:?}");
    });
}

/// One of the runs notices the mistake.
fn caught(
    fault: Fault,
    judge: fn(&Scenario, u64) -> Result<Report, String>,
    scenario: fn(&mut Random) -> Scenario,
) {
    let noticed = (0..10).any(|seed| {
        let scenario = scenario(&mut Random::new(seed));
        judge(&Scenario { fault, ..scenario }, seed).is_err()
    });
    assert!(noticed, "{fault:?} is not noticed");
}

/// Each of these costs as much as four others.
fn for_each_seed_with_acts(mut run: impl FnMut(u64, &mut Random)) {
    let runs = DEFAULT_RUNS / 4;
    crate::for_each_seed(runs, |seed| run(seed, &mut Random::new(seed)));
}

/// An outage of half of the keys or of all, with restarts in it, in which operators act.
fn outage_with_acts(random: &mut Random) -> Scenario {
    let kind = random.pick(&[Kind::Time, Kind::TimeThenTopic]);
    let (keys, one_in) = random.pick(&[(20, 1), (100, 1), (100, 2)]);
    let length = random.pick(&[30 * SECOND, 14 * MINUTE, HOUR]);
    let mut scenario = outage(random, kind, keys, one_in, length);
    let over = OUTAGE_BEGINS + length;
    (scenario.acts, scenario.acts_until) = (10 + random.index(200), over + MINUTE);
    let down = random.below(over);
    scenario.downtimes = vec![(down, down + random.below(30 * SECOND))];
    scenario
}

/// Whatever operators do: what they have not given up is not given up.
#[test]
fn no_good_record_is_given_up_by_operators_acts_in_an_outage_but_those_that_they_name() {
    let mut given_up = 0;
    for_each_seed_with_acts(|seed, random| {
        let report = check(&outage_with_acts(random), seed);
        given_up += report.good_given_up_by_order;
    });
    assert!(given_up > 0 || runs() < DEFAULT_RUNS, "nobody has acted");
}

/// What is let go may be given up, and nothing is lost by it.
#[test]
fn what_operators_let_go_in_an_outage_is_done_or_given_up_and_nothing_is_left() {
    for_each_seed_with_acts(|seed, random| {
        let mut scenario = outage_with_acts(random);
        scenario.releases = true;
        let report = World::run(scenario, seed);
        let given_up = report.good_dead + report.good_dead_too_early;
        let ended = report.good_done + given_up + report.good_given_up_by_order;
        assert_eq!(ended, report.good, "seed {seed}: {report:?}");
    });
}

/// To try a bad record more often makes it last no longer than the retry time and patience.
#[test]
fn bad_records_that_operators_retry_or_pause_are_given_up_all_the_same() {
    for_each_seed(|seed, random| {
        let kind = random.pick(&[Kind::Time, Kind::TimeThenTopic, Kind::Count]);
        let mut scenario = calm(kind, 10, 100, 20 * MINUTE);
        scenario.bad = Bad::First(1 + random.index(4));
        scenario.guard.patience = Duration::ZERO;
        (scenario.acts, scenario.acts_until) = (10 + random.index(60), 10 * MINUTE);
        scenario.ends_at = 4 * HOUR;
        let report = World::run(scenario, seed);
        let bad = report.bad_dead_after.len() + report.bad_given_up_by_order;
        let good = report.good_done + report.good_given_up_by_order;
        assert_eq!(
            (bad, good, report.good_dead),
            (report.bad, report.good, 0),
            "seed {seed}: {report:?}"
        );
    });
}

#[test]
fn a_restart_that_forgets_what_is_paused_is_noticed() {
    let noticed = (0..10).any(|seed| {
        let mut scenario = outage_with_acts(&mut Random::new(seed));
        scenario.fault = Fault::ForgetsPausesAtARestart;
        std::panic::catch_unwind(|| World::run(scenario, seed)).is_err()
    });
    assert!(noticed);
}

#[test]
fn no_guard_is_noticed() {
    caught(Fault::HasNoGuard, no_good_record_is_given_up, |random| {
        let mut scenario = outage(random, Kind::Time, 20, 2, HOUR);
        scenario.guard.lanes = usize::MAX;
        scenario
    });
}

#[test]
fn a_guard_for_each_partition_is_noticed() {
    caught(
        Fault::HasAGuardForEachPartition,
        no_good_record_is_given_up,
        |random| Scenario {
            partitions: 3,
            without_keys: false,
            place: None,
            ..outage(random, Kind::Time, 18, 2, HOUR)
        },
    );
}

#[test]
fn a_guard_that_hears_of_no_success_is_noticed() {
    caught(
        Fault::TellsNothing,
        bad_records_are_given_up,
        a_steady_percent,
    );
}

#[test]
fn a_guard_that_hears_of_no_success_is_noticed_on_a_slow_topic() {
    caught(
        Fault::TellsNothing,
        bad_records_of_a_slow_topic_are_given_up,
        six_bad_ones_on_a_slow_topic,
    );
}

#[test]
fn a_retry_time_that_is_forgotten_on_the_way_is_noticed() {
    caught(
        Fault::ForgetsRetryTime,
        bad_records_are_given_up,
        |random| {
            let mut scenario = a_steady_percent(random);
            scenario.policy = policy(Kind::TimeThenTopic);
            scenario
        },
    );
}
