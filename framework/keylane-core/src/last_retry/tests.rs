use proptest::prelude::*;

use super::*;

const OWN: OwnRetry = OwnRetry {
    round: Some(2),
    attempts: Some(7),
    due_millis: Some(1_000),
};

fn decaton(retry_count: i64, scheduled_time_millis: i64) -> DecatonRetry {
    DecatonRetry {
        retry_count,
        scheduled_time_millis,
    }
}

fn spring(next_attempt: Option<u32>, due_millis: i64) -> SpringRetry {
    SpringRetry {
        next_attempt,
        due_millis,
    }
}

fn last(round: u32, attempts: u32, due_millis: Option<i64>, requeued: bool) -> LastRetry {
    LastRetry {
        round,
        attempts,
        due_millis,
        requeued,
    }
}

#[test]
fn keylanes_own_retry_counts_until_another_program_requeues_it() {
    let own = last(2, 7, Some(1_000), false);
    assert_eq!(OWN.last_retry(Some(decaton(2, 1_000)), None), own);
    assert_eq!(OWN.last_retry(None, None), own, "a dt_meta that is damaged");
    for (requeued, expected) in [
        (decaton(3, 2_000), last(3, 8, Some(2_000), true)),
        (decaton(5, 900), last(5, 10, Some(900), true)),
        (decaton(3, 0), last(3, 8, None, true)),
        (decaton(2, 1_001), last(3, 8, Some(1_001), true)),
        // Decaton up to 8 counts from 0 where it cannot read keylane's count.
        (decaton(1, 2_000), last(3, 8, Some(2_000), true)),
        (
            decaton(i64::MAX, 2_000),
            last(u32::MAX, u32::MAX, Some(2_000), true),
        ),
        (decaton(-1, -5), last(3, 8, None, true)),
    ] {
        assert_eq!(OWN.last_retry(Some(requeued), None), expected);
        assert!(!OWN.wrote(requeued));
    }
    assert!(OWN.wrote(decaton(2, 1_000)));
}

#[test]
fn a_record_that_keylane_never_retried_has_decatons_count() {
    let none = OwnRetry::default();
    assert_eq!(none.last_retry(None, None), LastRetry::default());
    assert_eq!(
        none.last_retry(Some(decaton(2, 2_000)), None),
        last(2, 2, Some(2_000), true)
    );
    let copied_back = OwnRetry {
        attempts: Some(7),
        ..none
    };
    let producers = decaton(0, 60);
    assert!(!copied_back.wrote(producers));
    assert_eq!(
        copied_back.last_retry(Some(producers), None),
        last(0, 7, Some(60), false)
    );
    assert_eq!(
        copied_back.last_retry(Some(decaton(1, 90)), None),
        last(1, 7, Some(90), true)
    );
}

#[test]
fn springs_due_time_counts_where_it_is_the_later_one() {
    let ours = Some(decaton(2, 1_000));
    assert_eq!(
        OWN.last_retry(ours, Some(spring(Some(2), 1_500))),
        last(3, 8, Some(1_500), true)
    );
    assert_eq!(
        OWN.last_retry(ours, Some(spring(Some(6), 1_500))),
        last(5, 10, Some(1_500), true)
    );
    assert_eq!(
        OWN.last_retry(ours, Some(spring(Some(6), 999))),
        last(2, 7, Some(1_000), false),
        "left over from before keylane's retry"
    );
    assert_eq!(
        OwnRetry::default().last_retry(None, Some(spring(Some(3), 500))),
        last(2, 2, Some(500), true)
    );
    assert_eq!(
        OwnRetry::default().last_retry(None, Some(spring(None, 500))),
        last(0, 0, Some(500), true)
    );
}

proptest! {
    /// Nothing is forgotten, nothing runs before the time of the program that requeued it last, and
    /// what keylane wrote is as it was.
    #[test]
    fn a_later_retry_only_adds(
        round in 1..1_000_000_u32, attempts in 0..1_000_000_u32, due in 1..i64::MAX,
        count: i64, scheduled: i64, next_attempt: Option<u32>, spring_due: i64,
    ) {
        let own = OwnRetry { round: Some(round), attempts: Some(attempts), due_millis: Some(due) };
        let same = decaton(round.into(), due);
        prop_assert_eq!(own.last_retry(Some(same), None), last(round, attempts, Some(due), false));

        let other = decaton(count, scheduled);
        let read = own.last_retry(Some(other), None);
        prop_assert_eq!(read.requeued, !own.wrote(other));
        prop_assert_eq!(read.due_millis, Some(scheduled).filter(|due| *due > 0));
        prop_assert!(read.round > round && read.attempts - attempts <= read.round - round);

        let with_spring = own.last_retry(Some(other), Some(spring(next_attempt, spring_due)));
        prop_assert!(with_spring.round >= read.round && with_spring.attempts >= read.attempts);
        prop_assert_eq!(with_spring.due_millis, read.due_millis.max(Some(spring_due)));
    }
}
