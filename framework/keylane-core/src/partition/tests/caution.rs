//! Care after a crash. The whole story, over many starts and partitions, is the simulator's.

use super::*;
use crate::evidence::{
    Evidence, GROUP, Instance, MAX_SUSPECTS, Named, POISON_CRASHES, POISON_CRASHES_OF_SURVIVED,
    Suspect,
};

const HERE: Instance = Instance::new(1);

fn after(unclean_starts: u32, suspects: &[(i64, u32)]) -> Evidence {
    let suspect = |&(offset, crashes): &(i64, u32)| Suspect {
        offset: Offset::new(offset),
        crashes,
        survived: false,
    };
    Evidence {
        unclean_starts,
        suspects: suspects.iter().map(suspect).collect(),
        ..Evidence::default()
    }
}

fn reopened(settings: PartitionSettings, evidence: Evidence) -> Partition<i64> {
    let start = Some(Position::new(0));
    Partition::with_evidence(
        Arc::new(settings),
        Epoch::new(1),
        start,
        SettledMap::new(),
        HERE,
        evidence,
    )
}

fn alone(offset: i64) -> Named {
    Named::Alone(Offset::new(offset))
}

fn together(offsets: impl IntoIterator<Item = i64>) -> Named {
    Named::Together(offsets.into_iter().map(Offset::new).collect())
}

/// What a next owner would read.
fn committed(partition: &Partition<i64>) -> Evidence {
    let position = partition.watermark().unwrap();
    decode(
        position,
        &partition.commit_metadata(MAX_METADATA_BYTES).text,
    )
    .unwrap()
    .evidence
}

fn confirm(partition: &mut Partition<i64>) -> Evidence {
    let mark = partition.wanted_mark().expect("a mark is wanted");
    let evidence = committed(partition);
    partition.mark_confirmed(mark);
    evidence
}

fn done(partition: &mut Partition<i64>, ticket: Ticket) {
    assert!(matches!(
        partition.succeed(ticket, Success::Done),
        Verdict::Settled { .. }
    ));
}

#[test]
fn nothing_starts_before_the_mark_of_the_epoch_is_committed_and_one_is_enough() {
    let mut partition = partition(settings());
    assert_eq!(
        (partition.wanted_mark(), committed(&partition)),
        (None, Evidence::default())
    );
    deliver(&mut partition, 0, 1);
    deliver(&mut partition, 1, 2);
    assert!(partition.next_start().is_none());
    let mark = partition.wanted_mark().unwrap();
    partition.mark_confirmed(Mark::new(mark.get() + 1));
    assert!(partition.next_start().is_none(), "of another epoch");
    assert_eq!(
        confirm(&mut partition),
        Evidence {
            running: Some(Instance::default()),
            ..Evidence::default()
        }
    );
    assert!(partition.next_start().is_some() && partition.next_start().is_some());
    assert_eq!(partition.wanted_mark(), None);
}

#[test]
fn an_orderly_end_leaves_no_mark_even_where_attempts_are_dropped() {
    let mut partition = partition(settings());
    deliver(&mut partition, 0, 1);
    expect_start(&mut partition, 0);
    assert!(committed(&partition).running.is_some());
    partition.end();
    assert_eq!(committed(&partition), Evidence::default());
    assert!(partition.next_start().is_none());
}

#[test]
fn without_a_crash_before_an_absent_coordinator_delays_the_first_start_only_so_long() {
    let mut healthy = partition(settings());
    let mut careful = reopened(settings(), after(1, &[]));
    for partition in [&mut healthy, &mut careful] {
        deliver(partition, 0, 1);
        assert!(partition.next_start().is_none());
    }
    let patience = Moment::new(MARK_PATIENCE);
    assert_eq!(
        (healthy.next_deadline(), careful.next_deadline()),
        (Some(patience), None)
    );
    for partition in [&mut healthy, &mut careful] {
        partition.tick(patience);
    }
    assert!(healthy.next_start().is_some());
    assert!(careful.next_start().is_none());
}

