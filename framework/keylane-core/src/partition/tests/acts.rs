//! Operators' acts. Many of them at random moments are the simulator's.

use super::*;
use crate::evidence::{Evidence, Instance, Suspect};
use crate::failed_attempt::{ErrorClass, FailedAttempt};
use crate::foreign::HeldBecause;

fn note() -> OperatorNote {
    OperatorNote::new("ann", "INC-7")
}

fn skipping(offsets: &[i64]) -> PartitionDirectives {
    let skip = |&offset: &i64| (Offset::new(offset), note().into());
    PartitionDirectives {
        skips: offsets.iter().map(skip).collect(),
        ..PartitionDirectives::default()
    }
}

fn pausing(keys: &[u64]) -> PartitionDirectives {
    PartitionDirectives {
        paused_keys: keys.iter().copied().collect(),
        ..PartitionDirectives::default()
    }
}

fn skipped(offset: i64, attempts: u32) -> Verdict<i64> {
    settled(Settlement::SkippedByOperator, offset, attempts)
}

/// A skip that is done at once.
fn expect_skip(partition: &mut Partition<i64>, offset: i64, attempts: u32, now: Moment) {
    let answer = partition.skip(Offset::new(offset), note(), now);
    assert_eq!(
        answer,
        Ok((ActTime::Now, Some(skipped(offset, attempts)))),
        "{offset}"
    );
}

fn dead_letter(partition: &mut Partition<i64>, offset: i64, now: Moment) -> ActTime {
    let answer = partition.dead_letter_now(Offset::new(offset), now);
    answer.unwrap_or_else(|refused| panic!("{offset}: {refused:?}"))
}

/// Its dead letter is the next to be written, and is acknowledged.
fn written(partition: &mut Partition<i64>, offset: i64, attempts: u32) {
    let request = partition.next_publish().expect("a write is to be made");
    let publish = Publish::DeadLetter {
        reason: Reason::Operator,
    };
    assert_eq!(
        (request.offset.get(), request.publish, request.attempts),
        (offset, publish, attempts)
    );
    let verdict =
        partition.publish_finished(request.ticket, PublishResult::Acknowledged, 0, at(99));
    assert_eq!(verdict, settled(Settlement::DeadLettered, offset, attempts));
}

fn done(partition: &mut Partition<i64>, ticket: Ticket) {
    assert!(matches!(
        partition.succeed(ticket, Success::Done),
        Verdict::Settled {
            outcome: Settlement::Done,
            ..
        }
    ));
}

fn is_idle(partition: &Partition<i64>) -> bool {
    let counts = [
        partition.pending(),
        partition.ready(),
        partition.waiting(),
        partition.publishing(),
        partition.paused_keys(),
    ];
    counts == [0; 5] && partition.next_deadline().is_none()
}

#[test]
fn a_paused_key_starts_nothing_keeps_its_records_and_its_order_and_others_go_on() {
    let mut partition = partition(settings());
    for (offset, lane) in [(0, 7), (1, 8), (2, 7), (3, 9)] {
        deliver(&mut partition, offset, lane);
    }
    let runs = expect_start(&mut partition, 0);
    partition.pause_key(7, at(1)).unwrap();
    partition.pause_key(8, at(1)).unwrap();
    assert_eq!((partition.running(), partition.paused_keys()), (1, 1));
    let other = expect_start(&mut partition, 3);
    done(&mut partition, other);
    done(&mut partition, runs);
    deliver(&mut partition, 4, 7);
    assert_eq!(start(&mut partition), None);
    let seen = surveyed(&mut partition);
    assert_eq!((seen.pending, seen.paused_keys, seen.held_up), (3, 2, 3));
    assert_eq!(partition.oldest().unwrap().state, RecordState::KeyPaused);
    assert_eq!(partition.own_orders().paused_keys.len(), 2);
    assert!(!partition.resume_key(7, at(2)));
    assert_eq!(partition.direct(pausing(&[9]), at(2)), []);
    assert_eq!(partition.own_orders().paused_keys.len(), 1);
    let first = expect_start(&mut partition, 2);
    assert_eq!(start(&mut partition), None);
    done(&mut partition, first);
    expect_start(&mut partition, 4);
    assert!(!partition.resume_key(8, at(2)));
    expect_start(&mut partition, 1);
}

#[test]
fn a_back_off_ends_in_the_pause_and_the_record_starts_after_it_with_its_attempts() {
    let mut partition = partition(settings());
    deliver(&mut partition, 0, 7);
    let ticket = expect_start(&mut partition, 0);
    assert_eq!(partition.direct(pausing(&[7]), at(0)), []);
    assert_eq!(fail(&mut partition, ticket, at(0)), waiting(SECOND));
    partition.tick(at(5));
    assert_eq!((partition.waiting(), partition.paused_keys()), (0, 1));
    assert_eq!(start(&mut partition), None);
    assert_eq!(partition.direct(pausing(&[]), at(5)), []);
    assert_eq!(next(&mut partition).map(|start| start.attempt), Some(2));
}

