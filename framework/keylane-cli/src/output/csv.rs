//! For spreadsheets: unknown is the word, and an absent value is empty.

use serde_json::Value;

use super::{Cell, Table, json};

pub(super) fn csv(table: &Table) -> String {
    let mut lines = vec![table.columns.join(",")];
    let row = |row: &Vec<Cell>| row.iter().map(field).collect::<Vec<_>>().join(",");
    lines.extend(table.rows.iter().map(row));
    lines.iter().map(|line| format!("{line}\r\n")).collect()
}

fn field(cell: &Cell) -> String {
    let text = match (cell, json::value(cell)) {
        (Cell::Unknown, _) => "unknown".to_owned(),
        (_, None) => String::new(),
        (_, Some(Value::String(text))) => text,
        (_, Some(value)) => value.to_string(),
    };
    // A spreadsheet takes text that begins so for a formula.
    let is_formula = text.starts_with(['=', '@', '+']) || (text.starts_with('-') && is_text(cell));
    let text = if is_formula { format!("'{text}") } else { text };
    match text.contains([',', '"', '\r', '\n']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

fn is_text(cell: &Cell) -> bool {
    matches!(cell, Cell::Text(_) | Cell::Said { .. } | Cell::Lines { .. })
}
