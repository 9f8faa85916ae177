//! What is known of a running subscription: its state, its partitions, its troubles and outages.

// The ground floor. The owners, the polling thread and the producers write here, the handle reads;
// so nothing here depends on any of them.

mod acts;
mod control;
mod control_feed;
pub(crate) mod error;
mod fault_names;
mod figures;
mod given_up;
mod hot_keys;
mod json;
mod lease;
mod outage;
mod places;
mod snapshot;
mod troubles;

pub use control_feed::{ControlPause, ControlStatus};
pub(crate) use error::SubscriptionError;
pub use hot_keys::{HotKey, HotKeys};
pub use outage::{OngoingOutage, OutageKind, OutageStatus};
pub use places::InFlight;
pub use snapshot::{
    OldestRecord, PartitionStatus, PausedBy, Position, RecordState, RetryTier, Snapshot, State,
    SubscriptionStatus, Trouble, TroubleKind, TroublePlace, WaitingFor,
};

pub(crate) use acts::{Act, ActKind, KeyAct, RecordAct, TakesActs};
pub(crate) use control::Control;
pub(crate) use control_feed::ControlFeed;
pub(crate) use figures::{Oldest, OwnerFigures};
pub(crate) use lease::SharedLease;
pub(crate) use outage::OutageWatch;
pub(crate) use places::{Place, Places};
