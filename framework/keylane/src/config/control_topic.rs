//! The control topic.

use serde::{Deserialize, Serialize};

/// A topic by which operators steer all members of a group: pauses and skips that survive restarts.
///
/// It must exist, with one partition and `cleanup.policy=compact`: `keylane control create GROUP`
/// creates it. Each group has its own. Each member reads it to its end before it joins the group,
/// and starts nothing of a partition before it has read what was in it when the partition was
/// assigned. While it cannot be read, what was last read of it holds, and no new partition starts.
///
/// Who may write to it may stop the group: restrict it by the topic's ACLs. A member needs READ and
/// WRITE, because it acknowledges in the topic what it has applied.
///
/// # Examples
/// ```
/// use keylane::Subscription;
/// use keylane::config::ControlTopic;
///
/// let builder = Subscription::builder("parking-notifier", "parking-events")
///     .control_topic(ControlTopic::default());
/// let name = builder.config().control_topic_name();
/// assert_eq!(name.as_deref(), Some("parking-notifier-keylane-control"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct ControlTopic {
    /// The topic's name (default `<group>-keylane-control`).
    pub name: Option<String>,
}

impl ControlTopic {
    /// A control topic of this name.
    ///
    /// # Examples
    /// ```
    /// use keylane::config::ControlTopic;
    ///
    /// let topic = ControlTopic::named("parking-control");
    /// assert_eq!(topic.name.as_deref(), Some("parking-control"));
    /// ```
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: Some(name.into()),
        }
    }

    /// The name where the settings have none.
    pub(crate) fn name_for(group: &str) -> String {
        format!("{group}-keylane-control")
    }
}
