use std::sync::Arc;

use super::*;

fn at(millis: u64) -> Moment {
    Moment::new(Duration::from_millis(millis))
}

fn places(partitions: &[i32]) -> Vec<TopicPartition> {
    let named = partitions
        .iter()
        .map(|&partition| TopicPartition::new("tasks", partition));
    named.collect()
}

struct Fake {
    topic: Arc<str>,
    partition: i32,
    ended: bool,
    drained: bool,
}

impl Owner for Fake {
    fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    fn partition(&self) -> i32 {
        self.partition
    }

    fn has_ended(&self) -> bool {
        self.ended
    }

    fn has_drained(&self) -> bool {
        self.drained
    }

    fn pending(&self) -> u64 {
        10
    }
}

/// A member with partitions 0, 1 and 2, all of which run.
struct Member {
    hand_over: HandOver,
    owners: Vec<Fake>,
    lost: bool,
    last_commit_is_over: bool,
}

impl Member {
    fn new() -> Self {
        let mut it = Self {
            hand_over: HandOver::default(),
            owners: Vec::new(),
            lost: false,
            last_commit_is_over: false,
        };
        it.assign(&[0, 1, 2]);
        it
    }

    fn assign(&mut self, partitions: &[i32]) {
        self.owners.extend(partitions.iter().map(|&partition| Fake {
            topic: "tasks".into(),
            partition,
            ended: false,
            drained: false,
        }));
        self.hand_over.assigned(&places(partitions));
    }

    /// At 0 s, with a deadline of 10 s.
    fn revoke(&mut self, partitions: &[i32]) {
        self.revoke_at(0, partitions, Revoked::Asked);
    }

    fn revoke_at(&mut self, now: u64, partitions: &[i32], revoked: Revoked) {
        let (places, deadline) = (places(partitions), at(now + 10_000));
        self.hand_over
            .revoke(places, revoked, false, deadline, at(now));
    }

    /// They finish what runs.
    fn end(&mut self, partitions: &[i32]) {
        for owner in &mut self.owners {
            if partitions.contains(&owner.partition) {
                (owner.ended, owner.drained) = (true, true);
            }
        }
    }

    /// All orders that are to be given at this time.
    fn orders(&mut self, now: u64) -> Vec<Order> {
        let mut orders = Vec::new();
        loop {
            let seen = Seen {
                now: at(now),
                lost: self.lost,
                last_commit_is_over: self.last_commit_is_over,
                owners: &self.owners,
            };
            let Some(order) = self.hand_over.next(&seen) else {
                return orders;
            };
            match &order {
                Order::CommitLast { .. } => self.last_commit_is_over = false,
                Order::Answer(Answer { places, .. }) | Order::Drop { places } => {
                    let is_over = |owner: &Fake| {
                        places.contains(&TopicPartition::new("tasks", owner.partition))
                    };
                    self.owners.retain(|owner| !is_over(owner));
                }
                _ => {}
            }
            orders.push(order);
            assert!(orders.len() < 20, "without end: {orders:?}");
        }
    }
}

fn drain(partitions: &[i32], deadline: u64) -> Order {
    let (places, deadline) = (places(partitions), at(deadline));
    Order::Drain { places, deadline }
}

fn drain_all(partitions: &[i32], deadline: u64) -> Order {
    let (places, deadline) = (places(partitions), at(deadline));
    Order::DrainAll { places, deadline }
}

fn end(partitions: &[i32]) -> Order {
    Order::End {
        places: places(partitions),
    }
}

fn report_running_owners(partitions: &[i32]) -> Order {
    Order::ReportRunningOwners {
        places: places(partitions),
    }
}

fn store(partitions: &[i32]) -> Order {
    Order::TakeLast {
        places: places(partitions),
    }
}

fn commit(partitions: &[i32]) -> Order {
    Order::CommitLast {
        places: places(partitions),
    }
}

fn answer(partitions: &[i32], outcome: Outcome, took: u64) -> Order {
    answer_with_losses(partitions, outcome, took, (0, &[]))
}

/// Nothing is pending of what was dropped.
fn answer_with_losses(
    partitions: &[i32],
    outcome: Outcome,
    took: u64,
    (dropped, presumed_lost): (usize, &[i32]),
) -> Order {
    let left = partitions.len() - dropped;
    Order::Answer(Answer {
        places: places(partitions),
        outcome,
        took: Duration::from_millis(took),
        pending: 10 * left as u64,
        presumed_lost: places(presumed_lost),
    })
}

