//! The results of many runs in one table.

use std::{collections::BTreeMap, fmt::Write};

use serde_json::Value;

/// The columns behind a figure's name: how it is spread over the seeds of a protocol.
const SPREADS: [&str; 3] = ["median", "max", "sum"];

/// A table from lines as the program prints them: for each protocol the median, the highest and the
/// sum of every figure, and the seeds with violations.
///
/// # Errors
/// When a line is not JSON.
pub fn table(lines: &str) -> Result<String, serde_json::Error> {
    let mut figures: BTreeMap<String, BTreeMap<String, Vec<f64>>> = BTreeMap::new();
    let (mut runs, mut failures) = (BTreeMap::<String, usize>::new(), String::new());
    for run in last_of_each(lines)? {
        let protocol = run["protocol"].as_str().unwrap_or("unknown").to_owned();
        *runs.entry(protocol.clone()).or_default() += 1;
        let failed = run.get("not_tried").or(run
            .get("violations")
            .filter(|found| found.as_array().is_some_and(|it| !it.is_empty())));
        if let Some(failed) = failed {
            let _ = writeln!(failures, "seed {} of {protocol}: {failed}", run["seed"]);
        }
        for (name, value) in figures_of(&run) {
            figures
                .entry(name)
                .or_default()
                .entry(protocol.clone())
                .or_default()
                .push(value);
        }
    }
    let mut text = String::new();
    let _ = write!(text, "{:<34}", "");
    for (protocol, runs) in &runs {
        let _ = write!(text, "{:>33}", format!("{protocol} ({runs} runs)"));
    }
    let _ = write!(text, "\n{:<34}", "");
    for spread in runs.keys().flat_map(|_| SPREADS) {
        let _ = write!(text, "{spread:>11}");
    }
    for (name, by_protocol) in figures {
        let _ = write!(text, "\n{name:<34}");
        for protocol in runs.keys() {
            for value in spread(by_protocol.get(protocol).cloned().unwrap_or_default()) {
                let _ = write!(text, "{:>11}", (value * 1_000.0).round() / 1_000.0);
            }
        }
    }
    let _ = write!(
        text,
        "\n\n{}",
        if failures.is_empty() {
            "no violations\n"
        } else {
            &failures
        }
    );
    Ok(text)
}

/// A seed that could not be tried, or was tried once more, counts as it came out last.
fn last_of_each(lines: &str) -> Result<Vec<Value>, serde_json::Error> {
    let mut runs: Vec<Value> = Vec::new();
    for line in lines.lines().filter(|line| !line.trim().is_empty()) {
        let run: Value = serde_json::from_str(line)?;
        let name = |run: &Value| {
            ["protocol", "seed", "version", "options"].map(|field| run[field].clone())
        };
        match runs.iter_mut().find(|earlier| name(earlier) == name(&run)) {
            Some(earlier) => *earlier = run,
            None => runs.push(run),
        }
    }
    Ok(runs)
}

fn spread(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_unstable_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(0.0);
    [
        at(values.len() / 2),
        at(values.len().saturating_sub(1)),
        values.iter().sum(),
    ]
}

/// The numbers of a run by name; those of its cuts come together.
fn figures_of(run: &Value) -> Vec<(String, f64)> {
    let mut figures = Vec::new();
    for (name, value) in run
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| *name != "seed")
    {
        match value {
            Value::Number(number) => {
                figures.extend(number.as_f64().map(|number| (name.clone(), number)))
            }
            Value::Object(inner) if name == "duplicates" => {
                figures.extend(inner.iter().filter_map(|(inner, value)| {
                    Some((format!("{name}.{inner}"), value.as_f64()?))
                }));
            }
            Value::Object(stall) if name == "longest_stall" => {
                figures.extend(
                    stall
                        .get("seconds")
                        .and_then(Value::as_f64)
                        .map(|value| (format!("{name}_seconds"), value)),
                );
            }
            Value::Array(cuts) if name == "cuts" => {
                let most = |field: &str| {
                    cuts.iter()
                        .filter_map(|cut| cut[field].as_f64())
                        .fold(0.0, f64::max)
                };
                figures.push(("cuts".to_owned(), cuts.len() as f64));
                for field in ["settled_redelivered", "in_flight", "oldest_ms"] {
                    figures.push((format!("cuts.{field} (most)"), most(field)));
                }
            }
            _ => {}
        }
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn figures_are_spread_over_the_runs_of_a_protocol_and_violations_are_named() {
        let lines = r#"{"seed":1,"protocol":"classic","done":10,"duplicates":{"crash":4},"violations":[]}
{"seed":2,"protocol":"classic","done":30,"duplicates":{"crash":0},"violations":["lost"]}
{"seed":3,"protocol":"classic","done":20,"duplicates":{"crash":1},"cuts":[{"oldest_ms":7}],"violations":[]}
{"seed":4,"protocol":"consumer","not_tried":"no brokers"}
"#;
        let text = table(lines).unwrap();
        let row = |name: &str| -> Vec<f64> {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace()
                .filter_map(|word| word.parse().ok())
                .collect()
        };
        assert_eq!(row("done"), [20.0, 30.0, 60.0, 0.0, 0.0, 0.0]);
        assert_eq!(row("duplicates.crash")[..3], [1.0, 4.0, 5.0]);
        assert_eq!(row("cuts.oldest_ms")[..3], [7.0, 7.0, 7.0]);
        assert!(
            text.contains(r#"seed 2 of classic: ["lost"]"#) && text.contains("seed 4 of consumer"),
            "{text}"
        );
        assert!(!text.contains("seed 1 "), "{text}");
    }

    #[test]
    fn a_seed_that_was_tried_once_more_counts_as_it_came_out_last() {
        let lines = r#"{"seed":1,"protocol":"classic","version":"a","not_tried":"no brokers"}
{"seed":1,"protocol":"classic","version":"a","done":10,"violations":[]}
{"seed":1,"protocol":"classic","version":"b","done":30,"violations":[]}
"#;
        let text = table(lines).unwrap();
        assert!(
            text.contains("classic (2 runs)") && text.contains("no violations"),
            "{text}"
        );
    }
}
