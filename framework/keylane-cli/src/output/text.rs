//! For people.

use std::time::Duration;

use super::{Cell, Table};

pub(super) fn beside_each_other(table: &Table) -> String {
    let heading = table.columns.iter().map(|name| name.to_uppercase());
    let mut lines = vec![heading.collect::<Vec<_>>()];
    lines.extend(table.rows.iter().map(|row| row.iter().map(shown).collect()));
    let width = |column: usize| {
        let widths = lines.iter().map(|line| line[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..table.columns.len()).map(width).collect();
    let is_right = |column: usize| {
        let is_number = |row: &Vec<Cell>| matches!(row[column], Cell::Number(_));
        table.rows.iter().any(is_number)
    };
    let is_right: Vec<bool> = (0..table.columns.len()).map(is_right).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().enumerate().map(|(column, cell)| {
            let width = widths[column];
            match is_right[column] {
                true => format!("{cell:>width$}"),
                false => format!("{cell:<width$}"),
            }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

pub(super) fn below_each_other(table: &Table) -> String {
    let names = table.columns.iter().map(|name| name.replace('_', " "));
    let names: Vec<String> = names.collect();
    let width = names.iter().map(String::len).max().unwrap_or(0);
    let mut text = String::new();
    for row in &table.rows {
        for (name, cell) in names.iter().zip(row) {
            let lines = match cell {
                Cell::Lines { lines, .. } if !lines.is_empty() => {
                    lines.iter().map(|line| printable(line)).collect()
                }
                cell => vec![shown(cell)],
            };
            // The name stands before the first line only.
            let names = std::iter::once(name.as_str()).chain(std::iter::repeat(""));
            for (name, line) in names.zip(lines) {
                let line = format!("{name:<width$}  {line}");
                text.push_str(line.trim_end());
                text.push('\n');
            }
        }
    }
    text
}

fn shown(cell: &Cell) -> String {
    match cell {
        Cell::Unknown => "unknown".to_owned(),
        Cell::Nothing => "-".to_owned(),
        Cell::Number(number) => number.to_string(),
        Cell::Text(text) => printable(text),
        Cell::Age(age) => age_in_words(*age),
        Cell::Said { words, .. } => printable(words),
        Cell::Lines { lines, .. } if lines.is_empty() => "-".to_owned(),
        Cell::Lines { lines, .. } => printable(&lines.join(" ")),
    }
}

/// Foreign text must not steer a terminal.
fn printable(text: &str) -> String {
    let printable = |it: char| if it.is_control() { '\u{fffd}' } else { it };
    text.chars().map(printable).collect()
}

/// Whole seconds from one second on.
fn age_in_words(age: Duration) -> String {
    let whole = match age.as_secs() {
        0 => Duration::from_millis(u64::from(age.subsec_millis())),
        seconds => Duration::from_secs(seconds),
    };
    humantime::format_duration(whole).to_string()
}
