//! The public face: building, starting, watching and stopping a subscription.

mod builder;
mod control;
mod error;
mod handle;
mod hot_keys;
#[cfg(all(test, feature = "embedded-broker"))]
mod lock_tests;
mod outage;
#[cfg(all(test, feature = "embedded-broker"))]
mod panic_tests;
mod start;
mod status;
mod troubles;

pub use builder::SubscriptionBuilder;
pub use error::{PartitionNotAssigned, StartError, SubscriptionError};
pub use handle::{Subscription, SubscriptionHandle};
pub use hot_keys::{HotKey, HotKeys};
pub use outage::{OngoingOutage, OutageKind, OutageStatus};
pub use status::{
    OldestRecord, PartitionStatus, PausedBy, RecordState, State, SubscriptionStatus, Trouble,
    TroubleKind, TroublePlace,
};

pub(crate) use control::Control;
pub(crate) use outage::OutageWatch;