const UNANSWERED: Order = Order::ReportUnanswered(Unanswered::HandOver);

#[test]
fn nothing_is_ordered_where_nothing_is_given_back() {
    let mut member = Member::new();
    member.end(&[1]);
    assert_eq!(member.orders(100), []);
}

#[test]
fn a_partition_is_given_back_once_its_owner_has_ended_and_its_last_commit_is_over() {
    let mut member = Member::new();
    member.revoke(&[1]);
    assert_eq!(member.orders(0), [drain(&[1], 10_000)]);
    member.end(&[0]);
    assert_eq!(member.orders(1), [], "another one has ended");
    member.end(&[1]);
    assert_eq!(member.orders(2), [store(&[1]), commit(&[1])]);
    assert_eq!(member.orders(1_000), []);
    assert!(member.hand_over.is_under_way());
    member.last_commit_is_over = true;
    let given_back = [store(&[1]), answer(&[1], Outcome::Drained, 1_001)];
    assert_eq!(member.orders(1_001), given_back);
    assert_eq!(member.orders(60_000), [], "one answer for each revoke");
    assert!(!member.hand_over.is_under_way());
}

/// The client asks for an answer, also where it names nothing.
#[test]
fn a_revoke_of_nothing_is_answered() {
    let mut member = Member::new();
    member.revoke(&[]);
    assert_eq!(member.orders(0), [store(&[]), commit(&[])]);
    member.last_commit_is_over = true;
    assert_eq!(
        member.orders(1),
        [store(&[]), answer(&[], Outcome::Drained, 1)]
    );
}

#[test]
fn owners_are_ordered_to_end_at_the_deadline_and_given_up_after_a_grace() {
    let mut member = Member::new();
    member.revoke(&[0, 1]);
    member.orders(0);
    member.end(&[0]);
    assert_eq!(member.orders(9_999), []);
    assert_eq!(member.orders(10_000), [end(&[1])]);
    assert_eq!(member.orders(10_499), []);
    let given_up = [report_running_owners(&[1]), store(&[0, 1]), commit(&[0, 1])];
    assert_eq!(member.orders(10_500), given_up);
    member.last_commit_is_over = true;
    let given_back = [store(&[0, 1]), answer(&[0, 1], Outcome::Deadline, 10_501)];
    assert_eq!(member.orders(10_501), given_back);
}

/// A process that stood still has not ordered anything.
#[test]
fn the_grace_begins_with_the_order_to_end() {
    let mut member = Member::new();
    member.revoke(&[1]);
    member.orders(0);
    assert_eq!(member.orders(60_000), [end(&[1])]);
    assert_eq!(member.orders(60_001), []);
    member.end(&[1]);
    assert_eq!(member.orders(60_002), [store(&[1]), commit(&[1])]);
}

#[test]
fn the_last_commit_is_waited_for_until_the_deadline_but_not_longer_than_five_seconds() {
    for (drained_at, given_up_at) in [(100, 5_100), (7_000, 10_000), (9_900, 10_900)] {
        let mut member = Member::new();
        member.revoke(&[1]);
        member.orders(0);
        member.end(&[1]);
        assert_eq!(member.orders(drained_at), [store(&[1]), commit(&[1])]);
        assert_eq!(member.orders(given_up_at - 1), []);
        let answer = answer(&[1], Outcome::Drained, given_up_at);
        assert_eq!(
            member.orders(given_up_at),
            [UNANSWERED, store(&[1]), answer]
        );
    }
}

/// One answer ends the client's wait for both: what it does not name stays in the client's
/// assignment, without an owner.
#[test]
fn a_second_revoke_is_answered_together_with_the_first_by_the_first_deadline() {
    let mut member = Member::new();
    member.revoke(&[1]);
    member.orders(0);
    member.end(&[1]);
    assert_eq!(member.orders(1), [store(&[1]), commit(&[1])]);
    member.revoke_at(2_000, &[0], Revoked::Asked);
    member.last_commit_is_over = true;
    assert_eq!(member.orders(2_000), [drain(&[0], 10_000)], "0 still runs");
    member.end(&[0]);
    assert_eq!(
        member.orders(2_001),
        [store(&[0, 1]), commit(&[0, 1])],
        "the first commit says nothing of 0"
    );
    assert_eq!(
        member.orders(7_000),
        [],
        "five seconds from the second commit on"
    );
    member.last_commit_is_over = true;
    let given_back = [store(&[0, 1]), answer(&[0, 1], Outcome::Drained, 7_000)];
    assert_eq!(member.orders(7_000), given_back);
}

