//! Retry time, what is unavailable, and records that are held.

use super::*;
use crate::failed_attempt::{ErrorClass, FailedAttempt, Place};

fn by_time(seconds: u64, topic: Option<TopicRetry>) -> Partition<i64> {
    partition(by_time_settings(seconds, topic))
}

fn by_time_settings(seconds: u64, topic: Option<TopicRetry>) -> PartitionSettings {
    let for_at_least = Some(Duration::from_secs(seconds));
    let retry = RetryPolicy {
        for_at_least,
        topic,
        in_place: InPlace::Times(2),
        ..settings().retry
    };
    PartitionSettings {
        retry,
        ..settings()
    }
}

/// Starts the record, whose attempt takes this long and fails like this.
fn attempt(
    partition: &mut Partition<i64>,
    failure: Failure,
    takes: Duration,
    now: &mut Moment,
    guard: &mut OutageGuard,
) -> Verdict<i64> {
    partition.tick(*now);
    let ticket = expect_start(partition, 0);
    *now = *now + takes;
    let verdict = partition.fail(ticket, failure.into(), 0, *now, guard);
    if let Verdict::Waiting { delay, .. } = verdict {
        *now = *now + delay;
    }
    verdict
}

#[test]
fn retry_time_is_the_delays_and_the_attempts_after_the_first_failure() {
    let mut partition = by_time(10, None);
    let (mut now, guard) = (at(0), &mut never_holds());
    deliver(&mut partition, 0, 7);
    // The first attempt does not count, however long it takes.
    assert_eq!(
        attempt(
            &mut partition,
            Failure::Retryable,
            60 * SECOND,
            &mut now,
            guard
        ),
        waiting(SECOND)
    );
    assert_eq!(
        attempt(
            &mut partition,
            Failure::TimedOut,
            3 * SECOND,
            &mut now,
            guard
        ),
        waiting(2 * SECOND)
    );
    // 1 + 3 + 2 + 3 s.
    assert_eq!(
        attempt(
            &mut partition,
            Failure::TimedOut,
            3 * SECOND,
            &mut now,
            guard
        ),
        waiting(4 * SECOND)
    );
    assert_eq!(
        attempt(&mut partition, Failure::Retryable, SECOND, &mut now, guard),
        Verdict::Publishing
    );
    assert_eq!(
        partition.next_publish().map(|request| request.retried_for),
        Some(Duration::ZERO),
        "a dead letter"
    );
}

#[test]
fn a_pause_and_the_wait_for_a_place_are_no_retry_time() {
    let mut partition = by_time(5, None);
    let (mut now, guard) = (at(0), &mut never_holds());
    deliver(&mut partition, 0, 7);
    for delay in [1, 2, 4] {
        assert_eq!(
            attempt(
                &mut partition,
                Failure::Retryable,
                Duration::ZERO,
                &mut now,
                guard
            ),
            waiting(delay * SECOND)
        );
        partition.set_paused(Paused::Yes);
        partition.tick(now + 3_600 * SECOND);
        assert_eq!(start(&mut partition), None);
        partition.set_paused(Paused::No);
        now = now + 3_600 * SECOND;
    }
    assert_eq!(
        attempt(
            &mut partition,
            Failure::Retryable,
            Duration::ZERO,
            &mut now,
            guard
        ),
        Verdict::Publishing
    );
}

#[test]
fn retry_time_travels_through_the_retry_topic_with_the_delay_of_the_round() {
    let topic = TopicRetry {
        rounds: 1,
        backoff: exact(60 * SECOND, 600 * SECOND),
    };
    let mut partition = by_time(1_000, Some(topic));
    let (mut now, guard) = (at(0), &mut never_holds());
    let retried_for = 500 * SECOND;
    partition.deliver(
        Delivery {
            rounds: 4,
            attempts: 5,
            retried_for,
            ..delivery(0, Some(7))
        },
        now,
    );
    for delay in [1, 2] {
        assert_eq!(
            attempt(&mut partition, Failure::Retryable, SECOND, &mut now, guard),
            waiting(delay * SECOND)
        );
    }
    assert_eq!(
        attempt(&mut partition, Failure::Retryable, SECOND, &mut now, guard),
        Verdict::Publishing
    );
    let request = partition.next_publish().unwrap();
    assert_eq!(
        request.publish,
        Publish::Retry {
            round: 5,
            delay: 600 * SECOND
        }
    );
    // Three attempts of a second, 1 s and 2 s between them, and the round.
    assert_eq!(request.retried_for, (500 + 3 + 3 + 600) * SECOND);
}

