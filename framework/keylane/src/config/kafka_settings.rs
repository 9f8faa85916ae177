//! Pass-through settings for the Kafka client.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize};

/// Client settings passed through to librdkafka by name, such as `security.protocol`.
///
/// Names and values are those of librdkafka's `CONFIGURATION.md`. Settings that keylane owns are
/// refused at start-up, each with the option to use instead. In a file every value is text:
/// `"6000"`, not `6000`. `Debug` shows names only, and no error about the form shows a value:
/// values may be secrets.
///
/// # Examples
/// One set for the subscription and for the producer:
/// ```
/// use keylane::config::KafkaSettings;
/// use keylane::{Subscription, TaskProducer};
///
/// let mut security = KafkaSettings::new();
/// security.set("security.protocol", "ssl").set("ssl.ca.location", "/etc/kafka/ca.pem");
/// let subscription = Subscription::builder("group", "tasks").kafka_settings(security.clone());
/// let producer = TaskProducer::builder("tasks").kafka_settings(security);
/// # let _ = (subscription, producer);
/// ```
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct KafkaSettings(BTreeMap<String, String>);

/// By hand, because serde's own error quotes a value that is no text: a password of digits, for
/// example.
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
            return Err(D::Error::custom(
                "kafka takes settings by name, each with its value as text",
            ));
        };
        let text = |(name, value)| match value {
            Value::Text(text) => Ok((name, text)),
            Value::Other(_) => Err(D::Error::custom(format!(
                "the kafka setting {name} takes text: put its value into quotes"
            ))),
        };
        settings
            .into_iter()
            .map(text)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl KafkaSettings {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets one, in place of what it was before.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) -> &mut Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// The value of one.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Takes one out.
    pub fn remove(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(crate) fn as_map(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

impl<K: Into<String>, V: Into<String>> Extend<(K, V)> for KafkaSettings {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, settings: I) {
        self.0.extend(
            settings
                .into_iter()
                .map(|(name, value)| (name.into(), value.into())),
        );
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for KafkaSettings {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(settings: I) -> Self {
        let mut all = Self::default();
        all.extend(settings);
        all
    }
}

impl IntoIterator for KafkaSettings {
    type Item = (String, String);
    type IntoIter = std::collections::btree_map::IntoIter<String, String>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_value() {
        let settings: KafkaSettings = [("sasl.password", "hunter2")].into_iter().collect();
        let shown = format!("{settings:?}");
        assert!(
            shown.contains("sasl.password") && !shown.contains("hunter2"),
            "{shown}"
        );
    }
    /// serde's own error would quote what it found.
    #[test]
    fn an_error_about_the_form_of_a_setting_names_it_and_not_its_value() {
        let error = |json: &str| {
            serde_json::from_str::<KafkaSettings>(json)
                .unwrap_err()
                .to_string()
        };
        for value in ["31337", "-31337", "31337.5", "[31337]", "{\"31337\": 1}"] {
            let said = error(&format!("{{\"sasl.password\": {value}}}"));
            assert!(
                said.contains("sasl.password") && !said.contains("31337"),
                "{said}"
            );
        }
        for value in ["true", "null"] {
            assert!(
                error(&format!("{{\"enable.metrics.push\": {value}}}"))
                    .contains("enable.metrics.push")
            );
        }
        for whole in ["\"sasl.password=hunter2\"", "[\"hunter2\"]", "31337"] {
            let said = error(whole);
            assert!(
                said.contains("by name") && !said.contains("hunter2") && !said.contains("31337"),
                "{said}"
            );
        }
    }
}
