//! Positions as the client compares them.

use keylane_core::LeaderEpoch;

/// A position that was committed, or stored to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientPosition {
    pub(crate) offset: i64,
    pub(crate) leader_epoch: Option<LeaderEpoch>,
}

impl ClientPosition {
    /// Whether the client takes this for the later one: it looks at the epochs first, where both
    /// have one.
    pub(crate) fn is_after(self, other: Self) -> bool {
        match (self.leader_epoch, other.leader_epoch) {
            (Some(epoch), Some(earlier)) if epoch != earlier => epoch > earlier,
            _ => self.offset > other.offset,
        }
    }

    /// The later one of two.
    pub(crate) fn later(self, other: Option<Self>) -> Self {
        other.filter(|other| other.is_after(self)).unwrap_or(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_come_first_where_both_have_one() {
        let at = |offset, epoch: Option<u32>| ClientPosition {
            offset,
            leader_epoch: epoch.map(LeaderEpoch::new),
        };
        assert!(at(5, Some(1)).is_after(at(9, Some(0))));
        assert!(
            !at(9, Some(0)).is_after(at(5, Some(1))),
            "the client would not commit it by itself"
        );
        assert!(at(9, Some(1)).is_after(at(5, Some(1))));
        assert!(at(9, None).is_after(at(5, Some(1))));
        assert!(!at(5, Some(1)).is_after(at(9, None)));
        assert!(!at(5, Some(1)).is_after(at(5, Some(1))));
        assert_eq!(at(5, Some(1)).later(Some(at(9, Some(0)))), at(5, Some(1)));
        assert_eq!(at(5, None).later(Some(at(9, None))), at(9, None));
    }
}
