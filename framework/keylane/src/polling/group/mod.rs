//! The polling thread's part in its group: rebalances, hand-overs, the end.

mod closing;
mod hand_over;
mod lease;
mod rebalance;

pub(crate) use closing::leave;
pub(crate) use hand_over::HandOver;
pub(crate) use lease::look_after_lease;
pub(crate) use rebalance::Group;
