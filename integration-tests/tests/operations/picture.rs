//! Draws a dashboard as SVG from what Prometheus answers: lines, numbers and lists, no more than it takes for a README.

use std::{collections::BTreeMap, fmt::Write};

use serde_json::Value;

use super::{dashboards::Query, prometheus::Prometheus};

/// Pixels of a column and of a row of Grafana's grid.
const COLUMN: f64 = 50.0;
const ROW: f64 = 30.0;
const COLOURS: [&str; 8] = ["#73bf69", "#5794f2", "#f2cc0c", "#ff780a", "#f2495c", "#b877d9", "#8ab8ff", "#c0d8ff"];
const LEGEND_LINES: usize = 3;

/// What is shown: from when Prometheus knew the run.
#[derive(Clone, Copy)]
struct Times {
    begin: f64,
    end: f64,
}

struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

#[derive(Clone, Copy)]
struct Frame {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

/// The last `seconds` of the dashboard.
pub(crate) async fn draw(board: &Value, prometheus: &Prometheus, (group, topic): (&str, &str), seconds: u32) -> String {
    let panels = board["panels"].as_array().unwrap();
    let number = |panel: &Value, name: &str| panel["gridPos"][name].as_f64().unwrap();
    let bottom = panels.iter().map(|panel| number(panel, "y") + number(panel, "h")).fold(0.0, f64::max);
    let (width, height) = (24.0 * COLUMN, bottom * ROW);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"11\" fill=\"#ccccdc\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#111217\"/>\n"
    );
    let times = times(prometheus, seconds).await;
    for panel in panels {
        let frame = Frame {
            x: number(panel, "x") * COLUMN + 3.0,
            y: number(panel, "y") * ROW + 3.0,
            width: number(panel, "w") * COLUMN - 6.0,
            height: number(panel, "h") * ROW - 6.0,
        };
        let title = escaped(panel["title"].as_str().unwrap());
        if panel["type"] == "row" {
            put(&mut svg, format!("<text x=\"{}\" y=\"{}\" font-size=\"14\">{title}</text>", frame.x, frame.y + 19.0));
            continue;
        }
        let Frame { x, y, width, height } = frame;
        put(
            &mut svg,
            format!("<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"#181b1f\" rx=\"2\"/>"),
        );
        put(&mut svg, format!("<text x=\"{}\" y=\"{}\" font-size=\"12\">{title}</text>", x + 8.0, y + 17.0));
        let lines = lines(panel, prometheus, (group, topic), seconds).await;
        let unit = panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap_or("short");
        match panel["type"].as_str().unwrap() {
            "stat" => stat(&mut svg, frame, &lines, unit),
            "table" => list(&mut svg, frame, &lines, unit, times),
            _ => chart(&mut svg, frame, &lines, unit, times),
        }
    }
    svg + "</svg>\n"
}

async fn times(prometheus: &Prometheus, seconds: u32) -> Times {
    let answer = prometheus.range("sum(keylane_build_info)", seconds).await;
    let times: Vec<_> =
        answer["result"][0]["values"].as_array().unwrap().iter().map(|pair| pair[0].as_f64().unwrap()).collect();
    Times { begin: times[0], end: times[times.len() - 1] }
}

async fn lines(panel: &Value, prometheus: &Prometheus, (group, topic): (&str, &str), seconds: u32) -> Vec<Line> {
    let mut lines = Vec::new();
    for target in panel["targets"].as_array().unwrap() {
        let query = Query { place: String::new(), expr: target["expr"].as_str().unwrap().to_owned() };
        let answer = prometheus.range(&query.filled(group, topic, 0), seconds).await;
        for series in answer["result"].as_array().unwrap() {
            let labels: BTreeMap<String, String> = serde_json::from_value(series["metric"].clone()).unwrap();
            let points = series["values"].as_array().unwrap().iter().filter_map(|pair| {
                let value: f64 = pair[1].as_str()?.parse().ok()?;
                value.is_finite().then_some((pair[0].as_f64()?, value))
            });
            let name = named(target["legendFormat"].as_str().unwrap(), &labels);
            lines.push(Line {
                name: name.replace(group, "parking-notifier").replace(topic, "parking-events"),
                points: points.collect(),
            });
        }
    }
    lines
}

/// As Grafana fills in a legend; a list without one shows the labels.
fn named(legend: &str, labels: &BTreeMap<String, String>) -> String {
    if legend.is_empty() {
        return labels.values().cloned().collect::<Vec<_>>().join("  ");
    }
    labels.iter().fold(legend.to_owned(), |name, (label, value)| name.replace(&format!("{{{{{label}}}}}"), value))
}

fn stat(svg: &mut String, frame: Frame, lines: &[Line], unit: &str) {
    let value =
        lines.first().and_then(|line| line.points.last()).map_or("–".to_owned(), |(_, value)| shown(*value, unit));
    let (x, y) = (frame.x + frame.width / 2.0, frame.y + frame.height * 0.68);
    put(
        svg,
        format!("<text x=\"{x}\" y=\"{y}\" font-size=\"34\" text-anchor=\"middle\" fill=\"#73bf69\">{value}</text>"),
    );
}

fn list(svg: &mut String, frame: Frame, lines: &[Line], unit: &str, times: Times) {
    let now = |line: &&Line| line.points.last().is_some_and(|(time, _)| times.end - time < 2.0);
    let rows = ((frame.height - 30.0) / 15.0) as usize;
    for (row, line) in lines.iter().filter(now).take(rows).enumerate() {
        let y = frame.y + 38.0 + 15.0 * row as f64;
        let value = line.points.last().map_or(String::new(), |(_, value)| shown(*value, unit));
        put(svg, format!("<text x=\"{}\" y=\"{y}\">{}</text>", frame.x + 8.0, escaped(&line.name)));
        put(svg, format!("<text x=\"{}\" y=\"{y}\" text-anchor=\"end\">{value}</text>", frame.x + frame.width - 8.0));
    }
}

fn chart(svg: &mut String, frame: Frame, lines: &[Line], unit: &str, times: Times) {
    let legend = 14.0 * LEGEND_LINES as f64 + 6.0;
    let plot =
        Frame { x: frame.x + 52.0, y: frame.y + 26.0, width: frame.width - 62.0, height: frame.height - 32.0 - legend };
    let all = || lines.iter().flat_map(|line| &line.points);
    let top = all().map(|(_, value)| *value).fold(0.0, f64::max) * 1.08;
    let top = if top > 0.0 { top } else { 1.0 };
    for part in 0..=2 {
        let share = f64::from(part) / 2.0;
        let y = plot.y + plot.height * (1.0 - share);
        put(svg, format!("<path d=\"M{} {y:.1}h{}\" stroke=\"#2c3235\"/>", plot.x, plot.width));
        let text = shown(top * share, unit);
        put(
            svg,
            format!(
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" font-size=\"10\">{text}</text>",
                plot.x - 5.0,
                y + 3.0
            ),
        );
    }
    for (index, line) in lines.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let points: Vec<_> = line
            .points
            .iter()
            .map(|(time, value)| {
                let x = plot.x + plot.width * (time - times.begin) / (times.end - times.begin);
                format!("{x:.0},{:.1}", plot.y + plot.height * (1.0 - value / top))
            })
            .collect();
        put(
            svg,
            format!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.3\"/>",
                points.join(" ")
            ),
        );
    }
    // The largest ones: the others are mostly zero.
    let peak = |line: &Line| line.points.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let mut order: Vec<usize> = (0..lines.len()).collect();
    order.sort_by(|a, b| peak(&lines[*b]).total_cmp(&peak(&lines[*a])));
    for (row, index) in order.into_iter().take(LEGEND_LINES).enumerate() {
        let y = frame.y + frame.height - legend + 8.0 + 14.0 * row as f64;
        put(
            svg,
            format!(
                "<rect x=\"{}\" y=\"{}\" width=\"10\" height=\"3\" fill=\"{}\"/>",
                frame.x + 8.0,
                y - 4.0,
                COLOURS[index % COLOURS.len()]
            ),
        );
        put(
            svg,
            format!("<text x=\"{}\" y=\"{y}\" font-size=\"10\">{}</text>", frame.x + 23.0, escaped(&lines[index].name)),
        );
    }
}

fn shown(value: f64, unit: &str) -> String {
    let (value, prefix) = match value.abs() {
        large if large >= 1e6 => (value / 1e6, "M"),
        large if large >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    match unit {
        "percentunit" if value < 0.1 => format!("{:.1} %", value * 100.0),
        "percentunit" => format!("{:.0} %", value * 100.0),
        "s" if value > 0.0 && value < 1.0 => format!("{:.0} ms", value * 1e3),
        "s" => format!("{value:.1}{prefix} s"),
        "bytes" => format!("{value:.0}{prefix}B"),
        "ops" => format!("{value:.1}{prefix}/s"),
        _ if value.fract() == 0.0 => format!("{value:.0}{prefix}"),
        _ if value > 10.0 => format!("{value:.0}{prefix}"),
        _ => format!("{value:.1}{prefix}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn put(svg: &mut String, line: String) {
    // Writing to a string cannot fail.
    let _ = writeln!(svg, "{line}");
}
