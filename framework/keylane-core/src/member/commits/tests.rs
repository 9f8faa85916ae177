use std::time::Duration;

use super::*;
use crate::member::{CommitPoint, TopicPartition};
use crate::{Epoch, Position};

struct Row {
    commits: EpochCommits,
    report: Option<CommitPoint>,
    given_back: bool,
}

impl AsRef<EpochCommits> for Row {
    fn as_ref(&self) -> &EpochCommits {
        &self.commits
    }
}

impl AsMut<EpochCommits> for Row {
    fn as_mut(&mut self) -> &mut EpochCommits {
        &mut self.commits
    }
}

/// Three partitions without a commit.
fn table() -> [Row; 3] {
    [0, 1, 2].map(|partition| {
        let place = TopicPartition::new("tasks", partition);
        let epoch = Epoch::new(partition.unsigned_abs().into());
        Row {
            commits: EpochCommits::new(place, epoch),
            report: None,
            given_back: false,
        }
    })
}

fn point(position: i64) -> CommitPoint {
    CommitPoint {
        position: Position::new(position),
        leader_epoch: None,
        metadata: String::new(),
        mark: None,
        running: false,
    }
}

fn running(position: i64) -> CommitPoint {
    CommitPoint {
        running: true,
        ..point(position)
    }
}

fn report(row: &mut Row) -> Option<Report> {
    let ending = row.given_back;
    row.report.take().map(|point| Report { point, ending })
}

fn is_given_back(row: &Row) -> bool {
    row.given_back
}

fn at(millis: u64) -> Moment {
    Moment::new(Duration::from_millis(millis))
}

/// What is new is committed each second.
fn commits() -> Commits {
    Commits::new(Duration::from_secs(1))
}

/// What goes out now.
fn next(commits: &mut Commits, table: &mut [Row], now: Moment) -> Option<(CommitId, Vec<usize>)> {
    commits.points(table, report);
    let next = commits.next(table, now)?;
    Some((next.id, next.rows.to_vec()))
}

fn sends(commits: &mut Commits, table: &mut [Row], now: Moment, rows: &[usize]) -> CommitId {
    let (id, sent) = next(commits, table, now).expect("something goes out");
    assert_eq!(sent, rows);
    id
}

/// All three have been committed, at 0 ms.
fn after_first_points() -> (Commits, [Row; 3]) {
    let (mut commits, mut table) = (commits(), table());
    for row in &mut table {
        row.report = Some(point(5));
    }
    let first = sends(&mut commits, &mut table, at(0), &[0, 1, 2]);
    assert_eq!(
        commits.answer(first, Ok(()), &mut table, at(0)),
        Answered::Nothing
    );
    (commits, table)
}

#[test]
fn the_first_interval_begins_with_the_member() {
    let (mut commits, mut table) = (commits(), table());
    table[0].report = Some(point(5));
    let first = sends(&mut commits, &mut table, at(1), &[0]);
    let _ = commits.answer(first, Ok(()), &mut table, at(1));
    table[0].report = Some(point(6));
    assert_eq!(next(&mut commits, &mut table, at(999)), None);
    sends(&mut commits, &mut table, at(1_000), &[0]);
}

#[test]
fn what_is_new_is_committed_once_in_each_interval() {
    let (mut commits, mut table) = after_first_points();
    table[0].report = Some(point(6));
    assert_eq!(next(&mut commits, &mut table, at(900)), None);
    table[2].report = Some(point(9));
    let id = sends(&mut commits, &mut table, at(1_000), &[0, 2]);
    table[1].report = Some(point(7));
    assert_eq!(
        next(&mut commits, &mut table, at(5_000)),
        None,
        "one is under way"
    );
    let _ = commits.answer(id, Ok(()), &mut table, at(5_000));
    sends(&mut commits, &mut table, at(5_000), &[1]);
}

