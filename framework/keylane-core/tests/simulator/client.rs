//! A model of the client, as far as it commits. It may repeat a commit, or hold one back, and let
//! later ones pass: what is under way arrives in any order.

use keylane_core::member::{CommitId, CommitPoint, EpochCommits};

/// A row of a member's table: it has its epoch's `commits`.
macro_rules! has_commits {
    ($row:ty) => {
        impl AsRef<EpochCommits> for $row {
            fn as_ref(&self) -> &EpochCommits {
                &self.commits
            }
        }

        impl AsMut<EpochCommits> for $row {
            fn as_mut(&mut self) -> &mut EpochCommits {
                &mut self.commits
            }
        }
    };
}

pub(crate) use has_commits;

/// The stored points of these rows.
pub(crate) fn points<R: AsRef<EpochCommits>>(
    rows: &[R],
    places: &[usize],
) -> Vec<(usize, CommitPoint)> {
    let point = |&row: &usize| Some((row, rows[row].as_ref().stored()?.clone()));
    places.iter().filter_map(point).collect()
}

#[derive(Default)]
pub(crate) struct Client {
    sent: Vec<Sent>,
}

/// A commit on its way to the broker.
pub(crate) struct Sent {
    pub(crate) points: Vec<(usize, CommitPoint)>,
    /// Where its answer is waited for.
    pub(crate) id: Option<CommitId>,
}

impl Client {
    pub(crate) fn commit(&mut self, points: Vec<(usize, CommitPoint)>, id: Option<CommitId>) {
        self.sent.push(Sent { points, id });
    }

    /// Commits under way say nothing about the log any longer.
    pub(crate) fn unassign(&mut self, log: usize) {
        for sent in &mut self.sent {
            sent.points.retain(|(other, _)| *other != log);
        }
    }

    /// How many commits are under way.
    pub(crate) fn under_way(&self) -> usize {
        self.sent.len()
    }

    /// This one of those under way comes to the broker.
    pub(crate) fn arrives(&mut self, which: usize) -> Option<Sent> {
        (which < self.sent.len()).then(|| self.sent.remove(which))
    }
}
