//! What Kafka allows as the name of a topic.

/// Why Kafka would refuse this name.
pub(crate) fn check_name(name: &str) -> Result<(), &'static str> {
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
            assert_eq!(check_name(name), Ok(()), "{name}");
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
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }
}
