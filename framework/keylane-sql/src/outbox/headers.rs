//! Headers as text: `[["name","value"],["name",null],["name",{"base64":"AAE="}]]`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keylane::Headers;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Value {
    Text(String),
    Bytes { base64: String },
}

/// In order. What is no text is in base64.
pub(super) fn to_text(headers: &Headers) -> String {
    let value = |bytes: &bytes::Bytes| match std::str::from_utf8(bytes) {
        Ok(text) => Value::Text(text.to_owned()),
        Err(_) => Value::Bytes {
            base64: STANDARD.encode(bytes),
        },
    };
    let list: Vec<(&str, Option<Value>)> = headers
        .iter()
        .map(|(name, bytes)| (name, bytes.map(value)))
        .collect();
    // Text and lists of it can always be written.
    serde_json::to_string(&list).unwrap_or_else(|_| "[]".to_owned())
}

/// Back again.
///
/// # Errors
/// Where it is something else: a row may come from another program.
pub(super) fn from_text(text: &str) -> Result<Headers, String> {
    let list: Vec<(String, Option<Value>)> = serde_json::from_str(text)
        .map_err(|error| format!("column headers is not a list of names and values: {error}"))?;
    let mut headers = Headers::new();
    for (name, value) in list {
        match value {
            Some(Value::Text(text)) => headers.push(name, text),
            Some(Value::Bytes { base64 }) => {
                let bytes = STANDARD.decode(base64);
                let bytes = bytes.map_err(|error| format!("column headers, {name}: {error}"))?;
                headers.push(name, bytes);
            }
            None => headers.push_null(name),
        }
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_headers_come_back_as_they_were() {
        let mut headers = Headers::new();
        headers.push("a", "ä\0\"");
        headers.push("a", vec![0xff, 0x00]);
        headers.push_null("b");
        headers.push("c", "");
        let text = to_text(&headers);
        assert_eq!(from_text(&text).unwrap(), headers);
        // PostgreSQL's text cannot hold it.
        assert!(!text.contains('\0'), "{text}");
    }

    #[test]
    fn what_is_no_list_of_headers_is_named() {
        for text in ["", "{}", "[[1,2]]", "[[\"a\",{\"base64\":\"?\"}]]"] {
            assert!(
                from_text(text).unwrap_err().contains("column headers"),
                "{text}"
            );
        }
    }
}
