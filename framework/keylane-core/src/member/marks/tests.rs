use super::*;
use crate::LeaderEpoch;
use crate::Position;
use crate::member::{CommitPoint, MetadataLimit, OPENING, Report, TopicPartition};

/// A member's partitions, one epoch each.
struct Member {
    table: Vec<Row>,
    marks: Marks,
    ids: CommitIds,
    now: Moment,
}

struct Row(EpochCommits);

impl AsRef<EpochCommits> for Row {
    fn as_ref(&self) -> &EpochCommits {
        &self.0
    }
}

impl AsMut<EpochCommits> for Row {
    fn as_mut(&mut self) -> &mut EpochCommits {
        &mut self.0
    }
}

fn point(mark: Option<u64>) -> CommitPoint {
    CommitPoint {
        position: Position::new(3),
        leader_epoch: Some(LeaderEpoch::new(0)),
        metadata: String::new(),
        mark: mark.map(Mark::new),
        running: false,
    }
}

fn row(topic: &str, epoch: u64) -> Row {
    let place = TopicPartition::new(topic, 0);
    Row(EpochCommits::new(place, Epoch::new(epoch)))
}

impl Member {
    fn of(topics: &[&str]) -> Self {
        let epochs = (1..).zip(topics);
        Self {
            table: epochs.map(|(epoch, topic)| row(topic, epoch)).collect(),
            marks: Marks::default(),
            ids: CommitIds::default(),
            now: Moment::ORIGIN,
        }
    }

    fn opens(&mut self, row: usize) {
        self.table[row].0.open_at_first_position();
        self.wants(row, None);
    }

    fn wants(&mut self, row: usize, mark: Option<u64>) {
        let (point, ending) = (point(mark), false);
        let report = Report { point, ending };
        let _ = self.table[row].0.take(report, MetadataLimit::All);
    }

    /// What goes out now.
    fn next(&mut self) -> Option<(CommitId, Vec<usize>)> {
        let next = self.marks.next(&self.table, &mut self.ids, self.now);
        next.map(|next| (next.id, next.rows.to_vec()))
    }

    fn sends(&mut self, rows: &[usize]) -> CommitId {
        let (id, sent) = self.next().expect("something goes out");
        assert_eq!(sent, rows);
        id
    }

    fn answer(&mut self, id: CommitId, result: CommitResult) -> MarkAnswer<'_> {
        self.marks.answer(id, result, &mut self.table, self.now)
    }

    fn confirms(&mut self, id: CommitId, confirmed: &[(usize, u64)]) {
        let expected: Vec<_> = confirmed
            .iter()
            .map(|&(row, mark)| (row, Mark::new(mark)))
            .collect();
        assert_eq!(self.answer(id, Ok(())), MarkAnswer::Confirmed(&expected));
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    fn waits(&self, row: usize) -> bool {
        self.table[row].0.unconfirmed_mark().is_some()
    }
}

const REFUSED: CommitResult = Err(Refusal::Other);

#[test]
fn wanted_marks_go_out_together_one_commit_at_a_time() {
    let mut member = Member::of(&["a", "a", "b"]);
    assert_eq!(member.next(), None, "nothing is wanted");
    assert!(!member.marks.is_waiting());
    member.wants(0, Some(1));
    member.wants(2, Some(1));
    let first = member.sends(&[0, 2]);
    member.wants(1, Some(1));
    assert_eq!(member.next(), None, "one is under way");
    member.confirms(first, &[(0, 1), (2, 1)]);
    let second = member.sends(&[1]);
    member.confirms(second, &[(1, 1)]);
    assert_eq!(member.next(), None);
    assert!(!member.marks.is_waiting());
}

#[test]
fn the_answer_to_an_earlier_mark_confirms_no_later_one() {
    let mut member = Member::of(&["a"]);
    member.wants(0, Some(1));
    let first = member.sends(&[0]);
    member.wants(0, Some(2));
    member.confirms(first, &[(0, 1)]);
    assert_eq!(member.table[0].0.unconfirmed_mark(), Some(Mark::new(2)));
    assert_eq!(member.answer(first, Ok(())), MarkAnswer::Stale);
    let second = member.sends(&[0]);
    assert_eq!(member.answer(first, Ok(())), MarkAnswer::Stale);
    member.confirms(second, &[(0, 2)]);
}

#[test]
fn the_answer_to_an_epoch_that_has_ended_confirms_nothing_in_the_next_one() {
    let mut member = Member::of(&["a", "b"]);
    member.wants(0, Some(1));
    let sent = member.sends(&[0]);
    member.table[0] = row("a", 9);
    member.wants(0, Some(1));
    member.confirms(sent, &[]);
    assert_eq!(member.table[0].0.unconfirmed_mark(), Some(Mark::new(1)));
}

#[test]
fn a_row_that_has_moved_in_the_table_is_found() {
    let mut member = Member::of(&["a", "b"]);
    member.wants(1, Some(1));
    let sent = member.sends(&[1]);
    member.table.swap_remove(0);
    member.confirms(sent, &[(0, 1)]);
}

#[test]
fn a_refusal_is_tried_again_after_a_moment_and_reported_when_it_lasts() {
    let mut member = Member::of(&["a"]);
    member.opens(0);
    let (mut tries, mut reported) = (0, 0);
    while reported < 3 {
        let id = member.sends(&[0]);
        let MarkAnswer::Refused(Refused { first, lasting }) = member.answer(id, REFUSED) else {
            panic!("it is a refusal");
        };
        assert_eq!(first, tries == 0, "told once");
        assert_eq!(lasting, member.now >= Moment::ORIGIN + LASTING);
        (tries, reported) = (tries + 1, reported + u32::from(lasting));
        assert!(member.marks.is_waiting());
        assert_eq!(member.next(), None);
        member.pass(AGAIN);
    }
    assert_eq!(tries, 53, "each tenth of a second, from the beginning");
    let id = member.sends(&[0]);
    member.confirms(id, &[(0, OPENING.get())]);
    member.wants(0, Some(1));
    let id = member.sends(&[0]);
    let again = Refused {
        first: true,
        lasting: false,
    };
    assert_eq!(member.answer(id, REFUSED), MarkAnswer::Refused(again));
}

