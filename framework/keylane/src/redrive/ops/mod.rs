//! The operations topic of a group: what was done with its dead letters, by whom, and how far it is.
//!
//! `<group>-keylane-ops` is compacted and has one partition. It is the record of redrives, and their
//! state at once: a task goes on from it. [`OpsTopic`] reads it, ends tasks by it, and marks letters
//! as resolved by hand. The manual's page *The operations topic* lists its records.

pub(crate) mod forms;
mod handled;
mod lost;
mod open;
pub(crate) mod records;
mod report;
mod resolved;
mod state;
mod topic;

pub use handled::Handled;
pub(crate) use open::OpenCount;
pub use records::{
    CancelRequest, OnRefused, Resolution, TaskCounts, TaskProgress, TaskRecord, TaskResume,
    TaskSettings, TaskState,
};
pub use report::{CanaryReport, CancelReport, TaskReport};
pub use state::{Dropped, OpsState, TaskStatus};
pub use topic::OpsTopic;
pub(super) use topic::{LONGEST_NAME, LONGEST_REASON};
