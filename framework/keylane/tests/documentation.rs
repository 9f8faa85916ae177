//! What the documents say, held against the code.
// Clippy allows it in test functions only, not in what they call.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use keylane::{DeadLetter, Retry, SubscriptionConfig};
use serde_json::Value;

const OPTIONS: &str = include_str!("../src/config/options.md");
const README: &str = include_str!("../../../README.md");
const ARCHITECTURE: &str = include_str!("../../../ARCHITECTURE.md");

#[test]
fn the_table_of_options_names_every_setting_with_its_default() {
    assert_eq!(rows(OPTIONS), defaults());
}

#[test]
fn the_readme_gives_the_defaults_of_the_table() {
    let table = defaults();
    let in_readme: Vec<_> = rows(README).into_iter().filter(|(option, _)| table.contains_key(option)).collect();
    assert!(in_readme.len() >= 15, "only {} options are in the README", in_readme.len());
    for (option, default) in in_readme {
        assert_eq!(table[&option], default, "{option}");
    }
}

#[test]
fn every_metric_the_documents_mention_exists() {
    let known: BTreeSet<&str> = keylane::metrics::names::ALL.iter().map(|metric| metric.name).collect();
    let mentioned: Vec<&str> = [README, ARCHITECTURE]
        .iter()
        .flat_map(|text| text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'))
        .filter(|word| word.starts_with("keylane_") && *word != "keylane_core")
        .collect();
    assert!(!mentioned.is_empty());
    for name in mentioned {
        assert!(known.contains(name), "there is no metric {name}");
    }
}

#[test]
fn the_complete_consumer_of_the_readme_fits_in_25_lines() {
    let (_, code) = README.split_once("```rust,no_run\n").unwrap();
    let (code, _) = code.split_once("```").unwrap();
    assert!(code.contains("fn main") && code.lines().count() <= 25, "{} lines", code.lines().count());
}

/// First and second column of the table rows that begin with two cells of code.
fn rows(text: &str) -> BTreeMap<String, String> {
    let code = |cell: &str| cell.trim().strip_prefix('`')?.split_once('`').map(|(code, _)| code.to_owned());
    text.lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix('|')?.split('|');
            Some((code(cells.next()?)?, code(cells.next()?)?))
        })
        .collect()
}

fn defaults() -> BTreeMap<String, String> {
    let plain = SubscriptionConfig::new("g", "t");
    // What hides behind an option that is off by default.
    let mut full = plain.clone();
    full.retry = Retry::default().then_topic();
    full.dead_letter = Some(DeadLetter::topic("d"));
    let mut all = BTreeMap::new();
    for config in [full, plain] {
        leaves("", &serde_json::to_value(config).unwrap(), &mut all);
    }
    for required in ["group", "topics", "dead_letter.topic"] {
        *all.get_mut(required).unwrap() = "required".to_owned();
    }
    all
}

fn leaves(path: &str, value: &Value, all: &mut BTreeMap<String, String>) {
    let text = match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                leaves(&path, value, all);
            }
            return;
        }
        Value::Null | Value::Object(_) => "none".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    all.insert(path.to_owned(), text);
}
