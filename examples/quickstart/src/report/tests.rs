use super::*;
use crate::audit::Requests;
use crate::gateway::order::Violation;

/// A run with nothing to complain about.
fn good() -> Report {
    let dead_lettered = [("undecodable", 5), ("fatal", 4), ("panic", 1)]
        .map(|(reason, n)| (reason.to_owned(), n))
        .into();
    Report {
        seed: 1,
        ended: Ended::AllDone,
        elapsed: Duration::from_secs(2),
        planned: Totals {
            notified: 1_990,
            undecodable: 5,
            unknown_device: 4,
            always_panics: 1,
            panics: 26,
            busy: 40,
        },
        outcome: Outcome {
            enqueued: 2_000,
            done: 1_990,
            dead_lettered,
            vehicles: 50,
            requests: Requests {
                accepted: 1_990,
                busy: 40,
                unknown_device: 4,
                abandoned: 0,
            },
            ..Outcome::default()
        },
        settled: Settled {
            done: 1_990,
            dead_lettered: 10,
        },
        panics: 26,
        requests_of_other_runs: 0,
        faults: Vec::new(),
        metrics: ([127, 0, 0, 1], 9464).into(),
    }
}

/// The same, ended by Ctrl-C with 100 events left.
fn interrupted() -> Report {
    let mut report = Report {
        ended: Ended::Interrupted,
        ..good()
    };
    report.outcome.done = 1_890;
    report.settled.done = 1_890;
    report
}

#[track_caller]
fn assert_fails_with(report: &Report, problem: &str) {
    let text = report.to_string();
    assert!(!report.passed(), "{text}");
    assert!(text.contains("FAILED") && text.contains(problem), "{text}");
}

#[test]
fn a_good_run_passes_and_its_report_says_where_everything_went() {
    let text = good().to_string();
    assert!(good().passed(), "{text}");
    let expected = "\
enqueued                 2,000
  = done                 1,990   accepted by the push gateway
  + dead-lettered           10   fatal 4, panic 1, undecodable 5
  + unprocessed              0

order       kept: no overlap, no gap (vehicles checked: 50)
duplicates  0
trouble     2,034 requests: 40 refused for a moment (503), 4 for unknown devices (404); 26 panics
throughput  1,990 notifications in 2.0 s: 995 a second
metrics     http://127.0.0.1:9464/metrics (while this runs)

PASSED, all as planned (seed 1)
";
    assert_eq!(text, expected);
}

#[test]
fn a_sum_that_does_not_add_up_fails() {
    let mut report = good();
    report.outcome.done -= 1;
    assert_fails_with(&report, "1 enqueued events have vanished");
    report.outcome.done += 3;
    assert_fails_with(&report, "2 results too many");
}

#[test]
fn an_interrupted_run_may_leave_events_unprocessed() {
    let text = interrupted().to_string();
    assert!(interrupted().passed(), "{text}");
    assert!(
        text.contains("+ unprocessed            100") && text.contains("as far as it went"),
        "{text}"
    );
}

#[test]
fn an_interrupted_run_is_still_held_to_order_and_to_the_metrics() {
    let mut report = interrupted();
    report.outcome.violations.push(Violation::Overtaken {
        vehicle: "KL-0001".into(),
        seq: 3,
        by: 4,
    });
    assert_fails_with(&report, "event 4 reached the gateway before event 3");

    let mut report = interrupted();
    report.settled.done += 1;
    assert_fails_with(&report, "keylane's metrics count 1,891 done");
}

#[test]
fn each_number_that_differs_from_the_plan_fails() {
    type Change = fn(&mut Report);
    let differ: [(&str, Change); 4] = [
        ("dead letters as fatal", |report| {
            report.outcome.dead_lettered.insert("fatal".into(), 3);
            report.outcome.dead_lettered.insert("panic".into(), 2);
        }),
        ("panics", |report| report.panics += 1),
        ("answers 503", |report| report.outcome.requests.busy -= 1),
        ("notifications done", |report| report.planned.notified += 1),
    ];
    for (problem, change) in differ {
        let mut report = good();
        change(&mut report);
        assert_fails_with(&report, problem);
    }
}

#[test]
fn a_duplicate_is_told_and_allows_for_more_attempts_but_for_no_other_result() {
    let mut report = good();
    report.outcome.duplicates = 1;
    report.panics += 1;
    report.settled.done += 1;
    assert!(report.passed(), "{report}");
    report.outcome.done -= 1;
    assert_fails_with(&report, "vanished");
}

#[test]
fn an_end_that_is_none_fails() {
    assert_fails_with(
        &Report {
            ended: Ended::Failed("broker gone".into()),
            ..good()
        },
        "broker gone",
    );
    assert_fails_with(
        &Report {
            ended: Ended::Stalled {
                after: Duration::from_secs(60),
            },
            ..good()
        },
        "for 60 s",
    );
}

#[test]
fn faults_fail_and_only_the_first_of_many_are_spelled_out() {
    let mut report = good();
    report.outcome.faults = (0..8).map(|n| format!("fault number {n}")).collect();
    assert_fails_with(&report, "fault number 4");
    assert_fails_with(&report, "and 3 more");
    assert!(!report.to_string().contains("fault number 5"));
    assert_fails_with(
        &Report {
            faults: vec!["no end of the dead letters".into()],
            ..good()
        },
        "no end",
    );
    let mut report = good();
    report.outcome.unacknowledged = Some((3, "queue full".into()));
    assert_fails_with(
        &report,
        "3 events were not acknowledged; the first: queue full",
    );
}

#[test]
fn numbers_are_grouped_by_thousands() {
    let texts = [0, 12, 123, 1_234, 123_456, 1_234_567].map(grouped);
    assert_eq!(texts, ["0", "12", "123", "1,234", "123,456", "1,234,567"]);
}
