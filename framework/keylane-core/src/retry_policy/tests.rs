use super::*;
use crate::failure::MAX_RETRY_AFTER;
use crate::outage_guard::tests::total_outage;

const SECOND: Duration = Duration::from_secs(1);

fn policy() -> RetryPolicy {
    let exact = |initial, max| Backoff {
        jitter: 0.0,
        ..Backoff::exponential(initial, max)
    };
    RetryPolicy {
        in_place: InPlace::Times(2),
        backoff: exact(SECOND, 10 * SECOND),
        topic: Some(TopicRetry {
            rounds: 2,
            backoff: exact(60 * SECOND, 100 * SECOND),
        }),
        dead_letter_topic: true,
        ..RetryPolicy::default()
    }
}

fn decide(policy: &RetryPolicy, failure: Failure, attempts_here: u32, rounds: u32) -> Decision {
    let tried = Tried {
        attempts_here,
        rounds,
        ..Tried::default()
    };
    policy.decide(
        failure.into(),
        tried,
        7,
        Moment::ORIGIN,
        &mut OutageGuard::default(),
    )
}

fn wait(delay: Duration) -> Decision {
    Decision::wait(delay)
}

#[test]
fn in_place_comes_first_then_the_topic_then_the_dead_letter() {
    let policy = policy();
    assert_eq!(decide(&policy, Failure::Retryable, 1, 0), wait(SECOND));
    assert_eq!(decide(&policy, Failure::Retryable, 2, 0), wait(2 * SECOND));
    assert_eq!(
        decide(&policy, Failure::Retryable, 3, 0),
        Decision::RetryTopic {
            round: 1,
            delay: 60 * SECOND
        }
    );
    assert_eq!(
        decide(&policy, Failure::Retryable, 1, 1),
        wait(SECOND),
        "each delivery counts from 0"
    );
    assert_eq!(
        decide(&policy, Failure::Retryable, 3, 1),
        Decision::RetryTopic {
            round: 2,
            delay: 100 * SECOND
        }
    );
    assert_eq!(
        decide(&policy, Failure::Retryable, 3, 2),
        Decision::DeadLetter(Reason::Exhausted)
    );
}

#[test]
fn retry_after_replaces_the_delay_and_nothing_else() {
    let policy = policy();
    let failure = Failure::RetryAfter(5 * SECOND);
    assert_eq!(decide(&policy, failure, 1, 0), wait(5 * SECOND));
    assert_eq!(
        decide(&policy, failure, 3, 0),
        Decision::RetryTopic {
            round: 1,
            delay: 5 * SECOND
        }
    );
    assert_eq!(
        decide(&policy, failure, 3, 2),
        Decision::DeadLetter(Reason::Exhausted)
    );
    assert_eq!(
        decide(&policy, Failure::RetryAfter(Duration::MAX), 1, 0),
        wait(MAX_RETRY_AFTER)
    );
}

#[test]
fn fatal_and_undecodable_records_are_not_retried() {
    let policy = policy();
    assert_eq!(
        decide(&policy, Failure::Fatal, 1, 0),
        Decision::DeadLetter(Reason::Fatal)
    );
    assert_eq!(
        decide(&policy, Failure::Undecodable, 1, 0),
        Decision::DeadLetter(Reason::Undecodable)
    );
}

#[test]
fn panics_and_timeouts_are_retried_and_end_with_their_own_reason() {
    let policy = policy();
    for (failure, reason) in [
        (Failure::Panicked, Reason::Panicked),
        (Failure::TimedOut, Reason::TimedOut),
    ] {
        assert_eq!(decide(&policy, failure, 1, 0), wait(SECOND));
        assert_eq!(decide(&policy, failure, 3, 2), Decision::DeadLetter(reason));
    }
}

#[test]
fn without_a_dead_letter_topic_a_record_waits_for_ever_at_the_cap() {
    let policy = RetryPolicy {
        dead_letter_topic: false,
        topic: None,
        ..policy()
    };
    for attempts in [3, 4, 1_000, u32::MAX] {
        assert_eq!(
            decide(&policy, Failure::Retryable, attempts, 0),
            wait(10 * SECOND)
        );
        assert_eq!(
            decide(&policy, Failure::Fatal, attempts, 0),
            wait(10 * SECOND)
        );
    }
    assert_eq!(
        decide(&policy, Failure::RetryAfter(Duration::ZERO), 3, 0),
        wait(10 * SECOND),
        "no busy loop"
    );
    assert_eq!(
        decide(&policy, Failure::RetryAfter(99 * SECOND), 3, 0),
        wait(99 * SECOND)
    );
    assert_eq!(
        decide(&policy, Failure::Undecodable, 1, 0),
        Decision::ParkForLackOfTopic
    );
}