#[test]
fn what_is_due_at_once_waits_for_the_answer_to_the_commit_before_only() {
    let (mut commits, mut table) = after_first_points();
    (table[0].report, table[1].report) = (Some(running(6)), Some(point(6)));
    let id = sends(&mut commits, &mut table, at(1_000), &[0, 1]);
    (table[0].report, table[1].report) = (Some(point(7)), Some(point(7)));
    assert_eq!(next(&mut commits, &mut table, at(1_001)), None);
    let _ = commits.answer(id, Ok(()), &mut table, at(1_001));
    sends(&mut commits, &mut table, at(1_001), &[0]);
}

#[test]
fn what_was_refused_or_not_sent_is_committed_with_the_next_interval() {
    let (mut commits, mut table) = after_first_points();
    table[1].report = Some(point(6));
    let id = sends(&mut commits, &mut table, at(1_000), &[1]);
    let answered = commits.answer(id, Err(Refusal::Passing), &mut table, at(1_000));
    assert_eq!(answered, Answered::Nothing);
    assert_eq!(next(&mut commits, &mut table, at(1_999)), None);
    let id = sends(&mut commits, &mut table, at(2_000), &[1]);
    assert_eq!(commits.not_sent(id, &mut table, at(2_000)), None);
    sends(&mut commits, &mut table, at(3_000), &[1]);
}

#[test]
fn marks_do_not_wait_for_the_interval_and_do_not_keep_others_from_it() {
    let (mut commits, mut table) = after_first_points();
    let mut mark = 0;
    let mut wants_mark = |row: &mut Row| {
        mark += 1;
        let wanted = Some(Mark::new(mark));
        row.report = Some(CommitPoint {
            mark: wanted,
            ..running(6)
        });
    };
    table[1].report = Some(point(6));
    for now in [at(1), at(999)] {
        wants_mark(&mut table[0]);
        let id = sends(&mut commits, &mut table, now, &[0]);
        let answered = commits.answer(id, Ok(()), &mut table, now);
        assert!(matches!(answered, Answered::Confirmed([(0, _)])));
    }
    wants_mark(&mut table[0]);
    let id = sends(&mut commits, &mut table, at(1_000), &[1]);
    let _ = commits.answer(id, Ok(()), &mut table, at(1_000));
    let id = sends(&mut commits, &mut table, at(1_000), &[0]);
    let refused = commits.not_sent(id, &mut table, at(1_000));
    assert!(
        refused.is_some_and(|refused| refused.first),
        "starts wait for it"
    );
}

#[test]
fn last_points_take_back_the_marks_of_what_is_given_back_and_of_nothing_else() {
    let (mut commits, mut table) = (commits(), table());
    for row in &mut table[..2] {
        row.report = Some(running(5));
    }
    let id = sends(&mut commits, &mut table, at(0), &[0, 1]);
    let _ = commits.answer(id, Ok(()), &mut table, at(0));
    table[0].given_back = true;
    commits.last_points(&mut table, report, is_given_back);
    let runs = |row: &Row| row.commits.stored().is_some_and(|stored| stored.running);
    assert!(!runs(&table[0]) && runs(&table[1]));
    assert_eq!(table[0].commits.due(), Some(Due::AtOnce));
    assert_eq!(table[1].commits.due(), None);
}

#[test]
fn a_point_that_comes_with_the_order_to_give_back_is_not_lost_for_the_one_before() {
    let (mut commits, mut table) = (commits(), table());
    table[0].report = Some(running(5));
    commits.points(&mut table, report);
    (table[0].report, table[0].given_back) = (Some(running(9)), true);
    commits.last_points(&mut table, report, is_given_back);
    assert_eq!(table[0].commits.stored(), Some(&point(9)));
}

/// The client may repeat that one, and it would come to the broker after the last one.
#[test]
fn the_last_commit_is_not_sent_while_another_commit_is_under_way() {
    let (mut commits, mut table) = after_first_points();
    table[1].report = Some(point(6));
    let earlier = sends(&mut commits, &mut table, at(1_000), &[1]);
    (table[1].report, table[1].given_back) = (Some(point(9)), true);
    commits.last_points(&mut table, report, is_given_back);
    commits.begin_last(at(1_001));
    let waits = commits.step_last(&mut table, is_given_back, at(9_000));
    assert_eq!(waits, LastStep::Wait);
    let _ = commits.answer(earlier, Ok(()), &mut table, at(9_000));
    let step = commits.step_last(&mut table, is_given_back, at(9_000));
    assert!(
        matches!(step, LastStep::Send(Outgoing { rows: [1], .. })),
        "{step:?}"
    );
}

