//! Compares the documents with the code, the repository and each other.
// Clippy allows it in test functions only, not in what they call.
#![allow(clippy::unwrap_used, clippy::panic)]

mod book;
mod floors;
mod links;
mod log_lines;
mod markdown;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use keylane::config::ControlTopic;
use keylane::{DeadLetter, Retry, SubscriptionConfig};
use serde_json::Value;

use markdown::{Document, documents, repository};

const OPTIONS: &str = include_str!("../../src/config/options.md");
const README: &str = include_str!("../../../../README.md");
const ARCHITECTURE: &str = include_str!("../../../../ARCHITECTURE.md");
const CONFIGURATION: &str = include_str!("../../../../docs/src/configuration.md");
/// A test of that crate compares it with its code.
const OUTBOX_METRICS: &str = include_str!("../../../keylane-sql/src/outbox/metrics.md");

const INBOX_METRICS: &str = include_str!("../../../keylane-sql/src/inbox/metrics.md");

/// What begins like a metric and is none: crates, and the tables of outbox and inbox.
const CRATES: [&str; 9] = [
    "keylane_",
    "keylane_admin",
    "keylane_core",
    "keylane_embedded_broker",
    "keylane_inbox",
    "keylane_inbox_groups",
    "keylane_outbox",
    "keylane_sql",
    "keylane_testkit",
];

#[test]
fn the_table_of_options_names_every_setting_with_its_default() {
    assert_eq!(rows(OPTIONS), defaults());
}

#[test]
fn the_manual_gives_the_defaults_of_the_table() {
    let table = defaults();
    let known = |text: &str| -> Vec<_> {
        rows(text)
            .into_iter()
            .filter(|(option, _)| table.contains_key(option))
            .collect()
    };
    let first = known(CONFIGURATION).len();
    assert!(
        first >= 15,
        "only {first} options are on the page to look at first"
    );
    for document in written_by_hand() {
        for (option, default) in known(&document.text) {
            assert_eq!(table[&option], default, "{option} in {}", document.path);
        }
    }
}

#[test]
fn every_metric_the_documents_mention_exists() {
    let own = keylane::metrics::names::ALL.iter();
    let of_outbox = words(OUTBOX_METRICS, "keylane_outbox_");
    let known = own.map(|metric| metric.name).chain(of_outbox);
    let of_inbox = words(INBOX_METRICS, "keylane_inbox_");
    let known: BTreeSet<&str> = known.chain(of_inbox).collect();
    let mut mentioned = 0;
    for document in written_by_hand() {
        for word in words(&document.text, "keylane_").filter(|word| !CRATES.contains(word)) {
            assert!(
                known.contains(word),
                "{}: there is no metric {word}",
                document.path
            );
            mentioned += 1;
        }
    }
    assert!(mentioned >= 60, "{mentioned} metrics are mentioned");
}

#[test]
fn every_alert_the_documents_mention_exists() {
    let rules = fs::read_to_string(repository().join("docker/prometheus/alerts.yml")).unwrap();
    for document in written_by_hand() {
        for alert in words(&document.text, "Keylane").filter(|word| *word != "Keylane") {
            let rule = rules
                .lines()
                .any(|line| line.trim() == format!("- alert: {alert}"));
            assert!(rule, "{}: there is no alert {alert}", document.path);
        }
    }
}

#[test]
fn every_page_of_the_runbook_leads_to_what_keylane_does_then() {
    let pages: Vec<_> = documents()
        .into_iter()
        .filter(|document| document.path.starts_with("docker/runbook/"))
        .collect();
    assert!(pages.len() >= 15, "{} pages", pages.len());
    for page in pages {
        let leads = markdown::links(&page.text)
            .iter()
            .any(|link| link.target.starts_with("../../docs/src/operations/"));
        assert!(leads, "{} does not", page.path);
    }
}

