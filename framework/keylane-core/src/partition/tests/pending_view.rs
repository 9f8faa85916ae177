use super::*;

/// What each pending record is doing, by offset.
fn activities(partition: &Partition<i64>) -> Vec<(i64, Activity)> {
    let mut all: Vec<_> = partition
        .pending_records()
        .map(|view| (*view.record, view.activity))
        .collect();
    all.sort_by_key(|(offset, _)| *offset);
    all
}

#[test]
fn each_pending_record_says_what_it_is_doing_and_what_it_waits_for() {
    let topic = TopicRetry {
        rounds: 5,
        backoff: exact(SECOND, SECOND),
    };
    let retry = RetryPolicy {
        topic: Some(topic),
        ..settings().retry
    };
    let mut partition = partition(PartitionSettings {
        concurrency: 2,
        retry,
        ..settings()
    });
    for (offset, lane) in [(0, 7), (1, 7), (2, 8), (3, 9)] {
        deliver(&mut partition, offset, lane);
    }
    partition.deliver(
        Delivery {
            due: Some(at(50)),
            ..delivery(4, Some(10))
        },
        at(0),
    );
    partition.deliver(
        Delivery {
            due: Some(at(50)),
            rounds: 3,
            ..delivery(5, Some(11))
        },
        at(0),
    );
    let first = expect_start(&mut partition, 0);
    expect_start(&mut partition, 2);
    let delivered = Some(Moment::ORIGIN);
    let idle = [
        (3, Activity::Ready { since: delivered }),
        (4, Activity::Waiting(Wait::NotBefore)),
        (5, Activity::Waiting(Wait::Topic { round: 3 })),
    ];
    let runs = Activity::Running { since: at(0) };
    let mut expected = vec![
        (0, runs),
        (1, Activity::Behind { since: delivered }),
        (2, runs),
    ];
    expected.extend(idle);
    assert_eq!(activities(&partition), expected);
    assert_eq!(partition.oldest_workable(), Some(&0));

    // It is retried in place first, then through the topic.
    assert_eq!(fail(&mut partition, first, at(1)), waiting(SECOND));
    assert_eq!(
        activities(&partition)[0],
        (0, Activity::Waiting(Wait::InPlace))
    );
    assert_eq!((partition.waiting(), partition.waiting_lanes()), (3, 3));
    assert_eq!(
        partition.oldest_workable(),
        Some(&2),
        "1 is behind 0, which waits"
    );
    let third = expect_start(&mut partition, 3);
    assert!(matches!(
        partition.succeed(third, Success::Done),
        Verdict::Settled { .. }
    ));
    partition.tick(at(2));
    let again = expect_start(&mut partition, 0);
    assert_eq!(
        activities(&partition)[0],
        (0, Activity::Running { since: at(2) })
    );
    assert_eq!(fail(&mut partition, again, at(3)), Verdict::Publishing);
    assert_eq!(activities(&partition)[0], (0, Activity::Publishing));
    let write = partition.next_publish().map(|request| request.ticket);
    let answer = PublishResult::Failed;
    assert_eq!(
        write.map(|ticket| partition.publish_finished(ticket, answer, 0, at(3))),
        Some(waiting(SECOND))
    );
    assert_eq!(
        activities(&partition)[0],
        (0, Activity::Waiting(Wait::Write))
    );
}

#[test]
fn held_up_is_what_waits_or_is_parked_and_all_behind_it() {
    let no_topic = RetryPolicy {
        dead_letter_topic: false,
        in_place: InPlace::Forever,
        ..settings().retry
    };
    let mut partition = partition(PartitionSettings {
        retry: no_topic,
        ..settings()
    });
    for (offset, lane) in [(0, 7), (1, 7), (2, 8), (3, 8), (4, 8), (5, 9), (6, 9)] {
        deliver(&mut partition, offset, lane);
    }
    assert_eq!(surveyed(&mut partition).held_up, 0);
    let (first, second) = (
        expect_start(&mut partition, 0),
        expect_start(&mut partition, 2),
    );
    expect_start(&mut partition, 5);
    let _ = fail(&mut partition, first, at(0));
    assert_eq!(
        surveyed(&mut partition).held_up,
        2,
        "0 waits, and 1 behind it"
    );
    let verdict = partition.fail(
        second,
        Failure::Undecodable.into(),
        0,
        at(0),
        &mut OutageGuard::default(),
    );
    assert!(matches!(verdict, Verdict::Parked { .. }));
    assert_eq!(
        (partition.parked(), surveyed(&mut partition).held_up),
        (1, 5)
    );
    partition.tick(at(1_000_000));
    assert_eq!(surveyed(&mut partition).held_up, 3, "0 may run again");
}

