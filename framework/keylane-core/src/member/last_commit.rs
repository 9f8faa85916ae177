//! The commit of partitions that are about to be given back.
//!
//! The broker may refuse it: with `group.protocol=consumer` a member whose epoch has moved on
//! meanwhile (KIP-848) has to send it again, and a coordinator that has just moved is not ready for
//! longer than the client tries. Lost, the next owner would repeat what was settled since the commit
//! before, and take this one's mark for a crash.

use std::time::Duration;

use super::commit_id::CommitId;
use super::refusal::{CommitResult, Refusal};
use crate::time::Moment;

/// How long after a refusal the next try waits.
const AGAIN: Duration = Duration::from_millis(20);
/// The same where one of the topics was refused. The client has repeated it by itself, if all were.
const TOPIC_AGAIN: Duration = Duration::from_millis(100);
/// For how long that is tried again: as long as a coordinator that has just started may take to
/// learn of a topic. One that was deleted would hold up the hand-over.
const TOPIC_PATIENCE: Duration = Duration::from_secs(1);

/// The last commit of one hand-over, or of the shutdown. It is sent until the broker has it, or
/// will never take it from this member. How long that is waited for is the hand-over's decision.
#[derive(Debug)]
pub(super) struct LastCommit {
    state: State,
    /// When one of its topics was refused first.
    topic_refused: Option<Moment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is to be sent at this time, not before.
    Due(Moment),
    /// Sent. Silence is no reason to send it again: the client itself repeats it.
    UnderWay(CommitId),
    Over,
}

/// What the answer to a last commit means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastAnswer {
    /// The broker has it.
    Taken,
    /// It is sent again, with what is stored by then.
    Again,
    /// The metadata is too large. It is sent again at once, with less.
    TooLarge,
    /// The broker will not take it, or not for one of its topics; what was settled since the commit
    /// before may be repeated.
    GivenUp,
    /// It is no answer to this commit.
    Stale,
}

impl LastCommit {
    /// It is to be sent from `now` on.
    pub(super) fn new(now: Moment) -> Self {
        Self {
            state: State::Due(now),
            topic_refused: None,
        }
    }

    /// Whether nothing more is waited for.
    pub(super) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Whether it is to be sent now.
    pub(super) fn is_due(&self, now: Moment) -> bool {
        matches!(self.state, State::Due(at) if at <= now)
    }

    /// It was handed to the client.
    pub(super) fn sent(&mut self, id: CommitId) {
        self.state = State::UnderWay(id);
    }

    /// The client does not take it.
    pub(super) fn not_sent(&mut self, id: CommitId) {
        if self.state == State::UnderWay(id) {
            self.state = State::Over;
        }
    }

    /// Takes in an answer.
    pub(super) fn answer(&mut self, id: CommitId, result: CommitResult, now: Moment) -> LastAnswer {
        if self.state != State::UnderWay(id) {
            return LastAnswer::Stale;
        }
        let (state, answer) = match result {
            Ok(()) => (State::Over, LastAnswer::Taken),
            Err(Refusal::MetadataTooLarge) => (State::Due(now), LastAnswer::TooLarge),
            Err(refusal) if refusal.is_passing() => (State::Due(now + AGAIN), LastAnswer::Again),
            Err(Refusal::Topic) if self.has_patience(now) => {
                (State::Due(now + TOPIC_AGAIN), LastAnswer::Again)
            }
            Err(_) => (State::Over, LastAnswer::GivenUp),
        };
        self.state = state;
        answer
    }

    fn has_patience(&mut self, now: Moment) -> bool {
        let since = *self.topic_refused.get_or_insert(now);
        now.since(since) < TOPIC_PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::super::commit_id::CommitIds;
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::new(Duration::from_millis(millis))
    }

    fn sent(last: &mut LastCommit, ids: &mut CommitIds) -> CommitId {
        let id = ids.next();
        last.sent(id);
        id
    }

