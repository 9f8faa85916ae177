use super::*;

/// A window of 100 settled ahead or 50 pending; a blocker may be taken 10 s after its first attempt
/// began.
fn with_policy() -> PartitionSettings {
    let policy = BlockerPolicy {
        after: 10 * SECOND,
        settled_ahead_limit: 100,
        pending_limit: 50,
    };
    PartitionSettings {
        blocker: Some(policy),
        ..settings()
    }
}

const STUCK: u64 = 7;

/// The lane `STUCK` has 0 at its head, which runs; so many others are settled by now.
fn stuck(settings: PartitionSettings, settled_ahead: i64) -> (Partition<i64>, Ticket) {
    let mut partition = partition(settings);
    deliver(&mut partition, 0, STUCK);
    let ticket = expect_start(&mut partition, 0);
    settle_others(&mut partition, 1..=settled_ahead);
    (partition, ticket)
}

fn settle_others(partition: &mut Partition<i64>, offsets: std::ops::RangeInclusive<i64>) {
    for offset in offsets {
        deliver(partition, offset, 1_000 + offset as u64);
        let ticket = expect_start(partition, offset);
        assert!(matches!(
            partition.succeed(ticket, Success::Done),
            Verdict::Settled { .. }
        ));
    }
}

/// What is taken: its offset, the ticket of the attempt to be ended, and the number behind it.
fn take(partition: &mut Partition<i64>, now: Moment) -> Option<(i64, Option<Ticket>, usize)> {
    match partition.take_blocker(now, &mut OutageGuard::default())? {
        Blocking::Taken(blocker) => Some((blocker.offset.get(), blocker.running, blocker.behind)),
        Blocking::RefusedByGuard => panic!("the guard holds nothing"),
    }
}

fn dead_lettered(partition: &mut Partition<i64>, offset: i64) {
    let request = partition.next_publish().unwrap();
    assert_eq!(
        (request.offset.get(), request.publish),
        (
            offset,
            Publish::DeadLetter {
                reason: Reason::Blocker
            }
        )
    );
    let verdict =
        partition.publish_finished(request.ticket, PublishResult::Acknowledged, 0, at(99));
    assert!(matches!(
        verdict,
        Verdict::Settled {
            outcome: Settlement::DeadLettered,
            ..
        }
    ));
}

/// The order waits for the end of the attempt, which the policy brings about.
#[test]
fn a_running_record_that_an_operator_dead_letters_is_ended_as_a_blocker() {
    let (mut partition, ticket) = stuck(with_policy(), 90);
    let order = |partition: &mut Partition<i64>| partition.dead_letter_now(Offset::new(0), at(5));
    assert_eq!(order(&mut partition), Ok(ActTime::AfterItsAttempt));
    assert!(!partition.is_blocker(ticket));
    assert_eq!(take(&mut partition, at(10)), Some((0, Some(ticket), 0)));
    assert!(partition.is_blocker(ticket));
    assert_eq!(order(&mut partition), Ok(ActTime::AfterItsAttempt));
    assert_eq!(take(&mut partition, at(20)), None, "it is taken already");
    assert_eq!(fail(&mut partition, ticket, at(20)), Verdict::Publishing);
    let reason = Reason::Operator;
    let request = partition.next_publish().map(|request| request.publish);
    assert_eq!(request, Some(Publish::DeadLetter { reason }));
}

#[test]
fn a_running_blocker_is_written_only_when_its_attempt_has_ended_and_settled_when_that_is_acknowledged()
 {
    let (mut partition, ticket) = stuck(with_policy(), 90);
    deliver(&mut partition, 91, STUCK);
    assert_eq!(take(&mut partition, at(10)), Some((0, Some(ticket), 1)));
    assert!(partition.is_blocker(ticket));
    assert_eq!(
        (partition.next_publish(), partition.watermark()),
        (None, Some(Position::new(0)))
    );
    assert_eq!(take(&mut partition, at(20)), None, "it is taken already");
    let verdict = partition.fail(
        ticket,
        Failure::Panicked.into(),
        0,
        at(20),
        &mut OutageGuard::default(),
    );
    assert_eq!(
        (verdict, partition.watermark()),
        (Verdict::Publishing, Some(Position::new(0)))
    );
    dead_lettered(&mut partition, 0);
    assert_eq!(partition.watermark(), Some(Position::new(91)));
    expect_start(&mut partition, 91);
}

#[test]
fn a_blocker_that_succeeds_before_it_could_be_ended_is_done() {
    let (mut partition, ticket) = stuck(with_policy(), 90);
    assert_eq!(take(&mut partition, at(10)), Some((0, Some(ticket), 0)));
    assert_eq!(
        partition.succeed(ticket, Success::Done),
        settled(Settlement::Done, 0, 1)
    );
    assert_eq!(
        (partition.next_publish(), partition.watermark()),
        (None, Some(Position::new(91)))
    );
}

