//! Pass-through settings for the Kafka client.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};

use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize};

/// Client settings passed through to librdkafka by name, such as `security.protocol`.
///
/// Names and values are those of librdkafka's `CONFIGURATION.md`. Settings that keylane owns are refused at start-up, each
/// with the option to use instead. In a file every value is text: `"6000"`, not `6000`. `Debug` shows names only, and no error
/// about the form shows a value: values may be secrets.
///
/// # Examples
/// ```
/// use keylane::KafkaSettings;
///
/// let settings: KafkaSettings =
///     [("security.protocol", "sasl_ssl"), ("sasl.password", "secret")].into_iter().collect();
/// assert!(!format!("{settings:?}").contains("secret"));
/// ```
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct KafkaSettings(BTreeMap<String, String>);

/// By hand because serde's own error quotes what it found instead of text: a password of digits, say.
impl<'de> Deserialize<'de> for KafkaSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Whole {
            ByName(BTreeMap<String, Value>),
            Other(IgnoredAny),
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Value {
            Text(String),
            Other(IgnoredAny),
        }
        let Whole::ByName(settings) = Whole::deserialize(deserializer)? else {
            return Err(D::Error::custom("kafka takes settings by name, each with its value as text"));
        };
        let text = |(name, value)| match value {
            Value::Text(text) => Ok((name, text)),
            Value::Other(_) => {
                Err(D::Error::custom(format!("the kafka setting {name} takes text: put its value into quotes")))
            }
        };
        settings.into_iter().map(text).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Deref for KafkaSettings {
    type Target = BTreeMap<String, String>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for KafkaSettings {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for KafkaSettings {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(settings: I) -> Self {
        Self(settings.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_value() {
        let settings: KafkaSettings = [("sasl.password", "hunter2")].into_iter().collect();
        let shown = format!("{settings:?}");
        assert!(shown.contains("sasl.password") && !shown.contains("hunter2"), "{shown}");
    }
    /// serde's own error would quote what it found.
    #[test]
    fn an_error_about_the_form_of_a_setting_names_it_and_not_its_value() {
        let error = |json: &str| serde_json::from_str::<KafkaSettings>(json).unwrap_err().to_string();
        for value in ["31337", "-31337", "31337.5", "[31337]", "{\"31337\": 1}"] {
            let said = error(&format!("{{\"sasl.password\": {value}}}"));
            assert!(said.contains("sasl.password") && !said.contains("31337"), "{said}");
        }
        for value in ["true", "null"] {
            assert!(error(&format!("{{\"enable.metrics.push\": {value}}}")).contains("enable.metrics.push"));
        }
        for whole in ["\"sasl.password=hunter2\"", "[\"hunter2\"]", "31337"] {
            let said = error(whole);
            assert!(said.contains("by name") && !said.contains("hunter2") && !said.contains("31337"), "{said}");
        }
    }
}
