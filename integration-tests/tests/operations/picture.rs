//! Draws a page of a dashboard as SVG from Prometheus' answers: the numbers, and the lines that
//! show an outage. No more than the documents take.

mod axis;
mod colour;

use std::{collections::BTreeMap, fmt::Write};

use serde_json::Value;

use super::{dashboards::Query, prometheus::Prometheus};
use axis::{Axis, clock};

/// The charts of the page, three in a row. All numbers of the dashboard stand above them.
const CHARTS: [&str; 9] = [
    "Settled, by outcome",
    "Attempts that failed, by result",
    "Outages and held records",
    "Lag in records",
    "Lag in seconds",
    "Dead letters, by reason",
    "Lanes by state",
    "Time of an attempt",
    "Wait for the first attempt",
];
const WIDTH: f64 = 1000.0;
const GAP: f64 = 8.0;
const HEAD: f64 = 36.0;
const STAT_HEIGHT: f64 = 92.0;
const CHART_HEIGHT: f64 = 250.0;
const CHARTS_IN_A_ROW: usize = 3;
const LEGEND_LINES: usize = 4;
const LEGEND_LINE: f64 = 17.0;
/// For the times below a chart, and the gap to the legend.
const AXIS_HEIGHT: f64 = 30.0;
const FAINT: &str = "#9fa7b3";
/// What fits beside a line's colour.
const LEGEND_CHARACTERS: usize = 42;

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

impl Line {
    fn peak(&self) -> f64 {
        self.points
            .iter()
            .map(|(_, value)| *value)
            .fold(0.0, f64::max)
    }
}

