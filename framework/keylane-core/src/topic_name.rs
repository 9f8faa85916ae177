//! What Kafka allows as the name of a topic.

/// Checks that Kafka allows this name for a topic.
///
/// # Errors
/// The rule that it breaks.
///
/// # Examples
/// ```
/// use keylane_core::check_topic_name;
///
/// assert!(check_topic_name("parking-events").is_ok());
/// assert!(check_topic_name("parking events").is_err());
/// ```
pub fn check_topic_name(name: &str) -> Result<(), &'static str> {
    const LIMIT_CHARACTERS: usize = 249;
    match name {
        "" => Err("a topic name must not be empty"),
        "." | ".." => Err("a topic must not be named `.` or `..`"),
        _ if name.len() > LIMIT_CHARACTERS => Err("a topic name has at most 249 characters"),
        _ if !name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) =>
        {
            Err("a topic name consists of ASCII letters, digits, `.`, `_` and `-`")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_kafka_refuses_are_refused() {
        for name in ["parking-events", "a.b_c-1", &"x".repeat(249)] {
            assert_eq!(check_topic_name(name), Ok(()), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "a b",
            "größe",
            "a/b",
            "a\0b",
            &"x".repeat(250),
        ] {
            assert!(check_topic_name(name).is_err(), "{name:?}");
        }
    }
}