/// With as many records as that, of a lane each.
fn crashed(
    unclean_starts: u32,
    suspects: &[(i64, u32)],
    records: i64,
    concurrency: usize,
) -> Partition<i64> {
    let settings = PartitionSettings {
        concurrency,
        watched_records: 10_000,
        ..settings()
    };
    let mut partition = reopened(settings, after(unclean_starts, suspects));
    for offset in 0..records {
        deliver(&mut partition, offset, offset as u64);
    }
    partition
}

fn start_all(partition: &mut Partition<i64>) -> Vec<Ticket> {
    std::iter::from_fn(|| partition.next_start().map(|start| start.ticket)).collect()
}

#[test]
fn after_a_crash_what_runs_is_named_together_and_named_again_while_it_runs() {
    let records = 2 * GROUP as i64;
    for unclean_starts in [1, 2] {
        let mut partition = crashed(unclean_starts, &[], records, GROUP);
        assert!(partition.next_start().is_none() && !partition.wants_trial());
        assert_eq!(confirm(&mut partition).named, together(0..GROUP as i64));
        let mut running = start_all(&mut partition);
        assert_eq!(running.len(), GROUP);
        while running.len() > GROUP / 2 {
            assert!(
                partition.next_start().is_none() && partition.wanted_mark().is_none(),
                "it waits for half of them"
            );
            done(&mut partition, running.remove(0));
        }
        assert!(partition.next_start().is_none());
        let half = GROUP as i64 / 2;
        assert_eq!(
            confirm(&mut partition).named,
            together(half..half + GROUP as i64),
            "what runs among them"
        );
        assert_eq!(start_all(&mut partition).len(), GROUP / 2);
    }
}

#[test]
fn healthy_records_cost_a_mark_for_many_however_often_their_process_was_killed() {
    const RECORDS: usize = 2_000;
    let mut partition = crashed(9, &[], RECORDS as i64, 32);
    let (mut marks, mut cleared) = (0, 0);
    while cleared < RECORDS {
        let started = start_all(&mut partition);
        cleared += started.len();
        started
            .into_iter()
            .for_each(|ticket| done(&mut partition, ticket));
        if let Some(mark) = partition.wanted_mark() {
            marks += 1;
            partition.mark_confirmed(mark);
        }
    }
    assert!(
        (RECORDS / GROUP..=RECORDS.div_ceil(GROUP) + 1).contains(&marks),
        "{marks}"
    );
}

#[test]
fn what_was_named_together_at_a_crash_runs_alone_in_a_trial_and_the_others_without_it() {
    let mut partition = crashed(2, &[(0, 0), (1, 0), (4, 0)], 5, 4);
    for offset in [0, 1, 4] {
        if offset == 1 {
            run_net(&mut partition, [2, 3]);
        }
        assert!(partition.next_start().is_none() && partition.wanted_mark().is_none());
        assert!(partition.wants_trial());
        partition.begin_trial();
        assert!(!partition.wants_trial() && !partition.end_trial());
        assert!(partition.next_start().is_none());
        assert_eq!(confirm(&mut partition).named, alone(offset));
        let suspect = partition.next_start().unwrap().ticket;
        assert_eq!(partition.running_suspect(), Some(Offset::new(offset)));
        assert!(partition.next_start().is_none() && !partition.end_trial());
        assert_eq!(
            partition.wanted_mark(),
            None,
            "its name stays as long as it runs"
        );
        done(&mut partition, suspect);
        assert!(partition.next_start().is_none() && !partition.end_trial());
        assert_eq!(confirm(&mut partition).named, Named::Nobody);
        assert!(partition.end_trial());
    }
    assert!(!partition.wants_trial() && partition.next_start().is_none());
}

/// All of a net, from the mark to the end.
fn run_net(partition: &mut Partition<i64>, offsets: impl IntoIterator<Item = i64>) {
    assert!(!partition.wants_trial() && partition.next_start().is_none());
    assert_eq!(confirm(partition).named, together(offsets));
    let started = start_all(partition);
    assert!(!partition.wants_trial(), "they run");
    started
        .into_iter()
        .for_each(|ticket| done(partition, ticket));
}

/// A trial of the next suspect that lasts until then.
fn try_until(partition: &mut Partition<i64>, end: Moment) {
    partition.begin_trial();
    let suspect = start(partition).expect("a suspect starts").1;
    partition.tick(end);
    done(partition, suspect);
    assert!(!partition.end_trial());
    confirm(partition);
    assert!(partition.end_trial());
}