#[test]
fn a_paused_key_is_no_stall_and_its_pause_does_not_count_for_one() {
    let mut partition = partition(settings());
    deliver(&mut partition, 0, 7);
    partition.pause_key(7, at(0)).unwrap();
    for seconds in [1, 500, 999] {
        partition.set_now(at(seconds));
        assert_eq!(partition.stalled_for(), None, "also before it is looked at");
        partition.watch(at(seconds));
        assert_eq!(partition.next_alarm(), None);
        assert_eq!(partition.snapshot().stalled_for, None);
    }
    partition.resume_key(7, at(1_000));
    partition.watch(at(1_058));
    assert_eq!(partition.next_alarm(), None);
    partition.watch(at(1_060));
    assert!(matches!(
        partition.next_alarm(),
        Some(Alarm::Stalled { .. })
    ));
}

/// Also where its head waits for a back-off, but not where its head runs: that holds the commit.
#[test]
fn what_waits_behind_the_head_of_a_paused_key_is_a_stall_while_that_runs() {
    let mut partition = partition(PartitionSettings {
        lane_order: LaneOrder::Due,
        ..settings()
    });
    let due = Delivery {
        due: Some(at(1)),
        ..delivery(0, Some(7))
    };
    partition.deliver(due, at(0));
    deliver(&mut partition, 1, 7);
    let hangs = expect_start(&mut partition, 1);
    partition.tick(at(1));
    partition.watch(at(1));
    partition.pause_key(7, at(1)).unwrap();
    partition.watch(at(70));
    let alarms = [partition.next_alarm(), partition.next_alarm()];
    let is_stall = |alarm: &Option<Alarm>| matches!(alarm, Some(Alarm::Stalled { .. }));
    assert!(alarms.iter().any(is_stall), "{alarms:?}");
    let verdict = partition.fail(
        hangs,
        Failure::RetryAfter(600 * SECOND).into(),
        0,
        at(80),
        &mut OutageGuard::default(),
    );
    assert_eq!(verdict, waiting(600 * SECOND));
    assert_eq!(partition.stalled_for(), None, "its end would start nothing");
}

/// Until the order it waited for its due time, and that is no stall.
#[test]
fn a_retry_of_what_is_not_due_is_no_stall_at_once() {
    let mut partition = partition(settings());
    let due = Delivery {
        due: Some(at(3_600)),
        ..delivery(0, Some(7))
    };
    partition.deliver(due, at(0));
    partition.watch(at(0));
    partition.watch(at(3_000));
    assert_eq!(partition.retry_now(7, at(3_000)).unwrap().retried, 1);
    expect_start(&mut partition, 0);
    partition.watch(at(3_001));
    assert_eq!(
        (partition.stalled_for(), partition.next_alarm()),
        (None, None)
    );
    partition.watch(at(3_060));
    assert!(partition.stalled_for().is_some());
}

/// No success of their keys would clear them, and innocent records would be held on.
#[test]
fn keys_whose_failing_records_an_operator_settles_no_longer_count_for_an_outage() {
    for is_skip in [true, false] {
        let mut partition = partition(PartitionSettings {
            concurrency: 9,
            ..settings()
        });
        let mut guard = OutageGuard::default();
        guard.succeeded(at(0));
        let class = ErrorClass::new(1);
        for offset in 0..5 {
            deliver(&mut partition, offset, 10 + offset as u64);
            let ticket = expect_start(&mut partition, offset);
            let attempt = FailedAttempt {
                class,
                ..Failure::Retryable.into()
            };
            let _ = partition.fail(ticket, attempt, 0, at(1), &mut guard);
        }
        assert!(guard.is_class_out(class));
        // What is behind a failing record is none.
        for offset in 5..10 {
            deliver(&mut partition, offset, 5 + offset as u64);
            expect_skip(&mut partition, offset, 0, at(1));
        }
        partition.report_to_guard(&mut guard, at(1));
        guard.standing(at(30));
        assert!(guard.is_class_out(class));
        for offset in 0..5 {
            if is_skip {
                expect_skip(&mut partition, offset, 1, at(1));
            } else {
                assert_eq!(dead_letter(&mut partition, offset, at(1)), ActTime::Now);
                written(&mut partition, offset, 1);
            }
        }
        assert!(partition.has_news());
        partition.report_to_guard(&mut guard, at(30));
        guard.standing(at(200));
        assert!(!guard.is_class_out(class), "{is_skip}");
    }
}

