//! The quickstart on its own broker, started as in the README.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;

use common::{Run, count, quickstart, something_is_done};

#[test]
fn the_main_job_adds_up_and_keeps_the_order() {
    let run = quickstart("--events 5000 --vehicles 200 --seed 7");
    assert!(
        run.passed && run.report.contains("PASSED, all as planned (seed 7)"),
        "{}",
        run.report
    );
    assert_eq!(
        count(&run.report, "enqueued"),
        Some(5_000),
        "{}",
        run.report
    );
    assert_eq!(count(&run.report, "unprocessed"), Some(0), "{}", run.report);
    assert_eq!(count(&run.report, "duplicates"), Some(0), "{}", run.report);
}

#[test]
fn ctrl_c_drains_and_reports_what_was_done() {
    drains_and_reports_what_was_done_on(Run::interrupt);
}

#[test]
fn sigterm_drains_and_reports_what_was_done() {
    drains_and_reports_what_was_done_on(Run::terminate);
}

fn drains_and_reports_what_was_done_on(signal: impl Fn(&Run)) {
    // One at a time, so it takes minutes unless it is stopped.
    let mut run = Run::start("--events 20000 --vehicles 500 --partitions 2 --concurrency 1");
    run.wait_for_line(something_is_done);
    signal(&run);
    let run = run.finish();
    assert!(
        run.passed && run.report.contains("PASSED as far as it went"),
        "{}",
        run.report
    );
    assert!(
        count(&run.report, "unprocessed").is_some_and(|left| left > 0),
        "{}",
        run.report
    );
    assert!(
        run.report.contains("kept: no overlap, no gap"),
        "{}",
        run.report
    );
}

#[test]
fn it_tells_of_its_subscriptions_over_http_while_it_runs() {
    answers_over_http(
        "--events 20000 --vehicles 500 --partitions 2 --concurrency 1",
        "admin ",
        "quickstart",
    );
}

#[test]
fn lingering_it_still_tells_of_them_under_the_names_it_was_given() {
    answers_over_http(
        "--events 500 --group readers --topic cars --linger",
        "still serving ",
        "readers",
    );
}

#[allow(
    clippy::unwrap_used,
    reason = "a helper of tests stops the test as the tests do"
)]
fn answers_over_http(arguments: &str, printed: &str, subscription: &str) {
    let mut run = Run::start(arguments);
    let line = run.wait_for_line(|line| line.starts_with(printed));
    let address = line
        .rsplit("http://")
        .next()
        .and_then(|rest| rest.split('/').next())
        .unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET /v1/subscriptions HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n")
            && answer.contains(&format!("\"name\":\"{subscription}\"")),
        "{answer}"
    );
    run.interrupt();
    assert!(run.finish().passed);
}

#[test]
fn a_rate_holds_the_events_back() {
    // It would take ten minutes.
    let mut run = Run::start("--events 30000 --rate 50");
    run.wait_for_line(something_is_done);
    run.interrupt();
    let run = run.finish();
    assert!(
        run.passed && run.report.contains("PASSED as far as it went"),
        "{}",
        run.report
    );
    assert!(
        count(&run.report, "enqueued").is_some_and(|enqueued| enqueued < 15_000),
        "{}",
        run.report
    );
}

#[test]
fn what_cannot_work_is_refused_with_a_reason() {
    let run = quickstart("--events 1000000");
    assert!(
        !run.passed && run.report.contains("use --bootstrap"),
        "{}",
        run.report
    );
}