/// Chaos, seed 212: a hot key behind bad records had a start for each of their trials.
#[test]
fn before_its_next_trial_a_partition_goes_on_with_others_for_as_long_as_the_last_one_took() {
    let mut partition = crashed(2, &[(0, 0), (1, 0)], 2, 4);
    partition.tick(at(2));
    try_until(&mut partition, at(7));
    let next = at(12);
    for (offset, now) in [(2, 7), (3, 9), (4, 11)] {
        partition.tick(at(now));
        deliver(&mut partition, offset, 9);
        run_net(&mut partition, [offset]);
        assert!(partition.next_start().is_none() && !partition.wants_trial());
        assert_eq!(partition.next_deadline(), Some(next));
    }
    partition.tick(next);
    assert!(partition.wants_trial());
    deliver(&mut partition, 5, 9);
    assert!(
        partition.wants_trial(),
        "others have had their net and their time"
    );
    assert!(partition.next_start().is_none() && partition.wanted_mark().is_none());
}

#[test]
fn a_process_that_stood_still_in_a_trial_puts_the_next_one_off_for_no_longer_than_one_may_last() {
    let mut partition = crashed(2, &[(0, 0), (1, 0)], 2, 4);
    try_until(&mut partition, at(3_600));
    partition.tick(at(3_600) + SUSPECT_PATIENCE);
    assert!(partition.wants_trial());
}

/// The time may pass while it waits for its mark, or for the trials of other partitions.
#[test]
fn a_net_goes_before_each_trial_but_the_first_however_much_time_has_passed() {
    let mut partition = crashed(2, &[(0, 0), (1, 0)], 5, 1);
    try_until(&mut partition, at(5));
    partition.tick(at(60));
    run_one_by_one(&mut partition, [2, 3, 4]);
    assert!(partition.wants_trial());
}

#[test]
fn a_record_of_a_net_that_does_not_end_keeps_suspects_and_others_waiting_for_a_while_only() {
    let mut partition = crashed(2, &[(0, 0), (1, 0)], 5, 4);
    try_until(&mut partition, at(0));
    assert!(partition.next_start().is_none());
    assert_eq!(confirm(&mut partition).named, together([2, 3, 4]));
    let started = start_all(&mut partition);
    done(&mut partition, started[1]);
    done(&mut partition, started[2]);
    let let_go = Moment::new(SUSPECT_PATIENCE);
    partition.tick(Moment::new(SUSPECT_PATIENCE / 2));
    assert!(!partition.wants_trial(), "2 runs");
    assert_eq!(partition.next_deadline(), Some(let_go));
    partition.tick(let_go);
    assert!(partition.wants_trial(), "2 is let go and runs on");
    try_until(&mut partition, let_go);
    done(&mut partition, started[0]);
}

#[test]
fn slow_records_of_a_net_have_their_turn_for_a_while_only() {
    let mut partition = crashed(2, &[(0, 0), (1, 0)], 5, 1);
    try_until(&mut partition, at(0));
    assert!(partition.next_start().is_none());
    confirm(&mut partition);
    let first = expect_start(&mut partition, 2);
    partition.tick(Moment::new(SUSPECT_PATIENCE / 2));
    done(&mut partition, first);
    assert!(!partition.wants_trial());
    let second = expect_start(&mut partition, 3);
    partition.tick(Moment::new(SUSPECT_PATIENCE));
    done(&mut partition, second);
    assert!(partition.wants_trial() && partition.next_start().is_none());
}

fn run_one_by_one<const N: usize>(partition: &mut Partition<i64>, offsets: [i64; N]) {
    assert!(partition.next_start().is_none());
    assert_eq!(confirm(partition).named, together(offsets));
    for offset in offsets {
        assert!(!partition.wants_trial());
        let start = partition.next_start().expect("it is named");
        assert_eq!(start.offset, Offset::new(offset));
        let ticket = start.ticket;
        done(partition, ticket);
    }
}

