use std::sync::Arc;

use keylane::Headers;

use super::*;
use crate::dead_letters::EVENT_HEADER;
use crate::gateway::journal::Journal;
use crate::plan::PlannedEvent;
use crate::trouble::Trouble;

const SEED: u64 = 1;

/// The observations of a whole run, which a test then changes.
struct Run {
    plan: Plan,
    written: Written,
    journal: Arc<Journal>,
    dead_letters: BTreeMap<usize, DeadLetter>,
}

impl Run {
    /// All events enqueued and every one where it belongs.
    fn perfect() -> Self {
        let plan = Plan::new(Trouble::new(SEED), 20, 3_000, SEED, 1_700_000_000_000);
        let places = (0..plan.events().len()).map(|index| {
            Ok(Place {
                partition: 2,
                offset: index as i64,
            })
        });
        let written = Written {
            answers: places.collect(),
        };
        let journal = Arc::new(Journal::default());
        let mut dead_letters = BTreeMap::new();
        for (index, PlannedEvent { seq, fate, .. }) in plan.events().iter().copied().enumerate() {
            let open = || journal.open(plan.run(), plan.key(index), seq);
            match fate {
                Fate::Notified => drop(open().close(Answer::Accepted)),
                Fate::UnknownDevice => drop(open().close(Answer::UnknownDevice)),
                Fate::Undecodable | Fate::AlwaysPanics => {}
            }
            if let Some(reason) = fate.dead_letter_reason() {
                dead_letters.insert(index, dead_letter(&plan, index, reason));
            }
        }
        Self {
            plan,
            written,
            journal,
            dead_letters,
        }
    }

    fn outcome(&self) -> Outcome {
        audit(
            &Names::new("notifier", "events"),
            &self.plan,
            &self.written,
            &self.journal.of_run(self.plan.run()),
            &self.dead_letters,
        )
    }

    fn first_with(&self, fate: Fate) -> usize {
        self.plan
            .events()
            .iter()
            .position(|event| event.fate == fate)
            .unwrap()
    }

    /// The faults after a header of the first dead letter of that fate got another value.
    fn faults_with_header(mut self, fate: Fate, name: &str, value: &str) -> Vec<String> {
        let index = self.first_with(fate);
        let headers = &mut self.dead_letters.get_mut(&index).unwrap().headers;
        headers.remove(name);
        headers.push(name, value.to_owned());
        self.outcome().faults
    }
}

fn dead_letter(plan: &Plan, index: usize, reason: &str) -> DeadLetter {
    let headers: Headers = [
        (EVENT_HEADER, format!("{}/{index}", plan.run())),
        ("keylane-origin-topic", "events".into()),
        ("keylane-origin-partition", "2".into()),
        ("keylane-origin-offset", index.to_string()),
        ("keylane-group", "notifier".into()),
        ("keylane-attempts", (1 + RETRIES).to_string()),
        ("keylane-first-failure", "2026-11-21T04:20:43.017Z".into()),
        ("keylane-last-failure", "2026-11-21T04:20:44.017Z".into()),
        ("keylane-reason", reason.into()),
        ("keylane-error", "no".into()),
    ]
    .into_iter()
    .collect();
    DeadLetter {
        headers,
        key: Some(plan.key(index).to_owned().into()),
        value: plan.value(index),
    }
}

#[test]
fn a_perfect_run_is_what_was_planned() {
    let run = Run::perfect();
    let outcome = run.outcome();
    let totals = run.plan.totals(Trouble::new(SEED), usize::MAX);
    assert_eq!((outcome.enqueued, outcome.done), (3_000, totals.notified));
    let reasons = [
        ("fatal".to_owned(), totals.unknown_device),
        ("panic".to_owned(), totals.always_panics),
        ("undecodable".to_owned(), totals.undecodable),
    ];
    assert_eq!(outcome.dead_lettered, BTreeMap::from(reasons));
    assert_eq!(
        (outcome.violations, outcome.faults, outcome.duplicates),
        (vec![], vec![], 0)
    );
    assert_eq!(
        outcome.requests.total(),
        totals.notified + totals.unknown_device
    );
}

#[test]
fn a_lost_dead_letter_is_a_gap_in_its_vehicle() {
    let mut run = Run::perfect();
    let index = run.first_with(Fate::Undecodable);
    run.dead_letters.remove(&index);
    let lost = run.plan.events()[index].seq;
    let violations = run.outcome().violations;
    assert!(
        matches!(violations[..], [Violation::Overtaken { seq, .. }] if seq == lost),
        "{violations:?}"
    );
}

#[test]
fn a_dead_letter_of_an_accepted_event_is_told_twice_over() {
    let mut run = Run::perfect();
    let index = run.first_with(Fate::Notified);
    run.dead_letters
        .insert(index, dead_letter(&run.plan, index, "exhausted"));
    let outcome = run.outcome();
    assert!(
        matches!(outcome.violations[..], [Violation::SettledTwice { .. }]),
        "{:?}",
        outcome.violations
    );
    assert!(
        outcome.faults[0].contains("it can be processed"),
        "{:?}",
        outcome.faults
    );
}

#[test]
fn each_header_is_held_against_what_was_enqueued() {
    for (name, value) in [
        ("keylane-reason", "timeout"),
        ("keylane-origin-topic", "elsewhere"),
        ("keylane-origin-partition", "1"),
        ("keylane-origin-offset", "-5"),
        ("keylane-group", "other"),
        ("keylane-attempts", "1"),
        ("keylane-error", ""),
        ("keylane-first-failure", ""),
        ("keylane-last-failure", ""),
    ] {
        let faults = Run::perfect().faults_with_header(Fate::AlwaysPanics, name, value);
        assert_eq!(faults.len(), 1, "{name}: {faults:?}");
    }
}

#[test]
fn key_and_value_must_come_through_unchanged() {
    let mut run = Run::perfect();
    let index = run.first_with(Fate::Undecodable);
    let dead_letter = run.dead_letters.get_mut(&index).unwrap();
    dead_letter.key = None;
    dead_letter.value = "{}".into();
    let faults = run.outcome().faults;
    assert!(
        faults[0].contains("the key") && faults[1].contains("the value"),
        "{faults:?}"
    );
}

#[test]
fn an_event_without_the_brokers_word_is_neither_counted_nor_missed() {
    let mut run = Run::perfect();
    let index = run.first_with(Fate::Notified);
    let before = run.outcome();
    run.written.answers[index] = Err("timed out".into());
    let outcome = run.outcome();
    assert_eq!(
        (outcome.enqueued, outcome.done),
        (before.enqueued - 1, before.done - 1)
    );
    assert_eq!(outcome.unacknowledged, Some((1, "timed out".into())));
    assert_eq!(outcome.violations, []);
}

#[test]
fn results_of_events_that_were_never_enqueued_are_seen() {
    let mut run = Run::perfect();
    run.written.answers.truncate(100);
    let outcome = run.outcome();
    assert!(
        outcome
            .violations
            .iter()
            .any(|violation| matches!(violation, Violation::Unheard { .. }))
    );
    assert!(
        outcome
            .faults
            .iter()
            .any(|fault| fault.contains("never enqueued")),
        "{:?}",
        outcome.faults
    );
}
