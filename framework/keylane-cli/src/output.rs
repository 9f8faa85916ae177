//! A result, and the four forms of it.

mod csv;
mod json;
mod text;

use std::time::Duration;

use clap::ValueEnum;
use serde_json::Value;

/// The form of a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated values with a heading (RFC 4180).
    Csv,
}

/// A result: rows with the same columns.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Table {
    columns: &'static [&'static str],
    rows: Vec<Vec<Cell>>,
    is_one: bool,
}

/// One value of a result.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    /// There is a value, and it could not be read.
    Unknown,
    /// There is no value.
    Nothing,
    Number(i64),
    Text(String),
    Age(Duration),
    /// In words for people, and as a value for programs.
    Said {
        words: String,
        value: Value,
    },
    /// Lines for people, and a value for programs.
    Lines {
        lines: Vec<String>,
        value: Value,
    },
}

impl Cell {
    pub(crate) fn count(count: u64) -> Self {
        Self::Number(i64::try_from(count).unwrap_or(i64::MAX))
    }

    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(crate) fn said(words: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::Said {
            words: words.into(),
            value: value.into(),
        }
    }

    /// What a field of a report has. `null` is no value.
    pub(crate) fn of(value: Value) -> Self {
        match value {
            Value::Null => Self::Nothing,
            Value::String(text) => Self::Text(text),
            Value::Number(number) if number.is_i64() => {
                Self::Number(number.as_i64().unwrap_or_default())
            }
            other => Self::said(other.to_string(), other),
        }
    }

    /// What is known, or [`Cell::Unknown`].
    pub(crate) fn known<T>(value: Option<T>, cell: impl FnOnce(T) -> Self) -> Self {
        value.map_or(Self::Unknown, cell)
    }
}

impl Table {
    pub(crate) fn new(columns: &'static [&'static str]) -> Self {
        Self {
            columns,
            rows: Vec::new(),
            is_one: false,
        }
    }

    /// Of one thing: its values stand below each other for people, and are one object in JSON.
    pub(crate) fn of_one(columns: &'static [&'static str], row: Vec<Cell>) -> Self {
        let mut table = Self::new(columns);
        table.push(row);
        table.is_one = true;
        table
    }

    /// A row has a cell for each column.
    pub(crate) fn push(&mut self, row: Vec<Cell>) {
        debug_assert_eq!(row.len(), self.columns.len());
        self.rows.push(row);
    }

    pub(crate) fn render(&self, format: Format) -> String {
        match format {
            Format::Table if self.is_one => text::below_each_other(self),
            Format::Table => text::beside_each_other(self),
            Format::Json => json::document(self),
            Format::Jsonl => json::lines(self),
            Format::Csv => csv::csv(self),
        }
    }
}

#[cfg(test)]
mod tests;
