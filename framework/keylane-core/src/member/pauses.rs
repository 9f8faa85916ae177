//! Which partitions are fetched (guarantee G6).

use crate::budget::{Budget, BudgetChange};

/// How many more records may be settled ahead of the watermark while nothing succeeds in the whole
/// subscription. A full window is then no sign that the records that fail are at fault: what would
/// show it is not read.
pub const MORE_AHEAD_IN_AN_OUTAGE: u64 = 100_000;

/// What all partitions of a member have in common: the bytes that are pending, and whether nothing
/// is to be fetched at all.
#[derive(Clone, Copy, Debug)]
pub struct Pauses {
    bytes: Budget,
    all: bool,
}

/// The limits of one partition.
#[derive(Clone, Copy, Debug)]
pub struct PartitionLimits {
    /// The limit of records that are delivered and not settled.
    pub records: Budget,
    /// The limit of records that are settled ahead of the watermark.
    pub ahead: Budget,
}

/// What requires a pause of one partition.
#[derive(Clone, Copy, Debug, Default)]
pub struct PauseWish {
    /// A limit of it is reached.
    pub over_limit: bool,
    /// The user paused it, or the subscription.
    pub held: bool,
    /// It is being given back.
    pub revoking: bool,
    /// It has no position yet. What is read before is dropped.
    pub searching: bool,
    /// What operators order for it is not known yet. Nothing of it starts, so what is read before
    /// would only count for the limit of bytes, and keep the others from being read.
    pub waits_for_orders: bool,
}

/// What the client is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseOrder {
    /// Fetch nothing more.
    Pause,
    /// Fetch again.
    Resume,
}

impl PartitionLimits {
    /// Takes the present levels. Returns whether one of the limits requires a pause.
    ///
    /// While `nothing_succeeds`, what is settled ahead pauses [later](MORE_AHEAD_IN_AN_OUTAGE).
    /// Otherwise a partition whose oldest records fail for good would read nothing more, so nothing would
    /// succeed, and the total outage that is suspected would not end. The question is asked only
    /// where the answer matters.
    pub fn update(
        &mut self,
        pending: u64,
        ahead: u64,
        nothing_succeeds: impl FnOnce() -> bool,
    ) -> bool {
        self.records.update(pending);
        self.ahead.update(ahead);
        let limit = self.ahead.room(0).saturating_add(MORE_AHEAD_IN_AN_OUTAGE);
        if self.ahead.is_paused() && ahead < limit && nothing_succeeds() {
            self.ahead.update(0);
        }
        self.records.is_paused() || self.ahead.is_paused()
    }
}

impl Pauses {
    /// Pauses with this limit of pending bytes, for all partitions.
    pub const fn new(bytes: Budget) -> Self {
        Self { bytes, all: false }
    }

    /// The limit of pending bytes.
    pub fn bytes(&self) -> Budget {
        self.bytes
    }

    /// Begins a look at all partitions. `all`: none is to be fetched, for a shutdown. Gives what
    /// changes with the limit of pending bytes.
    pub fn begin(&mut self, pending_bytes: u64, all: bool) -> Option<BudgetChange> {
        let change = self.bytes.update(pending_bytes);
        self.all = all || self.bytes.is_paused();
        change
    }

    /// What the client is to do with a partition. `is_paused`: the client's last order.
    pub fn order(&self, wish: PauseWish, is_paused: bool) -> Option<PauseOrder> {
        let PauseWish {
            over_limit,
            held,
            revoking,
            searching,
            waits_for_orders,
        } = wish;
        let own = over_limit || held || revoking || searching || waits_for_orders;
        match (self.all || own, is_paused) {
            (true, false) => Some(PauseOrder::Pause),
            (false, true) => Some(PauseOrder::Resume),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses() -> Pauses {
        Pauses::new(Budget::new(1_000, 700))
    }

    #[test]
    fn each_wish_alone_pauses_and_none_resumes() {
        let pauses = pauses();
        for wish in 0..5 {
            let wish = PauseWish {
                over_limit: wish == 0,
                held: wish == 1,
                revoking: wish == 2,
                searching: wish == 3,
                waits_for_orders: wish == 4,
            };
            assert_eq!(
                pauses.order(wish, false),
                Some(PauseOrder::Pause),
                "{wish:?}"
            );
            assert_eq!(pauses.order(wish, true), None, "ordered already: {wish:?}");
        }
        let none = PauseWish::default();
        assert_eq!(pauses.order(none, true), Some(PauseOrder::Resume));
        assert_eq!(pauses.order(none, false), None);
    }

    #[test]
    fn the_limit_of_bytes_and_a_shutdown_pause_all() {
        let (mut pauses, none) = (pauses(), PauseWish::default());
        assert_eq!(pauses.begin(1_000, false), Some(BudgetChange::Pause));
        assert_eq!(pauses.order(none, false), Some(PauseOrder::Pause));
        assert_eq!(pauses.begin(800, false), None, "between the marks");
        assert_eq!(pauses.order(none, true), None);
        assert_eq!(pauses.begin(700, false), Some(BudgetChange::Resume));
        assert_eq!(pauses.order(none, true), Some(PauseOrder::Resume));
        assert_eq!(pauses.begin(0, true), None);
        assert_eq!(pauses.order(none, false), Some(PauseOrder::Pause));
        assert_eq!(pauses.begin(0, false), None);
        assert_eq!(pauses.order(none, true), Some(PauseOrder::Resume));
    }

    /// Both have to be looked at each time, or the other one would miss its mark.
    #[test]
    fn a_partition_is_over_its_limits_until_both_are_below_their_low_marks() {
        let mut limits = PartitionLimits {
            records: Budget::new(10, 7),
            ahead: Budget::new(100, 70),
        };
        let mut update = |pending, ahead| limits.update(pending, ahead, || false);
        assert!(!update(9, 99));
        assert!(update(10, 100));
        assert!(update(7, 71), "the second one");
        assert!(update(10, 70), "the first one again");
        assert!(!update(7, 70));
    }

    #[test]
    fn while_nothing_succeeds_more_may_be_settled_ahead_but_not_without_limit() {
        let mut limits = PartitionLimits {
            records: Budget::new(10, 7),
            ahead: Budget::new(100, 70),
        };
        let most = 100 + MORE_AHEAD_IN_AN_OUTAGE;
        assert!(!limits.update(0, most - 1, || true));
        assert!(!limits.ahead.is_paused(), "it is no cause of a pause");
        assert!(
            limits.update(10, most - 1, || true),
            "the other limit stays"
        );
        assert!(limits.update(0, most, || true), "there is an end");
        assert!(!limits.update(0, most - 1, || true));
        assert!(limits.update(0, 100, || false), "something succeeds");
        assert!(limits.update(0, 71, || false));
        assert!(!limits.update(0, 70, || panic!("the answer does not matter")));
    }
}
