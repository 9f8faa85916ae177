use serde_json::json;

use super::*;

fn lag() -> Table {
    let mut table = Table::new(&["topic", "lag", "age_seconds", "ranges", "trouble"]);
    table.push(vec![
        Cell::text("parking-events"),
        Cell::Number(1_200),
        Cell::Age(Duration::from_millis(7_500)),
        Cell::said("3-5", json!([{"first": 3, "last": 5}])),
        Cell::Nothing,
    ]);
    table.push(vec![
        Cell::text("a"),
        Cell::Unknown,
        Cell::Unknown,
        Cell::Nothing,
        Cell::text("says \"no\", twice\u{1b}[31m"),
    ]);
    table
}

#[test]
fn people_get_columns_in_which_unknown_is_a_word_and_no_text_steers_the_terminal() {
    assert_eq!(
        lag().render(Format::Table),
        "\
TOPIC               LAG  AGE_SECONDS  RANGES  TROUBLE
parking-events     1200  7s           3-5     -
a               unknown  unknown      -       says \"no\", twice\u{fffd}[31m
"
    );
}

#[test]
fn programs_get_null_for_unknown_and_no_field_where_there_is_no_value() {
    let objects = [
        json!({"topic": "parking-events", "lag": 1200, "age_seconds": 7.5, "ranges": [{"first": 3, "last": 5}]}),
        json!({"topic": "a", "lag": null, "age_seconds": null, "trouble": "says \"no\", twice\u{1b}[31m"}),
    ];
    let document: Value = serde_json::from_str(&lag().render(Format::Json)).unwrap();
    assert_eq!(document, json!(objects));
    let text = lag().render(Format::Jsonl);
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines, objects);
}

#[test]
fn spreadsheets_get_a_heading_quoted_fields_and_no_formula() {
    let text = lag().render(Format::Csv);
    let lines: Vec<&str> = text.split("\r\n").collect();
    assert_eq!(lines[0], "topic,lag,age_seconds,ranges,trouble");
    assert_eq!(
        lines[1],
        "parking-events,1200,7.5,\"[{\"\"first\"\":3,\"\"last\"\":5}]\","
    );
    assert_eq!(
        lines[2],
        "a,unknown,unknown,,\"says \"\"no\"\", twice\u{1b}[31m\""
    );
    let mut formula = Table::new(&["a", "b", "c"]);
    formula.push(vec![Cell::text("=1+1"), Cell::text("-1"), Cell::Number(-1)]);
    assert_eq!(formula.render(Format::Csv), "a,b,c\r\n'=1+1,'-1,-1\r\n");
}

#[test]
fn one_thing_is_an_object_and_its_values_stand_below_each_other() {
    let table = Table::of_one(
        &["group", "settled_ahead"],
        vec![Cell::text("notifier"), Cell::Number(3)],
    );
    assert_eq!(
        table.render(Format::Table),
        "group          notifier\nsettled ahead  3\n"
    );
    let object: Value = serde_json::from_str(&table.render(Format::Json)).unwrap();
    assert_eq!(object, json!({"group": "notifier", "settled_ahead": 3}));
    assert_eq!(
        table.render(Format::Csv),
        "group,settled_ahead\r\nnotifier,3\r\n"
    );
}

#[test]
fn lines_stand_below_each_other_beside_one_name() {
    let lines = |lines: &[&str]| Cell::Lines {
        lines: lines.iter().map(|it| (*it).to_owned()).collect(),
        value: json!(lines.len()),
    };
    let row = || vec![lines(&["{", "  \"a\": \u{1b}1", "}"]), lines(&[])];
    let one = Table::of_one(&["value", "headers"], row());
    assert_eq!(
        one.render(Format::Table),
        "value    {\n           \"a\": \u{fffd}1\n         }\nheaders  -\n"
    );
    let object: Value = serde_json::from_str(&one.render(Format::Json)).unwrap();
    assert_eq!(object, json!({"value": 3, "headers": 0}));
}