#[test]
fn retry_time_that_came_used_up_leaves_three_attempts() {
    let topic = TopicRetry {
        rounds: 1,
        backoff: exact(60 * SECOND, 600 * SECOND),
    };
    let mut partition = by_time(10, Some(topic));
    let (mut now, guard) = (at(0), &mut never_holds());
    partition.deliver(
        Delivery {
            rounds: 1,
            retried_for: 3_600 * SECOND,
            ..delivery(0, Some(7))
        },
        now,
    );
    for delay in [1, 2] {
        let verdict = attempt(
            &mut partition,
            Failure::Retryable,
            Duration::ZERO,
            &mut now,
            guard,
        );
        assert_eq!(verdict, waiting(delay * SECOND));
    }
    assert_eq!(
        attempt(
            &mut partition,
            Failure::Retryable,
            Duration::ZERO,
            &mut now,
            guard
        ),
        Verdict::Publishing
    );
    assert_eq!(
        partition.next_publish().unwrap().publish,
        Publish::DeadLetter {
            reason: Reason::Exhausted
        }
    );
}

#[test]
fn the_time_of_an_attempt_that_fails_by_itself_counts_after_a_wait_for_what_is_unavailable() {
    let mut partition = by_time(10, None);
    let (mut now, guard) = (at(0), &mut never_holds());
    deliver(&mut partition, 0, 7);
    let failure = Failure::Retryable;
    for delay in [1, 2] {
        assert_eq!(
            attempt(&mut partition, failure, Duration::ZERO, &mut now, guard),
            waiting(delay * SECOND)
        );
    }
    let away = Failure::Unavailable { retry_after: None };
    for _ in 0..8 {
        let verdict = attempt(&mut partition, away, SECOND, &mut now, guard);
        assert!(matches!(verdict, Verdict::Waiting { .. }));
    }
    assert_eq!(partition.held_by_guard(), 1);
    // 3 of its 10 s are used up, and this attempt takes 8.
    assert_eq!(
        attempt(&mut partition, failure, 8 * SECOND, &mut now, guard),
        Verdict::Publishing
    );
}

#[test]
fn what_is_unavailable_burns_neither_attempts_nor_time() {
    let mut partition = by_time(3, None);
    let (mut now, guard) = (at(0), &mut never_holds());
    deliver(&mut partition, 0, 7);
    assert_eq!(
        attempt(
            &mut partition,
            Failure::Retryable,
            Duration::ZERO,
            &mut now,
            guard
        ),
        waiting(SECOND)
    );
    let away = Failure::Unavailable { retry_after: None };
    for delay in [1, 2, 4, 8] {
        assert_eq!(
            attempt(&mut partition, away, SECOND, &mut now, guard),
            waiting(delay * SECOND)
        );
    }
    assert_eq!(partition.held_by_guard(), 0);
    let held = Verdict::Waiting {
        delay: 10 * SECOND,
        held: Some(HeldBy::Unavailable),
    };
    for _ in 0..100 {
        assert_eq!(attempt(&mut partition, away, SECOND, &mut now, guard), held);
        assert_eq!(partition.held_by_guard(), 1);
    }
    // Its back-off goes on where it was; 1 s of its time is used up.
    assert_eq!(
        attempt(
            &mut partition,
            Failure::Retryable,
            Duration::ZERO,
            &mut now,
            guard
        ),
        waiting(2 * SECOND)
    );
    assert_eq!(partition.held_by_guard(), 0);
    assert_eq!(
        attempt(
            &mut partition,
            Failure::Retryable,
            Duration::ZERO,
            &mut now,
            guard
        ),
        Verdict::Publishing
    );
}

