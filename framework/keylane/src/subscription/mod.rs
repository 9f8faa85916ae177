//! Building a subscription: see [`Subscription::builder`](crate::Subscription::builder).

// The roof: building, starting, watching and stopping a subscription.

mod acts;
mod builder;
mod committed;
pub(crate) mod error;
pub(crate) mod handle;
#[cfg(test)]
mod lock_tests;
mod membership;
#[cfg(test)]
mod panic_tests;
mod start;

pub use acts::KeyResumed;
pub use builder::SubscriptionBuilder;
#[doc(hidden)]
pub use committed::{CommittedLog, GroupPositions};
pub use keylane_core::{ActTime, OperatorNote, RetriedNow};
