//! Reads keylane's own counts from what it shows to Prometheus.

/// keylane's own count of settled records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) done: u64,
    pub(crate) dead_lettered: u64,
}

impl Settled {
    /// The counts of one subscription, all partitions together.
    pub(crate) fn read(page: &str, subscription: &str) -> Self {
        let count = |outcome| {
            sum(
                page,
                "keylane_settled_total",
                &[("subscription", subscription), ("outcome", outcome)],
            )
        };
        Self {
            done: count("done"),
            dead_lettered: count("dead_lettered"),
        }
    }
}

/// Adds up the series of a counter that have these labels, whatever others they have.
fn sum(page: &str, name: &str, labels: &[(&str, &str)]) -> u64 {
    let series = page.lines().filter_map(|line| {
        line.strip_prefix(name)?
            .strip_prefix('{')?
            .rsplit_once("} ")
    });
    let matching = series.filter(|(own, _)| labels.iter().all(|label| has_label(own, *label)));
    matching
        .filter_map(|(_, value)| value.trim().parse::<u64>().ok())
        .sum()
}

/// None of the labels read here has a value with a comma or a quote in it.
fn has_label(labels: &str, (name, value): (&str, &str)) -> bool {
    labels
        .split(',')
        .any(|label| label == format!("{name}=\"{value}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partitions_of_the_subscription_are_added_up_and_nothing_else() {
        let page = r#"# TYPE keylane_settled_total counter
keylane_settled_total{subscription="a",topic="t",partition="0",outcome="done"} 3
keylane_settled_total{subscription="a",topic="t",partition="1",outcome="done"} 4
keylane_settled_total{subscription="a",topic="t",partition="1",outcome="dead_lettered"} 5
keylane_settled_total{subscription="b",topic="t",partition="1",outcome="done"} 100
keylane_settled_total_other{subscription="a",outcome="done"} 100
"#;
        assert_eq!(
            Settled::read(page, "a"),
            Settled {
                done: 7,
                dead_lettered: 5
            }
        );
        assert_eq!(Settled::read("", "a"), Settled::default());
    }
}
