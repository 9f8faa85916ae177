//! Texts of librdkafka's, without what they quote of a secret.

use std::borrow::Cow;

/// A text of librdkafka's without what it quotes of a secret: the setting
/// `sasl.oauthbearer.config`, where it cannot read that.
pub(crate) fn without_secrets(text: &str) -> Cow<'_, str> {
    const QUOTED: &str = "sasl.oauthbearer.config";
    match text.find(QUOTED) {
        Some(at) => format!(
            "{}{QUOTED} (the rest is not shown: it may hold a secret)",
            &text[..at]
        )
        .into(),
        None => text.into(),
    }
}
