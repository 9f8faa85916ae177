//! The documented capacity of a commit is the measured one.

#[path = "../examples/commit_map_capacity/report.rs"]
mod report;

#[test]
fn the_tables_in_the_documentation_are_those_of_the_program() {
    let documented = include_str!("../src/commit_map/capacity.md");
    let tables: String = documented
        .lines()
        .filter(|line| line.starts_with('|'))
        .flat_map(|line| [line, "\n"])
        .collect();
    let measured = report::report().replace("\n\n", "\n");
    assert_eq!(
        tables, measured,
        "run the example commit_map_capacity and put its tables into capacity.md"
    );
}

#[test]
fn a_full_window_fits_unless_about_every_tenth_record_of_it_is_stuck() {
    for pattern in &report::PATTERNS {
        let full = pattern.full_window();
        let percent = full.named * 100 / full.settled;
        let least = match pattern.name {
            "each with a chance of 90 %" | "1,000 keys by Zipf, the hottest stuck" => 38,
            "every ninth record unsettled (the worst here)" => 29,
            _ => 100,
        };
        assert!(percent >= least, "{}: {percent} %", pattern.name);
        assert!(full.bytes <= 4_000);
    }
}

#[test]
fn a_commit_where_nothing_is_stuck_takes_some_bytes_for_each_running_record_and_no_more() {
    for concurrency in [32, 256] {
        let (mean, most) = report::running(concurrency);
        assert!(
            mean <= most && most <= 45 + concurrency,
            "{concurrency}: {mean} and {most}"
        );
    }
}