#[test]
fn a_record_of_a_paused_key_is_no_blocker() {
    let policy = BlockerPolicy {
        after: SECOND,
        settled_ahead_limit: 10,
        pending_limit: 50,
    };
    let mut partition = partition(PartitionSettings {
        blocker: Some(policy),
        ..settings()
    });
    deliver(&mut partition, 0, 7);
    let stuck = expect_start(&mut partition, 0);
    for offset in 1..=10 {
        deliver(&mut partition, offset, 8);
        let ticket = expect_start(&mut partition, offset);
        done(&mut partition, ticket);
    }
    partition.pause_key(7, at(1)).unwrap();
    let guard = &mut OutageGuard::default();
    assert!(partition.take_blocker(at(10), guard).is_none());
    assert_eq!(fail(&mut partition, stuck, at(10)), waiting(SECOND));
    assert!(partition.take_blocker(at(11), guard).is_none());
    partition.tick(at(20));
    assert!(partition.take_blocker(at(21), guard).is_none());
    assert!(partition.next_publish().is_none());
}

#[test]
fn neither_source_takes_the_orders_of_the_other_back() {
    let mut partition = partition(settings());
    deliver(&mut partition, 0, 7);
    partition.pause_key(7, at(0)).unwrap();
    assert_eq!(partition.direct(pausing(&[7]), at(0)), []);
    assert!(partition.resume_key(7, at(0)), "it is still directed");
    assert_eq!(start(&mut partition), None);
    partition.pause_key(7, at(0)).unwrap();
    assert_eq!(partition.direct(pausing(&[]), at(0)), []);
    assert_eq!(start(&mut partition), None);
    let _ = partition.skip(Offset::new(1), note(), at(0));
    assert_eq!(partition.direct(skipping(&[2]), at(0)), []);
    for offset in [1, 2] {
        assert_eq!(
            partition.deliver(delivery(offset, Some(8)), at(0)),
            Delivered::SkippedByOperator
        );
    }
    assert!(!partition.resume_key(7, at(0)));
    expect_start(&mut partition, 0);
}

#[test]
fn a_key_may_have_another_name_than_its_lane() {
    let mut partition = partition(settings());
    partition.name_keys(|record| Some(*record as u64 + 100));
    deliver(&mut partition, 0, 7);
    deliver(&mut partition, 1, 8);
    partition.pause_key(101, at(0)).unwrap();
    expect_start(&mut partition, 0);
    assert_eq!(start(&mut partition), None);
    assert_eq!(partition.retry_now(101, at(0)).unwrap().pending, 1);
}

#[test]
fn what_waits_is_skipped_at_once_wherever_it_waits_and_its_lane_goes_on() {
    let retrying = || PartitionSettings {
        retry: RetryPolicy {
            in_place: InPlace::Times(0),
            ..settings().retry
        },
        ..settings()
    };
    // Ready.
    let mut ready = partition(settings());
    deliver(&mut ready, 0, 7);
    deliver(&mut ready, 1, 7);
    expect_skip(&mut ready, 0, 0, at(0));
    expect_start(&mut ready, 1);
    // In the middle, and at the end of its lane.
    let mut behind = partition(settings());
    (0..4).for_each(|offset| deliver(&mut behind, offset, 7));
    let first = expect_start(&mut behind, 0);
    expect_skip(&mut behind, 1, 0, at(0));
    expect_skip(&mut behind, 3, 0, at(0));
    deliver(&mut behind, 4, 7);
    assert_eq!(start(&mut behind), None);
    done(&mut behind, first);
    let third = expect_start(&mut behind, 2);
    done(&mut behind, third);
    let last = expect_start(&mut behind, 4);
    done(&mut behind, last);
    assert!(is_idle(&behind));
    // Between two attempts, and before its due time.
    let mut waits = partition(settings());
    deliver(&mut waits, 0, 7);
    let ticket = expect_start(&mut waits, 0);
    assert_eq!(fail(&mut waits, ticket, at(0)), waiting(SECOND));
    expect_skip(&mut waits, 0, 1, at(0));
    assert!(is_idle(&waits));
    for lane_order in [LaneOrder::Offset, LaneOrder::Due] {
        let mut early = partition(PartitionSettings {
            lane_order,
            ..settings()
        });
        let due = Some(at(100));
        let due = Delivery {
            due,
            ..delivery(0, Some(7))
        };
        early.deliver(due, at(0));
        deliver(&mut early, 1, 7);
        expect_skip(&mut early, 0, 0, at(0));
        let ticket = expect_start(&mut early, 1);
        done(&mut early, ticket);
        assert!(is_idle(&early), "{lane_order:?}");
    }
    // Before a write, and between two.
    for fails in [false, true] {
        let mut writes = partition(retrying());
        deliver(&mut writes, 0, 7);
        deliver(&mut writes, 1, 7);
        let ticket = expect_start(&mut writes, 0);
        assert_eq!(fail(&mut writes, ticket, at(0)), Verdict::Publishing);
        if fails {
            let ticket = writes.next_publish().unwrap().ticket;
            let verdict = writes.publish_finished(ticket, PublishResult::Failed, 0, at(0));
            assert_eq!(verdict, waiting(SECOND));
        }
        expect_skip(&mut writes, 0, 1, at(0));
        assert_eq!(writes.next_publish(), None);
        expect_start(&mut writes, 1);
    }
    // Parked, and of a paused key.
    let mut parked = partition(PartitionSettings {
        retry: RetryPolicy {
            on_exhausted: Exhausted::Park,
            ..retrying().retry
        },
        ..settings()
    });
    deliver(&mut parked, 0, 7);
    deliver(&mut parked, 1, 7);
    let ticket = expect_start(&mut parked, 0);
    assert!(matches!(
        fail(&mut parked, ticket, at(0)),
        Verdict::Parked { .. }
    ));
    parked.pause_key(7, at(0)).unwrap();
    expect_skip(&mut parked, 0, 1, at(0));
    expect_skip(&mut parked, 1, 0, at(0));
    assert!(is_idle(&parked));
    // Another group's.
    let mut held = partition(settings());
    let hold = Ruling::Hold(HeldBecause::Gone);
    held.deliver_ruled(delivery(0, Some(7)), hold, at(0));
    expect_skip(&mut held, 0, 0, at(0));
    assert!(is_idle(&held));
    assert_eq!(held.watermark(), Some(Position::new(1)));
}

