//! The checks: pure functions from a [`History`] to what is wrong with it.

pub mod commits;
pub mod duplicates;
mod given_up;
pub mod history;
pub mod loss;
pub mod order;
pub mod overlap;
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
    use crate::journal::Outcome;

    fn violations(story: Story) -> Vec<&'static str> {
        Report::of(&story.history(), |_| {}).violations
    }

    #[test]
    fn a_calm_history_is_clean() {
        let report = Report::of(&calm().history(), |_| {});
        assert!(report.is_clean(), "{:?}", report.violations);
        assert_eq!((report.produced, report.done, report.commits_seen), (3, 3, 1));
    }

    #[test]
    fn every_kind_of_fault_has_its_name_in_the_report() {
        assert_eq!(violations(calm().committed(1_500, 2, &[])), ["commits_went_back"]);
        let lost = Story::of(1).committed(1_000, 1, &[]);
        assert_eq!(violations(lost), ["lost", "committed_beyond_settled"]);
        assert_eq!(violations(Story::of(1)), ["unfinished"]);
        let twice = calm().ran("b", 1, (600, 650), Outcome::Done);
        assert_eq!(violations(twice), ["duplicates.unexplained"]);
    }
}
