use std::time::Duration;

use super::*;

const OLD: LogId = match LogId::of_topic(1, 0) {
    Some(log) => log,
    None => panic!("an id"),
};
const NEW: LogId = match LogId::of_topic(2, 0) {
    Some(log) => log,
    None => panic!("an id"),
};

fn at(position: i64) -> Position {
    Position::new(position)
}

fn log(start: i64, reset: Reset) -> ReadLog {
    ReadLog::new(Some(at(start)), reset, Some(OLD), 500)
}

/// A record whose print is its version: a log that was written again has others.
fn read(log: &mut ReadLog, offset: i64, version: u64) -> Arrival {
    log.record(Offset::new(offset), version, false, || None)
}

fn reached(watermark: i64) -> Reached {
    Reached {
        watermark: Some(at(watermark)),
        has_ended: false,
        revoking: false,
    }
}

#[test]
fn records_in_order_are_taken_in_and_repetitions_left_out() {
    let mut log = log(5, Reset::Earliest);
    for offset in 5..8 {
        assert_eq!(read(&mut log, offset, 1), Arrival::Next);
    }
    assert_eq!(read(&mut log, 6, 1), Arrival::LeftOut);
    assert_eq!((log.start(), log.next()), (Some(at(5)), Some(at(8))));
    assert_eq!(log.next_epoch(reached(5), Moment::ORIGIN), None);
}

#[test]
fn where_the_beginning_is_not_known_the_first_record_is_it() {
    let mut log = ReadLog::new(None, Reset::Earliest, None, 500);
    assert_eq!(log.expected(), None);
    assert_eq!(read(&mut log, 40, 1), Arrival::Next);
    assert_eq!(log.expected(), Some(at(41)));
}

/// G7: what was settled at offsets of the old log says nothing about the new one's.
#[test]
fn after_a_log_went_back_a_new_epoch_begins_at_the_oldest_unsettled_record_or_where_it_went_back_to()
 {
    for (watermark, from) in [(Some(at(6)), 6), (Some(at(10)), 8), (None, 5)] {
        let mut log = log(5, Reset::Earliest);
        for offset in 5..10 {
            read(&mut log, offset, 1);
        }
        assert_eq!(read(&mut log, 9, 2), Arrival::WentBack);
        assert_eq!(read(&mut log, 8, 2), Arrival::WentBack);
        assert_eq!(read(&mut log, 9, 2), Arrival::WentBack, "the lowest counts");
        assert_eq!(
            read(&mut log, 10, 2),
            Arrival::LeftOut,
            "it is read again, although it is the one that was expected"
        );
        assert_eq!(log.next(), Some(at(10)), "nothing was taken in since");
        let reached = Reached {
            watermark,
            ..reached(0)
        };
        let next = log.next_epoch(reached, Moment::ORIGIN);
        assert_eq!(next, Some(NextEpoch::From(at(from))));
    }
}

/// G1: the owner may be in its first pass, with what was handed over.
#[test]
fn without_figures_of_the_owner_a_new_epoch_begins_at_the_first_record_that_was_taken_in() {
    for start in [None, Some(at(5))] {
        let mut log = ReadLog::new(start, Reset::Earliest, Some(OLD), 500);
        for offset in 6..10 {
            read(&mut log, offset, 1);
        }
        assert_eq!(read(&mut log, 8, 2), Arrival::WentBack);
        for watermark in [None, Some(at(5)), Some(at(6))] {
            let reached = Reached {
                watermark,
                ..reached(0)
            };
            let next = log.next_epoch(reached, Moment::ORIGIN);
            let from = watermark.unwrap_or(at(6));
            assert_eq!(
                next,
                Some(NextEpoch::From(from)),
                "{start:?}, {watermark:?}"
            );
        }
    }
}

/// G1: the start that the owner shows lies above what it was handed since.
#[test]
fn figures_from_before_a_cut_below_the_start_are_not_believed() {
    for (watermark, from) in [(25, 20), (21, 21), (24, 22)] {
        let mut log = log(25, Reset::Earliest);
        for offset in 20..25 {
            read(&mut log, offset, 2);
        }
        assert_eq!(read(&mut log, 22, 3), Arrival::WentBack);
        let next = log.next_epoch(reached(watermark), Moment::ORIGIN);
        assert_eq!(next, Some(NextEpoch::From(at(from))), "{watermark}");
    }
}

/// An epoch may last for days after such a cut: the next cut repeats no more than another would.
#[test]
fn figures_from_after_a_cut_below_the_start_are_believed_above_the_start_too() {
    for (watermark, from) in [(26, 26), (40, 38)] {
        let mut log = log(25, Reset::Earliest);
        for offset in 20..40 {
            read(&mut log, offset, 2);
        }
        assert_eq!(read(&mut log, 38, 3), Arrival::WentBack);
        let next = log.next_epoch(reached(watermark), Moment::ORIGIN);
        assert_eq!(next, Some(NextEpoch::From(at(from))), "{watermark}");
    }
}

