use super::*;

fn guarded() -> PartitionSettings {
    let watchdog = Watchdog {
        slow_attempt: 16 * SECOND,
        stalled_after: 60 * SECOND,
    };
    PartitionSettings {
        concurrency: 100,
        watchdog,
        ..settings()
    }
}

fn alarms(partition: &mut Partition<i64>, now: Moment) -> Vec<Alarm> {
    partition.watch(now);
    std::iter::from_fn(|| partition.next_alarm()).collect()
}

fn slow(ticket: Ticket, offset: i64, running_seconds: u64) -> Alarm {
    let running_for = Duration::from_secs(running_seconds);
    Alarm::SlowAttempt {
        ticket,
        offset: Offset::new(offset),
        attempt: 1,
        running_for,
    }
}

fn stalled(seconds: u64) -> Alarm {
    Alarm::Stalled {
        stalled_for: Duration::from_secs(seconds),
    }
}

#[test]
fn a_slow_attempt_is_told_of_once_and_again_when_it_has_taken_twice_as_long() {
    let mut partition = partition(PartitionSettings {
        watchdog: Watchdog {
            stalled_after: 10_000 * SECOND,
            ..guarded().watchdog
        },
        ..guarded()
    });
    deliver(&mut partition, 0, 7);
    let ticket = expect_start(&mut partition, 0);
    assert_eq!(alarms(&mut partition, at(15)), []);
    assert_eq!(partition.slow_attempts(), 0);
    assert_eq!(alarms(&mut partition, at(16)), [slow(ticket, 0, 16)]);
    assert_eq!(partition.slow_attempts(), 1);
    for second in 17..32 {
        assert_eq!(alarms(&mut partition, at(second)), []);
    }
    assert_eq!(alarms(&mut partition, at(32)), [slow(ticket, 0, 32)]);
    assert_eq!(alarms(&mut partition, at(63)), []);
    assert_eq!(alarms(&mut partition, at(64)), [slow(ticket, 0, 64)]);
    assert!(matches!(
        partition.succeed(ticket, Success::Done),
        Verdict::Settled { .. }
    ));
    assert_eq!(partition.slow_attempts(), 0);
    assert_eq!(alarms(&mut partition, at(1_000)), []);
}

#[test]
fn each_attempt_of_a_record_is_timed_from_its_own_start() {
    let mut partition = partition(guarded());
    deliver(&mut partition, 0, 7);
    let ticket = expect_start(&mut partition, 0);
    assert_eq!(fail(&mut partition, ticket, at(15)), waiting(SECOND));
    partition.tick(at(16));
    expect_start(&mut partition, 0);
    assert_eq!(alarms(&mut partition, at(31)), []);
    assert_eq!(partition.slow_attempts(), 0);
    partition.watch(at(32));
    assert_eq!(partition.slow_attempts(), 1);
}

#[test]
fn where_everything_hangs_a_few_are_named_and_the_others_counted() {
    let mut partition = partition(guarded());
    for offset in 0..50 {
        deliver(&mut partition, offset, offset as u64);
        expect_start(&mut partition, offset);
    }
    let told = alarms(&mut partition, at(16));
    assert_eq!(
        told.iter()
            .filter(|alarm| matches!(alarm, Alarm::SlowAttempt { .. }))
            .count(),
        8
    );
    assert_eq!(told.last(), Some(&Alarm::MoreSlowAttempts { attempts: 42 }));
    assert_eq!(partition.slow_attempts(), 50);
}

