//! The checks: pure functions from a [`History`] to what is wrong with it.

pub mod away;
pub mod commits;
pub mod cut;
pub mod duplicates;
pub mod foreign;
mod given_up;
pub mod history;
pub mod loss;
pub mod order;
pub mod overlap;
pub mod panics;
pub mod redelivery;
mod report;
pub mod stalls;

pub use history::History;
pub use report::Report;

#[cfg(test)]
mod testing;

#[cfg(test)]
mod tests {
    use super::{
        Report,
        testing::{Story, calm},
    };
    use crate::{
        journal::{Deed, Note, Outcome},
        planted::Planted,
    };

    fn violations(story: Story) -> Vec<String> {
        Report::of(&story.history(), |_| {}).violations
    }

    #[test]
    fn a_calm_history_is_clean() {
        let report = Report::of(&calm().history(), |_| {});
        assert!(report.is_clean(), "{:?}", report.violations);
        assert_eq!(
            (report.produced, report.done, report.commits_seen),
            (3, 3, 1)
        );
    }

    #[test]
    fn every_kind_of_fault_has_its_name_in_the_report() {
        assert_eq!(
            violations(calm().committed(1_500, 2, &[])),
            ["commits_went_back"]
        );
        let lost = Story::of(1).committed(1_000, 1, &[]);
        assert_eq!(violations(lost), ["lost", "committed_beyond_settled"]);
        assert_eq!(violations(Story::of(1)), ["unfinished"]);
        let twice = calm().ran("b", 1, (600, 650), Outcome::Done);
        assert_eq!(violations(twice), ["duplicates.unexplained"]);
        let away = Story::of(1)
            .ran("a", 0, (0, 50), Outcome::Unavailable)
            .dead_letter(0, 60, "exhausted");
        assert_eq!(violations(away), ["given_up_in_an_outage"]);
        let panicked = |story: Story| {
            story.note(
                "a",
                2_000,
                Note::Planted {
                    place: Planted::Poll,
                },
            )
        };
        assert_eq!(violations(panicked(calm())), ["hung_after_panic"]);
        let gone = Deed::Exited {
            member: "a".into(),
            orderly: true,
            status: String::new(),
        };
        assert_eq!(
            violations(panicked(calm()).deed(2_100, gone)),
            ["panic_not_told"]
        );
        let foreign = calm().foreign_retry(4).attempt(
            "a",
            1,
            ("t-retry", 4, 1),
            (20, 30),
            Some(Outcome::Done),
        );
        assert_eq!(violations(foreign), ["foreign_processed"]);
        let copies = (0..11).fold(calm(), |story, place| story.retry(0, place, 60, 1));
        assert_eq!(violations(copies), ["retries_multiplied"]);
    }
}
