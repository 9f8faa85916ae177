//! The partitions of this member, as the polling thread sees them.

mod assigned;
mod assignment;
mod beginnings;
mod blocked_owner;

pub(crate) use assigned::Assigned;
pub(crate) use assignment::Assignment;
pub(crate) use beginnings::Asked;
