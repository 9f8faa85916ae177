//! The roof: building, starting, watching and stopping a subscription.

mod builder;
mod error;
mod handle;
#[cfg(test)]
mod lock_tests;
#[cfg(test)]
mod panic_tests;
mod start;

pub use builder::SubscriptionBuilder;
pub use error::{PartitionNotAssigned, StartError};
pub use handle::{Subscription, SubscriptionHandle};
pub(crate) use start::{FAILED_WRITES_EVERY, partition_settings};
