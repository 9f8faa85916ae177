//! What is told of records that are held because nobody is known to process them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use keylane_core::{Epoch, HeldBecause};

use crate::Record;
use crate::runtime::Seldom;
use crate::subscription::Control;

/// A change of the reason is a warning at most this often.
const TOLD_EVERY: Duration = Duration::from_secs(30);

/// One epoch of one partition of the retry topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) partition: i32,
    pub(crate) epoch: Epoch,
}

/// One of the records that a partition holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    message: String,
}

impl Held {
    /// `None` while its group is being asked about.
    pub(super) fn of(topic: &str, record: &Record, because: HeldBecause) -> Option<Self> {
        let provenance = record.provenance();
        let group = provenance.group.unwrap_or_default();
        let adopt = format!("if this group replaces it, set Retry::adopt([{group:?}])");
        let message = match because {
            HeldBecause::Asking => return None,
            HeldBecause::Gone => format!(
                "retries of consumer group `{group}` wait in `{topic}`: that group has no members and \
                 has committed nothing there; {adopt}, else start it again"
            ),
            HeldBecause::Policy => format!(
                "retries of consumer group `{group}` wait in `{topic}`: retry.topic.foreign is \"hold\"; {adopt}"
            ),
            HeldBecause::Stray => format!(
                "retries of topic `{}` wait in `{topic}`: this subscription does not read that topic, and no \
                 other group processes them; add it to `topics`, or set Retry::adopt([{group:?}])",
                provenance.origin_topic.unwrap_or_default()
            ),
            _ => format!(
                "retries of consumer group `{group}` wait in `{topic}`: the brokers do not say whether that \
                 group is alive; grant this client DESCRIBE on it; {adopt}"
            ),
        };
        Some(Self { message })
    }
}

/// Which partitions hold records; at most one entry for each epoch of a partition that is here.
pub(super) struct HeldRecords {
    control: Arc<Control>,
    told: Seldom,
    by_place: Mutex<BTreeMap<Place, Held>>,
}

impl HeldRecords {
    pub(super) fn new(control: Arc<Control>) -> Self {
        Self { control, told: Seldom::every(TOLD_EVERY), by_place: Mutex::default() }
    }

    pub(super) fn note(&self, place: Place, held: Option<Held>) {
        let mut by_place = self.by_place.lock().unwrap_or_else(PoisonError::into_inner);
        let before = by_place.values().next().cloned();
        match held {
            Some(held) => by_place.insert(place, held),
            None => by_place.remove(&place),
        };
        let now = by_place.values().next();
        if now == before.as_ref() {
            return;
        }
        match now {
            Some(Held { message }) => {
                if let Some(left_out) = self.told.due(Instant::now()) {
                    tracing::warn!(message, left_out, "records are held: they stay unsettled");
                }
            }
            None => tracing::info!("no retries of other groups are held any longer"),
        }
        self.control.set_held_retries(now.map(|held| held.message.clone()));
    }
}
