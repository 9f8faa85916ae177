//! Point 9: records that a topic finds too large.

use super::*;

fn with_retry_topic() -> PartitionSettings {
    let topic = Some(TopicRetry {
        rounds: 5,
        backoff: exact(60 * SECOND, 600 * SECOND),
    });
    let in_place = InPlace::Times(0);
    PartitionSettings {
        retry: RetryPolicy {
            topic,
            in_place,
            ..settings().retry
        },
        ..settings()
    }
}

/// Takes the next write.
fn write(partition: &mut Partition<i64>) -> (Ticket, Publish, FailureHeaders) {
    let request = partition.next_publish().expect("a write is due");
    (request.ticket, request.publish, request.headers)
}

fn too_large(partition: &mut Partition<i64>, ticket: Ticket, now: Moment) -> Verdict<i64> {
    partition.publish_finished(ticket, PublishResult::TooLarge, 0, now)
}

const DEAD: Publish = Publish::DeadLetter {
    reason: Reason::Exhausted,
};

#[test]
fn what_the_retry_topic_does_not_take_is_retried_in_place_once_and_dead_lettered() {
    let mut partition = partition(with_retry_topic());
    for (offset, lane) in [(0, 7), (1, 7), (2, 8)] {
        deliver(&mut partition, offset, lane);
    }
    let ticket = expect_start(&mut partition, 0);
    assert_eq!(fail(&mut partition, ticket, at(0)), Verdict::Publishing);
    let (ticket, publish, headers) = write(&mut partition);
    assert!(matches!(publish, Publish::Retry { round: 1, .. }) && headers == FailureHeaders::All);
    assert_eq!(
        too_large(&mut partition, ticket, at(0)),
        waiting(60 * SECOND)
    );
    assert_eq!(too_large(&mut partition, ticket, at(0)), Verdict::Stale);

    // Its lane waits with it, others go on.
    expect_start(&mut partition, 2);
    assert_eq!(
        (
            start(&mut partition),
            partition.waiting(),
            partition.parked()
        ),
        (None, 1, 0)
    );
    partition.tick(at(60));
    let ticket = expect_start(&mut partition, 0);
    assert_eq!(fail(&mut partition, ticket, at(60)), Verdict::Publishing);
    let (ticket, publish, _) = write(&mut partition);
    assert_eq!(publish, DEAD);
    let verdict = partition.publish_finished(ticket, PublishResult::Acknowledged, 0, at(60));
    assert_eq!(verdict, settled(Settlement::DeadLettered, 0, 2));
    expect_start(&mut partition, 1);
}

/// What ended the attempt may be an outage, whatever the record's size.
#[test]
fn what_the_retry_topic_does_not_take_is_not_dead_lettered_without_the_guards_consent() {
    let mut partition = partition(with_retry_topic());
    let mut guard = total_outage(at(30));
    deliver(&mut partition, 0, 7);
    let ticket = expect_start(&mut partition, 0);
    assert_eq!(
        partition.fail(ticket, Failure::Retryable.into(), 0, at(0), &mut guard),
        Verdict::Publishing
    );
    let (ticket, ..) = write(&mut partition);
    assert_eq!(
        too_large(&mut partition, ticket, at(0)),
        waiting(60 * SECOND)
    );
    partition.tick(at(60));
    let ticket = expect_start(&mut partition, 0);
    let verdict = partition.fail(ticket, Failure::Retryable.into(), 0, at(60), &mut guard);
    assert!(
        matches!(verdict, Verdict::Waiting { held: Some(_), .. }),
        "{verdict:?}"
    );
}

#[test]
fn a_dead_letter_that_is_too_large_is_written_with_fewer_headers_and_parked_after_the_fewest() {
    let mut partition = partition(settings());
    deliver(&mut partition, 0, 7);
    deliver(&mut partition, 1, 7);
    let ticket = expect_start(&mut partition, 0);
    let _ = partition.fail(
        ticket,
        Failure::Fatal.into(),
        0,
        at(0),
        &mut OutageGuard::default(),
    );
    let fatal = Publish::DeadLetter {
        reason: Reason::Fatal,
    };
    let (first, publish, headers) = write(&mut partition);
    assert_eq!((publish, headers), (fatal, FailureHeaders::All));
    assert_eq!(too_large(&mut partition, first, at(0)), Verdict::Publishing);

    let (second, publish, headers) = write(&mut partition);
    assert_eq!((publish, headers), (fatal, FailureHeaders::WithoutError));
    // A write that only failed is tried again as it was.
    assert_eq!(
        partition.publish_finished(second, PublishResult::Failed, 0, at(0)),
        waiting(SECOND)
    );
    partition.tick(at(1));
    let (second, _, headers) = write(&mut partition);
    assert_eq!(headers, FailureHeaders::WithoutError);
    assert_eq!(
        too_large(&mut partition, second, at(1)),
        Verdict::Publishing
    );

    let (third, publish, headers) = write(&mut partition);
    assert_eq!((publish, headers), (fatal, FailureHeaders::Fewest));
    assert_eq!(
        too_large(&mut partition, third, at(1)),
        Verdict::Parked {
            reason: ParkReason::TooLarge
        }
    );
    assert_eq!(
        (
            partition.parked(),
            start(&mut partition),
            partition.next_publish()
        ),
        (1, None, None)
    );
}

#[test]
fn a_dead_letter_that_fits_with_fewer_headers_settles_its_record() {
    let mut partition = partition(settings());
    deliver(&mut partition, 0, 7);
    let ticket = expect_start(&mut partition, 0);
    let _ = partition.fail(
        ticket,
        Failure::Fatal.into(),
        0,
        at(0),
        &mut OutageGuard::default(),
    );
    for _ in 0..2 {
        let (ticket, ..) = write(&mut partition);
        assert_eq!(
            too_large(&mut partition, ticket, at(0)),
            Verdict::Publishing
        );
    }
    let (ticket, _, headers) = write(&mut partition);
    assert_eq!(headers, FailureHeaders::Fewest);
    let verdict = partition.publish_finished(ticket, PublishResult::Acknowledged, 0, at(0));
    assert_eq!(verdict, settled(Settlement::DeadLettered, 0, 1));
}