#[test]
fn a_partition_that_is_given_back_begins_anew_too_where_its_log_went_back() {
    let mut log = log(5, Reset::Earliest);
    read(&mut log, 5, 1);
    read(&mut log, 5, 2);
    let reached = Reached {
        revoking: true,
        ..reached(6)
    };
    let next = log.next_epoch(reached, Moment::ORIGIN);
    assert_eq!(next, Some(NextEpoch::From(at(5))));
}

#[test]
fn a_cut_below_the_start_is_judged_by_the_owner() {
    let mut log = log(25, Reset::Earliest);
    let expected = at(25);
    assert_eq!(read(&mut log, 20, 2), Arrival::CutBelowStart { expected });
    assert_eq!(log.next(), Some(at(21)));
    assert_eq!(read(&mut log, 21, 2), Arrival::Next);
    assert_eq!(log.next_epoch(reached(20), Moment::ORIGIN), None);
}

/// With `latest` nothing below is read, but for what was written since the log was cut where its
/// leader says so.
#[test]
fn with_latest_a_log_that_went_back_is_searched_unless_the_leader_has_confirmed_the_cut() {
    let search = |expected| Arrival::Search {
        beginning: Beginning::went_back(Reset::Latest, at(expected)),
        expected: at(expected),
        went_back: true,
    };
    let mut unconfirmed = log(25, Reset::Latest);
    assert_eq!(read(&mut unconfirmed, 20, 2), search(25));
    let mut confirmed = log(25, Reset::Latest);
    let record = |log: &mut ReadLog, offset, version| {
        log.record(Offset::new(offset), version, true, || None)
    };
    let expected = at(25);
    assert_eq!(
        record(&mut confirmed, 20, 2),
        Arrival::CutBelowStart { expected }
    );
    assert_eq!(
        record(&mut confirmed, 20, 3),
        search(21),
        "later the leader was not asked"
    );
    assert_eq!(confirmed.next_epoch(reached(20), Moment::ORIGIN), None);
}

#[test]
fn a_hole_is_passed_over_where_the_log_begins_in_it() {
    let from =
        |reset, first: i64| log(40, reset).record(Offset::new(50), 1, false, || Some(at(first)));
    let passed_over = PassedOver {
        from: at(40),
        to: at(50),
    };
    assert_eq!(from(Reset::Earliest, 50), Arrival::PassedOver(passed_over));
    assert_eq!(from(Reset::Earliest, 0), Arrival::Next, "compaction");
    assert_eq!(
        from(Reset::Latest, 50),
        Arrival::Search {
            beginning: Beginning::passed_over(Reset::Latest, at(40)),
            expected: at(40),
            went_back: false
        }
    );
    assert_eq!(from(Reset::Latest, 0), Arrival::Next);
}

#[test]
fn a_recreated_topic_is_read_from_its_beginning_once_the_epoch_before_has_ended_or_its_time_is_up()
{
    let deadline = Moment::new(Duration::from_secs(30));
    let recreated = || {
        let mut log = log(5, Reset::Earliest);
        assert_eq!(log.see(NEW, false, deadline), Sighting::Nothing);
        assert!(log.is_doubtful(), "a broker may lag behind");
        assert_eq!(log.see(NEW, false, deadline), Sighting::Recreated);
        assert_eq!(log.see(NEW, false, deadline), Sighting::Nothing, "once");
        log
    };
    let log = recreated();
    assert!(log.is_recreated() && log.has_changed());
    assert_eq!(log.next_epoch(reached(7), Moment::ORIGIN), None);
    let ended = Reached {
        has_ended: true,
        ..reached(7)
    };
    let beginning = Some(NextEpoch::Beginning(NEW));
    assert_eq!(log.next_epoch(ended, Moment::ORIGIN), beginning);
    assert_eq!(log.next_epoch(reached(7), deadline), beginning);
    let revoking = Reached {
        revoking: true,
        ..ended
    };
    assert_eq!(
        log.next_epoch(revoking, deadline),
        None,
        "the next owner sees the same in the commit"
    );
}

#[test]
fn which_log_it_is_may_be_learned_later_and_is_the_next_epochs_too() {
    let mut log = ReadLog::new(None, Reset::Earliest, None, 500);
    let deadline = Moment::ORIGIN;
    assert_eq!(log.see(OLD, true, deadline), Sighting::Nothing, "revoked");
    assert_eq!(log.see(OLD, false, deadline), Sighting::Learned(OLD));
    assert_eq!(log.see(NEW, false, deadline), Sighting::Nothing);
    let mut next = ReadLog::new(Some(at(0)), Reset::Earliest, None, 500);
    next.continue_from(&mut log);
    assert_eq!(next.id(), Some(OLD));
    assert!(next.is_doubtful());
}

#[test]
fn a_log_that_has_not_changed_has_no_next_epoch_and_one_that_has_says_so() {
    let mut log = log(5, Reset::Error);
    assert_eq!(log.reset(), Reset::Error);
    read(&mut log, 5, 1);
    assert!(!log.has_changed());
    read(&mut log, 5, 2);
    assert!(log.has_changed() && !log.is_recreated());
}
