use std::time::Duration;

use super::*;
use crate::backoff::Backoff;
use crate::commit_map::{MAX_METADATA_BYTES, decode};
use crate::failure::{Failure, Reason};
use crate::offset::Offset;
use crate::outage_guard::tests::total_outage;
use crate::outage_guard::{HeldBy, OutageGuard, OutageSettings};
use crate::retry_policy::{Exhausted, InPlace, RetryPolicy, TopicRetry};

mod acts;
mod against_model;
mod blocker;
mod caution;
mod foreign;
mod outages;
mod pending_view;
mod too_large;
mod watchdog;

const SECOND: Duration = Duration::from_secs(1);

fn exact(initial: Duration, max: Duration) -> Backoff {
    Backoff {
        jitter: 0.0,
        ..Backoff::exponential(initial, max)
    }
}

fn settings() -> PartitionSettings {
    PartitionSettings {
        concurrency: 4,
        retry: RetryPolicy {
            in_place: InPlace::Times(1),
            backoff: exact(SECOND, 10 * SECOND),
            topic: None,
            dead_letter_topic: true,
            ..RetryPolicy::default()
        },
        lane_order: LaneOrder::Offset,
        publish_backoff: exact(SECOND, 4 * SECOND),
        watched_records: 100,
        ..PartitionSettings::default()
    }
}

fn partition(settings: PartitionSettings) -> Partition<i64> {
    Partition::new(
        Arc::new(settings),
        Epoch::new(1),
        Some(Position::new(0)),
        SettledMap::new(),
    )
}

fn delivery(offset: i64, lane: Option<u64>) -> Delivery<i64> {
    Delivery {
        offset: Offset::new(offset),
        lane,
        bytes: 10,
        due: None,
        rounds: 0,
        attempts: 0,
        retried_for: Duration::ZERO,
        record: offset,
    }
}

fn deliver(partition: &mut Partition<i64>, offset: i64, lane: u64) {
    assert_eq!(
        partition.deliver(delivery(offset, Some(lane)), Moment::ORIGIN),
        Delivered::Queued
    );
}

/// Its figures, with those that take a walk as they are now.
fn surveyed(partition: &mut Partition<i64>) -> Snapshot {
    partition.survey();
    partition.snapshot()
}

fn at(seconds: u64) -> Moment {
    Moment::new(Duration::from_secs(seconds))
}

fn start(partition: &mut Partition<i64>) -> Option<(i64, Ticket)> {
    next(partition).map(|start| (start.offset.get(), start.ticket))
}

/// What starts next, with a broker that takes every mark.
fn next(partition: &mut Partition<i64>) -> Option<Start<'_, i64>> {
    if partition.next_start_needs_mark()
        && let Some(mark) = partition.wanted_mark()
    {
        partition.mark_confirmed(mark);
    }
    partition.next_start()
}

/// Starts a record that is expected to be the next.
fn expect_start(partition: &mut Partition<i64>, offset: i64) -> Ticket {
    let (started, ticket) =
        start(partition).unwrap_or_else(|| panic!("{offset} was expected to start"));
    assert_eq!(started, offset);
    ticket
}

fn fail(partition: &mut Partition<i64>, ticket: Ticket, now: Moment) -> Verdict<i64> {
    partition.fail(
        ticket,
        Failure::Retryable.into(),
        0,
        now,
        &mut OutageGuard::default(),
    )
}

/// A guard for which no number of failing lanes is an outage.
fn never_holds() -> OutageGuard {
    OutageGuard::new(OutageSettings {
        lanes: usize::MAX,
        ..OutageSettings::default()
    })
}

fn waiting(delay: Duration) -> Verdict<i64> {
    Verdict::Waiting { delay, held: None }
}

fn settled(outcome: Settlement, offset: i64, attempts: u32) -> Verdict<i64> {
    Verdict::Settled {
        outcome,
        offset: Offset::new(offset),
        attempts,
        record: offset,
    }
}

#[test]
fn one_record_of_a_key_runs_at_a_time_and_other_keys_go_on() {
    let mut partition = partition(settings());
    for (offset, lane) in [(0, 7), (1, 7), (2, 8), (3, 7)] {
        deliver(&mut partition, offset, lane);
    }
    let first = expect_start(&mut partition, 0);
    let other = expect_start(&mut partition, 2);
    assert_eq!(start(&mut partition), None);
    assert_eq!(
        partition.succeed(other, Success::Skipped),
        settled(Settlement::Skipped, 2, 1)
    );
    assert_eq!(start(&mut partition), None);
    assert_eq!(
        partition.succeed(first, Success::Done),
        settled(Settlement::Done, 0, 1)
    );
    expect_start(&mut partition, 1);
}

