//! For tests of a processor, without a broker.
//!
//! | aim | use |
//! |---|---|
//! | call the processor with a task | [`TestTask`] |
//! | see what retries, dead letters and outages make of its answers | the crate `keylane-testkit`, whose `TestSubscription` stands on [`LocalSubscription`] |

mod events;
mod local;
mod outcome;
mod runtime;
mod task;
mod topics;

pub use crate::metrics::labels::AttemptResult;
pub use events::{LocalEvent, LocalRecord};
pub use local::LocalSubscription;
pub use outcome::Outcome;
pub use task::{TestAssignment, TestTask};
