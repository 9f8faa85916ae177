//! The partitions of this member, as the polling thread sees them.

mod assigned;
mod assignment;
mod beginnings;
mod blocked_owner;
mod recent_reads;

pub(crate) use assigned::Assigned;
pub(crate) use assignment::Assignment;
pub(crate) use beginnings::Asked;
pub(crate) use recent_reads::fingerprint;
