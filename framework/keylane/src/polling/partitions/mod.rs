//! The partitions of this member, as the polling thread sees them.

mod assigned;
mod assignment;
mod beginnings;
mod blocked_owner;
mod opening;

pub(crate) use assigned::Assigned;
pub(crate) use assignment::Assignment;
pub(crate) use beginnings::Asked;
#[cfg(test)]
pub(crate) use opening::OPENING;