#[test]
fn what_runs_is_skipped_at_its_end_unless_it_succeeds() {
    let mut partition = partition(settings());
    (0..4).for_each(|offset| deliver(&mut partition, offset, 7 + offset as u64 % 2));
    let [fails, succeeds] = [0, 1].map(|offset| expect_start(&mut partition, offset));
    let later = Ok((ActTime::AfterItsAttempt, None));
    assert_eq!(partition.skip(Offset::new(0), note(), at(0)), later);
    assert_eq!(partition.direct(skipping(&[0, 1]), at(0)), []);
    assert_eq!(start(&mut partition), None);
    assert_eq!(partition.skipped_by(Offset::new(1)), Some(&note()));
    assert_eq!(fail(&mut partition, fails, at(1)), skipped(0, 1));
    done(&mut partition, succeeds);
    expect_start(&mut partition, 2);
    expect_start(&mut partition, 3);
}

#[test]
fn what_is_being_written_is_settled_by_that_and_skipped_where_the_write_fails() {
    let results = [
        (PublishResult::Acknowledged, Settlement::DeadLettered),
        (PublishResult::Failed, Settlement::SkippedByOperator),
        (PublishResult::Refused, Settlement::SkippedByOperator),
        (PublishResult::TooLarge, Settlement::SkippedByOperator),
    ];
    for (result, outcome) in results {
        let mut partition = partition(settings());
        deliver(&mut partition, 0, 7);
        let ticket = expect_start(&mut partition, 0);
        let verdict = partition.fail(
            ticket,
            Failure::Fatal.into(),
            0,
            at(0),
            &mut OutageGuard::default(),
        );
        assert_eq!(verdict, Verdict::Publishing);
        let ticket = partition.next_publish().unwrap().ticket;
        let later = Ok((ActTime::AfterItsWrite, None));
        assert_eq!(partition.skip(Offset::new(0), note(), at(0)), later);
        assert_eq!(
            partition.dead_letter_now(Offset::new(0), at(0)),
            Err(ActRefused::BeingWritten)
        );
        let verdict = partition.publish_finished(ticket, result, 0, at(0));
        assert_eq!(verdict, settled(outcome, 0, 1));
    }
}

#[test]
fn an_offset_is_skipped_at_its_delivery_and_one_that_is_settled_is_left_alone() {
    let mut partition = partition(settings());
    assert_eq!(partition.direct(skipping(&[-1, 1]), at(0)), []);
    let later = Ok((ActTime::AtItsDelivery, None));
    assert_eq!(partition.skip(Offset::new(3), note(), at(0)), later);
    for offset in 0..5 {
        let expected = match offset {
            1 | 3 => Delivered::SkippedByOperator,
            _ => Delivered::Queued,
        };
        let delivered = partition.deliver(delivery(offset, Some(7)), at(0));
        assert_eq!(delivered, expected, "{offset}");
    }
    for offset in [-1, 1, 3] {
        assert_eq!(
            partition.skip(Offset::new(offset), note(), at(0)),
            Err(ActRefused::AlreadySettled)
        );
    }
    for offset in [0, 2, 4] {
        let ticket = expect_start(&mut partition, offset);
        done(&mut partition, ticket);
    }
    assert_eq!(partition.watermark(), Some(Position::new(5)));
}

#[test]
fn an_order_is_about_the_log_as_it_was() {
    let mut partition = partition(settings());
    assert_eq!(partition.direct(skipping(&[2]), at(0)), []);
    let _ = partition.skip(Offset::new(3), note(), at(0));
    let hole = Delivery {
        record: 4,
        ..delivery(4, Some(7))
    };
    partition.deliver(delivery(0, Some(7)), at(0));
    assert_eq!(partition.deliver(hole, at(0)), Delivered::Queued);
    // 2 is in a hole that was read over: the log was cut, and is written again.
    for offset in [2, 3] {
        let delivered = partition.deliver(delivery(offset, Some(8)), at(0));
        assert_eq!(delivered, Delivered::Queued, "{offset} is another record");
    }
}