#[test]
fn every_path_to_the_admin_server_exists() {
    let description = include_str!("../../../keylane-admin/src/openapi.json");
    let description: Value = serde_json::from_str(description).unwrap();
    let paths = description["paths"].as_object().unwrap();
    let page = include_str!("../../../../docs/src/admin-api.md");
    let mut named = BTreeSet::new();
    for row in page
        .lines()
        .filter(|line| line.starts_with("| `GET ") || line.starts_with("| `POST "))
    {
        let mut first = "";
        for code in row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2) {
            let path = match code.strip_prefix('…') {
                // "`…/resume`" stands for a sibling of the path before it.
                Some(end) => format!("{}{end}", first.rsplit_once('/').unwrap().0),
                None => {
                    first = code.split_once(' ').unwrap().1;
                    first.to_owned()
                }
            };
            assert!(paths.contains_key(&path), "the admin server has no {path}");
            named.insert(path);
        }
    }
    let missing: Vec<_> = paths
        .keys()
        .filter(|path| !named.contains(*path) && !["/metrics", "/openapi.json"].contains(&&***path))
        .collect();
    assert!(missing.is_empty(), "not on the page: {missing:?}");
}

#[test]
fn every_reason_of_health_is_explained_on_the_page_of_the_admin_server() {
    let description: Value =
        serde_json::from_str(include_str!("../../../keylane-admin/src/openapi.json")).unwrap();
    let codes = description
        .pointer("/components/schemas/Reason/properties/code/enum")
        .unwrap()
        .as_array()
        .unwrap();
    let codes: BTreeSet<_> = codes.iter().map(|code| code.as_str().unwrap()).collect();
    let page = include_str!("../../../../docs/src/admin-api.md");
    let table = page.split_once("| reason | means | page |").unwrap().1;
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let named: BTreeSet<_> = rows
        .flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2))
        .collect();
    assert_eq!(named, codes);
}

#[test]
fn the_complete_consumer_fits_in_25_lines_and_is_the_same_in_the_manual() {
    let code = |text: &'static str| {
        text.split("```rust,no_run\n")
            .skip(1)
            .map(|rest| rest.split_once("```").unwrap().0)
            .find(|code| code.contains("fn main"))
            .unwrap()
    };
    let consumer = code(README);
    assert!(
        consumer.lines().count() <= 25,
        "{} lines",
        consumer.lines().count()
    );
    assert_eq!(
        consumer,
        code(include_str!("../../../../docs/src/first-consumer.md"))
    );
}

#[test]
fn the_readme_invites_and_the_architecture_takes_two_pages() {
    for (name, text, most) in [
        ("README.md", README, 1_000),
        ("ARCHITECTURE.md", ARCHITECTURE, 2_000),
    ] {
        let words = text.split_whitespace().count();
        assert!(
            words <= most,
            "{name} has {words} words; what is more belongs into docs/"
        );
    }
}

#[test]
fn every_witness_of_a_guarantee_is_a_test() {
    let mut tests = String::new();
    for folder in [
        "integration-tests/tests/real",
        "integration-tests/chaos/tests",
    ] {
        log_lines::collect(&repository().join(folder), &mut tests);
    }
    let page = include_str!("../../../../CONTRIBUTING.md");
    let table = page.split_once("| guarantee | witness").unwrap().1;
    let witnesses = table.split_once("Run by hand").unwrap().0;
    let mut named = 0;
    // After the first code span, which is the folder.
    for name in witnesses.split('`').skip(1).step_by(2).skip(1) {
        let found = tests.contains(name.trim_end_matches('*'));
        assert!(found, "there is no test {name}");
        named += 1;
    }
    assert!(named >= 10, "only {named} witnesses");
}

/// The documents at the top of the repository and those of the manual.
fn written_by_hand() -> impl Iterator<Item = Document> {
    documents()
        .into_iter()
        .filter(|document| !document.path.contains('/') || document.path.starts_with("docs/"))
        // It names metrics and alerts that are gone.
        .filter(|document| document.path != "CHANGELOG.md")
}

/// The words that begin like that.
fn words<'a>(text: &'a str, beginning: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(move |word| word.starts_with(beginning))
}

/// First and second column of the table rows that begin with two cells of code.
fn rows(text: &str) -> BTreeMap<String, String> {
    let code = |cell: &str| {
        cell.trim()
            .strip_prefix('`')?
            .split_once('`')
            .map(|(code, _)| code.to_owned())
    };
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
    full.control_topic = Some(ControlTopic::default());
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
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
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