#[test]
fn a_record_that_is_retried_again_and_again_does_not_keep_a_suspect_from_its_trial() {
    let mut settings = settings();
    settings.retry.in_place = InPlace::Forever;
    settings.retry.backoff = exact(Duration::ZERO, Duration::ZERO);
    let mut partition = reopened(settings, after(2, &[(0, 0), (1, 0)]));
    for (offset, lane) in [(0, 1), (1, 2), (2, 3)] {
        deliver(&mut partition, offset, lane);
    }
    try_until(&mut partition, at(0));
    let retried = expect_start(&mut partition, 2);
    let _ = fail(&mut partition, retried, at(0));
    partition.tick(at(0));
    assert_eq!(partition.ready(), 2);
    assert!(partition.wants_trial() && partition.next_start().is_none());
}

#[test]
fn no_more_are_named_than_there_is_room_for_suspicions() {
    let suspects: Vec<_> = (100..97 + MAX_SUSPECTS as i64)
        .map(|offset| (offset, 0))
        .collect();
    let mut partition = crashed(2, &suspects, 8, 8);
    assert!(partition.next_start().is_none());
    let evidence = confirm(&mut partition);
    assert_eq!(evidence.named, together(0..3));
    let (evidence, _) = evidence.at_start(Instance::new(2));
    assert!((0..3).all(|offset| evidence.is_suspected(Offset::new(offset))));
    assert!(
        suspects
            .iter()
            .all(|&(offset, _)| evidence.is_suspected(Offset::new(offset))),
        "none is driven out"
    );
}

/// Named together it would not be remembered, and kill for ever.
#[test]
fn with_no_room_for_another_suspicion_every_record_is_tried() {
    let suspects: Vec<_> = (100..100 + MAX_SUSPECTS as i64)
        .map(|offset| (offset, 0))
        .collect();
    let mut evidence = after(2, &suspects);
    for crashes in 1..=POISON_CRASHES {
        let mut partition = reopened(settings(), evidence);
        deliver(&mut partition, 0, 1);
        start_in_trial(&mut partition);
        evidence = died(&partition, 1 + crashes);
        assert_eq!(evidence.crashes(Offset::new(0)), crashes);
    }
    assert!(is_condemned(&evidence));
}

#[test]
fn no_more_run_than_there_is_room_for_suspicions() {
    let suspects: Vec<_> = (100..98 + MAX_SUSPECTS as i64)
        .map(|offset| (offset, 0))
        .collect();
    let mut partition = crashed(2, &suspects, 3, 8);
    let first = expect_start(&mut partition, 0);
    expect_start(&mut partition, 1);
    assert!(start(&mut partition).is_none() && partition.wanted_mark().is_none());
    done(&mut partition, first);
    expect_start(&mut partition, 2);
    assert_eq!(committed(&partition).named, together(1..3));
}

#[test]
fn a_trial_is_neither_wanted_nor_kept_where_nothing_could_start() {
    let mut partition = crashed(2, &[(0, 0), (1, 0)], 2, 1);
    partition.begin_trial();
    let hung = expect_start(&mut partition, 0);
    partition.tick(Moment::new(SUSPECT_PATIENCE));
    assert!(partition.next_start().is_none() && !partition.end_trial());
    confirm(&mut partition);
    assert!(partition.end_trial());
    assert!(!partition.wants_trial(), "there is no place");
    done(&mut partition, hung);
    partition.tick(Moment::new(2 * SUSPECT_PATIENCE));
    assert!(partition.wants_trial());
    partition.set_paused(Paused::Yes);
    assert!(!partition.wants_trial());
    partition.begin_trial();
    assert!(partition.end_trial(), "it came too late");
    partition.set_paused(Paused::No);
    assert!(partition.wants_trial());
}

#[test]
fn a_suspect_that_failed_needs_another_trial() {
    let mut settings = settings();
    settings.retry.in_place = InPlace::Forever;
    let mut partition = reopened(settings, after(2, &[(0, 0)]));
    deliver(&mut partition, 0, 1);
    partition.begin_trial();
    let first = expect_start(&mut partition, 0);
    let _ = fail(&mut partition, first, at(0));
    partition.tick(at(100));
    assert!(partition.next_start().is_none() && !partition.end_trial());
    assert_eq!(confirm(&mut partition).named, Named::Nobody);
    assert!(partition.end_trial() && !partition.wants_trial());
    partition.tick(at(200));
    assert!(partition.wants_trial());
    partition.begin_trial();
    expect_start(&mut partition, 0);
}

