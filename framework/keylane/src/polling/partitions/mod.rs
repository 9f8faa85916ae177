//! The polling thread's state of this member's partitions.

mod assigned;
mod assignment;
mod beginnings;
mod blocked_owner;

pub(crate) use assigned::Assigned;
pub(crate) use assignment::Assignment;
pub(crate) use beginnings::Asked;