#[test]
fn nothing_else_is_sent_while_the_last_commit_is_awaited() {
    let (mut commits, mut table) = after_first_points();
    (table[1].report, table[1].given_back) = (Some(point(9)), true);
    table[0].report = Some(point(9));
    commits.last_points(&mut table, report, is_given_back);
    commits.begin_last(at(1_000));
    assert_eq!(next(&mut commits, &mut table, at(1_000)), None);
    let LastStep::Send(Outgoing { id, .. }) =
        commits.step_last(&mut table, is_given_back, at(1_000))
    else {
        panic!("it is due");
    };
    let _ = commits.answer(id, Err(Refusal::Passing), &mut table, at(1_001));
    assert_eq!(
        next(&mut commits, &mut table, at(1_002)),
        None,
        "it is tried again"
    );
    let LastStep::Send(Outgoing { id, .. }) =
        commits.step_last(&mut table, is_given_back, at(1_100))
    else {
        panic!("it is due again");
    };
    let _ = commits.answer(id, Ok(()), &mut table, at(1_100));
    let step = commits.step_last(&mut table, is_given_back, at(1_100));
    assert_eq!(step, LastStep::Over);
    sends(&mut commits, &mut table, at(1_100), &[0]);
}

#[test]
fn a_last_commit_that_is_no_longer_waited_for_goes_out_all_the_same() {
    let (mut commits, mut table) = after_first_points();
    table[1].report = Some(point(6));
    let earlier = sends(&mut commits, &mut table, at(1_000), &[1]);
    (table[1].report, table[1].given_back) = (Some(point(9)), true);
    commits.last_points(&mut table, report, is_given_back);
    commits.begin_last(at(1_000));
    let _ = commits.step_last(&mut table, is_given_back, at(1_000));
    let rest = commits.end_last(&mut table, is_given_back);
    let Outgoing { id, rows } = rest.expect("it was not sent before");
    assert_eq!(rows, [1]);
    table[0].report = Some(point(9));
    let _ = commits.answer(earlier, Ok(()), &mut table, at(2_000));
    assert_eq!(
        next(&mut commits, &mut table, at(2_000)),
        None,
        "it is under way"
    );
    let _ = commits.answer(id, Ok(()), &mut table, at(2_000));
    sends(&mut commits, &mut table, at(2_000), &[0]);
    assert_eq!(
        commits.end_last(&mut table, is_given_back),
        None,
        "the broker has it"
    );
}

#[test]
fn the_last_commit_is_of_what_is_given_back_and_has_a_point() {
    let (mut commits, mut table) = (commits(), table());
    table[0].report = Some(point(5));
    table[1].report = Some(point(5));
    commits.points(&mut table, report);
    (table[1].given_back, table[2].given_back) = (true, true);
    commits.begin_last(at(0));
    let step = commits.step_last(&mut table, is_given_back, at(0));
    let LastStep::Send(Outgoing { id, rows }) = step else {
        panic!("it is due");
    };
    assert_eq!(rows, [1]);
    let step = commits.step_last(&mut table, is_given_back, at(9));
    assert_eq!(step, LastStep::Wait);
    let refused = commits.answer(id, Err(Refusal::Passing), &mut table, at(9));
    assert_eq!(refused, Answered::Nothing);
    let again = commits.step_last(&mut table, is_given_back, at(100));
    assert!(matches!(again, LastStep::Send(next) if next.id != id));
    let earlier = commits.answer(id, Ok(()), &mut table, at(100));
    assert_eq!(earlier, Answered::Nothing);
    let step = commits.step_last(&mut table, is_given_back, at(100));
    assert_eq!(step, LastStep::Wait, "the answer was to the first try");
}