#[test]
fn a_blocker_that_waits_for_its_retry_is_taken_at_once_and_its_timer_with_it() {
    let (mut partition, ticket) = stuck(with_policy(), 90);
    assert_eq!(fail(&mut partition, ticket, at(9)), waiting(SECOND));
    assert_eq!(take(&mut partition, at(9)), None, "not for long enough");
    assert_eq!(take(&mut partition, at(10)), Some((0, None, 0)));
    assert_eq!(partition.next_deadline(), None);
    partition.tick(at(60));
    assert_eq!(start(&mut partition), None);
    dead_lettered(&mut partition, 0);
    assert_eq!(partition.watermark(), Some(Position::new(91)));
}

#[test]
fn a_parked_blocker_is_taken_but_not_one_that_the_broker_refused() {
    let retry = RetryPolicy {
        on_exhausted: Exhausted::Park,
        ..settings().retry
    };
    let (mut parked, ticket) = stuck(
        PartitionSettings {
            retry,
            ..with_policy()
        },
        90,
    );
    let verdict = parked.fail(
        ticket,
        Failure::Fatal.into(),
        0,
        at(1),
        &mut OutageGuard::default(),
    );
    assert_eq!(
        verdict,
        Verdict::Parked {
            reason: ParkReason::Policy(Reason::Fatal)
        }
    );
    assert_eq!(take(&mut parked, at(10)), Some((0, None, 0)));
    dead_lettered(&mut parked, 0);
    assert_eq!(parked.parked(), 0);

    let (mut refused, ticket) = stuck(with_policy(), 90);
    let verdict = refused.fail(
        ticket,
        Failure::Fatal.into(),
        0,
        at(1),
        &mut OutageGuard::default(),
    );
    assert_eq!(verdict, Verdict::Publishing);
    assert_eq!(take(&mut refused, at(10)), None, "it is on its way out");
    let write = refused.next_publish().unwrap().ticket;
    assert_eq!(take(&mut refused, at(11)), None, "still on its way out");
    let verdict = refused.publish_finished(write, PublishResult::Refused, 0, at(11));
    assert_eq!(
        verdict,
        Verdict::Parked {
            reason: ParkReason::Refused
        }
    );
    assert_eq!(take(&mut refused, at(60)), None);
}

#[test]
fn without_the_policy_before_its_time_or_with_room_left_nothing_is_taken() {
    let (mut keep, _) = stuck(settings(), 99);
    assert_eq!(take(&mut keep, at(1_000)), None);
    let (mut early, _) = stuck(with_policy(), 90);
    assert_eq!(take(&mut early, at(9)), None);
    let (mut roomy, _) = stuck(with_policy(), 89);
    assert_eq!(take(&mut roomy, at(1_000)), None);
    settle_others(&mut roomy, 90..=90);
    assert!(take(&mut roomy, at(1_001)).is_some());
}

#[test]
fn where_more_than_a_little_is_unsettled_beside_it_nothing_is_taken() {
    let (mut partition, _) = stuck(
        PartitionSettings {
            concurrency: 2,
            ..with_policy()
        },
        97,
    );
    // Two of 99: more than two in a hundred.
    deliver(&mut partition, 98, 2_000);
    deliver(&mut partition, 99, 2_001);
    assert_eq!(take(&mut partition, at(10)), None);
    let other = expect_start(&mut partition, 98);
    assert!(matches!(
        partition.succeed(other, Success::Done),
        Verdict::Settled { .. }
    ));
    assert!(take(&mut partition, at(11)).is_some());
}

#[test]
fn records_behind_it_fill_the_window_too_and_do_not_count_against_it() {
    let (mut partition, ticket) = stuck(with_policy(), 1);
    for offset in 2..46 {
        deliver(&mut partition, offset, STUCK);
    }
    assert_eq!(partition.pending(), 45);
    assert_eq!(take(&mut partition, at(10)), Some((0, Some(ticket), 44)));

    // Nothing was settled beside it: this may be an outage.
    let (mut partition, _) = stuck(with_policy(), 0);
    for offset in 1..50 {
        deliver(&mut partition, offset, STUCK);
    }
    assert_eq!(take(&mut partition, at(1_000)), None);
}

#[test]
fn what_waits_for_a_place_or_its_due_time_is_no_blocker() {
    let mut full = partition(PartitionSettings {
        concurrency: 1,
        ..with_policy()
    });
    deliver(&mut full, 0, STUCK);
    let failed = expect_start(&mut full, 0);
    settle_others_beside(&mut full, failed);
    assert_eq!(full.oldest().unwrap().state, RecordState::Queued);
    assert_eq!(take(&mut full, at(1_000)), None);

    let mut planned = partition(with_policy());
    planned.deliver(
        Delivery {
            due: Some(at(2_000)),
            ..delivery(0, Some(STUCK))
        },
        at(0),
    );
    settle_others(&mut planned, 1..=95);
    assert_eq!(take(&mut planned, at(1_000)), None);
}

