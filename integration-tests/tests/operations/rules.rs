//! The shipped alert rules, and the same in fast motion.

use std::path::PathBuf;

use keylane_integration_tests::members::operations::MINUTE;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct File {
    groups: Vec<Group>,
}

#[derive(Debug, Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Rule {
    pub(crate) alert: String,
    pub(crate) expr: String,
    #[serde(rename = "for")]
    pub(crate) pending: Option<String>,
    pub(crate) labels: std::collections::BTreeMap<String, String>,
    pub(crate) annotations: std::collections::BTreeMap<String, String>,
}

pub(crate) fn docker() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docker")
}

pub(crate) fn shipped() -> Vec<Rule> {
    let text = std::fs::read_to_string(docker().join("prometheus/alerts.yml")).unwrap();
    let file: File = serde_norway::from_str(&text).unwrap();
    file.groups
        .into_iter()
        .flat_map(|group| group.rules)
        .collect()
}

/// The rules as a file for Prometheus in which a minute is [`MINUTE`]: windows and waits shrink
/// alike, and nothing else.
pub(crate) fn in_fast_motion() -> String {
    let rules: Vec<_> = shipped()
        .into_iter()
        .map(|rule| {
            serde_json::json!({
                "alert": rule.alert,
                "expr": shrink(&rule.expr),
                "for": rule.pending.map_or("0s".to_owned(), |pending| shrink(&pending)),
                "labels": rule.labels,
                "annotations": rule.annotations,
            })
        })
        .collect();
    // JSON is YAML.
    serde_json::json!({ "groups": [{ "name": "keylane", "rules": rules }] }).to_string()
}

/// Every duration in minutes made shorter; the rules have no other ones.
fn shrink(text: &str) -> String {
    let mut shrunk = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let digits = rest[start..]
            .find(|c: char| !c.is_ascii_digit())
            .map_or(rest.len() - start, |length| length);
        let (number, after) = (&rest[start..start + digits], &rest[start + digits..]);
        let in_a_word =
            rest[..start].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.');
        let is_minutes = after
            .strip_prefix('m')
            .is_some_and(|after| !after.starts_with(|c: char| c.is_ascii_alphanumeric()));
        shrunk.push_str(&rest[..start]);
        if is_minutes && !in_a_word {
            let minutes: u32 = number.parse().unwrap();
            shrunk.push_str(&format!("{}s", (MINUTE * minutes).as_secs()));
            rest = &after[1..];
        } else {
            shrunk.push_str(number);
            rest = after;
        }
    }
    shrunk + rest
}

#[test]
fn durations_shrink_and_nothing_else_does() {
    assert_eq!(
        shrink("rate(a_5m{b=\"c\"}[5m]) > 0.5 and x offset 15m > 10"),
        "rate(a_5m{b=\"c\"}[15s]) > 0.5 and x offset 45s > 10"
    );
    assert_eq!(shrink("1m"), "3s");
    for rule in shipped() {
        for unit in ["s]", "h]", "d]", "ms]"] {
            assert!(
                !rule.expr.contains(unit),
                "{} has a window that is not in minutes",
                rule.alert
            );
        }
    }
}