#[test]
fn null_keys_do_not_wait_for_each_other_and_concurrency_is_the_limit() {
    let mut partition = partition(settings());
    for offset in 0..6 {
        partition.deliver(delivery(offset, None), Moment::ORIGIN);
    }
    let tickets: Vec<_> = (0..4)
        .map(|offset| expect_start(&mut partition, offset))
        .collect();
    assert_eq!(start(&mut partition), None);
    assert_eq!(
        (
            partition.running(),
            partition.ready(),
            partition.pending(),
            partition.pending_bytes()
        ),
        (4, 2, 6, 60)
    );
    assert!(matches!(
        partition.succeed(tickets[2], Success::Done),
        Verdict::Settled { .. }
    ));
    expect_start(&mut partition, 4);
}

#[test]
fn a_back_off_holds_its_lane_and_no_place() {
    let mut partition = partition(PartitionSettings {
        concurrency: 1,
        ..settings()
    });
    for (offset, lane) in [(0, 7), (1, 7), (2, 8)] {
        deliver(&mut partition, offset, lane);
    }
    let ticket = expect_start(&mut partition, 0);
    assert_eq!(fail(&mut partition, ticket, at(5)), waiting(SECOND));
    assert_eq!((partition.running(), partition.waiting()), (0, 1));
    let other = expect_start(&mut partition, 2);
    assert!(matches!(
        partition.succeed(other, Success::Done),
        Verdict::Settled { .. }
    ));
    assert_eq!(start(&mut partition), None, "1 waits for 0");
    assert_eq!(partition.next_deadline(), Some(at(6)));
    partition.tick(at(5));
    assert_eq!(start(&mut partition), None);
    partition.tick(at(6));
    assert_eq!(
        next(&mut partition).map(|start| (start.offset.get(), start.attempt)),
        Some((0, 2))
    );
}

#[test]
fn a_stale_ticket_changes_nothing() {
    let mut partition = partition(settings());
    deliver(&mut partition, 0, 7);
    deliver(&mut partition, 1, 7);
    let timed_out = expect_start(&mut partition, 0);
    assert_eq!(
        partition.fail(
            timed_out,
            Failure::TimedOut.into(),
            0,
            at(0),
            &mut OutageGuard::default()
        ),
        waiting(SECOND)
    );
    assert_eq!(
        partition.succeed(timed_out, Success::Done),
        Verdict::Stale,
        "too late"
    );
    assert_eq!(partition.record(timed_out), None);
    partition.tick(at(1));
    let second = expect_start(&mut partition, 0);
    assert_eq!(
        partition.succeed(timed_out, Success::Done),
        Verdict::Stale,
        "of the attempt before"
    );
    assert_eq!(
        partition.succeed(
            Ticket {
                epoch: Epoch::new(2),
                ..second
            },
            Success::Done
        ),
        Verdict::Stale
    );
    assert_eq!(
        partition.publish_finished(second, PublishResult::Acknowledged, 0, at(1)),
        Verdict::Stale
    );
    assert_eq!(partition.record_mut(second), Some(&mut 0));
    assert_eq!(partition.watermark(), Some(Position::new(0)));
    assert_eq!(
        partition.succeed(second, Success::Done),
        settled(Settlement::Done, 0, 2)
    );
    let reused = expect_start(&mut partition, 1);
    assert_eq!(
        fail(&mut partition, second, at(1)),
        Verdict::Stale,
        "its slot may be another's now"
    );
    assert_eq!(
        (partition.running(), partition.record(reused)),
        (1, Some(&1))
    );
}

#[test]
fn a_slot_used_again_does_not_honour_the_old_ticket() {
    let mut partition = partition(settings());
    deliver(&mut partition, 0, 7);
    let old = expect_start(&mut partition, 0);
    assert!(matches!(
        partition.succeed(old, Success::Done),
        Verdict::Settled { .. }
    ));
    deliver(&mut partition, 1, 7);
    let new = expect_start(&mut partition, 1);
    assert_eq!(old.slot, new.slot);
    assert_eq!(partition.succeed(old, Success::Done), Verdict::Stale);
    assert_eq!(partition.watermark(), Some(Position::new(1)));
}

