//! Whether the group has given this member its share.

use super::hand_over::Revoked;

/// Whether this member has an assignment, be it of nothing. Without one it waits for the group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    is_assigned: bool,
}

/// How the group's assignor rebalances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    /// Every rebalance revokes everything, and another assignment follows.
    Eager,
    /// Only what moves is revoked.
    Cooperative,
}

impl Standing {
    /// Whether it has an assignment.
    pub fn is_assigned(self) -> bool {
        self.is_assigned
    }

    /// The client reports an assignment.
    pub fn assigned(&mut self) {
        self.is_assigned = true;
    }

    /// The client reports a revoke.
    pub fn revoked(&mut self, assignor: Assignor) {
        if assignor == Assignor::Eager {
            self.is_assigned = false;
        }
    }

    /// Partitions are gone, which the client reports as [`Revoked::Lost`]. Of a topic that was
    /// deleted only its own partitions are lost: with others left the assignment goes on.
    pub fn gone(&mut self, revoked: Revoked, are_others_left: bool) {
        if revoked == Revoked::Lost && !are_others_left {
            self.is_assigned = false;
        }
    }

    /// Where the broker assigns, a member that gets nothing gets no rebalance event, neither at
    /// first nor after it has lost what it had. Its epoch shows that it is a member. One that was
    /// removed has no epoch until it is a member again.
    pub fn has_epoch(&mut self, epoch: i32) {
        self.is_assigned |= epoch > 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assigned() -> Standing {
        let mut standing = Standing::default();
        assert!(!standing.is_assigned());
        standing.assigned();
        standing
    }

    #[test]
    fn an_eager_revoke_ends_the_assignment_and_a_cooperative_one_does_not() {
        for (assignor, is_left) in [(Assignor::Eager, false), (Assignor::Cooperative, true)] {
            let mut standing = assigned();
            standing.revoked(assignor);
            assert_eq!(standing.is_assigned(), is_left);
        }
    }

    #[test]
    fn a_loss_ends_the_assignment_where_nothing_is_left() {
        for (revoked, are_others_left, is_left) in [
            (Revoked::Lost, false, false),
            (Revoked::Lost, true, true),
            (Revoked::Asked, false, true),
        ] {
            let mut standing = assigned();
            standing.gone(revoked, are_others_left);
            assert_eq!(standing.is_assigned(), is_left);
        }
    }

    #[test]
    fn an_epoch_above_zero_is_an_assignment() {
        for (epoch, is_assigned) in [(-1, false), (0, false), (1, true)] {
            let mut standing = Standing::default();
            standing.has_epoch(epoch);
            assert_eq!(standing.is_assigned(), is_assigned);
        }
    }
}
