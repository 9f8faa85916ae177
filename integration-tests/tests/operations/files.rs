//! Compares the files in `docker/` with each other and with the metrics.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use keylane::metrics::names::{ALL, MetricKind};
use keylane_sql::{inbox::metrics::ALL as OF_INBOX, outbox::metrics::ALL as OF_OUTBOX};

use super::{
    dashboards::{boards, panels},
    prometheus::program,
    rules::{docker, shipped},
};

#[test]
fn promtool_accepts_the_configuration_and_every_rule_passes_its_tests() {
    let Some(promtool) = program("promtool") else {
        return;
    };
    let tests = docker().join("prometheus/tests");
    let mut files: Vec<_> = fs::read_dir(&tests)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty());
    let run = |arguments: &[&str], files: &[std::path::PathBuf]| {
        let output = Command::new(&promtool)
            .args(arguments)
            .args(files)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "promtool {arguments:?}: {text}");
    };
    run(
        &["check", "config"],
        &[docker().join("prometheus/prometheus.yml")],
    );
    run(
        &["check", "rules"],
        &[docker().join("prometheus/alerts.yml")],
    );
    run(&["test", "rules"], &files);
}

#[test]
fn every_rule_has_a_severity_a_tested_page_and_a_dashboard_that_exists() {
    let tests: String = texts(&docker().join("prometheus/tests"))
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    let mut pages = BTreeSet::new();
    for rule in shipped() {
        let alert = &rule.alert;
        assert!(
            ["critical", "warning", "info"].contains(&&*rule.labels["severity"]),
            "{alert}"
        );
        assert!(
            tests.contains(&format!("alertname=\"{alert}\", alertstate=\"firing\"")),
            "{alert} fires in no test"
        );
        let page = rule.annotations["runbook_url"]
            .strip_prefix("{{ $externalLabels.runbooks }}")
            .unwrap();
        assert_eq!(page, format!("runbook/{alert}.md"));
        let page = fs::read_to_string(docker().join(page)).unwrap();
        for part in [
            &format!("# {alert}\n"),
            "\n## What it means\n",
            "\n## How to confirm\n",
            "\n## What to do\n",
        ] {
            assert!(page.contains(part), "the page of {alert} lacks {part:?}");
        }
        pages.insert(format!("{alert}.md"));
        let dashboard = rule.annotations["dashboard"]
            .strip_prefix("{{ $externalLabels.grafana }}/d/")
            .unwrap();
        let (dashboard, _) = dashboard.split_once('?').unwrap();
        assert!(
            boards().iter().any(|(_, board)| board["uid"] == dashboard),
            "{alert} leads to {dashboard}"
        );
    }
    pages.insert("README.md".to_owned());
    let there: BTreeSet<_> = texts(&docker().join("runbook"))
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(
        there, pages,
        "one page for each alert, and the first one to read"
    );
}

#[test]
fn dashboards_have_stable_names_and_each_panel_says_what_to_do() {
    for (file, board) in boards() {
        assert_eq!(
            board["uid"],
            format!("keylane-{}", file.trim_end_matches(".json")),
            "{file}"
        );
        let mut ids = BTreeSet::new();
        for panel in board["panels"].as_array().unwrap() {
            assert!(
                ids.insert(panel["id"].as_u64().unwrap()),
                "{file}: {} is there twice",
                panel["id"]
            );
        }
        for panel in panels(&board) {
            let title = panel["title"].as_str().unwrap();
            assert!(
                panel["description"]
                    .as_str()
                    .is_some_and(|text| text.len() > 20),
                "{file}: {title}"
            );
            assert!(
                panel["fieldConfig"]["defaults"]["unit"].is_string(),
                "{file}: {title}"
            );
            assert_eq!(
                panel["datasource"]["uid"], "${datasource}",
                "{file}: {title}"
            );
        }
    }
}

#[test]
fn runbooks_that_panels_and_pages_name_exist() {
    for (name, text) in everything() {
        for alert in words(&text, "Keylane") {
            assert!(
                shipped().iter().any(|rule| rule.alert == alert),
                "{name} names {alert}"
            );
        }
    }
}

#[test]
fn every_metric_that_is_named_exists() {
    let own = ALL.iter().map(|metric| (metric.name, metric.kind));
    let of_outbox = OF_OUTBOX
        .iter()
        .chain(OF_INBOX)
        .map(|metric| (metric.name, metric.kind));
    let metrics: Vec<_> = own.chain(of_outbox).collect();
    let mut named = BTreeSet::new();
    for (name, text) in everything() {
        // The table, which statements of the runbook name.
        for word in words(&text, "keylane_")
            .into_iter()
            .filter(|word| word != "keylane_outbox" && word != "keylane_inbox")
        {
            let metric = metrics
                .iter()
                .find(|(metric, kind)| series_of(metric, *kind).contains(&word));
            let (metric, _) = metric
                .unwrap_or_else(|| panic!("{name} names {word}, which keylane does not have"));
            named.insert(*metric);
        }
    }
    let all: BTreeSet<_> = metrics.iter().map(|(metric, _)| *metric).collect();
    assert_eq!(
        all.difference(&named).collect::<Vec<_>>(),
        [] as [&&str; 0],
        "on no dashboard, in no rule and on no page"
    );
}

fn series_of(name: &str, kind: MetricKind) -> Vec<String> {
    match kind {
        MetricKind::Histogram => ["", "_bucket", "_sum", "_count"]
            .map(|suffix| format!("{name}{suffix}"))
            .to_vec(),
        _ => vec![name.to_owned()],
    }
}

/// All text files of dashboards, rules and pages, with their names.
fn everything() -> Vec<(String, String)> {
    let folders = [
        "grafana/dashboards",
        "prometheus",
        "prometheus/tests",
        "runbook",
        "",
    ];
    folders
        .iter()
        .flat_map(|folder| texts(&docker().join(folder)))
        .collect()
}

/// The files of a folder, with their names.
pub(crate) fn texts(folder: &Path) -> Vec<(String, String)> {
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file());
    let mut texts: Vec<_> = files
        .map(|path| {
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                fs::read_to_string(path).unwrap(),
            )
        })
        .collect();
    texts.sort();
    texts
}

/// The words that begin like that, without the beginning alone.
fn words(text: &str, beginning: &str) -> Vec<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text
        .split(|c: char| !is_part(c))
        .filter(|word| word.starts_with(beginning) && *word != beginning);
    words.map(str::to_owned).collect()
}
