use std::time::Duration;

use super::*;
use crate::member::{Refusal, TopicPartition};
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
            commits: EpochCommits::new(place, epoch, None),
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

#[test]
fn what_is_reported_is_stored_and_what_the_client_leaves_out_is_committed_too() {
    let (mut commits, mut table) = (Commits::default(), table());
    table[0].report = Some(point(5));
    table[2].report = Some(point(7));
    let orders = commits.points(&mut table, false, report);
    assert_eq!((orders.store, orders.commit), (&[0, 2][..], &[][..]));
    table[2].report = Some(point(6));
    let orders = commits.points(&mut table, false, report);
    assert_eq!((orders.store, orders.commit), (&[2][..], &[2][..]));
    let orders = commits.points(&mut table, false, report);
    assert_eq!((orders.store, orders.commit), (&[][..], &[][..]));
}

#[test]
fn last_points_take_back_the_marks_of_what_is_given_back_and_of_nothing_else() {
    let (mut commits, mut table) = (Commits::default(), table());
    for row in &mut table[..2] {
        row.report = Some(running(5));
    }
    let _ = commits.points(&mut table, false, report);
    table[0].given_back = true;
    let orders = commits.last_points(&mut table, true, report, is_given_back);
    assert_eq!((orders.store, orders.commit), (&[0][..], &[0][..]));
    let runs = |row: &Row| row.commits.stored().is_some_and(|stored| stored.running);
    assert!(!runs(&table[0]) && runs(&table[1]));
}

#[test]
fn a_point_that_comes_with_the_order_to_give_back_is_not_lost_for_the_one_before() {
    let (mut commits, mut table) = (Commits::default(), table());
    table[0].report = Some(running(5));
    let _ = commits.points(&mut table, false, report);
    (table[0].report, table[0].given_back) = (Some(running(9)), true);
    let orders = commits.last_points(&mut table, true, report, is_given_back);
    assert_eq!((orders.store, orders.commit), (&[0][..], &[0][..]));
    let stored = table[0].commits.stored().cloned();
    assert_eq!(stored, Some(point(9)));
}

#[test]
fn the_last_commit_is_of_what_is_given_back_and_has_a_point() {
    let (mut commits, mut table) = (Commits::default(), table());
    table[0].report = Some(point(5));
    table[1].report = Some(point(5));
    let _ = commits.points(&mut table, false, report);
    (table[1].given_back, table[2].given_back) = (true, true);
    commits.begin_last(at(0));
    let LastStep::Send(Outgoing { id, rows }) = commits.step_last(&table, is_given_back, at(0))
    else {
        panic!("it is due");
    };
    assert_eq!(rows, [1]);
    assert_eq!(
        commits.step_last(&table, is_given_back, at(9)),
        LastStep::Wait
    );
    let refused = commits.answer(id, Err(Refusal::Passing), &mut table, at(9));
    assert_eq!(refused, Answered::Nothing);
    let again = commits.step_last(&table, is_given_back, at(100));
    assert!(matches!(again, LastStep::Send(next) if next.id != id));
    let earlier = commits.answer(id, Ok(()), &mut table, at(100));
    assert_eq!(earlier, Answered::Nothing);
    let step = commits.step_last(&table, is_given_back, at(100));
    assert_eq!(step, LastStep::Wait, "the answer was to the first try");
}

#[test]
fn a_last_commit_is_over_with_nothing_to_commit_or_a_refusal_for_good() {
    let (mut commits, mut table) = (Commits::default(), table());
    commits.begin_last(at(0));
    let nothing = commits.step_last(&table, is_given_back, at(0));
    assert_eq!(nothing, LastStep::Over);

    (table[0].report, table[0].given_back) = (Some(point(5)), true);
    let _ = commits.points(&mut table, true, report);
    commits.begin_last(at(0));
    let LastStep::Send(Outgoing { id, .. }) = commits.step_last(&table, is_given_back, at(0))
    else {
        panic!("it is due");
    };
    let refused = commits.answer(id, Err(Refusal::NotAMember), &mut table, at(0));
    assert_eq!(refused, Answered::LastRefused);
    let over = commits.step_last(&table, is_given_back, at(0));
    assert_eq!(over, LastStep::Over);
}

#[test]
fn a_mark_is_sent_and_awaited_until_the_broker_has_it() {
    let (mut commits, mut table) = (Commits::default(), table());
    let marked = |mark| CommitPoint {
        mark: Some(Mark::new(mark)),
        ..running(5)
    };
    table[1].report = Some(marked(1));
    let _ = commits.points(&mut table, false, report);
    assert!(!commits.are_awaited(), "nothing was sent");
    let Some(Outgoing { id, rows }) = commits.next_mark(&table, at(0)) else {
        panic!("a mark is wanted");
    };
    assert_eq!(rows, [1]);
    assert!(commits.are_awaited());
    let confirmed = commits.answer(id, Ok(()), &mut table, at(0));
    assert_eq!(confirmed, Answered::Confirmed(&[(1, Mark::new(1))]));
    assert!(!commits.are_awaited());
    assert_eq!(commits.next_mark(&table, at(0)), None);

    table[1].report = Some(marked(2));
    let _ = commits.points(&mut table, false, report);
    let sent = commits.next_mark(&table, at(1)).map(|next| next.id);
    assert!(sent > Some(id), "each commit has its number");
    assert!(commits.mark_not_sent(at(1)).first);
    assert!(commits.are_awaited(), "the next try is");
}

#[test]
fn a_proof_of_membership_is_awaited_until_it_is_taken_or_forgotten() {
    let (mut commits, table) = (Commits::default(), table());
    commits.ask_for_proof();
    assert!(commits.are_awaited() && !commits.take_proof());
    assert_eq!(commits.next_mark(&table, at(0)), None, "nothing to commit");
    assert!(commits.take_proof() && !commits.are_awaited());
    commits.ask_for_proof();
    commits.forget_proof();
    assert!(!commits.are_awaited());
}

#[test]
fn a_last_commit_that_the_client_does_not_take_is_over() {
    let (mut commits, mut table) = (Commits::default(), table());
    commits.last_not_sent();
    (table[0].report, table[0].given_back) = (Some(point(5)), true);
    let _ = commits.points(&mut table, true, report);
    commits.begin_last(at(0));
    let sent = commits.step_last(&table, is_given_back, at(0));
    assert!(matches!(sent, LastStep::Send(_)));
    commits.last_not_sent();
    let over = commits.step_last(&table, is_given_back, at(0));
    assert_eq!(over, LastStep::Over);
}

#[test]
fn metadata_shrinks_twice_and_everything_is_stored_again() {
    let (mut commits, mut table) = (Commits::default(), table());
    table[1].report = Some(CommitPoint {
        mark: Some(Mark::new(1)),
        ..running(5)
    });
    let _ = commits.points(&mut table, false, report);
    for to in [
        Some(MetadataLimit::WithoutMap),
        Some(MetadataLimit::Nothing),
        None,
    ] {
        assert_eq!(commits.given_up_marks(&mut table), [], "not yet");
        let shrunk = commits.shrink(&mut table);
        assert_eq!((shrunk.to, shrunk.store), (to, &[1][..]));
        if to != Some(MetadataLimit::WithoutMap) {
            break;
        }
    }
    let given_up = commits.given_up_marks(&mut table);
    assert_eq!(given_up, [(1, Mark::new(1))], "work goes on without it");
    assert_eq!(commits.shrink(&mut table).to, None);
}
