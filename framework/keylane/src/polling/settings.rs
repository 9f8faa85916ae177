//! What the polling thread is given: settings, and the way to open an owner.

use std::sync::Arc;
use std::time::Duration;

use keylane_core::Reset;

use crate::config::{Limits, Watchdog};
use crate::dead_letter::Intake;
use crate::runtime::EpochStart;

/// Opens the owner of a partition; hides the types of decoder and processor.
pub(crate) type OwnerFactory = Box<dyn Fn(EpochStart) + Send>;

/// What the loop needs to know of the settings.
pub(crate) struct PollSettings {
    /// The name in metrics.
    pub(crate) subscription: Arc<str>,
    pub(crate) topics: Vec<Arc<str>>,
    pub(crate) retry_topic: Option<Arc<str>>,
    pub(crate) dead_letter_topic: Option<Arc<str>>,
    pub(crate) intake: Intake,
    pub(crate) limits: Limits,
    /// How often new commit points are committed.
    pub(crate) commit_every: Duration,
    pub(crate) drain_timeout: Duration,
    pub(crate) watchdog: Watchdog,
    /// `auto.offset.reset`.
    pub(crate) reset: Reset,
    /// `group.protocol=consumer`.
    pub(crate) broker_assigns: bool,
}

impl PollSettings {
    /// One shared copy of each topic name.
    pub(crate) fn intern(&self, topic: &str) -> Arc<str> {
        let known = self
            .topics
            .iter()
            .chain(&self.retry_topic)
            .find(|known| &***known == topic);
        known.cloned().unwrap_or_else(|| topic.into())
    }
}