/// What the next process finds after this one died, where the last commit says what it says now.
fn died(partition: &Partition<i64>, successor: u32) -> Evidence {
    committed(partition).at_start(Instance::new(successor)).0
}

/// Fails `failures` attempts at 0, alone, and dies at the one after them.
fn fails_and_kills(evidence: Evidence, failures: u64, successor: u32) -> Evidence {
    let mut settings = settings();
    settings.retry.in_place = InPlace::Forever;
    let mut partition = reopened(settings, evidence);
    deliver(&mut partition, 0, 1);
    for failure in 0..failures {
        let ticket = start_in_trial(&mut partition);
        let _ = fail(&mut partition, ticket, at(1_000 * failure));
        partition.tick(at(1_000 * (failure + 1)));
    }
    start_in_trial(&mut partition);
    died(&partition, successor)
}

/// A trial is over after one attempt.
fn start_in_trial(partition: &mut Partition<i64>) -> Ticket {
    for _ in 0..9 {
        if let Some((_, ticket)) = start(partition) {
            return ticket;
        }
        if !partition.end_trial() {
            confirm(partition);
        } else if partition.wants_trial() {
            partition.begin_trial();
        } else if let Some(deadline) = partition.next_deadline() {
            partition.tick(deadline);
        }
    }
    panic!("nothing starts");
}

fn is_condemned(evidence: &Evidence) -> bool {
    evidence.is_poison(Offset::new(0))
}

/// Chaos, seed 2 of the consumer protocol: a record that hangs was alone when its process was
/// suspended, timed out alone three times in the next one, and was alone again when that one was
/// killed.
#[test]
fn a_record_that_failed_alone_without_killing_is_not_condemned_for_two_kills_from_outside() {
    let first = fails_and_kills(after(2, &[(0, 0)]), 0, 2);
    assert_eq!(first.crashes(Offset::new(0)), 1);
    let second = fails_and_kills(first, 3, 3);
    assert_eq!(
        (second.crashes(Offset::new(0)), is_condemned(&second)),
        (2, false)
    );
}

#[test]
fn a_record_that_fails_before_it_kills_is_condemned_all_the_same() {
    for failures in 1..3 {
        let mut evidence = after(2, &[(0, 0)]);
        for crash in 1..=POISON_CRASHES_OF_SURVIVED {
            assert!(!is_condemned(&evidence), "{crash}");
            evidence = fails_and_kills(evidence, failures, crash + 1);
        }
        assert!(is_condemned(&evidence));
        let mut partition = reopened(settings(), evidence);
        deliver(&mut partition, 0, 1);
        assert_eq!(
            partition.next_poisoned().map(|verdict| verdict.crashes),
            Some(POISON_CRASHES_OF_SURVIVED)
        );
    }
}

#[test]
fn a_trial_waits_for_each_of_its_marks_for_as_long_as_the_first_one_is_waited_for() {
    let mut partition = crashed(2, &[(0, 0), (1, 0)], 2, 4);
    partition.begin_trial();
    assert!(partition.next_start().is_none() && !partition.end_trial());
    assert_eq!(partition.next_deadline(), Some(Moment::new(MARK_PATIENCE)));
    partition.tick(Moment::new(MARK_PATIENCE - SECOND));
    assert!(partition.next_start().is_none() && !partition.end_trial());
    partition.tick(Moment::new(MARK_PATIENCE));
    assert!(!partition.end_trial(), "its name may be on the broker");
    partition.tick(Moment::new(2 * MARK_PATIENCE));
    assert!(partition.end_trial());
    assert!(!partition.wants_trial() && partition.next_start().is_none());
    assert_eq!(confirm(&mut partition).named, Named::Nobody);
    partition.tick(Moment::new(4 * MARK_PATIENCE));
    assert!(partition.wants_trial(), "there is an answer again");
    partition.begin_trial();
    expect_start(&mut partition, 0);
}

