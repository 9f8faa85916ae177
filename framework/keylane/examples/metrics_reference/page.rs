//! The page itself.

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};

use keylane::metrics::LabelDef;
use keylane::metrics::names::{ALL, MetricDef};
use metrics::Unit;

use super::decaton;
use super::usage::Usage;

pub(crate) fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/metrics/reference.md")
}

/// The page as it should be.
pub(crate) fn render() -> io::Result<String> {
    let usage = Usage::find(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docker"))?;
    let mut page = String::from(
        "# Every metric\n\n\
         Labels with the values they can have; where there are none in parentheses, the value comes from the configuration.\n\
         *Panels* and *alerts* are those of the dashboards and rules in `docker/`, *Decaton* names the corresponding series\n\
         there.\n\n\
         | name | type | unit | labels | meaning | panels | alerts | Decaton |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for metric in ALL {
        row(&mut page, metric, &usage);
    }
    page.push_str(
        "\n## What Decaton has and keylane has not\n\n\
         | Decaton | why not |\n\
         |---|---|\n",
    );
    for (series, reason) in decaton::WITHOUT_COUNTERPART {
        // Writing to a string cannot fail.
        let _ = writeln!(page, "| `{series}` | {reason} |");
    }
    page.push_str("\nGenerated: `cargo run -p keylane --example metrics_reference`.\n");
    Ok(page)
}

fn row(page: &mut String, metric: &MetricDef, usage: &Usage) {
    let unit = match metric.unit {
        Unit::Seconds => "seconds",
        Unit::Bytes => "bytes",
        _ => "",
    };
    let labels: Vec<_> = metric.labels.iter().map(label).collect();
    let decaton: Vec<_> = decaton::counterparts(metric.name)
        .map(|series| format!("`{series}`"))
        .collect();
    let cells = [
        format!("`{}`", metric.name),
        metric.kind.as_str().to_owned(),
        unit.to_owned(),
        labels.join(", "),
        metric.help.to_owned(),
        usage.panels(metric).join("; "),
        usage.alerts(metric).join(", "),
        decaton.join(", "),
    ];
    let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    let _ = writeln!(page, "| {} |", cells.join(" | "));
}

fn label(label: &LabelDef) -> String {
    match label.values {
        [] => format!("`{}`", label.name),
        values => format!("`{}` ({})", label.name, values.join(", ")),
    }
}