#[test]
fn after_a_total_outage_a_held_record_has_its_whole_retry_time() {
    let mut partition = by_time(5, None);
    let (mut now, mut guard) = (at(0), total_outage(at(0)));
    deliver(&mut partition, 0, 7);
    let mut was_held = 0;
    while now < at(55) {
        let verdict = attempt(
            &mut partition,
            Failure::Retryable,
            Duration::ZERO,
            &mut now,
            &mut guard,
        );
        was_held += usize::from(matches!(
            verdict,
            Verdict::Waiting {
                held: Some(HeldBy::Outage),
                ..
            }
        ));
    }
    while now < at(3_000) {
        // The other lanes go on failing too.
        refresh(&mut guard, now);
        let _ = attempt(
            &mut partition,
            Failure::Retryable,
            Duration::ZERO,
            &mut now,
            &mut guard,
        );
    }
    assert!(was_held > 1 && partition.held_by_guard() == 1);
    partition.report_to_guard(&mut guard, now);
    assert_eq!(guard.state(now).held, 1);
    guard.succeeded(now);
    for delay in [1, 2, 4] {
        let verdict = attempt(
            &mut partition,
            Failure::Retryable,
            Duration::ZERO,
            &mut now,
            &mut guard,
        );
        assert_eq!(
            (verdict, partition.held_by_guard()),
            (waiting(delay * SECOND), 0)
        );
    }
    let verdict = attempt(
        &mut partition,
        Failure::Retryable,
        Duration::ZERO,
        &mut now,
        &mut guard,
    );
    assert_eq!(verdict, Verdict::Publishing);
}

/// The lanes of [`total_outage`] have failed again.
fn refresh(guard: &mut OutageGuard, now: Moment) {
    (0..5).for_each(|lane| guard.expects(1_000_000 + lane, now));
}

#[test]
fn an_operator_lets_a_held_record_go_at_its_next_failure() {
    let mut partition = by_time(5, None);
    let (mut now, mut guard) = (at(0), total_outage(at(0)));
    deliver(&mut partition, 0, 7);
    while partition.held_by_guard() == 0 {
        let _ = attempt(
            &mut partition,
            Failure::Retryable,
            Duration::ZERO,
            &mut now,
            &mut guard,
        );
    }
    guard.release(now);
    let verdict = attempt(
        &mut partition,
        Failure::Retryable,
        Duration::ZERO,
        &mut now,
        &mut guard,
    );
    assert_eq!(
        (verdict, partition.held_by_guard()),
        (Verdict::Publishing, 0)
    );
}

#[test]
fn a_record_is_judged_by_an_error_it_had_before_where_that_is_an_outage() {
    let mut partition = by_time(3, None);
    let mut guard = OutageGuard::default();
    let (out, other) = (ErrorClass::new(1), ErrorClass::new(2));
    let failed = |class| FailedAttempt {
        class,
        ..Failure::Retryable.into()
    };
    for offset in 0..5 {
        deliver(&mut partition, offset, offset as u64);
    }
    partition.set_paused(Paused::No);
    let mut now = at(1);
    for offset in 1..5 {
        partition.deliver(delivery(offset, Some(offset as u64)), now);
    }
    let tickets: Vec<_> = (0..4)
        .map(|offset| expect_start(&mut partition, offset))
        .collect();
    for ticket in tickets {
        let _ = partition.fail(ticket, failed(out), 0, now, &mut guard);
    }
    let fifth = expect_start(&mut partition, 4);
    let _ = partition.fail(fifth, failed(out), 0, now, &mut guard);
    guard.succeeded(now + SECOND);
    let mut last = waiting(SECOND);
    for seconds in [1, 2] {
        now = now + seconds * SECOND;
        partition.tick(now);
        let ticket = expect_start(&mut partition, 0);
        last = partition.fail(ticket, failed(other), 0, now, &mut guard);
        // The others stay where they are.
        while let Some((_, ticket)) = start(&mut partition) {
            let _ = partition.fail(ticket, failed(out), 0, now, &mut guard);
        }
    }
    assert_eq!(
        last,
        Verdict::Waiting {
            delay: 10 * SECOND,
            held: Some(HeldBy::Class(out))
        }
    );
}

