//! For programs: unknown is `null`, and an absent value is omitted.

use serde_json::{Map, Value};

use super::{Cell, Table};

pub(super) fn document(table: &Table) -> String {
    let mut objects = table.rows.iter().map(|row| object(table, row));
    let document = match table.is_one {
        true => objects.next().unwrap_or_default(),
        false => objects.collect(),
    };
    format!("{document:#}\n")
}

pub(super) fn lines(table: &Table) -> String {
    let lines = table
        .rows
        .iter()
        .map(|row| format!("{}\n", object(table, row)));
    lines.collect()
}

fn object(table: &Table, row: &[Cell]) -> Value {
    let cells = table.columns.iter().zip(row);
    let values = cells.filter_map(|(name, cell)| Some(((*name).to_owned(), value(cell)?)));
    Value::Object(values.collect::<Map<_, _>>())
}

pub(super) fn value(cell: &Cell) -> Option<Value> {
    Some(match cell {
        Cell::Unknown => Value::Null,
        Cell::Nothing => return None,
        Cell::Number(number) => (*number).into(),
        Cell::Text(text) => text.as_str().into(),
        Cell::Age(age) => age.as_secs_f64().into(),
        Cell::Said { value, .. } | Cell::Lines { value, .. } => value.clone(),
    })
}