#[test]
fn owners_that_join_after_the_deadline_have_their_grace() {
    let mut member = Member::new();
    member.revoke(&[1]);
    member.orders(0);
    member.orders(10_000);
    member.revoke_at(10_400, &[0], Revoked::Asked);
    assert_eq!(member.orders(10_400), [drain(&[0], 10_000), end(&[0, 1])]);
    assert_eq!(member.orders(10_899), []);
    assert_eq!(member.orders(10_900)[0], report_running_owners(&[0, 1]));
}

#[test]
fn a_shutdown_brings_the_deadline_of_a_hand_over_forward_and_never_puts_it_off() {
    for (shutdown, end_at) in [(3_000, 3_000), (30_000, 10_000)] {
        let mut member = Member::new();
        member.revoke(&[1]);
        member.orders(0);
        member.hand_over.shut_down(at(shutdown));
        assert_eq!(member.orders(1), [drain_all(&[0, 1, 2], shutdown)]);
        member.end(&[0, 2]);
        assert_eq!(member.orders(end_at - 1), []);
        assert_eq!(member.orders(end_at)[0], end(&[1]));
    }
}

#[test]
fn a_revoke_in_a_shutdown_has_the_deadline_of_the_shutdown() {
    let mut member = Member::new();
    member.hand_over.shut_down(at(3_000));
    member.orders(0);
    member.revoke(&[1]);
    assert_eq!(member.orders(0), [drain(&[1], 3_000)]);
}

/// The client says that there is a loss before it reports the revoke of what is lost.
#[test]
fn a_loss_that_no_revoke_explains_ends_the_wait_and_nothing_is_committed() {
    let mut member = Member::new();
    member.revoke(&[1]);
    member.orders(0);
    member.lost = true;
    assert_eq!(member.orders(100), []);
    assert_eq!(member.orders(199), []);
    let given_back = answer_with_losses(&[1], Outcome::Lost, 200, (0, &[1]));
    assert_eq!(member.orders(200), [given_back]);
}

/// Of a topic that was deleted only its own partitions are lost.
#[test]
fn a_topic_that_is_deleted_cuts_no_hand_over_of_other_partitions_short() {
    let mut member = Member::new();
    member.revoke(&[1]);
    member.orders(0);
    member.lost = true;
    assert_eq!(member.orders(100), []);
    member.revoke_at(101, &[0], Revoked::Lost);
    let is_over = Order::Drop {
        places: places(&[0]),
    };
    assert_eq!(member.orders(101), [is_over], "nothing to wait for");
    assert_eq!(member.orders(5_000), [], "1 runs");
    member.end(&[1]);
    assert_eq!(
        member.orders(5_001),
        [store(&[1]), commit(&[1])],
        "and not 0"
    );
    member.last_commit_is_over = true;
    let answer = answer_with_losses(&[0, 1], Outcome::Drained, 5_002, (1, &[]));
    assert_eq!(member.orders(5_002), [store(&[1]), answer]);
}

/// What an order to drop was about is reported already.
#[test]
fn the_answer_names_only_those_losses_that_no_order_was_about() {
    let mut member = Member::new();
    member.revoke(&[1]);
    member.orders(0);
    member.revoke_at(1, &[1], Revoked::Lost);
    let dropped = |partition| Order::Drop {
        places: places(&[partition]),
    };
    let answer = answer_with_losses(&[1], Outcome::Lost, 1, (1, &[]));
    assert_eq!(member.orders(1), [dropped(1), answer]);
    // A presumed loss, and one that is named before the answer.
    let (places, deadline) = (places(&[0]), at(10_000));
    let hand_over = &mut member.hand_over;
    hand_over.revoke(places, Revoked::Asked, false, deadline, at(10));
    member.lost = true;
    member.orders(10);
    let (places, now) = (super::tests::places(&[0]), at(110));
    let hand_over = &mut member.hand_over;
    hand_over.revoke(places, Revoked::Asked, true, deadline, now);
    assert_eq!(member.orders(110), [drain(&[0], 10_000)]);
    member.revoke_at(120, &[2], Revoked::Lost);
    assert_eq!(member.orders(120), [dropped(2)]);
    let answer = answer_with_losses(&[0, 2], Outcome::Lost, 300, (1, &[0]));
    assert_eq!(member.orders(310), [answer]);
}