/// Offset 0 fails, and is ready again while another one has the only place.
fn settle_others_beside(partition: &mut Partition<i64>, failed: Ticket) {
    assert_eq!(fail(partition, failed, at(0)), waiting(SECOND));
    settle_others(partition, 1..=95);
    deliver(partition, 96, 5_000);
    expect_start(partition, 96);
    partition.tick(at(1));
}

#[test]
fn while_paused_or_draining_nothing_is_taken() {
    let (mut partition, _) = stuck(with_policy(), 95);
    partition.set_paused(Paused::Yes);
    assert_eq!(take(&mut partition, at(100)), None);
    partition.set_paused(Paused::No);
    partition.drain();
    assert_eq!(take(&mut partition, at(200)), None);
}

#[test]
fn in_due_order_the_head_of_the_oldest_records_lane_is_the_blocker() {
    let mut partition = partition(PartitionSettings {
        lane_order: LaneOrder::Due,
        ..with_policy()
    });
    partition.deliver(
        Delivery {
            due: Some(at(5)),
            ..delivery(0, Some(STUCK))
        },
        at(0),
    );
    deliver(&mut partition, 1, STUCK);
    let head = expect_start(&mut partition, 1);
    partition.tick(at(5));
    settle_others(&mut partition, 2..=95);
    assert_eq!(
        partition.oldest().map(|oldest| oldest.offset.get()),
        Some(0)
    );
    assert_eq!(take(&mut partition, at(10)), Some((1, Some(head), 1)));
}

#[test]
fn the_guard_has_its_say_and_is_asked_again_later() {
    let (mut partition, ticket) = stuck(with_policy(), 90);
    let mut guard = total_outage(at(10));
    assert!(matches!(
        partition.take_blocker(at(10), &mut guard),
        Some(Blocking::RefusedByGuard)
    ));
    assert!(!partition.is_blocker(ticket));
    guard.succeeded(at(11));
    assert!(partition.take_blocker(at(19), &mut guard).is_none());
    assert!(matches!(
        partition.take_blocker(at(20), &mut guard),
        Some(Blocking::Taken(_))
    ));
    assert!(guard.holds_nothing(at(20)));
}

#[test]
fn its_successor_has_its_own_time() {
    let (mut partition, ticket) = stuck(with_policy(), 90);
    deliver(&mut partition, 91, STUCK);
    settle_others(&mut partition, 92..=99);
    assert!(take(&mut partition, at(10)).is_some());
    let verdict = partition.fail(
        ticket,
        Failure::Panicked.into(),
        0,
        at(11),
        &mut OutageGuard::default(),
    );
    assert_eq!(verdict, Verdict::Publishing);
    dead_lettered(&mut partition, 0);
    expect_start(&mut partition, 91);
    for offset in 100..191 {
        partition.deliver(delivery(offset, Some(2_000 + offset as u64)), at(100));
        let ticket = expect_start(&mut partition, offset);
        assert!(matches!(
            partition.succeed(ticket, Success::Done),
            Verdict::Settled { .. }
        ));
    }
    assert_eq!(take(&mut partition, at(108)), None, "91 runs since 99");
    assert_eq!(
        take(&mut partition, at(109)).map(|(offset, ..)| offset),
        Some(91)
    );
}

#[test]
fn what_is_unavailable_or_held_is_not_taken() {
    let (mut partition, ticket) = stuck(with_policy(), 90);
    let (away, mut guard) = (
        Failure::Unavailable { retry_after: None },
        OutageGuard::default(),
    );
    let _ = partition.fail(ticket, away.into(), 0, at(9), &mut guard);
    assert!(matches!(
        partition.take_blocker(at(10), &mut guard),
        Some(Blocking::RefusedByGuard)
    ));
    partition.tick(at(20));
    let ticket = expect_start(&mut partition, 0);
    assert!(
        matches!(
            partition.take_blocker(at(20), &mut guard),
            Some(Blocking::RefusedByGuard)
        ),
        "it runs again"
    );
    // Then it fails in a way that is no sign of anything.
    assert_eq!(fail(&mut partition, ticket, at(21)), waiting(SECOND));
    assert_eq!(take(&mut partition, at(30)), Some((0, None, 0)));

    let (mut partition, ticket) = stuck(with_policy(), 90);
    assert_eq!(fail(&mut partition, ticket, at(1)), waiting(SECOND));
    partition.tick(at(2));
    let ticket = expect_start(&mut partition, 0);
    let mut guard = total_outage(at(2));
    let verdict = partition.fail(ticket, Failure::Retryable.into(), 0, at(2), &mut guard);
    assert!(matches!(
        verdict,
        Verdict::Waiting {
            held: Some(HeldBy::Outage),
            ..
        }
    ));
    guard.succeeded(at(3));
    // It is held until its next attempt, and has not been attempted since the outage ended.
    assert!(matches!(
        partition.take_blocker(at(11), &mut guard),
        Some(Blocking::RefusedByGuard)
    ));
}