#[test]
fn a_watermark_that_stands_still_is_told_of_and_so_is_its_going_on() {
    let mut partition = partition(PartitionSettings {
        watchdog: Watchdog {
            slow_attempt: 10_000 * SECOND,
            ..guarded().watchdog
        },
        ..guarded()
    });
    deliver(&mut partition, 0, 7);
    partition.watch(at(0));
    let stuck = expect_start(&mut partition, 0);
    for second in 1..60 {
        deliver(&mut partition, second, second as u64 + 100);
        let other = expect_start(&mut partition, second);
        assert!(matches!(
            partition.succeed(other, Success::Done),
            Verdict::Settled { .. }
        ));
        assert_eq!(alarms(&mut partition, at(second as u64)), []);
    }
    assert_eq!(partition.stalled_for(), None);
    assert_eq!(alarms(&mut partition, at(60)), [stalled(60)]);
    assert_eq!(partition.stalled_for(), Some(60 * SECOND));
    assert_eq!(alarms(&mut partition, at(119)), []);
    assert_eq!(alarms(&mut partition, at(120)), [stalled(120)]);
    assert!(matches!(
        partition.succeed(stuck, Success::Done),
        Verdict::Settled { .. }
    ));
    assert_eq!(
        alarms(&mut partition, at(130)),
        [Alarm::MovesAgain {
            stalled_for: 130 * SECOND
        }]
    );
    assert_eq!(
        (partition.stalled_for(), alarms(&mut partition, at(1_000))),
        (None, vec![])
    );
}

/// The next look may come late.
#[test]
fn a_watermark_that_has_moved_is_known_before_the_next_look() {
    let mut partition = partition(guarded());
    for offset in 0..2 {
        deliver(&mut partition, offset, 7);
    }
    let first = expect_start(&mut partition, 0);
    partition.watch(at(0));
    partition.watch(at(60));
    assert_eq!(partition.stalled_for(), Some(60 * SECOND));
    assert!(matches!(
        partition.succeed(first, Success::Done),
        Verdict::Settled { .. }
    ));
    assert_eq!(partition.stalled_for(), None);
}

#[test]
fn a_partition_without_records_is_not_stalled_nor_is_the_first_record_after_a_long_quiet() {
    let mut partition = partition(guarded());
    assert_eq!(alarms(&mut partition, at(500)), []);
    partition.deliver(delivery(0, Some(7)), at(1_000));
    assert_eq!(alarms(&mut partition, at(1_001)), []);
    assert_eq!(alarms(&mut partition, at(1_059)), []);
    assert_eq!(alarms(&mut partition, at(1_060)), [stalled(60)]);
}

#[test]
fn what_is_held_up_by_order_is_not_stalled() {
    let mut partition = partition(guarded());
    partition.deliver(
        Delivery {
            due: Some(at(600)),
            ..delivery(0, Some(7))
        },
        at(0),
    );
    assert_eq!(partition.oldest().unwrap().state, RecordState::NotDue);
    assert_eq!(alarms(&mut partition, at(1)), []);
    assert_eq!(alarms(&mut partition, at(599)), []);
    partition.set_paused(Paused::Yes);
    assert_eq!(alarms(&mut partition, at(2_000)), []);
    partition.set_paused(Paused::No);
    assert_eq!(alarms(&mut partition, at(2_059)), []);
    assert_eq!(alarms(&mut partition, at(2_060)), [stalled(60)]);
    partition.drain();
    assert_eq!(
        (alarms(&mut partition, at(5_000)), partition.stalled_for()),
        (vec![], None)
    );
}

proptest::proptest! {
    /// However starts and ends are spread, what is slow is known within a sixteenth of the
    /// threshold.
    #[test]
    fn slow_attempts_agree_with_a_list_of_starts(steps in proptest::collection::vec((0_u64..4, 0_u64..20), 1..150)) {
        let mut partition = partition(guarded());
        let mut running: Vec<(Ticket, u64)> = Vec::new();
        let (mut now, mut offset) = (0, 0);
        for (kind, number) in steps {
            match kind {
                0 | 1 if running.len() < 90 => {
                    partition.deliver(delivery(offset, None), at(now));
                    let ticket = expect_start(&mut partition, offset);
                    running.push((ticket, now));
                    offset += 1;
                }
                2 if !running.is_empty() => {
                    let (ticket, _) = running.swap_remove(number as usize % running.len());
                    let verdict = partition.succeed(ticket, Success::Done);
                    let is_settled = matches!(verdict, Verdict::Settled { .. });
                    proptest::prop_assert!(is_settled);
                }
                _ => now += number,
            }
            partition.watch(at(now));
            let longer_than = |seconds: u64| running.iter().filter(|(_, started)| now - started >= seconds).count();
            proptest::prop_assert!(partition.slow_attempts() <= longer_than(16));
            proptest::prop_assert!(partition.slow_attempts() >= longer_than(17));
        }
    }
}