#[test]
fn a_last_commit_is_over_with_nothing_to_commit_or_a_refusal_for_good() {
    let (mut commits, mut table) = after_first_points();
    table[0].given_back = true;
    commits.begin_last(at(0));
    let nothing = commits.step_last(&mut table, is_given_back, at(0));
    assert_eq!(nothing, LastStep::Over, "the broker has it");

    table[0].report = Some(point(6));
    commits.last_points(&mut table, report, is_given_back);
    commits.begin_last(at(0));
    let step = commits.step_last(&mut table, is_given_back, at(0));
    let LastStep::Send(Outgoing { id, .. }) = step else {
        panic!("it is due");
    };
    let refused = commits.answer(id, Err(Refusal::NotAMember), &mut table, at(0));
    assert_eq!(refused, Answered::LastRefused);
    let over = commits.step_last(&mut table, is_given_back, at(0));
    assert_eq!(over, LastStep::Over);
}

#[test]
fn metadata_shrinks_twice_and_what_was_refused_is_sent_again_at_once() {
    let (mut commits, mut table) = after_first_points();
    (table[1].report, table[2].report) = (Some(point(6)), Some(point(6)));
    let mut id = sends(&mut commits, &mut table, at(1_000), &[1, 2]);
    for to in [MetadataLimit::WithoutMap, MetadataLimit::Nothing] {
        let answered = commits.answer(id, Err(Refusal::MetadataTooLarge), &mut table, at(1_000));
        assert_eq!(answered, Answered::TooLarge);
        assert_eq!(commits.shrink(&mut table), Some(to));
        id = sends(&mut commits, &mut table, at(1_000), &[1, 2]);
    }
    let _ = commits.answer(id, Err(Refusal::MetadataTooLarge), &mut table, at(1_000));
    assert_eq!(commits.shrink(&mut table), None);
    assert_eq!(next(&mut commits, &mut table, at(1_999)), None, "no sooner");
}

#[test]
fn where_the_broker_takes_no_metadata_work_goes_on_without_a_mark_and_its_point_is_committed() {
    let (mut commits, mut table) = after_first_points();
    let mark = Some(Mark::new(1));
    table[1].report = Some(CommitPoint { mark, ..running(6) });
    let _ = sends(&mut commits, &mut table, at(1), &[1]);
    let _ = commits.shrink(&mut table);
    assert_eq!(commits.given_up_marks(&mut table), [], "not yet");
    let _ = commits.shrink(&mut table);
    let given_up = commits.given_up_marks(&mut table);
    assert_eq!(given_up, [(1, Mark::new(1))]);
    assert_eq!(table[1].commits.due(), Some(Due::AtInterval));
}

#[test]
fn a_mark_is_awaited_until_the_broker_has_it() {
    let (mut commits, mut table) = (commits(), table());
    let mark = Some(Mark::new(1));
    table[1].report = Some(CommitPoint { mark, ..running(5) });
    assert!(!commits.are_awaited(), "nothing was sent");
    let id = sends(&mut commits, &mut table, at(0), &[1]);
    assert!(commits.are_awaited());
    let confirmed = commits.answer(id, Ok(()), &mut table, at(0));
    assert_eq!(confirmed, Answered::Confirmed(&[(1, Mark::new(1))]));
    assert!(!commits.are_awaited());
    let mark = Some(Mark::new(2));
    table[1].report = Some(CommitPoint { mark, ..running(5) });
    let next = sends(&mut commits, &mut table, at(1), &[1]);
    assert!(next > id, "each commit has its number");
    let _ = commits.not_sent(next, &mut table, at(1));
    assert!(commits.are_awaited(), "the next try is");
}

#[test]
fn a_proof_of_membership_is_awaited_until_it_is_taken_or_forgotten() {
    let (mut commits, mut table) = (commits(), table());
    commits.ask_for_proof();
    assert!(commits.are_awaited() && !commits.take_proof());
    assert_eq!(
        next(&mut commits, &mut table, at(0)),
        None,
        "nothing to commit"
    );
    assert!(commits.take_proof() && !commits.are_awaited());
    commits.ask_for_proof();
    commits.forget_proof();
    assert!(!commits.are_awaited());
}

