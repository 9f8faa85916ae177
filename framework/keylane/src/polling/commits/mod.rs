//! What the polling thread commits, and when.

mod commit_ids;
mod commit_points;
mod last_commit;
mod marks;

pub(crate) use commit_points::Commits;
pub(crate) use last_commit::LastCommit;