#[test]
fn a_trial_ends_with_its_epoch() {
    let mut partition = crashed(2, &[(0, 0), (1, 0)], 2, 4);
    partition.begin_trial();
    assert!(partition.next_start().is_none() && !partition.end_trial());
    partition.end();
    assert!(partition.end_trial());
}

#[test]
fn a_suspect_that_runs_for_long_is_let_go_and_the_trial_is_over() {
    let mut partition = crashed(2, &[(0, 0), (1, 0)], 2, 4);
    partition.begin_trial();
    expect_start(&mut partition, 0);
    assert_eq!(
        partition.next_deadline(),
        Some(Moment::new(SUSPECT_PATIENCE))
    );
    partition.tick(Moment::new(SUSPECT_PATIENCE));
    assert_eq!(partition.running_suspect(), None);
    assert!(partition.next_start().is_none() && !partition.end_trial());
    assert_eq!(
        confirm(&mut partition).named,
        Named::Nobody,
        "0 runs on without its name"
    );
    assert!(partition.end_trial());
    partition.tick(Moment::new(2 * SUSPECT_PATIENCE));
    assert!(partition.wants_trial());
    partition.begin_trial();
    let next = expect_start(&mut partition, 1);
    assert_eq!(
        (partition.running(), committed(&partition).named),
        (2, alone(1))
    );
    done(&mut partition, next);
    assert!(!partition.end_trial());
}

#[test]
fn a_record_named_at_two_crashes_goes_to_the_dead_letter_topic_in_its_turn_and_never_runs() {
    let mut partition = reopened(settings(), after(3, &[(1, 2), (2, 1)]));
    for (offset, lane) in [(0, 7), (1, 7), (2, 7)] {
        deliver(&mut partition, offset, lane);
    }
    let ahead = expect_start(&mut partition, 0);
    assert_eq!(
        partition.next_poisoned(),
        None,
        "its turn in its lane comes first"
    );
    done(&mut partition, ahead);
    let verdict = Poisoned {
        offset: Offset::new(1),
        crashes: 2,
        fate: PoisonFate::DeadLetter,
    };
    assert_eq!(
        (partition.next_poisoned(), partition.next_poisoned()),
        (Some(verdict), None)
    );
    let write = partition.next_publish().unwrap();
    assert_eq!((write.offset, write.attempts), (Offset::new(1), 0));
    assert_eq!(
        write.publish,
        Publish::DeadLetter {
            reason: Reason::Poison
        }
    );
    assert_eq!(committed(&partition).suspects.len(), 2, "not settled yet");
    let verdict = partition.publish_finished(write.ticket, PublishResult::Acknowledged, 0, at(0));
    assert_eq!(verdict, settled(Settlement::DeadLettered, 1, 0));
    assert_eq!(
        committed(&partition).suspects,
        [Suspect {
            offset: Offset::new(2),
            crashes: 1,
            survived: false
        }]
    );
    assert!(
        start(&mut partition).is_none() && partition.wants_trial(),
        "a suspicion is no verdict"
    );
}

#[test]
fn care_does_not_last_until_the_dead_letter_of_a_condemned_record_is_written() {
    let mut partition = reopened(settings(), after(3, &[(0, 2)]));
    deliver(&mut partition, 0, 1);
    partition.log_ends_at(Position::new(1));
    assert_eq!((partition.is_careful(), partition.pending()), (false, 1));
    assert_eq!(partition.crashes(Offset::new(0)), 2, "still condemned");
}

#[test]
fn poison_is_parked_without_a_dead_letter_topic_and_stays_condemned() {
    let mut no_topic = settings();
    no_topic.retry.dead_letter_topic = false;
    let mut park = settings();
    park.retry.on_exhausted = Exhausted::Park;
    for (settings, reason) in [
        (no_topic, ParkReason::NoDeadLetterTopic),
        (park, ParkReason::Policy(Reason::Poison)),
    ] {
        let mut partition = reopened(settings, after(3, &[(0, 2)]));
        for (offset, lane) in [(0, 7), (1, 7), (2, 8)] {
            deliver(&mut partition, offset, lane);
        }
        assert_eq!(
            partition.next_poisoned().unwrap().fate,
            PoisonFate::Parked(reason)
        );
        let neighbour = expect_start(&mut partition, 2);
        done(&mut partition, neighbour);
        partition.log_ends_at(Position::new(3));
        assert_eq!(
            (partition.is_careful(), partition.parked()),
            (false, 1),
            "what is behind it cannot run"
        );
        assert_eq!(committed(&partition).crashes(Offset::new(0)), 2);
    }
}