#[test]
fn for_ever_in_place_never_reaches_the_topic() {
    let policy = RetryPolicy {
        in_place: InPlace::Forever,
        ..policy()
    };
    assert_eq!(
        decide(&policy, Failure::Panicked, u32::MAX, 0),
        wait(10 * SECOND)
    );
    assert_eq!(
        decide(&policy, Failure::Fatal, 1, 0),
        Decision::DeadLetter(Reason::Fatal)
    );
}

#[test]
fn park_and_stop_are_the_last_word_on_every_end() {
    for failure in [Failure::Retryable, Failure::Fatal, Failure::Undecodable] {
        let park = RetryPolicy {
            on_exhausted: Exhausted::Park,
            ..policy()
        };
        assert_eq!(
            decide(&park, failure, 3, 2),
            Decision::ParkByPolicy(failure.reason())
        );
        let stop = RetryPolicy {
            on_exhausted: Exhausted::Stop,
            ..policy()
        };
        assert_eq!(
            decide(&stop, failure, 3, 2),
            Decision::Stop(failure.reason())
        );
    }
}

#[test]
fn the_guard_holds_back_what_may_be_an_outage_and_nothing_else() {
    let policy = policy();
    let mut guard = total_outage(Moment::ORIGIN);
    let tried = Tried {
        attempts_here: 3,
        rounds: 2,
        ..Tried::default()
    };
    let mut decide =
        |failure: Failure| policy.decide(failure.into(), tried, 7, Moment::ORIGIN, &mut guard);
    let held = Decision::Wait {
        delay: 10 * SECOND,
        held: Some(HeldBy::Outage),
    };
    for failure in [Failure::Retryable, Failure::Panicked, Failure::TimedOut] {
        assert_eq!(decide(failure), held);
    }
    assert_eq!(decide(Failure::Fatal), Decision::DeadLetter(Reason::Fatal));
    assert_eq!(
        decide(Failure::Undecodable),
        Decision::DeadLetter(Reason::Undecodable)
    );
}

fn by_time(time: Duration) -> RetryPolicy {
    RetryPolicy {
        for_at_least: Some(time),
        ..policy()
    }
}

fn decide_after(
    policy: &RetryPolicy,
    retried_for: Duration,
    attempts_here: u32,
    rounds: u32,
) -> Decision {
    let tried = Tried {
        attempts_here,
        rounds,
        retried_for,
        ..Tried::default()
    };
    policy.decide(
        Failure::Retryable.into(),
        tried,
        7,
        Moment::ORIGIN,
        &mut OutageGuard::default(),
    )
}

#[test]
fn by_time_and_without_a_topic_all_retries_are_in_place() {
    let policy = RetryPolicy {
        topic: None,
        ..by_time(60 * SECOND)
    };
    assert_eq!(
        decide_after(&policy, 59 * SECOND, 1_000, 0),
        wait(10 * SECOND)
    );
    assert_eq!(
        decide_after(&policy, 60 * SECOND, 1_000, 0),
        Decision::DeadLetter(Reason::Exhausted)
    );
}

#[test]
fn by_time_the_topic_follows_what_is_in_place_and_its_rounds_are_no_limit() {
    let policy = by_time(3_600 * SECOND);
    assert_eq!(
        decide_after(&policy, Duration::ZERO, 2, 0),
        wait(2 * SECOND)
    );
    assert_eq!(
        decide_after(&policy, SECOND, 3, 0),
        Decision::RetryTopic {
            round: 1,
            delay: 60 * SECOND
        }
    );
    assert_eq!(
        decide_after(&policy, SECOND, 3, 99),
        Decision::RetryTopic {
            round: 100,
            delay: 100 * SECOND
        }
    );
    assert_eq!(
        decide_after(&policy, 3_600 * SECOND, 3, 3),
        Decision::DeadLetter(Reason::Exhausted)
    );
}

#[test]
fn time_alone_ends_a_record_after_three_attempts_of_a_delivery() {
    let policy = RetryPolicy {
        in_place: InPlace::Times(0),
        ..by_time(SECOND)
    };
    assert_eq!(
        decide_after(&policy, SECOND, 1, 9),
        wait(SECOND),
        "in place: its time for the topic is over"
    );
    assert_eq!(decide_after(&policy, SECOND, 2, 9), wait(2 * SECOND));
    assert_eq!(
        decide_after(&policy, SECOND, 3, 9),
        Decision::DeadLetter(Reason::Exhausted)
    );
    let for_ever = RetryPolicy {
        in_place: InPlace::Forever,
        ..policy
    };
    assert_eq!(
        decide_after(&for_ever, Duration::MAX, 1_000, 0),
        wait(10 * SECOND)
    );
}

