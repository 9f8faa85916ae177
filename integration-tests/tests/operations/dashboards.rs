//! What the shipped dashboards ask.

use serde_json::Value;

use super::rules::docker;

/// One query of one panel.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) place: String,
    pub(crate) expr: String,
}

/// The dashboards, each with its file name.
pub(crate) fn boards() -> Vec<(String, Value)> {
    let folder = docker().join("grafana/dashboards");
    let mut boards: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (
                name,
                serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap(),
            )
        })
        .collect();
    boards.sort_by(|(a, _), (b, _)| a.cmp(b));
    boards
}

/// Everything on a dashboard but the rows.
pub(crate) fn panels(board: &Value) -> impl Iterator<Item = &Value> {
    board["panels"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|panel| panel["type"] != "row")
}

/// All queries of all panels, in their order.
pub(crate) fn queries() -> Vec<Query> {
    let mut queries = Vec::new();
    for (name, board) in &boards() {
        for panel in panels(board) {
            for target in panel["targets"].as_array().unwrap() {
                let place = format!(
                    "{name}: {} {}",
                    panel["title"].as_str().unwrap(),
                    target["refId"].as_str().unwrap()
                );
                queries.push(Query {
                    place,
                    expr: target["expr"].as_str().unwrap().to_owned(),
                });
            }
        }
    }
    queries
}

impl Query {
    /// With the variables as Grafana would fill them in.
    pub(crate) fn filled(&self, subscription: &str, topic: &str, partition: i32) -> String {
        let filled = self
            .expr
            .replace("$subscription", subscription)
            .replace("$topic", topic)
            .replace("$partition", &partition.to_string())
            .replace("$__rate_interval", "10s");
        assert!(
            !filled.contains('$'),
            "{}: a variable is left in {filled}",
            self.place
        );
        filled
    }
}