#[derive(Clone, Copy)]
struct Frame {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

/// The last `seconds` of the dashboard.
pub(crate) async fn draw(
    board: &Value,
    prometheus: &Prometheus,
    (group, topic): (&str, &str),
    seconds: u32,
) -> String {
    let panels = board["panels"].as_array().unwrap();
    let stats: Vec<_> = panels
        .iter()
        .filter(|panel| panel["type"] == "stat")
        .collect();
    let chart = |title: &&str| {
        panels
            .iter()
            .find(|panel| panel["title"] == *title)
            .unwrap()
    };
    let charts: Vec<_> = CHARTS.iter().map(chart).collect();
    let times = times(prometheus, seconds).await;

    let mut svg = Svg::new(HEAD + STAT_HEIGHT + GAP + rows(charts.len()) * (CHART_HEIGHT + GAP));
    let length = clock(times.end - times.begin);
    svg.text(
        (GAP, 24.0),
        16,
        "start",
        "#e6e6ef",
        &format!("keylane: overview, {length} of a test run"),
    );
    let column = (WIDTH - GAP) / stats.len() as f64;
    for (index, panel) in stats.into_iter().enumerate() {
        let x = GAP + column * index as f64;
        let frame = Frame {
            x,
            y: HEAD,
            width: column - GAP,
            height: STAT_HEIGHT,
        };
        svg.panel(frame, panel);
        stat(
            &mut svg,
            frame,
            panel,
            &lines(panel, prometheus, (group, topic), seconds).await,
        );
    }
    let column = (WIDTH - GAP) / CHARTS_IN_A_ROW as f64;
    for (index, panel) in charts.into_iter().enumerate() {
        let frame = Frame {
            x: GAP + column * (index % CHARTS_IN_A_ROW) as f64,
            y: HEAD + STAT_HEIGHT + GAP + (index / CHARTS_IN_A_ROW) as f64 * (CHART_HEIGHT + GAP),
            width: column - GAP,
            height: CHART_HEIGHT,
        };
        svg.panel(frame, panel);
        let lines = lines(panel, prometheus, (group, topic), seconds).await;
        draw_chart(&mut svg, frame, &lines, unit(panel), times);
    }
    svg.end()
}

fn rows(charts: usize) -> f64 {
    charts.div_ceil(CHARTS_IN_A_ROW) as f64
}

fn unit(panel: &Value) -> &str {
    panel["fieldConfig"]["defaults"]["unit"]
        .as_str()
        .unwrap_or("short")
}

async fn times(prometheus: &Prometheus, seconds: u32) -> Times {
    let answer = prometheus.range("sum(keylane_build_info)", seconds).await;
    let times: Vec<_> = answer["result"][0]["values"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| pair[0].as_f64().unwrap())
        .collect();
    Times {
        begin: times[0],
        end: times[times.len() - 1],
    }
}

async fn lines(
    panel: &Value,
    prometheus: &Prometheus,
    (group, topic): (&str, &str),
    seconds: u32,
) -> Vec<Line> {
    let mut lines = Vec::new();
    for target in panel["targets"].as_array().unwrap() {
        let expr = target["expr"].as_str().unwrap().to_owned();
        let query = Query {
            place: String::new(),
            expr,
        };
        let answer = prometheus
            .range(&query.filled(group, topic, 0), seconds)
            .await;
        for series in answer["result"].as_array().unwrap() {
            let labels = serde_json::from_value(series["metric"].clone()).unwrap();
            let points = series["values"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(|pair| {
                    let value: f64 = pair[1].as_str()?.parse().ok()?;
                    value.is_finite().then_some((pair[0].as_f64()?, value))
                });
            let name = named(target["legendFormat"].as_str().unwrap(), &labels)
                .replace(group, "parking-notifier")
                .replace(topic, "parking-events");
            lines.push(Line {
                name,
                points: points.collect(),
            });
        }
    }
    lines
}

/// As Grafana fills in a legend; one without a pattern shows the labels.
fn named(legend: &str, labels: &BTreeMap<String, String>) -> String {
    if legend.is_empty() {
        return labels.values().cloned().collect::<Vec<_>>().join("  ");
    }
    labels
        .iter()
        .fold(legend.to_owned(), |name, (label, value)| {
            name.replace(&format!("{{{{{label}}}}}"), value)
        })
}

fn stat(svg: &mut Svg, frame: Frame, panel: &Value, lines: &[Line]) {
    let value = lines
        .first()
        .and_then(|line| line.points.last())
        .map(|(_, value)| *value);
    let text = value.map_or("–".to_owned(), |value| shown(value, unit(panel)));
    let at = (frame.x + frame.width / 2.0, frame.y + 70.0);
    let steps = &panel["fieldConfig"]["defaults"]["thresholds"]["steps"];
    svg.text(
        at,
        32,
        "middle",
        colour::of_value(value.unwrap_or(0.0), steps),
        &text,
    );
}

fn draw_chart(svg: &mut Svg, frame: Frame, lines: &[Line], unit: &str, times: Times) {
    let plot = Frame {
        x: frame.x + 58.0,
        y: frame.y + 34.0,
        width: frame.width - 74.0,
        height: frame.height - 34.0 - AXIS_HEIGHT - LEGEND_LINE * LEGEND_LINES as f64,
    };
    let peak = lines.iter().map(Line::peak).fold(0.0, f64::max);
    let (values, length) = (Axis::up_to(peak), times.end - times.begin);
    draw_axes(svg, plot, &values, unit, length);
    // The largest first.
    let mut order: Vec<&Line> = lines.iter().collect();
    order.sort_by(|a, b| b.peak().total_cmp(&a.peak()));
    let names: Vec<&str> = order.iter().map(|line| &*line.name).collect();
    let mut coloured: Vec<_> = order.into_iter().zip(colour::of_lines(&names)).collect();
    let all = coloured.len();
    coloured.retain(|(line, _)| line.peak() > 0.0 || all == 1);
    // What is drawn last is in front.
    for (line, colour) in coloured.iter().rev() {
        let points = line.points.iter().map(|(time, value)| {
            let x = plot.x + plot.width * (time - times.begin) / length;
            (x, plot.y + plot.height * (1.0 - value / values.top))
        });
        svg.line(points, colour);
    }
    draw_legend(svg, frame, &coloured, all - coloured.len());
}

fn draw_axes(svg: &mut Svg, plot: Frame, values: &Axis, unit: &str, length: f64) {
    for value in values.ticks() {
        let y = plot.y + plot.height * (1.0 - value / values.top);
        svg.path(
            &format!("M{:.1} {y:.1}h{:.1}", plot.x, plot.width),
            "#2c3235",
            1.0,
        );
        svg.text(
            (plot.x - 6.0, y + 4.0),
            12,
            "end",
            FAINT,
            &shown(value, unit),
        );
    }
    for moment in Axis::of_time(length).ticks() {
        let (x, bottom) = (plot.x + plot.width * moment / length, plot.y + plot.height);
        svg.path(&format!("M{x:.1} {bottom:.1}v4"), FAINT, 1.0);
        svg.text((x, bottom + 17.0), 12, "middle", FAINT, &clock(moment));
    }
}

/// Names the lines that are drawn, and counts the others.
fn draw_legend(svg: &mut Svg, frame: Frame, lines: &[(&Line, &str)], flat: usize) {
    let all_fit = lines.len() <= LEGEND_LINES && flat == 0;
    let named = if all_fit {
        LEGEND_LINES
    } else {
        LEGEND_LINES - 1
    };
    let mut y = frame.y + frame.height - LEGEND_LINE * LEGEND_LINES as f64 + 8.0;
    for (line, colour) in lines.iter().take(named) {
        svg.rect(
            Frame {
                x: frame.x + 10.0,
                y: y - 7.0,
                width: 14.0,
                height: 5.0,
            },
            colour,
        );
        svg.text(
            (frame.x + 32.0, y),
            13,
            "start",
            "#ccccdc",
            &cut(&line.name),
        );
        y += LEGEND_LINE;
    }
    let left = match (lines.len().saturating_sub(named), flat) {
        (0, 0) => return,
        (0, flat) => format!("{flat} more, always at 0"),
        (more, 0) => format!("{more} more"),
        (more, flat) => format!("{more} more, and {flat} at 0"),
    };
    svg.text((frame.x + 32.0, y), 13, "start", FAINT, &left);
}

fn cut(name: &str) -> String {
    if name.chars().count() <= LEGEND_CHARACTERS {
        return name.to_owned();
    }
    name.chars()
        .take(LEGEND_CHARACTERS - 1)
        .chain(['…'])
        .collect()
}

fn shown(value: f64, unit: &str) -> String {
    let (value, prefix) = match value.abs() {
        large if large >= 1e6 => (value / 1e6, "M"),
        large if large >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let plain = format!("{value:.1}");
    let plain = plain.strip_suffix(".0").unwrap_or(&plain);
    match unit {
        "percentunit" => format!("{:.0} %", value * 100.0),
        "s" if value > 0.0 && value < 1.0 => format!("{:.0} ms", value * 1e3),
        "s" => format!("{plain}{prefix} s"),
        "bytes" => format!("{plain}{prefix}B"),
        "ops" => format!("{plain}{prefix}/s"),
        _ => format!("{plain}{prefix}"),
    }
}

struct Svg(String);

impl Svg {
    fn new(height: f64) -> Self {
        Self(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\">\n\
             <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#111217\"/>\n"
        ))
    }

    fn panel(&mut self, frame: Frame, panel: &Value) {
        self.rect(frame, "#181b1f");
        let title = panel["title"].as_str().unwrap();
        self.text(
            (frame.x + 10.0, frame.y + 20.0),
            13,
            "start",
            "#e6e6ef",
            title,
        );
    }

    fn rect(
        &mut self,
        Frame {
            x,
            y,
            width,
            height,
        }: Frame,
        fill: &str,
    ) {
        self.put(format!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{fill}\" rx=\"2\"/>"
        ));
    }

    fn text(&mut self, (x, y): (f64, f64), size: u32, anchor: &str, fill: &str, text: &str) {
        let text = text
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;");
        self.put(format!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" text-anchor=\"{anchor}\" fill=\"{fill}\">{text}</text>"
        ));
    }

