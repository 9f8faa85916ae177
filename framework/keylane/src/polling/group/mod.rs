//! The polling thread's part in its group: rebalances, hand-overs, the end.

mod closing;
mod hand_over;
mod rebalance;

pub(crate) use hand_over::HandOver;
