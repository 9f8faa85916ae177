//! Which panels and alerts ask for a metric.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use keylane::metrics::names::{MetricDef, MetricKind};
use serde_json::Value;

/// What asks, by name, and in its queries' words.
struct Asker {
    name: String,
    words: BTreeSet<String>,
}

pub(crate) struct Usage {
    panels: Vec<Asker>,
    alerts: Vec<Asker>,
}

impl Usage {
    /// Looks through the dashboards and rules there are in this folder.
    pub(crate) fn find(docker: &Path) -> io::Result<Self> {
        let (mut panels, mut alerts) = (Vec::new(), Vec::new());
        for file in files(&docker.join("grafana/dashboards"), &["json"])? {
            let dashboard: Value = serde_json::from_str(&fs::read_to_string(&file)?)
                .map_err(|error| io::Error::other(format!("{}: {error}", file.display())))?;
            let title = dashboard["title"].as_str().unwrap_or_default();
            add_panels(title, &dashboard, &mut panels);
        }
        for file in files(&docker.join("prometheus"), &["yml", "yaml"])? {
            add_alerts(&fs::read_to_string(file)?, &mut alerts);
        }
        Ok(Self { panels, alerts })
    }

    pub(crate) fn panels(&self, metric: &MetricDef) -> Vec<&str> {
        asking(&self.panels, metric)
    }

    pub(crate) fn alerts(&self, metric: &MetricDef) -> Vec<&str> {
        asking(&self.alerts, metric)
    }
}

fn asking<'a>(askers: &'a [Asker], metric: &MetricDef) -> Vec<&'a str> {
    let suffixes: &[&str] = if metric.kind == MetricKind::Histogram {
        &["", "_bucket", "_sum", "_count"]
    } else {
        &[""]
    };
    let names: Vec<_> = suffixes
        .iter()
        .map(|suffix| format!("{}{suffix}", metric.name))
        .collect();
    let asks = |asker: &&Asker| names.iter().any(|name| asker.words.contains(name));
    let mut found: Vec<_> = askers
        .iter()
        .filter(asks)
        .map(|asker| asker.name.as_str())
        .collect();
    found.dedup();
    found
}

/// Panels lie in the dashboard, and in its rows where those are folded.
fn add_panels(dashboard: &str, parent: &Value, panels: &mut Vec<Asker>) {
    for panel in parent["panels"].as_array().into_iter().flatten() {
        let queries = panel["targets"].as_array().into_iter().flatten();
        let words: BTreeSet<_> = queries
            .filter_map(|query| query["expr"].as_str())
            .flat_map(words)
            .collect();
        if !words.is_empty() {
            let name = format!(
                "{dashboard}: {}",
                panel["title"].as_str().unwrap_or_default()
            );
            panels.push(Asker { name, words });
        }
        add_panels(dashboard, panel, panels);
    }
}

/// Reads rules as they are written: `- alert:` begins one, and its query ends where the next field
/// begins.
fn add_alerts(rules: &str, alerts: &mut Vec<Asker>) {
    let mut in_query = false;
    let mut is_alert = false;
    for line in rules.lines() {
        let field = line
            .trim_start()
            .trim_start_matches("- ")
            .split_once(':')
            .map(|(field, rest)| (field.trim(), rest));
        let text = match field {
            Some(("alert", name)) => {
                (is_alert, in_query) = (true, false);
                alerts.push(Asker {
                    name: name.trim().trim_matches(['"', '\'']).to_owned(),
                    words: BTreeSet::new(),
                });
                continue;
            }
            Some(("record", _)) => {
                (is_alert, in_query) = (false, false);
                continue;
            }
            Some(("expr", text)) => {
                in_query = true;
                text
            }
            Some(("for" | "keep_firing_for" | "labels" | "annotations", _)) => {
                in_query = false;
                continue;
            }
            _ => line,
        };
        if let Some(alert) = alerts.last_mut().filter(|_| is_alert && in_query) {
            alert.words.extend(words(text));
        }
    }
}

fn words(query: &str) -> impl Iterator<Item = String> {
    query
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
}

/// In the order of their names; none where there is no such folder.
fn files(folder: &Path, endings: &[&str]) -> io::Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|ending| endings.iter().any(|wanted| ending == *wanted))
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use keylane::metrics::names;

    use super::*;

    #[test]
    fn panels_are_found_in_folded_rows_and_by_whole_words() {
        let dashboard = serde_json::json!({ "title": "D", "panels": [
            { "title": "Lag", "targets": [{ "expr": "max(keylane_lag_seconds{topic=\"t\"}) > 3" }] },
            { "type": "row", "panels": [
                { "title": "Attempts", "targets": [{ "expr": "rate(keylane_attempt_duration_seconds_bucket[5m])" }] },
            ] },
        ] });
        let (mut panels, mut alerts) = (Vec::new(), Vec::new());
        add_panels("D", &dashboard, &mut panels);
        add_alerts(
            "groups:\n  - name: g\n    rules:\n      - record: r\n        expr: keylane_paused\n      - alert: Late\n        expr: >-\n          \
             max(keylane_lag_seconds)\n          > 5\n        for: 1m\n        annotations:\n          summary: keylane_stalled\n",
            &mut alerts,
        );
        let usage = Usage { panels, alerts };
        assert_eq!(usage.panels(&names::LAG_SECONDS), ["D: Lag"]);
        assert_eq!(usage.panels(&names::ATTEMPT_DURATION), ["D: Attempts"]);
        assert_eq!(usage.alerts(&names::LAG_SECONDS), ["Late"]);
        for other in [
            &names::STALLED,
            &names::PAUSED,
            &names::WORKABLE_LAG_SECONDS,
        ] {
            assert!(
                usage.alerts(other).is_empty() && usage.panels(other).is_empty(),
                "{}",
                other.name
            );
        }
    }
}