/// The source of the directives may see the cut later than the partition.
#[test]
fn a_skip_of_a_log_that_was_cut_stays_void_until_it_is_left_out_once() {
    let mut partition = partition(settings());
    assert_eq!(partition.direct(skipping(&[2, 3, 5]), at(0)), []);
    for offset in [0, 4] {
        partition.deliver(delivery(offset, Some(7)), at(0));
    }
    assert_eq!(
        partition.deliver(delivery(2, Some(8)), at(0)),
        Delivered::Queued
    );
    assert_eq!(partition.direct(skipping(&[2, 3, 5]), at(0)), []);
    let with_a_pause = PartitionDirectives {
        paused_keys: [9].into(),
        ..skipping(&[2, 3, 5])
    };
    assert_eq!(partition.direct(with_a_pause, at(0)), []);
    let delivered = partition.deliver(delivery(3, Some(8)), at(0));
    assert_eq!(delivered, Delivered::Queued);
    assert_eq!(partition.direct(skipping(&[3]), at(0)), []);
    // It is ordered again, for the log as it is.
    assert_eq!(
        partition.direct(skipping(&[2, 3]), at(0)),
        [skipped(2, 0)],
        "3 was not left out"
    );
    let mut renewed = skipping(&[2, 3]);
    renewed.skips.get_mut(&Offset::new(3)).unwrap().note = OperatorNote::new("bob", "again");
    assert_eq!(
        partition.direct(renewed, at(0)),
        [skipped(3, 0)],
        "another order for 3"
    );
}

#[test]
fn a_member_has_so_many_orders_of_its_own_and_those_that_are_done_do_not_count() {
    let mut partition = partition(settings());
    let most = MOST_OWN_ORDERS as i64;
    for offset in 0..most {
        partition.pause_key(offset as u64, at(0)).unwrap();
        assert!(partition.skip(Offset::new(offset), note(), at(0)).is_ok());
    }
    assert!(
        partition.pause_key(5, at(0)).is_ok(),
        "it is paused already"
    );
    let too_many = Err(ActRefused::TooMany);
    assert_eq!(partition.pause_key(most as u64, at(0)), too_many);
    let next = |partition: &mut Partition<i64>| {
        let answer = partition.skip(Offset::new(most), note(), at(0));
        answer.map(|_| ())
    };
    assert_eq!(next(&mut partition), too_many);
    partition.deliver(delivery(0, Some(7)), at(0));
    assert_eq!(next(&mut partition), Ok(()));
}

#[test]
fn a_dead_letter_is_written_at_once_where_the_record_waits_and_the_next_starts_when_it_is_acknowledged()
 {
    let mut partition = partition(settings());
    (0..2).for_each(|offset| deliver(&mut partition, offset, 7));
    let ticket = expect_start(&mut partition, 0);
    assert_eq!(fail(&mut partition, ticket, at(0)), waiting(SECOND));
    assert_eq!(dead_letter(&mut partition, 0, at(0)), ActTime::Now);
    let again = partition.dead_letter_now(Offset::new(0), at(0));
    assert_eq!(again, Err(ActRefused::BeingWritten));
    partition.tick(at(5));
    assert_eq!(start(&mut partition), None);
    written(&mut partition, 0, 1);
    expect_start(&mut partition, 1);
}

#[test]
fn a_dead_letter_of_what_is_behind_others_is_written_at_its_turn_also_of_a_paused_key() {
    let mut partition = partition(settings());
    (0..3).for_each(|offset| deliver(&mut partition, offset, 7));
    let first = expect_start(&mut partition, 0);
    assert_eq!(dead_letter(&mut partition, 1, at(0)), ActTime::AtItsTurn);
    assert_eq!(partition.next_publish(), None);
    partition.pause_key(7, at(0)).unwrap();
    done(&mut partition, first);
    written(&mut partition, 1, 0);
    assert_eq!(start(&mut partition), None);
    assert_eq!(dead_letter(&mut partition, 2, at(0)), ActTime::Now);
    written(&mut partition, 2, 0);
    assert!(is_idle(&partition));
}

#[test]
fn a_dead_letter_of_what_runs_is_written_at_its_end_unless_it_succeeds() {
    let mut partition = partition(settings());
    (0..2).for_each(|offset| deliver(&mut partition, offset, 7 + offset as u64));
    let [fails, succeeds] = [0, 1].map(|offset| expect_start(&mut partition, offset));
    for offset in [0, 1] {
        assert_eq!(
            dead_letter(&mut partition, offset, at(0)),
            ActTime::AfterItsAttempt
        );
    }
    assert!(
        !partition.is_blocker(fails),
        "its attempt is not to be ended"
    );
    assert_eq!(partition.next_publish(), None);
    done(&mut partition, succeeds);
    assert_eq!(fail(&mut partition, fails, at(0)), Verdict::Publishing);
    written(&mut partition, 0, 1);
}