#[test]
fn poison_ends_the_subscription_where_the_policy_says_stop() {
    let mut settings = settings();
    settings.retry.on_exhausted = Exhausted::Stop;
    let mut partition = reopened(settings, after(3, &[(0, 2)]));
    deliver(&mut partition, 0, 1);
    assert_eq!(partition.next_poisoned().unwrap().fate, PoisonFate::Stop);
    assert!(partition.stopped);
}

#[test]
fn progress_is_all_that_was_in_the_log_seen_not_to_kill() {
    let mut partition = reopened(settings(), after(1, &[(7, 1)]));
    for (offset, lane) in [(0, 1), (1, 2)] {
        deliver(&mut partition, offset, lane);
    }
    let late = Delivery {
        due: Some(at(100)),
        ..delivery(2, Some(3))
    };
    partition.deliver(late, at(0));
    partition.log_ends_at(Position::new(3));
    deliver(&mut partition, 3, 4);
    let (first, second) = (
        expect_start(&mut partition, 0),
        expect_start(&mut partition, 1),
    );
    done(&mut partition, first);
    assert!(partition.is_careful());
    let version = partition.evidence_version();
    done(&mut partition, second);
    assert!(
        !partition.is_careful(),
        "what was not due cannot have run, and 3 came later"
    );
    assert_ne!(partition.evidence_version(), version);
    assert!(partition.next_start().is_none());
    let running = Some(HERE);
    assert_eq!(
        confirm(&mut partition),
        Evidence {
            running,
            ..Evidence::default()
        },
        "the suspicion is over"
    );
    let version = partition.evidence_version();
    deliver(&mut partition, 4, 5);
    assert_eq!(
        partition.evidence_version(),
        version,
        "what comes now is none of its business"
    );
}

#[test]
fn a_record_that_fails_without_killing_does_not_hold_up_progress_for_ever() {
    let mut settings = settings();
    settings.retry.in_place = InPlace::Forever;
    let mut partition = reopened(settings, after(1, &[]));
    deliver(&mut partition, 0, 1);
    partition.log_ends_at(Position::new(1));
    let mut failures = 0;
    while partition.is_careful() {
        assert!(failures < 10, "no progress");
        let ticket = expect_start(&mut partition, 0);
        let _ = fail(&mut partition, ticket, at(100 * failures));
        failures += 1;
        partition.tick(at(100 * failures));
    }
    assert!(
        failures > 1,
        "one failure is not enough: the next attempt may kill"
    );
}

#[test]
fn the_trial_of_the_last_suspect_lasts_until_its_name_is_taken_back() {
    let mut partition = reopened(settings(), after(2, &[(0, 1)]));
    deliver(&mut partition, 0, 1);
    partition.log_ends_at(Position::new(1));
    partition.begin_trial();
    let last = expect_start(&mut partition, 0);
    done(&mut partition, last);
    assert!(!partition.is_careful());
    deliver(&mut partition, 1, 2);
    assert!(partition.next_start().is_none(), "it is tried still");
    assert!(
        !partition.end_trial() && !partition.end_trial(),
        "the broker still names it"
    );
    assert_eq!(confirm(&mut partition).named, Named::Nobody);
    assert!(partition.next_start().is_none() && partition.end_trial());
    assert!(partition.next_start().is_some());
}

#[test]
fn progress_takes_the_end_of_the_log_as_it_was_first_told() {
    let mut partition = reopened(settings(), after(1, &[]));
    deliver(&mut partition, 0, 1);
    let first = expect_start(&mut partition, 0);
    done(&mut partition, first);
    assert!(partition.is_careful(), "how much there was is not known");
    partition.log_ends_at(Position::new(2));
    assert!(partition.is_careful(), "1 has not been seen");
    partition.log_ends_at(Position::new(9));
    deliver(&mut partition, 1, 2);
    let second = expect_start(&mut partition, 1);
    done(&mut partition, second);
    assert!(!partition.is_careful());
}

