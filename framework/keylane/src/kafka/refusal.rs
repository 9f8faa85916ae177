//! What a refused commit means, from the client's codes.

use std::fmt;

use keylane_core::member::Refusal;
use rdkafka::error::RDKafkaErrorCode as Code;

use super::trouble::is_passing_at_coordinator;

/// A commit that the broker, or the client, did not take. Its text is the client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CommitRefused(pub(super) Code);

impl CommitRefused {
    /// Of all refusals in one answer: the one that something can be done about here, else the
    /// first. `None` where nothing was refused.
    pub(super) fn of(mut codes: impl Iterator<Item = Code>) -> Option<Self> {
        let first = Self(codes.next()?);
        let is_too_large = |it: &Self| it.refusal() == Refusal::MetadataTooLarge;
        let mut all = std::iter::once(first).chain(codes.map(Self));
        Some(all.find(is_too_large).unwrap_or(first))
    }

    /// What the rules about commits make of it.
    pub(crate) fn refusal(self) -> Refusal {
        match self.0 {
            // The second one is about all partitions of a commit together, which
            // `max.message.bytes` of `__consumer_offsets` bounds.
            Code::OffsetMetadataTooLarge | Code::InvalidCommitOffsetSize => {
                Refusal::MetadataTooLarge
            }
            Code::RebalanceInProgress => Refusal::Rebalancing,
            Code::IllegalGeneration => Refusal::EarlierGeneration,
            Code::TopicAuthorizationFailed | Code::UnknownTopicOrPartition => Refusal::Topic,
            Code::UnknownMemberId | Code::FencedInstanceId => Refusal::NotAMember,
            code if is_passing_at_coordinator(code) => Refusal::Passing,
            _ => Refusal::Other,
        }
    }
}

impl fmt::Display for CommitRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The client puts the code of one partition in front, and the rest stays unsent for ever
    /// beside a topic that is gone.
    #[test]
    fn metadata_that_is_too_large_is_seen_beside_what_else_was_refused() {
        let of = |codes: &[Code]| CommitRefused::of(codes.iter().copied()).map(|it| it.0);
        let (gone, large) = (Code::UnknownTopicOrPartition, Code::OffsetMetadataTooLarge);
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[gone, Code::NotCoordinator]), Some(gone));
        assert_eq!(of(&[gone, gone, large]), Some(large));
        assert_eq!(of(&[large, gone]), Some(large));
    }

    #[test]
    fn a_member_in_another_epoch_may_try_again_and_one_that_is_none_may_not() {
        let refusal = |code| CommitRefused(code).refusal();
        assert_eq!(refusal(Code::StaleMemberEpoch), Refusal::Passing);
        assert_eq!(refusal(Code::NotCoordinator), Refusal::Passing);
        assert_eq!(refusal(Code::RequestTimedOut), Refusal::Passing);
        assert_eq!(refusal(Code::UnknownMemberId), Refusal::NotAMember);
        assert_eq!(refusal(Code::GroupAuthorizationFailed), Refusal::Other);
    }

    #[test]
    fn metadata_can_be_too_large_for_a_partition_or_for_all_of_a_commit_together() {
        for code in [Code::OffsetMetadataTooLarge, Code::InvalidCommitOffsetSize] {
            assert_eq!(CommitRefused(code).refusal(), Refusal::MetadataTooLarge);
        }
    }
}