#[test]
fn a_dead_letter_of_a_record_that_is_not_due_in_a_retry_topic_keeps_to_its_lane() {
    let mut partition = partition(PartitionSettings {
        lane_order: LaneOrder::Due,
        ..settings()
    });
    for offset in [0, 1] {
        let due = Some(at(100));
        let due = Delivery {
            due,
            ..delivery(offset, Some(7))
        };
        partition.deliver(due, at(0));
    }
    deliver(&mut partition, 2, 7);
    let runs = expect_start(&mut partition, 2);
    assert_eq!(dead_letter(&mut partition, 0, at(0)), ActTime::AtItsTurn);
    done(&mut partition, runs);
    written(&mut partition, 0, 0);
    assert_eq!(dead_letter(&mut partition, 1, at(0)), ActTime::Now);
    written(&mut partition, 1, 0);
    assert!(is_idle(&partition));
}

#[test]
fn a_dead_letter_is_refused_where_there_is_no_topic_or_no_such_record() {
    let mut without = partition(PartitionSettings {
        retry: RetryPolicy {
            dead_letter_topic: false,
            ..settings().retry
        },
        ..settings()
    });
    deliver(&mut without, 0, 7);
    assert_eq!(
        without.dead_letter_now(Offset::new(0), at(0)),
        Err(ActRefused::NoDeadLetterTopic)
    );
    expect_start(&mut without, 0);
    let mut partition = partition(settings());
    let refused = |partition: &mut Partition<i64>, offset| {
        partition.dead_letter_now(Offset::new(offset), at(0)).err()
    };
    assert_eq!(refused(&mut partition, 0), Some(ActRefused::NotDelivered));
    assert_eq!(
        refused(&mut partition, -1),
        Some(ActRefused::AlreadySettled)
    );
    deliver(&mut partition, 0, 7);
    partition.drain();
    assert_eq!(refused(&mut partition, 0), Some(ActRefused::Draining));
    let draining = Err(ActRefused::Draining);
    assert_eq!(partition.pause_key(7, at(0)), draining);
    assert_eq!(partition.retry_now(7, at(0)).map(|_| ()), draining);
}

#[test]
fn a_retry_ends_every_wait_of_its_key_and_counts_as_an_attempt() {
    let mut partition = partition(settings());
    deliver(&mut partition, 0, 7);
    let due = Delivery {
        due: Some(at(1_000)),
        ..delivery(1, Some(7))
    };
    partition.deliver(due, at(0));
    partition.deliver(delivery(2, Some(8)), at(0));
    let [ticket, other] = [0, 2].map(|offset| expect_start(&mut partition, offset));
    assert_eq!(fail(&mut partition, ticket, at(0)), waiting(SECOND));
    assert_eq!(fail(&mut partition, other, at(0)), waiting(SECOND));
    let found = RetriedNow {
        retried: 1,
        running: 0,
        pending: 2,
    };
    assert_eq!(partition.retry_now(7, at(0)).unwrap(), found);
    let attempt = next(&mut partition).map(|start| (start.attempt, start.ticket));
    let (2, again) = attempt.unwrap() else {
        panic!("{attempt:?}")
    };
    assert_eq!(start(&mut partition), None, "another key waits on");
    let found = partition.retry_now(7, at(0)).unwrap();
    assert_eq!((found.running, found.retried), (1, 0));
    done(&mut partition, again);
    expect_start(&mut partition, 1);
    assert_eq!(
        partition.retry_now(9, at(0)).unwrap(),
        RetriedNow::default()
    );
    partition.tick(at(2));
    expect_start(&mut partition, 2);
    assert_eq!(partition.next_deadline(), None);
}

#[test]
fn a_retry_of_what_an_outage_holds_is_one_attempt_more() {
    let mut partition = partition(PartitionSettings {
        retry: RetryPolicy {
            in_place: InPlace::Times(0),
            ..settings().retry
        },
        ..settings()
    });
    let mut guard = total_outage(at(0));
    deliver(&mut partition, 0, 7);
    let ticket = expect_start(&mut partition, 0);
    let held = partition.fail(ticket, Failure::Retryable.into(), 0, at(1), &mut guard);
    assert!(
        matches!(held, Verdict::Waiting { held: Some(_), .. }),
        "{held:?}"
    );
    assert_eq!(partition.retry_now(7, at(1)).unwrap().retried, 1);
    let ticket = expect_start(&mut partition, 0);
    let held = partition.fail(ticket, Failure::Retryable.into(), 0, at(2), &mut guard);
    assert!(
        matches!(held, Verdict::Waiting { held: Some(_), .. }),
        "{held:?}"
    );
    assert_eq!(partition.held_by_guard(), 1);
}