#[test]
fn a_last_commit_that_the_client_does_not_take_is_over() {
    let (mut commits, mut table) = (commits(), table());
    (table[0].report, table[0].given_back) = (Some(point(5)), true);
    commits.points(&mut table, report);
    commits.begin_last(at(0));
    let step = commits.step_last(&mut table, is_given_back, at(0));
    let LastStep::Send(Outgoing { id, .. }) = step else {
        panic!("it is due");
    };
    assert_eq!(commits.not_sent(id, &mut table, at(0)), None);
    let over = commits.step_last(&mut table, is_given_back, at(0));
    assert_eq!(over, LastStep::Over);
}

/// The first point of an epoch may lie below what was committed.
#[test]
fn a_refused_commit_that_was_due_at_once_does_not_wait_for_the_interval() {
    let (mut commits, mut table) = (Commits::new(Duration::from_secs(3_600)), table());
    table[0].report = Some(point(5));
    let mut now = 0;
    for refusal in [Refusal::Rebalancing, Refusal::Topic] {
        let id = sends(&mut commits, &mut table, at(now), &[0]);
        let _ = commits.answer(id, Err(refusal), &mut table, at(now));
        assert_eq!(next(&mut commits, &mut table, at(now + 999)), None);
        now += 1_000;
    }
    table[1].report = Some(point(5));
    let id = sends(&mut commits, &mut table, at(now - 1), &[1]);
    let _ = commits.answer(id, Ok(()), &mut table, at(now));
    let id = sends(&mut commits, &mut table, at(now), &[0]);
    assert_eq!(commits.not_sent(id, &mut table, at(now)), None);
    assert_eq!(next(&mut commits, &mut table, at(now + 999)), None);
    let id = sends(&mut commits, &mut table, at(now + 1_000), &[0]);
    let _ = commits.answer(id, Ok(()), &mut table, at(now + 1_000));
    table[0].report = Some(point(6));
    assert_eq!(next(&mut commits, &mut table, at(now + 3_000)), None);
}

#[test]
fn marks_go_out_although_each_answer_takes_longer_than_the_interval() {
    let (mut commits, mut table) = after_first_points();
    table[2].report = Some(CommitPoint {
        mark: Some(Mark::new(1)),
        ..running(5)
    });
    for (place, now) in [0, 2, 0].into_iter().zip([1_000, 2_000, 3_000]) {
        table[0].report = Some(point(now));
        let id = sends(&mut commits, &mut table, at(now as u64), &[place]);
        let _ = commits.answer(id, Ok(()), &mut table, at(now as u64 + 1_000));
    }
}

#[test]
fn what_was_under_way_of_the_partitions_that_stay_is_due_again_after_a_last_commit_that_is_given_up()
 {
    let (mut commits, mut table) = after_first_points();
    table[0].report = Some(point(6));
    table[1].report = Some(point(6));
    let earlier = sends(&mut commits, &mut table, at(1_000), &[0, 1]);
    (table[1].report, table[1].given_back) = (Some(point(9)), true);
    commits.last_points(&mut table, report, is_given_back);
    commits.begin_last(at(1_000));
    let waits = commits.step_last(&mut table, is_given_back, at(1_000));
    assert_eq!(waits, LastStep::Wait);
    let rest = commits.end_last(&mut table, is_given_back).unwrap().id;
    let _ = commits.answer(earlier, Err(Refusal::Passing), &mut table, at(2_000));
    let _ = commits.answer(rest, Ok(()), &mut table, at(2_000));
    table[1].given_back = false;
    sends(&mut commits, &mut table, at(9_000), &[0]);
}

#[test]
fn a_last_commit_without_an_answer_is_sent_once_more() {
    let (mut commits, mut table) = after_first_points();
    (table[1].report, table[1].given_back) = (Some(point(9)), true);
    commits.last_points(&mut table, report, is_given_back);
    commits.begin_last(at(1_000));
    let step = commits.step_last(&mut table, is_given_back, at(1_000));
    assert!(matches!(step, LastStep::Send(_)));
    assert_eq!(
        commits.end_last(&mut table, is_given_back).unwrap().rows,
        [1]
    );
}