#[test]
fn a_lane_that_succeeds_is_told_with_the_next_news() {
    let mut partition = by_time(60, None);
    let mut guard = OutageGuard::default();
    deliver(&mut partition, 0, 7);
    assert!(!partition.has_news());
    let ticket = expect_start(&mut partition, 0);
    let attempt = FailedAttempt::from(Failure::Retryable);
    assert_eq!(
        partition.fail(ticket, attempt, 0, at(0), &mut guard),
        waiting(SECOND)
    );
    partition.tick(at(1));
    let ticket = expect_start(&mut partition, 0);
    let _ = partition.succeed(ticket, Success::Done);
    assert!(partition.has_news());
    partition.report_to_guard(&mut guard, at(1));
    assert!(!partition.has_news());
    // Four more are one too few: the first is no longer among them.
    for lane in 1..5 {
        partition.deliver(delivery(lane, Some(lane as u64)), at(1));
        let ticket = expect_start(&mut partition, lane);
        let _ = partition.fail(ticket, attempt, 0, at(1), &mut guard);
    }
    assert!(guard.holds_nothing(at(1)));
}

fn at_a_place() -> FailedAttempt {
    FailedAttempt {
        place: Some(Place::new(1)),
        ..Failure::Retryable.into()
    }
}

#[test]
fn a_success_through_the_retry_topic_clears_the_lane_that_failed_in_the_origin() {
    let topic = TopicRetry {
        rounds: 9,
        backoff: exact(60 * SECOND, 600 * SECOND),
    };
    let retry = RetryPolicy {
        topic: Some(topic),
        in_place: InPlace::Times(0),
        ..settings().retry
    };
    let settings = PartitionSettings {
        retry,
        ..settings()
    };
    let (mut origin, mut topic) = (partition(settings.clone()), partition(settings));
    let mut guard = OutageGuard::default();
    for offset in 0..5 {
        deliver(&mut origin, offset, offset as u64);
        let ticket = expect_start(&mut origin, offset);
        assert_eq!(
            origin.fail(ticket, at_a_place(), 0, at(1), &mut guard),
            Verdict::Publishing
        );
    }
    topic.deliver(
        Delivery {
            rounds: 1,
            attempts: 1,
            ..delivery(0, Some(0))
        },
        at(61),
    );
    let ticket = expect_start(&mut topic, 0);
    let _ = topic.succeed(ticket, Success::Done);
    topic.report_to_guard(&mut guard, at(61));
    let state = guard.state(at(70));
    assert!(
        state.places.is_empty() && state.total.is_none(),
        "{state:?}"
    );
    assert!(
        guard.holds_nothing(at(61 + 60)),
        "the class is below the threshold too"
    );
}

#[test]
fn a_skipped_record_is_a_success() {
    let mut partition = by_time(5, None);
    let mut guard = total_outage(at(1));
    partition.deliver(delivery(0, Some(7)), at(2));
    let ticket = expect_start(&mut partition, 0);
    let _ = partition.succeed(ticket, Success::Skipped);
    partition.report_to_guard(&mut guard, at(2));
    assert!(guard.holds_nothing(at(2)));
}

