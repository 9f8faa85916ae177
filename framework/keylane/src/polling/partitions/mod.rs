//! The polling thread's state of this member's partitions.

mod arrivals;
mod assigned;
mod assignment;
mod batching;
mod beginnings;
mod next_epochs;
mod steering;

pub(crate) use assigned::Assigned;
pub(crate) use assignment::Assignment;
pub(crate) use beginnings::Beginnings;
