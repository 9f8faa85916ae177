//! Colours that show whether something is well: green is for success alone.

use serde_json::Value;

const GREEN: &str = "#73bf69";
const ORANGE: &str = "#ff9830";
const RED: &str = "#f2495c";
/// What failed, the worst last.
const WARM: [&str; 6] = [RED, ORANGE, "#ffcb7d", "#e05fa0", "#ff7383", "#c4162a"];
/// Everything else.
const COOL: [&str; 5] = ["#5794f2", "#b877d9", "#8ab8ff", "#37b7c3", "#c0d8ff"];
/// What lines of failures have in their names: results, outcomes, reasons, kinds.
const FAILURES: [&str; 21] = [
    "error",
    "fatal",
    "panic",
    "timeout",
    "undecodable",
    "dead_lettered",
    "exhausted",
    "poison",
    "blocker",
    "failed",
    "held",
    "parked",
    "refused",
    "outage",
    "total",
    "place",
    "class",
    "bad_deployment",
    "unavailable",
    "lost",
    "retried",
];
const SUCCESSES: [&str; 3] = ["done", "ok", "acknowledged"];

/// Of a number: the last step of the panel's thresholds that it reaches.
pub(super) fn of_value(value: f64, steps: &Value) -> &'static str {
    let steps = steps.as_array().map_or(&[][..], Vec::as_slice);
    let reached = steps
        .iter()
        .rfind(|step| step["value"].as_f64().is_none_or(|least| value >= least));
    match reached.and_then(|step| step["color"].as_str()) {
        Some("green") | None => GREEN,
        Some("red") => RED,
        Some(_) => ORANGE,
    }
}

/// The colours of a chart's lines, one each.
pub(super) fn of_lines(names: &[&str]) -> Vec<&'static str> {
    let (mut warm, mut cool) = (WARM.iter().cycle(), COOL.iter().cycle());
    let of = |name: &&str| {
        let has = |words: &[&str]| name.split([' ', ':']).any(|word| words.contains(&word));
        let next = if has(&FAILURES) {
            warm.next()
        } else if has(&SUCCESSES) {
            Some(&GREEN)
        } else {
            cool.next()
        };
        *next.unwrap_or(&GREEN)
    };
    names.iter().map(of).collect()
}

#[test]
fn no_failure_is_green() {
    for name in FAILURES {
        assert_ne!(of_lines(&[name]), [GREEN], "{name}");
    }
    assert_eq!(
        of_lines(&["done", "retried", "dead_lettered", "p99"]),
        [GREEN, RED, ORANGE, COOL[0]]
    );
}

#[test]
fn a_number_has_the_colour_of_the_threshold_it_reaches() {
    let steps = serde_json::json!([
        { "color": "green", "value": null }, { "color": "orange", "value": 1 }, { "color": "red", "value": 25 }
    ]);
    assert_eq!(
        [0.0, 1.0, 42.0].map(|value| of_value(value, &steps)),
        [GREEN, ORANGE, RED]
    );
    assert_eq!(of_value(7.0, &Value::Null), GREEN);
}