#[test]
fn a_record_that_times_out_after_it_failed_at_a_place_is_judged_by_that_place() {
    let mut partition = by_time(3, None);
    let mut guard = OutageGuard::default();
    for offset in 0..5 {
        deliver(&mut partition, offset, offset as u64);
    }
    let mut now = at(1);
    for offset in 0..4 {
        let ticket = expect_start(&mut partition, offset);
        let _ = partition.fail(ticket, at_a_place(), 0, now, &mut guard);
    }
    let fifth = expect_start(&mut partition, 4);
    let _ = partition.fail(fifth, at_a_place(), 0, now, &mut guard);
    guard.succeeded(now + SECOND);
    let mut last = waiting(SECOND);
    // Some of the five time out all along: they may still need the place.
    for seconds in [1, 2, 10, 10] {
        now = now + seconds * SECOND;
        partition.tick(now);
        while let Some((offset, ticket)) = start(&mut partition) {
            let failed = if offset < 2 {
                Failure::TimedOut.into()
            } else {
                at_a_place()
            };
            let verdict = partition.fail(ticket, failed, 0, now, &mut guard);
            if offset == 0 {
                last = verdict;
            }
        }
    }
    let held = Verdict::Waiting {
        delay: 10 * SECOND,
        held: Some(HeldBy::Place(Place::new(1))),
    };
    assert_eq!((last, partition.held_by_guard()), (held, 5));
    // An error of another class that names no place does not end the hold.
    now = now + 10 * SECOND;
    partition.tick(now);
    let (offset, ticket) = start(&mut partition).unwrap();
    let other = FailedAttempt {
        class: ErrorClass::new(99),
        ..Failure::Retryable.into()
    };
    assert_eq!(
        (partition.fail(ticket, other, 0, now, &mut guard), offset),
        (held, offset)
    );
}

#[test]
fn a_success_is_told_with_the_time_that_its_partition_was_told() {
    let mut partition = by_time(5, None);
    partition.deliver(delivery(0, Some(7)), at(1));
    let ticket = expect_start(&mut partition, 0);
    // Meanwhile others fail, in other partitions.
    let mut guard = total_outage(at(5));
    partition.set_now(at(6));
    let _ = partition.succeed(ticket, Success::Done);
    partition.report_to_guard(&mut guard, at(6));
    assert!(guard.holds_nothing(at(6)));
}

/// Six records fail for hours, five of them after a round through the retry topic: how many are
/// given up.
fn given_up(sixth_rounds: u32, something_succeeds: bool) -> usize {
    let mut partition = partition(PartitionSettings {
        concurrency: 6,
        ..by_time_settings(60, None)
    });
    let settings = OutageSettings {
        patience: 600 * SECOND,
        ..OutageSettings::default()
    };
    let mut guard = OutageGuard::new(settings);
    if something_succeeds {
        guard.succeeded(at(1));
    }
    for offset in 0..6 {
        let rounds = if offset == 5 { sixth_rounds } else { 1 };
        partition.deliver(
            Delivery {
                rounds,
                ..delivery(offset, Some(offset as u64))
            },
            at(1),
        );
    }
    let (mut given_up, mut latest) = (0, 0);
    for now in 2..4 * 3_600 {
        partition.tick(at(now));
        while let Some((_, ticket)) = start(&mut partition) {
            let _ = partition.fail(ticket, Failure::Retryable.into(), 0, at(now), &mut guard);
        }
        while let Some(request) = partition.next_publish() {
            let _ =
                partition.publish_finished(request.ticket, PublishResult::Acknowledged, 0, at(now));
            (given_up, latest) = (given_up + 1, now);
        }
        partition.report_to_guard(&mut guard, at(now));
    }
    assert!(latest < 60 + 600 + 30, "the last one after {latest} s");
    given_up
}

