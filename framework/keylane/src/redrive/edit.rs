//! Other values for the copies of dead letters.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::dead_letter::StoredLetter;
use crate::support::error_text;

/// The longest description of an edit.
pub(super) const LONGEST_TEXT: usize = 64 * 1024;

/// Gives the copies of a redrive other values. Each copy that it changes has the SHA-256 of the value
/// before in its header `keylane-edited-from`.
pub trait Edit: Send {
    /// What it does. It is stored with the task, and a task that is resumed needs an edit of the same
    /// text. At most 64 KiB.
    fn text(&self) -> String;

    /// The new value of this letter's copy; `None` leaves the value as it is.
    ///
    /// # Errors
    /// Why the letter cannot be edited: it is refused for that. The first 4 KiB of the reason are
    /// logged, and may be stored in the operations topic, so it should not have the letter's content.
    fn edit(&mut self, letter: &StoredLetter) -> Result<Option<Bytes>, String>;
}

/// A JSON merge patch (RFC 7396) on each value. What the patch does not name stays as it is, byte for
/// byte: numbers of any length, and the order of fields.
///
/// # Examples
/// ```
/// use keylane::redrive::MergePatch;
///
/// let patch = MergePatch::parse(r#"{"currency":"EUR","price":{"net":null}}"#)?;
/// let value = r#"{"price": {"net": 1, "gross": 1.10}, "id": 12345678901234567890123}"#;
/// assert_eq!(
///     patch.apply(value.as_bytes())?,
///     r#"{"price":{"gross":1.10},"id":12345678901234567890123,"currency":"EUR"}"#,
/// );
/// assert!(patch.apply(b"no JSON").is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MergePatch {
    patch: Value,
}

const TEXT: &str = "merge patch ";

impl MergePatch {
    /// Reads the patch.
    ///
    /// # Errors
    /// Where it is no JSON.
    pub fn parse(json: &str) -> Result<Self, String> {
        match serde_json::from_str(json) {
            Ok(patch) => Ok(Self { patch }),
            Err(error) => Err(format!("the merge patch is no JSON: {error}")),
        }
    }

    /// The one whose [`text`](Edit::text) this is.
    pub(super) fn of_text(text: &str) -> Option<Self> {
        Self::parse(text.strip_prefix(TEXT)?).ok()
    }

    /// The value with the patch.
    ///
    /// # Errors
    /// Where the value is no JSON.
    pub fn apply(&self, value: &[u8]) -> Result<String, String> {
        let no_json = |error| format!("the value is no JSON: {}", error_text::text(error));
        let value: &RawValue = serde_json::from_slice(value).map_err(no_json)?;
        Ok(merged(Some(value), &self.patch))
    }
}

impl Edit for MergePatch {
    fn text(&self) -> String {
        format!("{TEXT}{}", self.patch)
    }

    fn edit(&mut self, letter: &StoredLetter) -> Result<Option<Bytes>, String> {
        let value = letter.record().value();
        let value = value.ok_or("the letter has no value to patch")?;
        Ok(Some(self.apply(value)?.into()))
    }
}

fn merged(target: Option<&RawValue>, patch: &Value) -> String {
    let Value::Object(patch) = patch else {
        return patch.to_string();
    };
    let fields = target.and_then(|target| serde_json::from_str::<Fields<'_>>(target.get()).ok());
    let mut left: BTreeMap<&str, &Value> = patch.iter().map(|(name, it)| (&**name, it)).collect();
    let mut text = String::from("{");
    let mut push = |name: &str, value: &str| {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&Value::from(name).to_string());
        text.push(':');
        text.push_str(value);
    };
    for (name, value) in fields.unwrap_or_default().0 {
        match left.remove(&*name) {
            None => push(&name, value.get()),
            Some(Value::Null) => {}
            Some(patch) => push(&name, &merged(Some(value), patch)),
        }
    }
    for (name, patch) in left {
        if !patch.is_null() {
            push(name, &merged(None, patch));
        }
    }
    text.push('}');
    text
}

/// The fields of an object, in their order. Of a name that is there twice the last one counts, as it
/// does for other programs.
#[derive(Default)]
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de> serde::Deserialize<'de> for Fields<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Fields<'de>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<M: serde::de::MapAccess<'de>>(
                self,
                mut map: M,
            ) -> Result<Self::Value, M::Error> {
                let mut fields = Vec::<(String, &'de RawValue)>::new();
                let mut places = BTreeMap::<String, usize>::new();
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    match places.get(&name) {
                        Some(at) => fields[*at].1 = value,
                        None => {
                            places.insert(name.clone(), fields.len());
                            fields.push((name, value));
                        }
                    }
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_is_read_back_from_its_text() {
        let patch = MergePatch::parse(r#"{"a":null,"b":[1.5]}"#).unwrap();
        assert_eq!(MergePatch::of_text(&patch.text()), Some(patch));
        assert_eq!(MergePatch::of_text("through jq ."), None);
    }

    /// The examples of RFC 7396, appendix A.
    #[test]
    fn it_does_what_the_standard_says() {
        for (target, patch, expected) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (
                r#"{"a":{"b":"c"}}"#,
                r#"{"a":{"b":"d","c":null}}"#,
                r#"{"a":{"b":"d"}}"#,
            ),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
            (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
            (r#"{"a":"foo"}"#, "null", "null"),
            (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
            (r#"{"a\n":1,"a\n":2}"#, r#"{"b":3}"#, r#"{"a\n":2,"b":3}"#),
        ] {
            let patch = MergePatch::parse(patch).unwrap();
            assert_eq!(patch.apply(target.as_bytes()).as_deref(), Ok(expected));
        }
    }
}
