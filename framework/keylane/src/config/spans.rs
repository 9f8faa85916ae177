//! What spans contain of a record's key.

use serde::{Deserialize, Serialize};

/// What the spans of attempts contain; see [`trace`](crate::trace).
///
/// # Examples
/// ```
/// use keylane::config::{KeyInSpans, Tracing};
/// use keylane::Subscription;
///
/// let builder = Subscription::builder("parking-notifier", "parking-events")
///     .tracing(Tracing::default().key(KeyInSpans::Hashed));
/// # let _ = builder;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Tracing {
    /// What spans contain of the record's key (default: nothing).
    pub key: KeyInSpans,
}

impl Tracing {
    /// Sets [`key`](Self#structfield.key).
    #[must_use]
    pub const fn key(self, key: KeyInSpans) -> Self {
        Self { key, ..self }
    }
}

/// What a span contains of the key of its record. It is never the key itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum KeyInSpans {
    /// Nothing.
    #[default]
    Omitted,
    /// The [`KeyHash`](crate::record::KeyHash), as the field `key_hash`. It costs a SHA-256 per
    /// attempt while a subscriber listens. It hides nothing from a reader who can list all possible
    /// keys.
    Hashed,
}
