//! The checks: pure functions from a [`History`] to what is wrong with it.

pub mod commits;
pub mod duplicates;
pub mod history;
pub mod loss;
pub mod order;
pub mod overlap;
pub mod redelivery;
mod report;
pub mod stalls;

use std::time::Duration;

pub use history::History;
pub use report::Report;

/// How long a commit may be on its way, beyond the commit interval, before what it says counts as committed. Generous: many
/// of these processes share a machine.
pub const GRACE: Duration = Duration::from_millis(1_000);
