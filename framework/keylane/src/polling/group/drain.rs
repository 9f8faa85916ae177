//! How owners end: in order by a deadline, then by order, and given up where even that does not end
//! them.

use std::time::{Duration, Instant};

use crate::polling::partitions::Assigned;

/// How long after the order to end an owner may take. Only one that is blocked by a processor that
/// blocks its thread needs it; then the partition is given up with the last commit point it
/// reported.
pub(crate) const END_GRACE: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drain {
    Runs,
    Ended,
    /// Owners do not end.
    GivenUp,
}

/// How far these owners are. At `deadline` they are ordered to end.
pub(crate) fn drain<'a>(
    owners: impl Iterator<Item = &'a Assigned> + Clone,
    deadline: Instant,
) -> Drain {
    let now = Instant::now();
    if owners.clone().all(Assigned::has_ended) {
        return Drain::Ended;
    }
    if now >= deadline {
        owners.for_each(|owner| owner.inbox.end());
    }
    if now >= deadline + END_GRACE {
        Drain::GivenUp
    } else {
        Drain::Runs
    }
}
