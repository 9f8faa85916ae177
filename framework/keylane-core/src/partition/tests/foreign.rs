//! Retries of other groups.

use super::*;
use crate::foreign::HeldBecause;

const HOLD: Ruling = Ruling::Hold(HeldBecause::Gone);

fn retry_partition() -> Partition<i64> {
    partition(PartitionSettings {
        lane_order: LaneOrder::Due,
        ..settings()
    })
}

fn deliver_as(partition: &mut Partition<i64>, offset: i64, lane: u64, ruling: Ruling) -> Delivered {
    partition.deliver_ruled(delivery(offset, Some(lane)), ruling, Moment::ORIGIN)
}

fn offsets(verdicts: Vec<Verdict<i64>>) -> Vec<i64> {
    let offset = |verdict| match verdict {
        Verdict::Settled {
            outcome: Settlement::Foreign,
            attempts: 0,
            offset,
            ..
        } => offset.get(),
        other => panic!("not settled as foreign: {other:?}"),
    };
    verdicts.into_iter().map(offset).collect()
}

#[test]
fn a_foreign_record_is_settled_without_an_attempt_and_the_watermark_moves_over_it() {
    let mut partition = retry_partition();
    assert_eq!(
        deliver_as(&mut partition, 0, 7, Ruling::Settle),
        Delivered::Foreign
    );
    assert_eq!((partition.pending(), partition.pending_bytes()), (0, 0));
    assert_eq!(partition.watermark(), Some(Position::new(1)));
    assert!(partition.next_start().is_none() && partition.next_publish().is_none());
}

#[test]
fn a_foreign_record_that_is_not_due_is_settled_at_once() {
    let mut partition = retry_partition();
    let late = Delivery {
        due: Some(at(100)),
        ..delivery(0, Some(7))
    };
    assert_eq!(
        partition.deliver_ruled(late, Ruling::Settle, at(1)),
        Delivered::Foreign
    );
    assert_eq!((partition.pending(), partition.next_deadline()), (0, None));
}

#[test]
fn a_held_record_holds_the_commit_and_neither_its_key_nor_a_worker() {
    let mut partition = partition(PartitionSettings {
        lane_order: LaneOrder::Due,
        concurrency: 1,
        ..settings()
    });
    let due = Delivery {
        due: Some(at(5)),
        ..delivery(0, Some(7))
    };
    assert_eq!(
        partition.deliver_ruled(due, HOLD, Moment::ORIGIN),
        Delivered::Queued
    );
    assert_eq!(
        deliver_as(&mut partition, 1, 7, Ruling::Process),
        Delivered::Queued
    );
    partition.tick(at(10));
    let (offset, ticket) = start(&mut partition).unwrap();
    assert_eq!(offset, 1);
    assert!(matches!(
        partition.succeed(ticket, Success::Done),
        Verdict::Settled { .. }
    ));
    assert!(start(&mut partition).is_none());
    assert_eq!(partition.watermark(), Some(Position::new(0)));
    assert_eq!(
        (
            partition.held(),
            partition.pending(),
            partition.settled_ahead()
        ),
        (1, 1, 1)
    );
    assert_eq!(
        (
            partition.parked(),
            partition.waiting(),
            surveyed(&mut partition).held_up
        ),
        (0, 0, 1)
    );
    assert_eq!(
        partition.oldest().map(|oldest| oldest.state),
        Some(RecordState::Held)
    );
    let views: Vec<_> = partition
        .pending_records()
        .map(|view| view.activity)
        .collect();
    assert_eq!(views, [Activity::Held]);
    assert!(partition.oldest_workable().is_none());
}

#[test]
fn held_records_are_settled_when_they_are_found_to_be_foreign_and_the_others_stay() {
    let mut partition = retry_partition();
    for offset in 0..4 {
        assert_eq!(
            deliver_as(&mut partition, offset, 7, HOLD),
            Delivered::Queued
        );
    }
    assert_eq!(
        deliver_as(&mut partition, 4, 7, Ruling::Process),
        Delivered::Queued
    );
    assert!(partition.settle_held(|_| false).is_empty());
    assert_eq!(
        offsets(partition.settle_held(|record| record % 2 == 0)),
        [0, 2]
    );
    assert_eq!(
        (partition.held(), partition.watermark()),
        (2, Some(Position::new(1)))
    );
    assert_eq!(offsets(partition.settle_held(|_| true)), [1, 3]);
    assert_eq!(
        (partition.held(), partition.watermark()),
        (0, Some(Position::new(4)))
    );
    assert_eq!(
        start(&mut partition).map(|(offset, _)| offset),
        Some(4),
        "its own is untouched"
    );
}

#[test]
fn a_held_record_is_handed_back_unsettled() {
    let mut partition = retry_partition();
    deliver_as(&mut partition, 0, 7, HOLD);
    deliver_as(&mut partition, 1, 7, Ruling::Settle);
    partition.drain();
    assert!(partition.is_drained());
    assert_eq!(partition.watermark(), Some(Position::new(0)));
    let metadata = partition.commit_metadata(MAX_METADATA_BYTES);
    let map = decode(Position::new(0), &metadata.text).unwrap().settled;
    assert!(map.contains(Offset::new(1)) && !map.contains(Offset::new(0)));
}

#[test]
fn a_repeated_delivery_is_repeated_whatever_its_ruling() {
    let mut partition = retry_partition();
    deliver_as(&mut partition, 0, 7, HOLD);
    for ruling in [HOLD, Ruling::Settle, Ruling::Process] {
        assert_eq!(
            deliver_as(&mut partition, 0, 7, ruling),
            Delivered::Repeated
        );
    }
    assert_eq!(partition.held(), 1);
}

#[test]
fn a_held_record_is_never_taken_for_a_blocker() {
    let blocker = BlockerPolicy {
        after: SECOND,
        settled_ahead_limit: 10,
        pending_limit: 10,
    };
    let mut partition = partition(PartitionSettings {
        lane_order: LaneOrder::Due,
        blocker: Some(blocker),
        ..settings()
    });
    deliver_as(&mut partition, 0, 7, HOLD);
    for offset in 1..=20 {
        deliver_as(&mut partition, offset, 8, Ruling::Settle);
    }
    assert!(partition.may_have_blocker(at(100)));
    assert!(
        partition
            .take_blocker(at(100), &mut OutageGuard::default())
            .is_none()
    );
}

#[test]
fn a_held_record_is_no_sign_of_a_killer() {
    let mut partition = partition_after_a_crash();
    partition.log_ends_at(Position::new(2));
    deliver_as(&mut partition, 0, 7, HOLD);
    deliver_as(&mut partition, 1, 8, Ruling::Settle);
    assert!(
        !partition.is_careful(),
        "nothing that may have killed is left"
    );
}

fn partition_after_a_crash() -> Partition<i64> {
    let settings = PartitionSettings {
        lane_order: LaneOrder::Due,
        ..settings()
    };
    let evidence = Evidence {
        unclean_starts: 1,
        ..Evidence::default()
    };
    let start = Some(Position::new(0));
    let here = Instance::default();
    Partition::with_evidence(
        Arc::new(settings),
        Epoch::new(1),
        start,
        SettledMap::new(),
        here,
        evidence,
    )
}
