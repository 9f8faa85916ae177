//! Every panel's query and every selector of every rule, on a run with traffic.

use std::time::Duration;

use keylane_integration_tests::{
    kafka::{Kafka, Nodes},
    kafka_or_skip,
    members::operations::{DOWN, FATAL},
    wait::wait_for,
};

use super::{
    dashboards::{Query, boards, queries},
    files::texts,
    picture,
    prometheus::{Prometheus, Sample, program},
    rules::{docker, shipped},
    scene::{DEADLINE, PARTITIONS, Scene},
};

/// The longest time for the answer to a query.
const WAIT: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_panel_and_every_rule_finds_what_it_asks_for_and_an_ordinary_run_raises_no_alert_but_of_its_dead_letters()
 {
    let Some(prometheus) = program("prometheus") else {
        return;
    };
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Scene::new(kafka, "panels", &prometheus, 2).await;
    let scene = scene.with_outbox().await;
    let first = scene.start(0);
    scene.runs_well().await;
    // A hand-over and a few dead letters, as on any day.
    let second = scene.start(1);
    let shared = r#"min(keylane_assigned_partitions) == 2 and sum(keylane_drain_duration_seconds_count{result="drained"}) > 0"#;
    let seen = async |what: &str, query: &str| {
        wait_for(what, DEADLINE, async || {
            (!scene.prometheus.query(query).await.is_empty()).then_some(())
        })
        .await;
    };
    seen("two members share the partitions", shared).await;
    for partition in 0..PARTITIONS {
        scene.write(partition, "unknown-device", FATAL).await;
    }
    seen(
        "dead letters are counted",
        &format!("sum(keylane_dead_letters_total) >= {PARTITIONS}"),
    )
    .await;
    seen(
        "and told",
        r#"ALERTS{alertname="KeylaneDeadLettersGrowing", alertstate="firing"}"#,
    )
    .await;
    let log = scene.logged();
    let told = log
        .lines()
        .filter(|line| line.contains("WARN") && line.contains("a record is given up"))
        .count();
    assert_eq!(
        told, PARTITIONS as usize,
        "a line for each dead letter: {log}"
    );
    let information = r#"ALERTS{alertname="KeylaneDeadLetterTopicNotEmpty", alertstate="firing", severity="info"}"#;
    seen("that they lie in their topic is reported", information).await;
    seen(
        "every member counts them",
        &format!("min(keylane_dead_letter_topic_records) == {PARTITIONS}"),
    )
    .await;
    scene
        .runs_well_but_for(&["KeylaneDeadLettersGrowing"])
        .await;

    let mut faults = Vec::new();
    for query in queries() {
        faults.extend(fault_of(&query, &scene.prometheus, &scene.group, &scene.topic).await);
    }
    let rules = shipped().into_iter().map(|rule| (rule.alert, rule.expr));
    for (place, expr) in rules.chain(runbook_queries()) {
        scene.prometheus.query(&expr).await;
        for selector in selectors(&expr) {
            if found(&selector, &scene.prometheus).await.is_empty() {
                faults.push(format!("{place}: {selector} finds nothing"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(
        scene.prometheus.fired().await,
        ["KeylaneDeadLettersGrowing"]
    );
    if let Some(path) = std::env::var_os("KEYLANE_PICTURE") {
        draw_an_outage(&scene, path.as_ref()).await;
    }
    second.leave().await;
    first.leave().await;
    scene.finish().await;
}

/// The picture of the README, on demand: the overview while the downstream is away for a moment.
async fn draw_an_outage<K>(scene: &Scene<K>, path: &std::path::Path)
where
    K: std::ops::Deref<Target = Kafka> + Clone + Send + Sync + 'static,
{
    scene.begin(DOWN);
    let refused = format!(
        r#"sum(keylane_outage_holds_total{{subscription="{}"}}) > 1000"#,
        scene.group
    );
    wait_for("records are held", DEADLINE, async || {
        (!scene.prometheus.query(&refused).await.is_empty()).then_some(())
    })
    .await;
    scene.end(DOWN);
    wait_for("the backlog is done", DEADLINE, async || {
        (!scene
            .prometheus
            .query("max_over_time(max(keylane_lag_seconds)[10s:1s]) < 2")
            .await
            .is_empty())
        .then_some(())
    })
    .await;
    let (_, overview) = boards()
        .into_iter()
        .find(|(name, _)| name == "overview.json")
        .unwrap();
    let svg = picture::draw(
        &overview,
        &scene.prometheus,
        (&scene.group, &scene.topic),
        180,
    )
    .await;
    std::fs::write(path, svg).unwrap();
}

/// Also in the other partitions it is not said that nothing is wrong: a value at least, and one
/// that is a number.
async fn fault_of(
    query: &Query,
    prometheus: &Prometheus,
    group: &str,
    topic: &str,
) -> Option<String> {
    let filled = query.filled(group, topic, 0);
    let answer = found(&filled, prometheus).await;
    let values: Vec<_> = answer.iter().map(|sample| sample.value()).collect();
    if values.is_empty() {
        return Some(format!("{}: {filled} finds nothing", query.place));
    }
    if !values.iter().any(|value| value.is_finite()) {
        return Some(format!(
            "{}: {filled} has no number among {values:?}",
            query.place
        ));
    }
    let negative = values.iter().any(|value| *value < 0.0);
    negative.then(|| format!("{}: {filled} is negative: {values:?}", query.place))
}

/// What a query finds in the end: a list that leaves out what is 0 has something now and then, and
/// a scrape that took too long leaves a gap.
async fn found(query: &str, prometheus: &Prometheus) -> Vec<Sample> {
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(WAIT, async {
        while answer.is_empty() {
            answer = prometheus.query(query).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await;
    answer
}

/// Each line of each block of PromQL in the runbook, with its page.
fn runbook_queries() -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for (page, text) in texts(&docker().join("runbook")) {
        for block in text.split("```promql\n").skip(1) {
            let (block, _) = block.split_once("```").unwrap();
            queries.extend(block.lines().map(|line| (page.clone(), line.to_owned())));
        }
    }
    assert!(queries.len() > 20, "{queries:?}");
    queries
}

/// The metrics that an expression names, with their label matchers, without ranges and offsets.
fn selectors(expr: &str) -> Vec<String> {
    let mut selectors = Vec::new();
    let mut rest = expr;
    while let Some(start) = rest.find("keylane_") {
        rest = &rest[start..];
        let name = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        let matchers = if rest[name..].starts_with('{') {
            rest[name..].find('}').unwrap() + 1
        } else {
            0
        };
        selectors.push(rest[..name + matchers].to_owned());
        rest = &rest[name + matchers..];
    }
    selectors
}

#[test]
fn selectors_are_names_with_their_matchers() {
    let expr = r#"sum by (a) (rate(keylane_a_total{b="c|d"}[5m])) / keylane_b offset 5m > 3"#;
    assert_eq!(
        selectors(expr),
        [r#"keylane_a_total{b="c|d"}"#, "keylane_b"]
    );
}