#[test]
fn a_commit_that_the_client_does_not_take_is_tried_again() {
    let mut member = Member::of(&["a"]);
    member.wants(0, Some(1));
    let id = member.sends(&[0]);
    let refused = member.marks.not_sent(id, member.now);
    assert!(refused.is_some_and(|refused| refused.first));
    assert_eq!(
        member.marks.not_sent(id, member.now),
        None,
        "it is none under way"
    );
    assert_eq!(member.next(), None);
    member.pass(AGAIN);
    member.sends(&[0]);
}

#[test]
fn a_proof_that_the_client_does_not_take_is_asked_for_again() {
    let mut member = Member::of(&["a"]);
    member.wants(0, None);
    member.marks.ask_for_proof();
    let id = member.sends(&[0]);
    let _ = member.marks.not_sent(id, member.now);
    member.pass(AGAIN);
    assert!(!member.marks.take_proof());
    let proof = member.sends(&[0]);
    member.confirms(proof, &[]);
    assert!(member.marks.take_proof());
}

/// A broker refuses commits of a topic that an ACL forbids, for days.
#[test]
fn a_topic_whose_commits_are_refused_keeps_no_other_from_its_first_position_and_marks() {
    let mut member = Member::of(&["refused", "tasks", "tasks"]);
    member.opens(0);
    member.opens(1);
    member.wants(2, Some(1));
    let mut refusals = 0;
    let mut until = |member: &mut Member, is_so: fn(&Member) -> bool| {
        for _ in 0..10 {
            if is_so(member) {
                return;
            }
            if let Some((id, rows)) = member.next() {
                let is_refused = rows.contains(&0);
                assert!(!is_refused || refusals == 0 || rows == [0], "by itself");
                refusals += usize::from(is_refused);
                let result = if is_refused {
                    Err(Refusal::Topic)
                } else {
                    Ok(())
                };
                let _ = member.answer(id, result);
            }
            member.pass(AGAIN);
        }
        panic!("not within ten tries");
    };
    until(&mut member, |member| !member.waits(1));
    assert!(member.waits(0));
    until(&mut member, |member| !member.waits(2));
    member.wants(1, Some(1));
    until(&mut member, |member| !member.waits(1));
    assert!(refusals >= 2, "it is tried again");
    member.pass(AGAIN);
    assert!(member.next().is_some_and(|(_, rows)| rows == [0]));
}

#[test]
fn metadata_that_is_too_large_is_no_refusal_to_wait_after() {
    let mut member = Member::of(&["a"]);
    member.wants(0, Some(1));
    let id = member.sends(&[0]);
    let too_large = member.answer(id, Err(Refusal::MetadataTooLarge));
    assert_eq!(too_large, MarkAnswer::TooLarge);
    member.sends(&[0]);
}

#[test]
fn a_mark_is_given_up_where_the_broker_takes_no_metadata_and_a_first_position_is_not() {
    let mut member = Member::of(&["a", "b"]);
    member.wants(0, Some(1));
    member.opens(1);
    let given_up = member.marks.give_up(&mut member.table).to_vec();
    assert_eq!(given_up, [(0, Mark::new(1))]);
    member.sends(&[1]);
}

#[test]
fn a_commit_that_was_under_way_before_the_doubt_proves_no_membership() {
    let mut member = Member::of(&["a"]);
    member.wants(0, Some(1));
    let before = member.sends(&[0]);
    member.marks.ask_for_proof();
    member.confirms(before, &[(0, 1)]);
    assert!(!member.marks.take_proof());
    let proof = member.sends(&[0]);
    member.confirms(proof, &[]);
    assert!(member.marks.take_proof());
    assert!(!member.marks.take_proof(), "it is told once");
    assert!(!member.marks.is_waiting());
}

#[test]
fn a_rebalance_that_refuses_a_commit_proves_membership_and_any_other_refusal_does_not() {
    let mut member = Member::of(&["a"]);
    member.wants(0, None);
    for refusal in [Refusal::NotAMember, Refusal::Passing, Refusal::Rebalancing] {
        member.marks.ask_for_proof();
        let id = member.sends(&[0]);
        let _ = member.answer(id, Err(refusal));
        let proves = refusal == Refusal::Rebalancing;
        assert_eq!(member.marks.take_proof(), proves, "{refusal:?}");
        member.pass(AGAIN);
    }
    member.marks.forget_proof();
    assert_eq!(member.next(), None);
}

#[test]
fn with_nothing_to_commit_membership_needs_no_proof() {
    let mut member = Member::of(&["a"]);
    member.marks.ask_for_proof();
    assert_eq!(member.next(), None);
    assert!(member.marks.take_proof());
}

/// Where a topic is refused each one is committed by itself, as long as any mark is waited for.
#[test]
fn once_the_refused_topic_is_taken_all_go_out_together_again() {
    let mut member = Member::of(&["a", "b"]);
    member.wants(0, Some(1));
    member.wants(1, Some(1));
    let both = member.sends(&[0, 1]);
    let _ = member.answer(both, Err(Refusal::Topic));
    member.pass(AGAIN);
    for row in [0, 1] {
        let id = member.sends(&[row]);
        member.confirms(id, &[(row, 1)]);
    }
    member.wants(0, Some(2));
    member.wants(1, Some(2));
    member.sends(&[0, 1]);
}