#[test]
fn a_retry_in_a_retry_topic_joins_the_lane_and_one_of_a_write_is_made_now() {
    let mut partition = partition(PartitionSettings {
        lane_order: LaneOrder::Due,
        retry: RetryPolicy {
            in_place: InPlace::Times(0),
            ..settings().retry
        },
        ..settings()
    });
    for offset in [0, 1] {
        let due = Delivery {
            due: Some(at(100)),
            rounds: 1,
            ..delivery(offset, Some(7))
        };
        partition.deliver(due, at(0));
    }
    assert_eq!(partition.retry_now(7, at(0)).unwrap().retried, 2);
    let ticket = expect_start(&mut partition, 0);
    assert_eq!(start(&mut partition), None);
    assert_eq!(fail(&mut partition, ticket, at(0)), Verdict::Publishing);
    let write = partition.next_publish().unwrap().ticket;
    let verdict = partition.publish_finished(write, PublishResult::Failed, 0, at(0));
    assert_eq!(verdict, waiting(SECOND));
    assert_eq!(partition.next_publish(), None);
    assert_eq!(partition.retry_now(7, at(0)).unwrap().retried, 1);
    assert!(partition.next_publish().is_some());
}

/// A record is retried for this long at least, in place.
fn for_at_least(time: Duration) -> PartitionSettings {
    PartitionSettings {
        retry: RetryPolicy {
            for_at_least: Some(time),
            backoff: exact(10 * SECOND, 1_000 * SECOND),
            ..settings().retry
        },
        ..settings()
    }
}

/// The time of a wait that an operator ends is not waited, and is no retry time.
#[test]
fn a_retry_gives_back_the_time_that_it_spares() {
    let mut partition = partition(for_at_least(900 * SECOND));
    deliver(&mut partition, 0, 7);
    for second in 0..20 {
        let ticket = expect_start(&mut partition, 0);
        let verdict = fail(&mut partition, ticket, at(second));
        assert!(matches!(verdict, Verdict::Waiting { .. }), "{verdict:?}");
        assert_eq!(partition.retry_now(7, at(second)).unwrap().retried, 1);
    }
}

#[test]
fn a_retry_gives_back_the_time_of_a_round_through_the_retry_topic() {
    let mut partition = partition(PartitionSettings {
        lane_order: LaneOrder::Due,
        ..for_at_least(100 * SECOND)
    });
    let round = Delivery {
        due: Some(at(90)),
        rounds: 3,
        retried_for: 120 * SECOND,
        ..delivery(0, Some(7))
    };
    partition.deliver(round, at(0));
    partition.retry_now(7, at(10)).unwrap();
    let ticket = expect_start(&mut partition, 0);
    assert_eq!(fail(&mut partition, ticket, at(10)), waiting(10 * SECOND));
    for (now, delay) in [(20, 20), (40, 40), (80, 80)] {
        partition.tick(at(now));
        let ticket = expect_start(&mut partition, 0);
        let verdict = fail(&mut partition, ticket, at(now));
        // 120 - 80 + 10 + 20 + 40
        let is_over = now == 80;
        assert_eq!(verdict == Verdict::Publishing, is_over, "{now} {delay}");
    }
}

fn after_crashes(unclean_starts: u32, suspects: &[i64]) -> Partition<i64> {
    let suspect = |&offset: &i64| Suspect {
        offset: Offset::new(offset),
        crashes: 1,
        survived: false,
    };
    let mut partition = Partition::with_evidence(
        Arc::new(settings()),
        Epoch::new(1),
        Some(Position::new(0)),
        SettledMap::new(),
        Instance::new(1),
        Evidence {
            unclean_starts,
            suspects: suspects.iter().map(suspect).collect(),
            ..Evidence::default()
        },
    );
    partition.log_ends_at(Position::new(2));
    partition
}

/// Its crashes go on counting: what an operator pauses in a crash loop is its likely cause.
#[test]
fn a_pause_acquits_no_suspect() {
    for is_behind in [false, true] {
        let mut partition = after_crashes(4, &[i64::from(is_behind)]);
        assert_eq!(partition.direct(pausing(&[7]), at(0)), []);
        deliver(&mut partition, 0, 7);
        deliver(&mut partition, 1, 7);
        assert!(partition.is_careful() && partition.has_suspects());
        assert_eq!(partition.direct(pausing(&[]), at(0)), []);
        assert_eq!(partition.crashes(Offset::new(i64::from(is_behind))), 1);
        assert!(partition.has_suspects());
        assert_eq!(partition.wants_trial(), !is_behind);
    }
    let mut partition = after_crashes(4, &[0]);
    deliver(&mut partition, 0, 7);
    deliver(&mut partition, 1, 8);
    partition.pause_key(7, at(0)).unwrap();
    let other = expect_start(&mut partition, 1);
    done(&mut partition, other);
    assert!(partition.has_suspects());
    expect_skip(&mut partition, 0, 0, at(0));
    assert!(!partition.is_careful());
}

