//! The roof: building, starting, watching and stopping a subscription.

mod builder;
mod error;
mod handle;
#[cfg(all(test, feature = "embedded-broker"))]
mod lock_tests;
#[cfg(all(test, feature = "embedded-broker"))]
mod panic_tests;
mod start;

pub use builder::SubscriptionBuilder;
pub use error::{PartitionNotAssigned, StartError};
pub use handle::{Subscription, SubscriptionHandle};
