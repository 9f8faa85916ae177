//! Why a broker did not take a commit.

/// The meaning of a refused commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The coordinator is away, moves or is not ready, or the member's epoch has moved on: another
    /// try may be taken.
    Passing,
    /// A rebalance is under way. Only members get this answer.
    Rebalancing,
    /// The commit came with the generation before: it waited behind a join.
    EarlierGeneration,
    /// It is about one of the topics, and no evidence about the others.
    Topic,
    /// `offset.metadata.max.bytes` of the broker is smaller than what was written.
    MetadataTooLarge,
    /// This is no member of the group any longer.
    NotAMember,
    /// Anything else.
    Other,
}

impl Refusal {
    /// Whether the last commit before a hand-over is worth another try. One that is no longer a
    /// member has lost its partitions already. What was lost by a join is not in the next try.
    pub fn is_passing(self) -> bool {
        matches!(
            self,
            Self::Passing | Self::Rebalancing | Self::EarlierGeneration
        )
    }

    /// Whether the broker has said by it that this is a member.
    pub fn proves_membership(self) -> bool {
        self == Self::Rebalancing
    }
}

/// What became of a commit.
pub type CommitResult = Result<(), Refusal>;