    #[test]
    fn it_is_sent_once_and_over_when_the_broker_has_it() {
        let (mut last, mut ids) = (LastCommit::new(at(5)), CommitIds::default());
        assert!(last.is_due(at(5)));
        let id = sent(&mut last, &mut ids);
        assert!(!last.is_due(at(60_000)), "silence is no refusal");
        assert!(!last.is_over());
        assert_eq!(last.answer(id, Ok(()), at(60_000)), LastAnswer::Taken);
        assert!(last.is_over() && !last.is_due(at(60_001)));
    }

    #[test]
    fn refused_with_another_epoch_or_in_a_rebalance_it_is_sent_again_after_a_moment() {
        let (mut last, mut ids) = (LastCommit::new(at(0)), CommitIds::default());
        let refusals = [
            Refusal::Passing,
            Refusal::Rebalancing,
            Refusal::EarlierGeneration,
        ];
        for (at_millis, refusal) in (0..).step_by(20).zip(refusals) {
            assert!(last.is_due(at(at_millis)));
            let id = sent(&mut last, &mut ids);
            let answer = last.answer(id, Err(refusal), at(at_millis));
            assert_eq!(answer, LastAnswer::Again, "{refusal:?}");
            assert!(!last.is_due(at(at_millis + 19)));
        }
        assert!(last.is_due(at(60)));
    }

    #[test]
    fn it_is_not_tried_again_where_the_broker_will_never_take_it() {
        for refusal in [Refusal::NotAMember, Refusal::Other] {
            let (mut last, mut ids) = (LastCommit::new(at(0)), CommitIds::default());
            let id = sent(&mut last, &mut ids);
            assert_eq!(
                last.answer(id, Err(refusal), at(0)),
                LastAnswer::GivenUp,
                "{refusal:?}"
            );
            assert!(last.is_over());
        }
    }

    /// A coordinator that has just started does not have all topics yet. One that was deleted it
    /// never has.
    #[test]
    fn refused_for_a_topic_it_is_sent_again_for_a_second() {
        let (mut last, mut ids) = (LastCommit::new(at(0)), CommitIds::default());
        let mut refuse = |now| {
            assert!(last.is_due(at(now)));
            let id = sent(&mut last, &mut ids);
            last.answer(id, Err(Refusal::Topic), at(now))
        };
        for now in (500..1_500).step_by(100) {
            assert_eq!(refuse(now), LastAnswer::Again);
        }
        assert_eq!(refuse(1_500), LastAnswer::GivenUp);
        assert!(last.is_over());
    }

    #[test]
    fn where_the_client_does_not_take_it_it_is_over_and_an_answer_says_nothing() {
        let (mut last, mut ids) = (LastCommit::new(at(0)), CommitIds::default());
        let id = sent(&mut last, &mut ids);
        last.not_sent(id);
        assert!(last.is_over() && !last.is_due(at(9)));
        assert_eq!(last.answer(id, Ok(()), at(9)), LastAnswer::Stale);
    }

    #[test]
    fn metadata_that_is_too_large_is_sent_again_at_once() {
        let (mut last, mut ids) = (LastCommit::new(at(0)), CommitIds::default());
        let id = sent(&mut last, &mut ids);
        let answer = last.answer(id, Err(Refusal::MetadataTooLarge), at(3));
        assert_eq!(answer, LastAnswer::TooLarge);
        assert!(last.is_due(at(3)));
    }

    #[test]
    fn the_answer_to_an_earlier_commit_is_not_taken_for_its_own() {
        let (mut last, mut ids) = (LastCommit::new(at(0)), CommitIds::default());
        let earlier = ids.next();
        assert_eq!(last.answer(earlier, Ok(()), at(0)), LastAnswer::Stale);
        let first = sent(&mut last, &mut ids);
        let _ = last.answer(first, Err(Refusal::Passing), at(0));
        let second = sent(&mut last, &mut ids);
        assert_eq!(last.answer(first, Ok(()), at(30)), LastAnswer::Stale);
        assert!(!last.is_over());
        assert_eq!(last.answer(second, Ok(()), at(30)), LastAnswer::Taken);
    }
}
