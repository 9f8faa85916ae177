use super::*;
use crate::failure::MAX_RETRY_AFTER;

const SECOND: Duration = Duration::from_secs(1);

fn policy() -> RetryPolicy {
    let exact = |initial, max| Backoff { jitter: 0.0, ..Backoff::exponential(initial, max) };
    RetryPolicy {
        in_place: InPlace::Times(2),
        backoff: exact(SECOND, 10 * SECOND),
        topic: Some(TopicRetry { rounds: 2, backoff: exact(60 * SECOND, 100 * SECOND) }),
        on_exhausted: Exhausted::DeadLetter,
        dead_letter_topic: true,
    }
}

fn decide(policy: &RetryPolicy, failure: Failure, attempts_here: u32, rounds: u32) -> Decision {
    policy.decide(failure, Tried { attempts_here, rounds, ..Tried::default() }, 7, &mut StormGuard::default())
}

fn wait(delay: Duration) -> Decision {
    Decision::Wait { delay, refused_by_guard: false }
}

#[test]
fn in_place_comes_first_then_the_topic_then_the_dead_letter() {
    let policy = policy();
    assert_eq!(decide(&policy, Failure::Retryable, 1, 0), wait(SECOND));
    assert_eq!(decide(&policy, Failure::Retryable, 2, 0), wait(2 * SECOND));
    assert_eq!(decide(&policy, Failure::Retryable, 3, 0), Decision::RetryTopic { round: 1, delay: 60 * SECOND });
    assert_eq!(decide(&policy, Failure::Retryable, 1, 1), wait(SECOND), "counted anew with each delivery");
    assert_eq!(decide(&policy, Failure::Retryable, 3, 1), Decision::RetryTopic { round: 2, delay: 100 * SECOND });
    assert_eq!(decide(&policy, Failure::Retryable, 3, 2), Decision::DeadLetter(Reason::Exhausted));
}

#[test]
fn retry_after_replaces_the_delay_and_nothing_else() {
    let policy = policy();
    let failure = Failure::RetryAfter(5 * SECOND);
    assert_eq!(decide(&policy, failure, 1, 0), wait(5 * SECOND));
    assert_eq!(decide(&policy, failure, 3, 0), Decision::RetryTopic { round: 1, delay: 5 * SECOND });
    assert_eq!(decide(&policy, failure, 3, 2), Decision::DeadLetter(Reason::Exhausted));
    assert_eq!(decide(&policy, Failure::RetryAfter(Duration::MAX), 1, 0), wait(MAX_RETRY_AFTER));
}

#[test]
fn fatal_and_undecodable_records_are_not_retried() {
    let policy = policy();
    assert_eq!(decide(&policy, Failure::Fatal, 1, 0), Decision::DeadLetter(Reason::Fatal));
    assert_eq!(decide(&policy, Failure::Undecodable, 1, 0), Decision::DeadLetter(Reason::Undecodable));
}

#[test]
fn panics_and_timeouts_are_retried_and_end_with_their_own_reason() {
    let policy = policy();
    for (failure, reason) in [(Failure::Panicked, Reason::Panicked), (Failure::TimedOut, Reason::TimedOut)] {
        assert_eq!(decide(&policy, failure, 1, 0), wait(SECOND));
        assert_eq!(decide(&policy, failure, 3, 2), Decision::DeadLetter(reason));
    }
}

#[test]
fn without_a_dead_letter_topic_a_record_waits_for_ever_at_the_cap() {
    let policy = RetryPolicy { dead_letter_topic: false, topic: None, ..policy() };
    for attempts in [3, 4, 1_000, u32::MAX] {
        assert_eq!(decide(&policy, Failure::Retryable, attempts, 0), wait(10 * SECOND));
        assert_eq!(decide(&policy, Failure::Fatal, attempts, 0), wait(10 * SECOND));
    }
    assert_eq!(decide(&policy, Failure::RetryAfter(Duration::ZERO), 3, 0), wait(10 * SECOND), "no busy loop");
    assert_eq!(decide(&policy, Failure::RetryAfter(99 * SECOND), 3, 0), wait(99 * SECOND));
    assert_eq!(decide(&policy, Failure::Undecodable, 1, 0), Decision::ParkForLackOfTopic);
}

#[test]
fn for_ever_in_place_never_reaches_the_topic() {
    let policy = RetryPolicy { in_place: InPlace::Forever, ..policy() };
    assert_eq!(decide(&policy, Failure::Panicked, u32::MAX, 0), wait(10 * SECOND));
    assert_eq!(decide(&policy, Failure::Fatal, 1, 0), Decision::DeadLetter(Reason::Fatal));
}

#[test]
fn park_and_stop_are_the_last_word_on_every_end() {
    for failure in [Failure::Retryable, Failure::Fatal, Failure::Undecodable] {
        let park = RetryPolicy { on_exhausted: Exhausted::Park, ..policy() };
        assert_eq!(decide(&park, failure, 3, 2), Decision::ParkByPolicy(failure.reason()));
        let stop = RetryPolicy { on_exhausted: Exhausted::Stop, ..policy() };
        assert_eq!(decide(&stop, failure, 3, 2), Decision::Stop(failure.reason()));
    }
}

#[test]
fn the_storm_guard_holds_back_what_may_be_an_outage_and_nothing_else() {
    let policy = policy();
    let mut guard = StormGuard::new(1);
    let tried = Tried { attempts_here: 3, rounds: 2, ..Tried::default() };
    assert_eq!(policy.decide(Failure::Panicked, tried, 7, &mut guard), Decision::DeadLetter(Reason::Panicked));
    let refused = Decision::Wait { delay: 10 * SECOND, refused_by_guard: true };
    assert_eq!(policy.decide(Failure::Retryable, tried, 7, &mut guard), refused);
    assert_eq!(policy.decide(Failure::TimedOut, tried, 7, &mut guard), refused);
    assert_eq!(policy.decide(Failure::Fatal, tried, 7, &mut guard), Decision::DeadLetter(Reason::Fatal));
    assert_eq!(guard.refused(), 2);
    guard.earn(1);
    assert_eq!(policy.decide(Failure::Retryable, tried, 7, &mut guard), Decision::DeadLetter(Reason::Exhausted));
}
