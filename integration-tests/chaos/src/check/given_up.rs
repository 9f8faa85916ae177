//! Partitions that a member gave up before the broker had, or could have, all that was settled there.

use std::time::Duration;

use super::history::Span;
use crate::{
    clock::{Nanos, nanos},
    journal::{Line, Note},
    settings::SHUTDOWN,
};

/// How long after the drain's deadline keylane waits for owners to end (`END_GRACE` of its `handover.rs`). It says nothing of
/// those that have not: the time it took tells.
const OWNERS_END: Duration = Duration::from_millis(500);

/// When a process gave partitions up like that: without the broker's word on their last commit, or over owners that had not
/// ended, in a hand-over or at its end. A hand-over from its beginning on: what is settled meanwhile is in its last commit.
pub(super) fn spans(notes: &[Line<Note>]) -> Vec<Span> {
    let (mut owners_end, mut closes_at) = (Nanos::MAX, Nanos::MAX);
    let (mut unanswered, mut spans) = (false, Vec::new());
    for line in notes {
        match line.what {
            Note::Up { drain_timeout_ms, .. } => owners_end = millis(drain_timeout_ms) + nanos(OWNERS_END),
            Note::Unanswered => unanswered = true,
            // Said at once after that.
            Note::GivenBack { dropped, took_ms } => {
                let took = millis(took_ms);
                if std::mem::take(&mut unanswered) || (dropped && took >= owners_end) {
                    spans.push(Span { from: line.at - took, to: line.at });
                }
            }
            Note::Stopping => closes_at = line.at + nanos(SHUTDOWN),
            Note::Down { .. } if line.at >= closes_at => spans.push(Span { from: closes_at, to: closes_at }),
            _ => {}
        }
    }
    spans
}

fn millis(millis: u64) -> Nanos {
    nanos(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::{super::testing::ms, spans};
    use crate::journal::{Line, Note};

    /// In milliseconds, and with a drain time-out of a second.
    fn of(notes: impl IntoIterator<Item = (i64, Note)>) -> Vec<(i64, i64)> {
        let up = Note::Up { commit_interval_ms: 500, drain_timeout_ms: 1_000 };
        let notes: Vec<_> = [(0, up)].into_iter().chain(notes).map(|(at, what)| Line { at: ms(at), what }).collect();
        spans(&notes).into_iter().map(|span| (span.from / ms(1), span.to / ms(1))).collect()
    }

    #[test]
    fn a_hand_over_is_one_where_its_last_commit_has_no_answer() {
        let given_back = |at| (at, Note::GivenBack { dropped: false, took_ms: 1_200 });
        assert_eq!(of([(3_000, Note::Unanswered), given_back(3_000), given_back(6_000)]), [(1_800, 3_000)]);
    }

    #[test]
    fn a_hand_over_is_one_where_an_owner_did_not_end_although_it_was_told_to() {
        let given_back = |dropped, took_ms| of([(3_000, Note::GivenBack { dropped, took_ms })]);
        assert_eq!(given_back(true, 1_500), [(1_500, 3_000)]);
        assert!(given_back(true, 1_400).is_empty() && given_back(false, 1_500).is_empty());
        // A journal that does not tell.
        let up = Note::Up { commit_interval_ms: 500, drain_timeout_ms: 0 };
        let old = [up, Note::GivenBack { dropped: true, took_ms: 0 }];
        assert!(spans(&old.map(|what| Line { at: 0, what })).is_empty());
    }

    #[test]
    fn an_end_is_one_where_its_deadline_has_passed() {
        let down = |at| of([(3_000, Note::Stopping), (at, Note::Down { error: None })]);
        assert_eq!(down(11_200), [(11_000, 11_000)]);
        assert!(down(10_900).is_empty());
        assert!(of([(20_000, Note::Down { error: None })]).is_empty());
    }
}
