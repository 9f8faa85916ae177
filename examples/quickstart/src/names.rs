//! The names of topics and groups.

/// All follow from two options.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) events: String,
    pub(crate) dead_letters: String,
    pub(crate) group: String,
    /// Reads the dead letters back.
    pub(crate) audit_group: String,
}

impl Names {
    pub(crate) fn new(group: &str, topic: &str) -> Self {
        Self {
            events: topic.to_owned(),
            dead_letters: format!("{topic}-dlq"),
            group: group.to_owned(),
            audit_group: format!("{group}-audit"),
        }
    }
}