#[test]
fn what_is_unavailable_is_waited_for_without_end_by_its_own_back_off() {
    let policy = RetryPolicy {
        in_place: InPlace::Times(0),
        topic: None,
        ..policy()
    };
    let decide = |retry_after, unavailable| {
        let tried = Tried {
            attempts_here: 99,
            unavailable,
            retried_for: Duration::MAX,
            ..Tried::default()
        };
        let failure = Failure::Unavailable { retry_after };
        policy.decide(
            failure.into(),
            tried,
            7,
            Moment::ORIGIN,
            &mut OutageGuard::default(),
        )
    };
    assert_eq!(decide(None, 0), wait(SECOND));
    assert_eq!(decide(None, 1), wait(2 * SECOND));
    assert_eq!(decide(Some(5 * SECOND), 1), wait(5 * SECOND));
    let held = |delay| Decision::Wait {
        delay,
        held: Some(HeldBy::Unavailable),
    };
    assert_eq!(
        decide(None, 4),
        held(10 * SECOND),
        "it is shown once the back-off is at its longest"
    );
    assert_eq!(decide(Some(5 * SECOND), u32::MAX), held(5 * SECOND));
}

#[test]
fn an_action_for_a_reason_is_taken_in_an_outage_too() {
    let mut guard = total_outage(Moment::ORIGIN);
    let on = ReasonActions {
        exhausted: Some(Exhausted::Park),
        panic: Some(Exhausted::DeadLetter),
        timeout: Some(Exhausted::Stop),
        ..ReasonActions::default()
    };
    let policy = RetryPolicy { on, ..policy() };
    let tried = Tried {
        attempts_here: 3,
        rounds: 2,
        ..Tried::default()
    };
    let mut decide =
        |failure: Failure| policy.decide(failure.into(), tried, 7, Moment::ORIGIN, &mut guard);
    assert_eq!(
        decide(Failure::Retryable),
        Decision::ParkByPolicy(Reason::Exhausted)
    );
    assert_eq!(
        decide(Failure::Panicked),
        Decision::DeadLetter(Reason::Panicked)
    );
    assert_eq!(decide(Failure::TimedOut), Decision::Stop(Reason::TimedOut));
    assert_eq!(decide(Failure::Fatal), Decision::DeadLetter(Reason::Fatal));
}

#[test]
fn an_outage_parks_no_record_and_stops_at_the_first() {
    let tried = Tried {
        attempts_here: 3,
        rounds: 2,
        ..Tried::default()
    };
    let decide = |on_exhausted| {
        let policy = RetryPolicy {
            on_exhausted,
            ..policy()
        };
        policy.decide(
            Failure::Retryable.into(),
            tried,
            7,
            Moment::ORIGIN,
            &mut total_outage(Moment::ORIGIN),
        )
    };
    assert!(matches!(
        decide(Exhausted::Park),
        Decision::Wait { held: Some(_), .. }
    ));
    assert_eq!(decide(Exhausted::Stop), Decision::Stop(Reason::Exhausted));
}

#[test]
fn with_a_topic_a_delivery_has_its_retries_in_place_also_where_its_time_came_used_up() {
    let policy = RetryPolicy {
        in_place: InPlace::Times(5),
        ..by_time(SECOND)
    };
    assert_eq!(decide_after(&policy, 99 * SECOND, 5, 9), wait(10 * SECOND));
    assert_eq!(
        decide_after(&policy, 99 * SECOND, 6, 9),
        Decision::DeadLetter(Reason::Exhausted)
    );
}

#[test]
fn what_is_unavailable_is_held_from_the_longest_delay_on_or_the_tenth() {
    let flat = Backoff {
        initial: SECOND,
        max: 10 * SECOND,
        multiplier: 1.0,
        jitter: 0.2,
    };
    let slow = Backoff {
        multiplier: 1.1,
        max: 3_600 * SECOND,
        ..flat
    };
    for (backoff, first) in [
        (flat, 0),
        (slow, 10),
        (Backoff::exponential(SECOND, 8 * SECOND), 3),
    ] {
        let policy = RetryPolicy {
            backoff,
            ..policy()
        };
        for unavailable in 0..20 {
            let tried = Tried {
                attempts_here: 1,
                unavailable,
                ..Tried::default()
            };
            let away = Failure::Unavailable { retry_after: None };
            let decision = policy.decide(
                away.into(),
                tried,
                7,
                Moment::ORIGIN,
                &mut OutageGuard::default(),
            );
            let Decision::Wait { held, .. } = decision else {
                panic!("{decision:?}")
            };
            assert_eq!(
                held.is_some(),
                unavailable >= first,
                "{backoff:?} after {unavailable}"
            );
        }
    }
}