#[test]
fn a_dead_letter_settles_when_it_is_acknowledged_and_not_before() {
    let mut partition = partition(settings());
    deliver(&mut partition, 0, 7);
    deliver(&mut partition, 1, 7);
    let ticket = expect_start(&mut partition, 0);
    let fatal = partition.fail(
        ticket,
        Failure::Fatal.into(),
        0,
        at(0),
        &mut OutageGuard::default(),
    );
    assert_eq!(fatal, Verdict::Publishing);
    let request = partition.next_publish().unwrap();
    assert_eq!(
        request.publish,
        Publish::DeadLetter {
            reason: Reason::Fatal
        }
    );
    assert_eq!((request.offset, request.attempts), (Offset::new(0), 1));
    assert_eq!(partition.next_publish(), None);
    for delay in [1, 2, 4, 4] {
        let now = partition.now;
        let ticket = partition
            .next_publish()
            .map_or(request.ticket, |request| request.ticket);
        let verdict = partition.publish_finished(ticket, PublishResult::Failed, 0, now);
        assert_eq!(verdict, waiting(delay * SECOND));
        assert_eq!(partition.watermark(), Some(Position::new(0)));
        assert_eq!(partition.next_publish(), None);
        assert_eq!(start(&mut partition), None, "1 waits for 0");
        partition.tick(now + delay * SECOND);
    }
    let ticket = partition.next_publish().unwrap().ticket;
    let verdict = partition.publish_finished(ticket, PublishResult::Acknowledged, 0, at(99));
    assert_eq!(verdict, settled(Settlement::DeadLettered, 0, 1));
    assert_eq!(
        partition.publish_finished(ticket, PublishResult::Acknowledged, 0, at(99)),
        Verdict::Stale
    );
    assert_eq!(partition.watermark(), Some(Position::new(1)));
    expect_start(&mut partition, 1);
}

#[test]
fn a_refused_write_parks_the_record_with_its_lane() {
    let mut partition = partition(settings());
    deliver(&mut partition, 0, 7);
    deliver(&mut partition, 1, 7);
    let ticket = expect_start(&mut partition, 0);
    assert_eq!(
        partition.fail(
            ticket,
            Failure::Undecodable.into(),
            0,
            at(0),
            &mut OutageGuard::default()
        ),
        Verdict::Publishing
    );
    let ticket = partition.next_publish().unwrap().ticket;
    let verdict = partition.publish_finished(ticket, PublishResult::Refused, 0, at(0));
    assert_eq!(
        verdict,
        Verdict::Parked {
            reason: ParkReason::Refused
        }
    );
    assert_eq!(
        (partition.parked(), partition.watermark()),
        (1, Some(Position::new(0)))
    );
    assert_eq!(
        (start(&mut partition), partition.next_deadline()),
        (None, None)
    );
    let oldest = partition.oldest().unwrap();
    assert_eq!(
        (oldest.offset.get(), oldest.state, oldest.attempts),
        (0, RecordState::Parked, 1)
    );
}

#[test]
fn the_retry_topic_gets_the_next_round_and_settles_when_acknowledged() {
    let topic = Some(TopicRetry {
        rounds: 3,
        backoff: exact(60 * SECOND, 600 * SECOND),
    });
    let retry = RetryPolicy {
        in_place: InPlace::Times(0),
        topic,
        ..settings().retry
    };
    let mut partition = partition(PartitionSettings {
        retry,
        ..settings()
    });
    let delivery = Delivery {
        rounds: 1,
        attempts: 5,
        ..delivery(0, Some(7))
    };
    partition.deliver(delivery, at(0));
    let ticket = expect_start(&mut partition, 0);
    assert_eq!(fail(&mut partition, ticket, at(0)), Verdict::Publishing);
    let request = partition.next_publish().unwrap();
    assert_eq!(
        (request.publish, request.attempts),
        (
            Publish::Retry {
                round: 2,
                delay: 120 * SECOND
            },
            6
        )
    );
    let verdict = partition.publish_finished(request.ticket, PublishResult::Acknowledged, 0, at(0));
    assert_eq!(verdict, settled(Settlement::Retried, 0, 6));
}