/// A panic while the order was carried out.
#[test]
fn the_last_points_are_stored_once_more_where_the_order_to_may_not_have_been_carried_out() {
    let seen = |member: &mut Member, now| {
        let seen = Seen {
            now: at(now),
            lost: false,
            last_commit_is_over: false,
            owners: &member.owners,
        };
        member.hand_over.next(&seen)
    };
    let store = Some(store(&[0, 1, 2]));
    let mut member = Member::new();
    member.revoke(&[1]);
    member.orders(0);
    member.end(&[0, 1, 2]);
    member.hand_over.fail();
    assert_eq!(seen(&mut member, 1), store);
    for _ in 0..2 {
        member.hand_over.fail();
        assert_eq!(seen(&mut member, 1), store);
    }
    assert!(matches!(seen(&mut member, 1), Some(Order::Answer(_))));
    member.hand_over.fail();
    assert_eq!(seen(&mut member, 1), store, "the client is not closed yet");
    assert_eq!(seen(&mut member, 1), Some(Order::Close));
    member.hand_over.fail();
    assert_eq!(seen(&mut member, 1), None);
}

#[test]
fn a_failure_while_owners_end_gives_them_no_more_time() {
    let mut member = Member::new();
    member.hand_over.fail();
    assert_eq!(member.orders(0), [end(&[0, 1, 2])]);
    member.hand_over.fail();
    assert_eq!(member.orders(499), []);
    assert_eq!(member.orders(500), [store(&[0, 1, 2]), Order::Close]);
}

#[test]
fn a_partition_whose_start_is_looked_up_is_not_given_back_at_once() {
    let mut member = Member::new();
    let revoke = |member: &mut Member, now, partition| {
        let (places, deadline) = (places(&[partition]), at(10_000));
        member
            .hand_over
            .revoke(places, Revoked::Asked, true, deadline, at(now));
        member.end(&[partition]);
    };
    revoke(&mut member, 0, 1);
    member.orders(0);
    member.last_commit_is_over = true;
    assert_eq!(member.orders(199), []);
    revoke(&mut member, 150, 0);
    member.orders(199);
    member.last_commit_is_over = true;
    assert_eq!(member.orders(349), []);
    let given_back = [store(&[0, 1]), answer(&[0, 1], Outcome::Drained, 350)];
    assert_eq!(member.orders(350), given_back);
}

#[test]
fn a_shutdown_drains_all_commits_and_closes() {
    let mut member = Member::new();
    member.hand_over.shut_down(at(10_000));
    member.hand_over.shut_down(at(20_000));
    assert!(member.hand_over.is_shutting_down());
    assert_eq!(member.orders(0), [drain_all(&[0, 1, 2], 10_000)]);
    member.end(&[0, 1]);
    assert_eq!(member.orders(1), []);
    member.end(&[2]);
    assert_eq!(member.orders(2), [store(&[0, 1, 2]), commit(&[0, 1, 2])]);
    assert_eq!(member.orders(3), []);
    member.last_commit_is_over = true;
    assert_eq!(member.orders(4), [store(&[0, 1, 2]), Order::Close]);
    assert_eq!(member.orders(5), [], "closed");
}

#[test]
fn a_second_shutdown_can_bring_the_deadline_forward() {
    let mut member = Member::new();
    member.hand_over.shut_down(at(10_000));
    member.orders(0);
    member.hand_over.shut_down(at(1_000));
    assert_eq!(member.orders(1), [drain_all(&[0, 1, 2], 1_000)]);
    assert_eq!(member.orders(1_000), [end(&[0, 1, 2])]);
}

#[test]
fn the_last_commit_of_a_shutdown_is_given_up_after_five_seconds_at_least_and_sixty_at_most() {
    let deadlines = [(0, 5_001), (8_000, 8_000), (600_000, 60_001)];
    for (deadline, given_up_at) in deadlines {
        let mut member = Member::new();
        member.end(&[0, 1, 2]);
        member.hand_over.shut_down(at(deadline));
        member.orders(1);
        assert_eq!(member.orders(given_up_at - 1), []);
        assert_eq!(
            member.orders(given_up_at),
            [
                Order::ReportUnanswered(Unanswered::Shutdown),
                store(&[0, 1, 2]),
                Order::Close
            ]
        );
    }
}