    fn path(&mut self, path: &str, stroke: &str, width: f64) {
        self.put(format!(
            "<path d=\"{path}\" stroke=\"{stroke}\" stroke-width=\"{width}\"/>"
        ));
    }

    fn line(&mut self, points: impl Iterator<Item = (f64, f64)>, stroke: &str) {
        let points: Vec<_> = points.map(|(x, y)| format!("{x:.0},{y:.1}")).collect();
        let points = points.join(" ");
        self.put(format!(
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{stroke}\" stroke-width=\"2\"/>"
        ));
    }

    fn put(&mut self, line: String) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{line}");
    }

    fn end(self) -> String {
        self.0 + "</svg>\n"
    }
}

#[test]
fn what_is_shown_has_its_unit() {
    let shown = |value, unit| shown(value, unit);
    assert_eq!(shown(0.25, "s"), "250 ms");
    assert_eq!(shown(0.0, "s"), "0 s");
    assert_eq!(shown(12_500.0, "short"), "12.5k");
    assert_eq!(shown(0.5, "percentunit"), "50 %");
    assert_eq!(shown(40.0, "ops"), "40/s");
}

#[test]
fn a_long_name_is_cut_visibly() {
    assert_eq!(
        cut(&"x".repeat(60)),
        "x".repeat(LEGEND_CHARACTERS - 1) + "…"
    );
    assert_eq!(cut("short"), "short");
}