/// Else the partition would be careful, and slow, for as long as the pause lasts.
#[test]
fn after_a_crash_what_is_paused_and_not_suspected_is_not_waited_for() {
    let mut partition = after_crashes(1, &[]);
    deliver(&mut partition, 0, 7);
    deliver(&mut partition, 1, 7);
    assert!(partition.is_careful());
    partition.pause_key(7, at(0)).unwrap();
    assert!(!partition.is_careful());
    partition.resume_key(7, at(0));
    expect_start(&mut partition, 0);
}

/// What is directed comes from the control topic.
#[test]
fn an_order_of_this_member_takes_back_none_that_is_directed_and_a_directed_skip_comes_first() {
    let mut partition = partition(settings());
    deliver(&mut partition, 0, 7);
    let runs = expect_start(&mut partition, 0);
    for offset in [1, 2] {
        deliver(&mut partition, offset, 7);
    }
    assert_eq!(
        dead_letter(&mut partition, 0, at(0)),
        ActTime::AfterItsAttempt
    );
    let directives = PartitionDirectives {
        paused_keys: [7].into(),
        ..skipping(&[0])
    };
    assert_eq!(partition.direct(directives.clone(), at(0)), []);
    assert_eq!(fail(&mut partition, runs, at(0)), skipped(0, 1));
    // A pause is one of attempts: what is given up needs none.
    partition.set_paused(Paused::Yes);
    assert_eq!(dead_letter(&mut partition, 1, at(0)), ActTime::Now);
    written(&mut partition, 1, 0);
    assert!(partition.resume_key(7, at(0)), "it is directed too");
    partition.retry_now(7, at(0)).unwrap();
    partition.skip(Offset::new(3), note(), at(0)).unwrap();
    assert_eq!(partition.direct(skipping(&[3]), at(0)), []);
    assert_eq!(partition.direct(directives, at(0)), []);
    partition.set_paused(Paused::No);
    assert_eq!(start(&mut partition), None, "its key is still paused");
    let delivered = partition.deliver(delivery(3, Some(8)), at(0));
    assert_eq!(delivered, Delivered::SkippedByOperator, "its own holds on");
    assert_eq!(partition.direct(PartitionDirectives::default(), at(0)), []);
    expect_start(&mut partition, 2);
}

#[test]
fn what_a_member_orders_by_itself_is_inherited_by_its_next_epoch() {
    let mut before = partition(settings());
    before.pause_key(7, at(0)).unwrap();
    before.skip(Offset::new(3), note(), at(0)).unwrap();
    before.skip(Offset::new(2), note(), at(0)).unwrap();
    let delivered = before.deliver(delivery(2, Some(8)), at(0));
    assert_eq!(delivered, Delivered::SkippedByOperator);
    assert_eq!(before.own_orders().skips.len(), 1, "2 is settled");
    let mut next = partition(settings());
    next.inherit_own_orders(before.own_orders());
    deliver(&mut next, 0, 7);
    assert_eq!(
        next.deliver(delivery(3, Some(8)), at(0)),
        Delivered::SkippedByOperator
    );
    assert_eq!((start(&mut next), next.paused_keys()), (None, 1));
    next.resume_key(7, at(0));
    expect_start(&mut next, 0);
}

#[test]
fn a_directed_skip_is_void_for_a_record_of_another_leader_epoch() {
    let under = |epoch| {
        let mut directives = skipping(&[1, 3]);
        for skip in directives.skips.values_mut() {
            skip.under = Some(LeaderEpoch::new(epoch));
        }
        directives
    };
    let outcome =
        |partition: &mut Partition<i64>, offset| partition.deliver(delivery(offset, None), at(0));
    let mut unknown = partition(settings());
    assert_eq!(unknown.direct(under(4), at(0)), []);
    let delivered = unknown.deliver(delivery(1, None), at(0));
    assert_eq!(delivered, Delivered::Queued, "it may be another one");
    let mut partition = partition(settings());
    assert_eq!(partition.direct(under(4), at(0)), []);
    partition.read_under(LeaderEpoch::new(3), Offset::new(0));
    // At offset 1 is another record than the one that was meant.
    assert_eq!(outcome(&mut partition, 0), Delivered::Queued);
    assert_eq!(outcome(&mut partition, 1), Delivered::Queued);
    partition.read_under(LeaderEpoch::new(4), Offset::new(2));
    assert_eq!(outcome(&mut partition, 2), Delivered::Queued);
    assert_eq!(outcome(&mut partition, 3), Delivered::SkippedByOperator);
    assert!(partition.skipped_by(Offset::new(1)).is_none());
    // As after a restart of the polling thread's view: the pending record is still another one.
    assert_eq!(partition.direct(PartitionDirectives::default(), at(1)), []);
    assert_eq!(partition.direct(under(4), at(1)), []);
    assert_eq!(partition.direct(under(3), at(1)), [skipped(1, 0)]);
}
