//! The polling thread's part in its group: rebalances, hand-overs, the end.

mod closing;
mod drain;
mod handover;
mod rebalance;

pub(crate) use handover::Handover;
