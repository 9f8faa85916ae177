//! The text about records that are held because no group is known to process them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use keylane_core::{Epoch, HeldBecause, Provenance};

use crate::config::NAME_LIMIT_BYTES;
use crate::dead_letter::{bounded_text, provenance_of};
use crate::record::Record;
use crate::status::{Control, TroubleKind, TroublePlace};
use crate::support::lock::lock;

/// One epoch of one partition of the retry topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) partition: i32,
    pub(crate) epoch: Epoch,
}

/// One of the records that a partition holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    message: String,
}

impl Held {
    /// `None` while its group is being queried.
    pub(crate) fn of(topic: &str, record: &Record, because: HeldBecause) -> Option<Self> {
        Self::naming(topic, provenance_of(record), because)
    }

    fn naming(topic: &str, provenance: Provenance<'_>, because: HeldBecause) -> Option<Self> {
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
                bounded_text(
                    provenance.origin_topic.unwrap_or_default(),
                    NAME_LIMIT_BYTES
                )
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
pub(crate) struct HeldRecords {
    control: Arc<Control>,
    trouble: TroublePlace,
    by_place: Mutex<BTreeMap<Place, Held>>,
}

impl HeldRecords {
    pub(crate) fn new(control: Arc<Control>, topic: &str) -> Self {
        let trouble = TroublePlace::RetriesIn(topic.to_owned());
        Self {
            control,
            trouble,
            by_place: Mutex::default(),
        }
    }

    /// The text is that of the first partition that holds records.
    ///
    /// The lock covers the change of the status too: otherwise an older text could come after a
    /// newer one, and stay.
    pub(crate) fn note(&self, place: Place, held: Option<Held>) {
        let mut by_place = lock(&self.by_place);
        let was_empty = by_place.is_empty();
        match held {
            Some(held) => by_place.insert(place, held),
            None => by_place.remove(&place),
        };
        match by_place.values().next() {
            Some(Held { message }) => {
                self.control.troubles.note(
                    TroubleKind::ForeignRetries,
                    self.trouble.clone(),
                    message,
                );
            }
            None if was_empty => {}
            None => self.control.troubles.passed(&self.trouble),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_header_makes_a_short_message() {
        let topic = "x\n".repeat(1 << 19);
        let stray = Provenance {
            group: Some("billing"),
            origin_topic: Some(&topic),
            requeued: false,
        };
        let Held { message } = Held::naming("retry", stray, HeldBecause::Stray).unwrap();
        assert!(
            message.starts_with("retries of topic `x x x "),
            "{message:.100}"
        );
        assert!(message.len() < 600, "{} bytes", message.len());
        assert!(
            message.ends_with("set Retry::adopt([\"billing\"])"),
            "{message}"
        );
    }
}
