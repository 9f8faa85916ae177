//! What is known of a running subscription: its state, its partitions, its troubles and outages.

// The ground floor. The owners, the polling thread and the producers write here, the handle reads;
// so nothing here depends on any of them.

mod control;
pub(crate) mod error;
mod fault_names;
mod given_up;
mod hot_keys;
mod lease;
mod outage;
mod snapshot;
mod troubles;

pub(crate) use error::SubscriptionError;
pub use hot_keys::{HotKey, HotKeys};
pub use outage::{OngoingOutage, OutageKind, OutageStatus};
pub use snapshot::{
    OldestRecord, PartitionStatus, PausedBy, RecordState, State, SubscriptionStatus, Trouble,
    TroubleKind, TroublePlace,
};

pub(crate) use control::Control;
pub(crate) use lease::SharedLease;
pub(crate) use outage::OutageWatch;
