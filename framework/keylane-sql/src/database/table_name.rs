//! The name of a table, which becomes part of statements.

use std::fmt;
use std::str::FromStr;

/// What is appended for further tables and indexes fits into the 63 bytes that PostgreSQL keeps of a
/// name.
const MOST_BYTES: usize = 40;

/// A name of ASCII letters, digits and underscores, with a schema before it or without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableName {
    schema: Option<String>,
    name: String,
}

/// A name that is none of a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} cannot be the name of a table; use at most 40 lower-case letters, digits and underscores, not a digit \
     first, and the schema with a dot before it where it has one"
)]
pub struct TableNameError {
    name: String,
}

impl TableName {
    pub(crate) fn default_outbox() -> Self {
        Self {
            schema: None,
            name: "keylane_outbox".to_owned(),
        }
    }

    pub(crate) fn default_inbox() -> Self {
        Self {
            schema: None,
            name: "keylane_inbox".to_owned(),
        }
    }

    /// The table, quoted, as statements name it.
    pub(crate) fn quoted(&self) -> String {
        self.with("")
    }

    /// The table whose name has this behind it.
    pub(crate) fn with(&self, suffix: &str) -> String {
        let name = &self.name;
        match &self.schema {
            Some(schema) => format!("\"{schema}\".\"{name}{suffix}\""),
            None => format!("\"{name}{suffix}\""),
        }
    }

    /// An index of PostgreSQL is in the schema of its table, and is created without naming it.
    #[cfg(any(feature = "postgres", test))]
    pub(crate) fn index(&self, suffix: &str) -> String {
        format!("\"{}{suffix}\"", self.name)
    }

    /// Without its schema; also the name of PostgreSQL's channel of notifications.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// SQLite's list of tables.
    #[cfg(feature = "sqlite")]
    pub(crate) fn sqlite_schema(&self) -> String {
        match &self.schema {
            Some(schema) => format!("\"{schema}\".sqlite_schema"),
            None => "sqlite_schema".to_owned(),
        }
    }
}

impl FromStr for TableName {
    type Err = TableNameError;

    fn from_str(text: &str) -> Result<Self, TableNameError> {
        let (schema, name) = match text.split_once('.') {
            Some((schema, name)) => (Some(schema), name),
            None => (None, text),
        };
        match is_name(name) && schema.is_none_or(is_name) {
            true => Ok(Self {
                schema: schema.map(str::to_owned),
                name: name.to_owned(),
            }),
            false => Err(TableNameError {
                name: text.chars().take(100).collect(),
            }),
        }
    }
}

/// As it is written: in the labels of metrics and in log lines.
impl fmt::Display for TableName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write!(formatter, "{schema}.")?;
        }
        formatter.write_str(&self.name)
    }
}

/// Lower case: without quotes, databases make all of it lower case.
fn is_name(text: &str) -> bool {
    let is_first = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    let is_further = |byte: u8| is_first(byte) || byte.is_ascii_digit();
    text.len() <= MOST_BYTES
        && text.bytes().next().is_some_and(is_first)
        && text.bytes().all(is_further)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_quoted_with_its_schema() {
        let name: TableName = "app.outbox".parse().unwrap();
        assert_eq!(name.quoted(), "\"app\".\"outbox\"");
        assert_eq!(name.with("_meta"), "\"app\".\"outbox_meta\"");
        assert_eq!(name.index("_unsent"), "\"outbox_unsent\"");
        assert_eq!(name.to_string(), "app.outbox");
        let name: TableName = "outbox".parse().unwrap();
        assert_eq!(name.quoted(), "\"outbox\"");
    }

    #[test]
    fn what_could_end_a_statement_is_no_name() {
        let long = "a".repeat(41);
        for text in [
            "", ".", "a.", ".a", "a.b.c", "A", "a b", "a\";", "1a", &long,
        ] {
            let refused = text.parse::<TableName>().unwrap_err();
            assert!(refused.to_string().contains("cannot be"), "{text}");
        }
    }
}