#[test]
fn a_record_the_guard_holds_back_waits_and_is_attempted_again() {
    let mut partition = partition(settings());
    let mut guard = total_outage(at(0));
    deliver(&mut partition, 0, 7);
    let mut now = at(0);
    for expected in [SECOND, 10 * SECOND, 10 * SECOND] {
        let ticket = expect_start(&mut partition, 0);
        let verdict = partition.fail(ticket, Failure::Retryable.into(), 0, now, &mut guard);
        let held = (expected > SECOND).then_some(HeldBy::Outage);
        assert_eq!(
            (verdict, partition.held_by_guard()),
            (
                Verdict::Waiting {
                    delay: expected,
                    held
                },
                usize::from(held.is_some())
            )
        );
        now = partition.next_deadline().unwrap();
        partition.tick(now);
    }
    guard.succeeded(now);
    let ticket = expect_start(&mut partition, 0);
    let verdict = partition.fail(ticket, Failure::Panicked.into(), 0, now, &mut guard);
    assert_eq!(
        (verdict, partition.held_by_guard()),
        (waiting(SECOND), 0),
        "it is retried again"
    );
    partition.tick(now + SECOND);
    let ticket = expect_start(&mut partition, 0);
    assert_eq!(
        partition.fail(
            ticket,
            Failure::Panicked.into(),
            0,
            now + SECOND,
            &mut guard
        ),
        Verdict::Publishing
    );
    let publish = partition.next_publish().unwrap().publish;
    assert_eq!(
        publish,
        Publish::DeadLetter {
            reason: Reason::Panicked
        }
    );
}

#[test]
fn stop_leaves_the_record_unsettled_and_starts_nothing_more() {
    let retry = RetryPolicy {
        on_exhausted: Exhausted::Stop,
        ..settings().retry
    };
    let mut partition = partition(PartitionSettings {
        retry,
        ..settings()
    });
    deliver(&mut partition, 0, 7);
    deliver(&mut partition, 1, 8);
    let ticket = expect_start(&mut partition, 0);
    let verdict = partition.fail(
        ticket,
        Failure::Fatal.into(),
        0,
        at(0),
        &mut OutageGuard::default(),
    );
    assert_eq!(
        verdict,
        Verdict::Stop {
            reason: Reason::Fatal,
            offset: Offset::new(0)
        }
    );
    assert!(partition.stopped);
    assert_eq!(
        (start(&mut partition), partition.watermark()),
        (None, Some(Position::new(0)))
    );
}

#[test]
fn while_paused_nothing_starts_and_the_rest_goes_on() {
    let mut partition = partition(settings());
    deliver(&mut partition, 0, 7);
    deliver(&mut partition, 1, 8);
    let ticket = expect_start(&mut partition, 0);
    partition.set_paused(Paused::Yes);
    assert_eq!(start(&mut partition), None);
    assert!(matches!(
        partition.fail(
            ticket,
            Failure::Fatal.into(),
            0,
            at(0),
            &mut OutageGuard::default()
        ),
        Verdict::Publishing
    ));
    assert!(partition.next_publish().is_some());
    assert!(!partition.is_drained());
    partition.set_paused(Paused::No);
    expect_start(&mut partition, 1);
}

#[test]
fn a_drain_finishes_what_runs_writes_what_follows_and_hands_back_the_rest() {
    let mut partition = partition(settings());
    for offset in 0..4 {
        deliver(&mut partition, offset, offset as u64);
    }
    let [done, failed, fatal] = [0, 1, 2].map(|offset| expect_start(&mut partition, offset));
    partition.drain();
    assert_eq!(start(&mut partition), None);
    assert!(matches!(
        partition.succeed(done, Success::Done),
        Verdict::Settled { .. }
    ));
    assert_eq!(fail(&mut partition, failed, at(0)), waiting(SECOND));
    let verdict = partition.fail(
        fatal,
        Failure::Fatal.into(),
        0,
        at(0),
        &mut OutageGuard::default(),
    );
    assert_eq!(
        (verdict, partition.is_drained()),
        (Verdict::Publishing, false)
    );
    assert_eq!(
        partition.next_deadline(),
        None,
        "the back-off will not be waited for"
    );
    partition.tick(at(60));
    assert_eq!(start(&mut partition), None);
    let ticket = partition.next_publish().unwrap().ticket;
    assert!(!partition.is_drained(), "a write is under way");
    let verdict = partition.publish_finished(ticket, PublishResult::Acknowledged, 0, at(60));
    assert!(matches!(verdict, Verdict::Settled { .. }));
    assert!(partition.is_drained());
    assert_eq!(
        (partition.watermark(), partition.pending()),
        (Some(Position::new(1)), 2)
    );
    let map = decode(
        Position::new(1),
        &partition.commit_metadata(MAX_METADATA_BYTES).text,
    )
    .unwrap()
    .settled;
    assert!(map.contains(Offset::new(2)) && !map.contains(Offset::new(3)));
}

#[test]
fn a_write_that_fails_during_a_drain_is_handed_back() {
    let mut partition = partition(settings());
    deliver(&mut partition, 0, 7);
    let ticket = expect_start(&mut partition, 0);
    partition.drain();
    let verdict = partition.fail(
        ticket,
        Failure::Fatal.into(),
        0,
        at(0),
        &mut OutageGuard::default(),
    );
    assert_eq!(verdict, Verdict::Publishing);
    let ticket = partition.next_publish().unwrap().ticket;
    assert_eq!(
        partition.publish_finished(ticket, PublishResult::Failed, 0, at(0)),
        waiting(SECOND)
    );
    partition.tick(at(60));
    assert_eq!(partition.next_publish(), None);
    assert!(partition.is_drained());
    assert_eq!(partition.watermark(), Some(Position::new(0)));
}

