//! How hot keys are named.

use serde::{Deserialize, Serialize};

/// How [`SubscriptionHandle::hot_keys`](crate::SubscriptionHandle::hot_keys) names keys.
///
/// # Examples
/// ```
/// use keylane::config::HotKeySettings;
/// use keylane::Subscription;
///
/// let builder = Subscription::builder("parking-notifier", "parking-events")
///     .hot_keys(HotKeySettings::default().plain_keys(true));
/// # let _ = builder;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct HotKeySettings {
    /// Whether the key itself is kept, up to its first 256 bytes, and shown beside its hash
    /// (default no).
    ///
    /// Keys are often personal data. The hot keys show them to every reader; no log line and no
    /// metric contains them.
    pub plain_keys: bool,
}

impl HotKeySettings {
    /// Sets [`plain_keys`](Self#structfield.plain_keys).
    #[must_use]
    pub const fn plain_keys(self, plain_keys: bool) -> Self {
        Self { plain_keys, ..self }
    }
}
