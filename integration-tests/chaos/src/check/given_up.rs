//! Partitions that a member gave up before the broker had, or could have, all that was settled
//! there.

use std::time::Duration;

use super::history::Span;
use crate::{
    clock::{Nanos, nanos},
    journal::{Line, Note},
    settings::SHUTDOWN,
};

/// When a process gave partitions up without the broker's answer to their last commit, or with
/// owners that had not ended, in a hand-over or at its end. A hand-over counts from its beginning
/// on: what is settled in that time is in its last commit.
pub(super) fn spans(notes: &[Line<Note>]) -> Vec<Span> {
    let (mut stopping_at, mut closes_at) = (Nanos::MAX, Nanos::MAX);
    let (mut unanswered, mut spans) = (None, Vec::new());
    for line in notes {
        match line.what {
            Note::Unanswered => unanswered = Some(line.at),
            // Nothing is given back then.
            Note::Lost => unanswered = None,
            // Said at once after that.
            Note::GivenBack { took_ms, .. } if unanswered.take().is_some() => {
                spans.push(Span {
                    from: line.at - nanos(Duration::from_millis(took_ms)),
                    to: line.at,
                });
            }
            Note::Stopping => (stopping_at, closes_at) = (line.at, line.at + nanos(SHUTDOWN)),
            Note::Down { .. } => match unanswered {
                Some(at) => spans.push(Span {
                    from: stopping_at.min(at),
                    to: at,
                }),
                None if line.at >= closes_at => spans.push(Span {
                    from: closes_at,
                    to: closes_at,
                }),
                None => {}
            },
            _ => {}
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::{super::testing::ms, spans};
    use crate::journal::{Line, Note};

    /// In milliseconds.
    fn of(notes: impl IntoIterator<Item = (i64, Note)>) -> Vec<(i64, i64)> {
        let notes: Vec<_> = notes
            .into_iter()
            .map(|(at, what)| Line { at: ms(at), what })
            .collect();
        spans(&notes)
            .into_iter()
            .map(|span| (span.from / ms(1), span.to / ms(1)))
            .collect()
    }

    #[test]
    fn a_hand_over_is_one_where_its_last_commit_has_no_answer_or_an_owner_did_not_end() {
        let given_back = |at| {
            (
                at,
                Note::GivenBack {
                    dropped: false,
                    took_ms: 1_200,
                },
            )
        };
        assert_eq!(
            of([
                (3_000, Note::Unanswered),
                given_back(3_000),
                given_back(6_000)
            ]),
            [(1_800, 3_000)]
        );
    }

    #[test]
    fn an_end_is_one_where_its_deadline_has_passed_or_its_last_commit_has_no_answer() {
        let down = |at| of([(3_000, Note::Stopping), (at, Note::Down { error: None })]);
        assert_eq!(down(11_200), [(11_000, 11_000)]);
        assert!(down(10_900).is_empty());
        assert!(of([(20_000, Note::Down { error: None })]).is_empty());
        let stopped = [
            (3_000, Note::Stopping),
            (9_000, Note::Unanswered),
            (9_100, Note::Down { error: None }),
        ];
        assert_eq!(of(stopped), [(3_000, 9_000)]);
        assert!(
            of([
                (1_000, Note::Unanswered),
                (2_000, Note::Lost),
                (9_100, Note::Down { error: None })
            ])
            .is_empty()
        );
    }
}