#[test]
fn the_last_commit_of_a_shutdown_comes_after_the_answer_to_a_revoke() {
    let mut member = Member::new();
    member.end(&[0, 1, 2]);
    member.hand_over.shut_down(at(10_000));
    member.orders(0);
    member.revoke(&[1]);
    assert_eq!(
        member.orders(1),
        [drain(&[1], 10_000), store(&[1]), commit(&[1])]
    );
    member.last_commit_is_over = true;
    assert_eq!(
        member.orders(2),
        [
            store(&[1]),
            answer(&[1], Outcome::Drained, 2),
            store(&[0, 2]),
            commit(&[0, 2])
        ],
        "again: the answer to the first was not waited for"
    );
    member.last_commit_is_over = true;
    assert_eq!(member.orders(3), [store(&[0, 2]), Order::Close]);
}

#[test]
fn owners_that_stay_are_ended_at_the_deadline_also_while_a_revoke_is_unanswered() {
    let mut member = Member::new();
    member.hand_over.shut_down(at(1_000));
    member.revoke(&[1]);
    member.end(&[1]);
    member.orders(900);
    assert_eq!(member.orders(1_000), [end(&[0, 2])]);
    assert!(member.hand_over.is_under_way());
}

#[test]
fn a_shutdown_that_gives_up_answers_the_revoke_that_is_unanswered() {
    let mut member = Member::new();
    member.end(&[0, 2]);
    member.hand_over.shut_down(at(1_000));
    member.revoke(&[1]);
    member.orders(0);
    member.orders(1_000);
    let orders = member.orders(1_500);
    assert_eq!(
        orders,
        [report_running_owners(&[1]), store(&[1]), commit(&[1])]
    );
    // Once more and once more: without end, but for the shutdown's own limit.
    for partition in [3, 4, 5, 6] {
        let now = 1_500 + 1_000 * (partition as u64 - 2);
        member.assign(&[partition]);
        member.end(&[partition]);
        member.revoke_at(now, &[partition], Revoked::Asked);
        member.orders(now);
        assert!(member.hand_over.is_under_way());
    }
    let orders = member.orders(6_700);
    assert!(
        orders.contains(&Order::ReportUnanswered(Unanswered::Shutdown)),
        "{orders:?}"
    );
    let orders = member.orders(7_200);
    assert!(
        matches!(&orders[..], [.., Order::Answer(answer), Order::Close] if answer.places.len() == 5),
        "{orders:?}"
    );
}

#[test]
fn what_is_assigned_in_a_shutdown_starts_nothing_and_puts_nothing_off() {
    let mut member = Member::new();
    member.end(&[0, 1, 2]);
    member.hand_over.shut_down(at(10_000));
    member.orders(0);
    member.assign(&[3]);
    assert_eq!(member.orders(4_000), [drain_all(&[0, 1, 2, 3], 10_000)]);
    member.last_commit_is_over = true;
    assert_eq!(member.orders(4_001), [end(&[3])]);
    member.end(&[3]);
    assert_eq!(member.orders(4_002), [store(&[0, 1, 2, 3]), Order::Close]);
}

#[test]
fn what_is_assigned_once_more_during_its_hand_over_starts_nothing() {
    let mut member = Member::new();
    member.revoke(&[1]);
    member.orders(0);
    member.owners.retain(|owner| owner.partition != 1);
    member.assign(&[1, 3]);
    assert_eq!(member.orders(1), [drain(&[1], 10_000)], "3 stays");
}

#[test]
fn a_failure_ends_the_owners_stores_what_they_reported_and_answers() {
    let mut member = Member::new();
    member.revoke(&[0]);
    member.revoke_at(0, &[1], Revoked::Lost);
    member.orders(0);
    member.hand_over.fail();
    assert_eq!(member.orders(1), [end(&[0, 2])]);
    member.end(&[0]);
    assert_eq!(member.orders(500), []);
    let answer = answer_with_losses(&[0, 1], Outcome::Drained, 501, (1, &[]));
    assert_eq!(
        member.orders(501),
        [store(&[0, 2]), answer, Order::Close],
        "1 is another's"
    );
    assert!(member.hand_over.is_closed());
    member.hand_over.fail();
    assert_eq!(member.orders(502), []);
}

#[test]
fn a_revoke_is_answered_at_once_where_nobody_could_or_need_wait() {
    use AnsweredBy::{Callback, HandOver};
    use Revoked::{Asked, Lost};
    for (revoked, closing, is_one_unanswered, by) in [
        (Asked, false, false, HandOver),
        (Asked, false, true, HandOver),
        (Asked, true, false, Callback),
        (Lost, false, false, Callback),
        (Lost, false, true, HandOver),
        (Lost, true, true, Callback),
    ] {
        assert_eq!(revoked.answered_by(closing, is_one_unanswered), by);
    }
}