#[test]
fn in_offset_order_a_record_that_is_not_due_holds_its_lane() {
    let mut partition = partition(settings());
    let later = Delivery {
        due: Some(at(10)),
        ..delivery(0, Some(7))
    };
    partition.deliver(later, at(0));
    deliver(&mut partition, 1, 7);
    deliver(&mut partition, 2, 8);
    expect_start(&mut partition, 2);
    assert_eq!(start(&mut partition), None);
    assert_eq!(
        (partition.waiting(), partition.next_deadline()),
        (1, Some(at(10)))
    );
    partition.tick(at(10));
    expect_start(&mut partition, 0);
}

#[test]
fn in_offset_order_a_due_time_that_passed_in_the_queue_costs_no_timer() {
    let mut partition = partition(settings());
    deliver(&mut partition, 0, 7);
    partition.deliver(
        Delivery {
            due: Some(at(10)),
            ..delivery(1, Some(7))
        },
        at(0),
    );
    let ticket = expect_start(&mut partition, 0);
    partition.tick(at(11));
    assert!(matches!(
        partition.succeed(ticket, Success::Done),
        Verdict::Settled { .. }
    ));
    expect_start(&mut partition, 1);
}

#[test]
fn in_due_order_a_record_joins_its_lane_when_it_is_due() {
    let mut partition = partition(PartitionSettings {
        lane_order: LaneOrder::Due,
        ..settings()
    });
    for (offset, due) in [(0, 30), (1, 10), (2, 20)] {
        partition.deliver(
            Delivery {
                due: Some(at(due)),
                ..delivery(offset, Some(7))
            },
            at(0),
        );
    }
    deliver(&mut partition, 3, 7);
    let now = expect_start(&mut partition, 3);
    assert_eq!(partition.waiting(), 3);
    partition.tick(at(20));
    assert_eq!(start(&mut partition), None, "3 holds the lane");
    assert!(matches!(
        partition.succeed(now, Success::Done),
        Verdict::Settled { .. }
    ));
    let earlier = expect_start(&mut partition, 1);
    assert_eq!(start(&mut partition), None);
    assert!(matches!(
        partition.succeed(earlier, Success::Done),
        Verdict::Settled { .. }
    ));
    expect_start(&mut partition, 2);
    assert_eq!(partition.watermark(), Some(Position::new(0)));
}

#[test]
fn what_is_pending_when_the_log_is_cut_is_finished_and_moves_no_watermark() {
    let inherited = SettledMap::new();
    let mut partition = Partition::new(
        Arc::new(settings()),
        Epoch::new(1),
        Some(Position::new(100)),
        inherited,
    );
    deliver(&mut partition, 100, 7);
    let old = expect_start(&mut partition, 100);
    deliver(&mut partition, 3, 8);
    deliver(&mut partition, 100, 9);
    assert_eq!(
        (partition.watermark(), partition.pending()),
        (Some(Position::new(3)), 3)
    );
    assert!(matches!(
        partition.succeed(old, Success::Done),
        Verdict::Settled { .. }
    ));
    assert_eq!(
        (partition.watermark(), partition.settled_ahead()),
        (Some(Position::new(3)), 0)
    );
    let first = expect_start(&mut partition, 3);
    assert!(matches!(
        partition.succeed(first, Success::Done),
        Verdict::Settled { .. }
    ));
    assert_eq!(
        partition.watermark(),
        Some(Position::new(100)),
        "the new record of this offset is unsettled"
    );
    assert_eq!(
        partition.deliver(delivery(100, Some(9)), at(0)),
        Delivered::Repeated
    );
}

#[test]
fn a_pending_record_takes_at_most_160_bytes_beside_itself() {
    // Its slot, its place in the ledger, the ready queue, the lanes and the timers, and a share of
    // the hash map.
    let lanes = size_of::<u32>() + size_of::<(u64, u32)>() * 2 + 2;
    let timer = size_of::<(Moment, u64, u32)>();
    let total = pending::SLOT_BYTES + Ledger::ENTRY_BYTES + lanes + timer + 3 * size_of::<u32>();
    assert!(total <= 160, "{total}");
    assert_eq!(pending::RARE_BYTES, 128, "as documented");
}
