//! The mark of what was found at the start of an epoch.

use keylane_core::Mark;

/// Commits of [`Evidence::at_start`](keylane_core::Evidence::at_start) need an answer as marks do,
/// but no owner waits for it.
pub(crate) const OPENING: Mark = Mark::new(0);