#[test]
fn only_so_many_records_are_watched() {
    let mut partition = reopened(
        PartitionSettings {
            watched_records: 2,
            ..settings()
        },
        after(1, &[]),
    );
    for (offset, lane) in [(0, 1), (1, 2), (2, 3)] {
        deliver(&mut partition, offset, lane);
    }
    let (first, second) = (
        expect_start(&mut partition, 0),
        expect_start(&mut partition, 1),
    );
    done(&mut partition, first);
    assert!(partition.is_careful());
    done(&mut partition, second);
    assert!(!partition.is_careful());
}

#[test]
fn with_nothing_left_in_the_log_a_crash_is_forgotten() {
    let mut partition = reopened(settings(), after(5, &[(7, 1), (8, 2)]));
    partition.log_ends_at(Position::new(0));
    assert_eq!(
        (partition.is_careful(), committed(&partition)),
        (false, after(0, &[(8, 2)])),
        "but for verdicts"
    );
}

#[test]
fn a_log_that_was_cut_takes_its_suspects_with_it() {
    let mut partition = Partition::with_evidence(
        Arc::new(settings()),
        Epoch::new(1),
        Some(Position::new(10)),
        SettledMap::new(),
        HERE,
        after(3, &[(11, 2)]),
    );
    for (offset, lane) in [(3, 1), (11, 1)] {
        deliver(&mut partition, offset, lane);
    }
    assert_eq!(
        (
            partition.next_poisoned(),
            partition.crashes(Offset::new(11))
        ),
        (None, 0)
    );
}

#[test]
fn a_suspect_at_the_very_cut_is_forgotten_and_one_below_is_not() {
    let mut partition = reopened(settings(), after(3, &[(1, 1), (2, 1)]));
    for (offset, lane) in [(0, 1), (5, 1), (2, 1)] {
        deliver(&mut partition, offset, lane);
    }
    assert_eq!(
        (
            partition.crashes(Offset::new(1)),
            partition.crashes(Offset::new(2))
        ),
        (1, 0)
    );
}

#[test]
fn what_is_named_again_takes_in_all_that_still_runs() {
    let mut partition = crashed(1, &[], 2, 4);
    let (first, _second) = (
        expect_start(&mut partition, 0),
        expect_start(&mut partition, 1),
    );
    done(&mut partition, first);
    deliver(&mut partition, 2, 2);
    assert!(partition.next_start().is_none());
    assert_eq!(confirm(&mut partition).named, together([1, 2]));
}

#[test]
fn what_waits_behind_a_record_that_is_not_due_cannot_have_killed_and_does_not_keep_up_the_care() {
    let mut partition = reopened(settings(), after(2, &[]));
    partition.log_ends_at(Position::new(3));
    partition.deliver(
        Delivery {
            due: Some(at(86_400)),
            ..delivery(0, Some(1))
        },
        Moment::ORIGIN,
    );
    deliver(&mut partition, 1, 1);
    deliver(&mut partition, 2, 2);
    assert!(partition.next_start().is_none());
    confirm(&mut partition);
    let ticket = partition.next_start().unwrap().ticket;
    done(&mut partition, ticket);
    assert!(
        !partition.is_careful(),
        "all that may run has been seen not to kill"
    );
}

/// Why the shell must not tell an end that was seen before the epoch.
#[test]
fn an_end_of_the_log_from_before_the_epoch_would_pass_for_progress() {
    let mut partition = reopened(settings(), after(2, &[(0, 1)]));
    deliver(&mut partition, 0, 1);
    partition.log_ends_at(Position::new(0));
    assert!(
        partition.is_careful(),
        "0 was read before the end was told, and is watched"
    );
    let mut partition = reopened(settings(), after(2, &[(0, 1)]));
    partition.log_ends_at(Position::new(0));
    deliver(&mut partition, 0, 1);
    assert_eq!(
        (partition.is_careful(), partition.crashes(Offset::new(0))),
        (false, 0)
    );
}