/// An operator has each held record retried every second: it is held again, and no patience is
/// spent that was not waited.
#[test]
fn what_an_operator_retries_spends_no_patience_that_it_did_not_wait() {
    let mut partition = partition(PartitionSettings {
        concurrency: 6,
        ..by_time_settings(60, None)
    });
    let mut guard = OutageGuard::new(OutageSettings {
        patience: 600 * SECOND,
        ..OutageSettings::default()
    });
    for offset in 0..6 {
        let round = Delivery {
            rounds: 1,
            ..delivery(offset, Some(offset as u64))
        };
        partition.deliver(round, at(1));
    }
    for now in 2..300 {
        for key in 0..6 {
            // As the lanes are named: none is 0.
            partition
                .retry_now(if key == 0 { u64::MAX } else { key }, at(now))
                .unwrap();
        }
        while let Some((_, ticket)) = start(&mut partition) {
            let _ = partition.fail(ticket, Failure::Retryable.into(), 0, at(now), &mut guard);
        }
        assert_eq!(partition.next_publish(), None, "given up after {now} s");
        partition.report_to_guard(&mut guard, at(now));
    }
}

#[test]
fn what_is_seen_of_a_retry_topic_alone_holds_for_the_patience_and_not_without_end() {
    assert_eq!(given_up(1, false), 6);
    assert_eq!(given_up(0, false), 0, "one of them fails at first hand");
    assert_eq!(given_up(1, true), 0, "something has succeeded before");
}

/// Were each of its attempts a sign that records decode, each would let twenty more go.
#[test]
fn a_record_that_decodes_counts_at_its_first_attempt_alone() {
    let policy = RetryPolicy {
        dead_letter_topic: true,
        in_place: InPlace::Times(10),
        ..settings().retry
    };
    let mut partition = partition(PartitionSettings {
        retry: policy,
        concurrency: 1_000,
        ..settings()
    });
    let (mut guard, mut given_up) = (OutageGuard::default(), [0; 3]);
    deliver(&mut partition, 0, 0);
    let mut now = at(0);
    for (attempt, given_up) in (0..).zip(&mut given_up) {
        partition.tick(now);
        let decodes = expect_start(&mut partition, 0);
        let first = 1 + attempt * 100;
        for offset in first..first + 30 {
            deliver(&mut partition, offset, offset as u64);
            let ticket = expect_start(&mut partition, offset);
            let verdict = partition.fail(ticket, Failure::Undecodable.into(), 0, now, &mut guard);
            *given_up += usize::from(verdict == Verdict::Publishing);
        }
        let verdict = partition.fail(decodes, Failure::Retryable.into(), 0, now, &mut guard);
        let Verdict::Waiting { delay, .. } = verdict else {
            panic!("{verdict:?}")
        };
        now = now + delay;
        // What is held waits for longer.
        assert!(delay < 20 * SECOND, "{delay:?}");
    }
    assert_eq!(given_up, [20, 20, 0]);
}

/// Attempts in the outage are no evidence against the record, whatever is left of the patience.
#[test]
fn the_first_failure_after_a_total_outage_gives_nothing_up() {
    for patience in [Duration::ZERO, Duration::from_secs(7_200)] {
        let policy = RetryPolicy {
            dead_letter_topic: true,
            in_place: InPlace::Times(2),
            ..settings().retry
        };
        let mut partition = partition(PartitionSettings {
            retry: policy,
            concurrency: 1_000,
            ..settings()
        });
        let mut guard = OutageGuard::new(OutageSettings {
            patience,
            ..OutageSettings::default()
        });
        let mut now = at(1);
        (0..8).for_each(|offset| deliver(&mut partition, offset, offset as u64));
        for _ in 0..60 {
            partition.tick(now);
            for _ in 0..8 {
                let Some(ticket) = partition.next_start().map(|start| start.ticket) else {
                    break;
                };
                let verdict = partition.fail(ticket, Failure::Retryable.into(), 0, now, &mut guard);
                assert!(
                    matches!(verdict, Verdict::Waiting { .. }),
                    "in the outage: {verdict:?}"
                );
            }
            now = now + 60 * SECOND;
        }
        guard.succeeded(now);
        now = now + SECOND;
        partition.tick(now);
        let ticket = partition.next_start().expect("it was released").ticket;
        let verdict = partition.fail(ticket, Failure::Retryable.into(), 0, now, &mut guard);
        assert!(
            matches!(verdict, Verdict::Waiting { .. }),
            "{patience:?}: {verdict:?}"
        );
    }
}
