//! JSON in lines. Nothing but blanks between the tokens changes: a parser would round numbers and
//! sort names.

use serde::de::IgnoredAny;

/// An object or an array of JSON, laid out; `None` for any other text.
pub(super) fn laid_out(text: &str) -> Option<String> {
    let text = text.trim();
    // It also refuses what is nested too deeply.
    serde_json::from_str::<IgnoredAny>(text)
        .ok()
        .filter(|_| text.starts_with(['{', '[']))?;
    let mut layout = String::with_capacity(text.len() * 2);
    let mut depth: usize = 0;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                layout.push('"');
                let mut is_escaped = false;
                for character in characters.by_ref() {
                    layout.push(character);
                    match character {
                        '"' if !is_escaped => break,
                        _ => is_escaped = character == '\\' && !is_escaped,
                    }
                }
            }
            '{' | '[' => {
                layout.push(character);
                while characters.next_if(char::is_ascii_whitespace).is_some() {}
                // An empty one stays in its line.
                match characters.next_if(|it| matches!(it, '}' | ']')) {
                    Some(end) => layout.push(end),
                    None => {
                        depth += 1;
                        new_line(&mut layout, depth);
                    }
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut layout, depth);
                layout.push(character);
            }
            ',' => {
                layout.push(',');
                new_line(&mut layout, depth);
            }
            ':' => layout.push_str(": "),
            blank if blank.is_ascii_whitespace() => {}
            other => layout.push(other),
        }
    }
    Some(layout)
}

fn new_line(layout: &mut String, depth: usize) {
    layout.push('\n');
    layout.extend(std::iter::repeat_n("  ", depth));
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn names_and_numbers_stay_as_they_are() {
        let text =
            r#" {"z":1.10,"a": [1, 12345678901234567890123, { } ,[ ]],"s":"a, \"b\": {\\"} "#;
        let expected = "{\n  \"z\": 1.10,\n  \"a\": [\n    1,\n    12345678901234567890123,\n    {},\n    []\n  ],\n  \"s\": \"a, \\\"b\\\": {\\\\\"\n}";
        assert_eq!(laid_out(text).as_deref(), Some(expected));
    }

    #[test]
    fn it_is_as_serde_would_lay_it_out() {
        let value = json!({"a": {"b": [true, null, "é\n"], "c": {}}, "d": []});
        let layout = laid_out(&value.to_string()).unwrap();
        assert_eq!(layout, format!("{value:#}"));
        assert_eq!(serde_json::from_str::<Value>(&layout).unwrap(), value);
    }

    #[test]
    fn other_text_is_not_laid_out() {
        for text in ["17", "\"a\"", "null", "{", "{}x", "a,b", ""] {
            assert_eq!(laid_out(text), None, "{text}");
        }
    }
}