#[test]
fn a_record_that_is_not_due_and_not_in_its_lane_is_no_lane_that_waits() {
    let mut partition = partition(PartitionSettings {
        lane_order: LaneOrder::Due,
        ..settings()
    });
    partition.deliver(
        Delivery {
            due: Some(at(50)),
            rounds: 1,
            ..delivery(0, Some(7))
        },
        at(0),
    );
    assert_eq!(
        (
            partition.waiting(),
            partition.snapshot().waiting_lanes,
            surveyed(&mut partition).held_up
        ),
        (1, 0, 1)
    );
    assert_eq!(partition.oldest_workable(), None);
}

#[test]
fn what_is_not_due_is_counted_with_all_that_is_behind_it_and_without_what_waits_for_a_retry() {
    let mut partition = partition(PartitionSettings {
        concurrency: 1,
        ..settings()
    });
    partition.deliver(
        Delivery {
            due: Some(at(50)),
            ..delivery(0, Some(7))
        },
        at(0),
    );
    for (offset, lane) in [(1, 7), (2, 7), (3, 8), (4, 8), (5, 9)] {
        deliver(&mut partition, offset, lane);
    }
    let failed = expect_start(&mut partition, 3);
    assert!(matches!(
        fail(&mut partition, failed, at(0)),
        Verdict::Waiting { .. }
    ));
    let seen = surveyed(&mut partition);
    assert_eq!(
        (seen.held_up, seen.not_due, seen.not_due_bytes),
        (5, 3, 30),
        "3 waits for a retry, and 4 for it"
    );
    partition.tick(at(50));
    assert_eq!(surveyed(&mut partition).not_due, 0);
}

#[test]
fn a_parked_record_and_those_behind_it_are_not_workable() {
    let retry = RetryPolicy {
        on_exhausted: Exhausted::Park,
        ..settings().retry
    };
    let mut partition = partition(PartitionSettings {
        retry,
        ..settings()
    });
    for (offset, lane) in [(0, 7), (1, 7)] {
        deliver(&mut partition, offset, lane);
    }
    let ticket = expect_start(&mut partition, 0);
    let verdict = partition.fail(
        ticket,
        Failure::Fatal.into(),
        0,
        at(0),
        &mut OutageGuard::default(),
    );
    assert!(matches!(verdict, Verdict::Parked { .. }));
    assert_eq!(activities(&partition)[0], (0, Activity::Parked));
    assert_eq!(partition.oldest_workable(), None);
}

#[test]
fn a_snapshot_says_how_many_records_wait_for_what_as_of_the_last_survey() {
    let mut partition = partition(settings());
    let not_due = |offset, rounds| Delivery {
        due: Some(at(50)),
        rounds,
        ..delivery(offset, Some(offset as u64))
    };
    deliver(&mut partition, 0, 100);
    for (offset, rounds) in [(1, 0), (2, 0), (3, 1), (4, 2), (5, 3), (6, 4), (7, 9)] {
        partition.deliver(not_due(offset, rounds), at(0));
    }
    let first = expect_start(&mut partition, 0);
    let _ = fail(&mut partition, first, at(0));
    assert_eq!(partition.snapshot().waiting_for, WaitingFor::default());
    let seen = surveyed(&mut partition);
    let of_each = RetryTier::ALL.map(|tier| seen.waiting_for.get(tier));
    assert_eq!(of_each, [1, 1, 1, 1, 2, 0, 2]);
    assert_eq!(
        (seen.waiting, seen.held_up, seen.not_due, seen.pending),
        (8, 8, 7, 8)
    );
}
