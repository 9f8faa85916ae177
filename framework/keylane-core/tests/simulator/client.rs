//! A model of the client, as far as it commits: it stores points and commits by itself what it
//! takes for later than its last commit; commits arrive in the order they were sent.

use std::collections::{BTreeMap, VecDeque};

use keylane_core::member::{ClientPosition, CommitId, CommitPoint};

#[derive(Default)]
pub(crate) struct Client {
    assigned: BTreeMap<usize, Known>,
    sent: VecDeque<Sent>,
}

/// What the client keeps of an assigned partition, by the number of its log.
#[derive(Default)]
struct Known {
    stored: Option<CommitPoint>,
    committed: Option<ClientPosition>,
}

impl Known {
    /// What is stored and later than the last commit.
    fn later(&self) -> Option<CommitPoint> {
        let stored = self.stored.as_ref()?;
        let is_later = |committed| stored.client_position().is_after(committed);
        self.committed.is_none_or(is_later).then(|| stored.clone())
    }
}

/// A commit on its way to the broker.
pub(crate) struct Sent {
    pub(crate) points: Vec<(usize, CommitPoint)>,
    /// Where its answer is waited for.
    pub(crate) id: Option<CommitId>,
}

impl Client {
    pub(crate) fn assign(&mut self, log: usize, committed: Option<ClientPosition>) {
        let stored = None;
        self.assigned.insert(log, Known { stored, committed });
    }

    /// What is stored is committed with it, where it is later than the last commit: the answer.
    /// Commits under way say nothing about the log any longer.
    pub(crate) fn unassign(&mut self, log: usize) -> Option<CommitPoint> {
        for sent in &mut self.sent {
            sent.points.retain(|(other, _)| *other != log);
        }
        self.assigned.remove(&log)?.later()
    }

    /// A partition that is not assigned is refused.
    pub(crate) fn store(&mut self, log: usize, point: CommitPoint) {
        if let Some(known) = self.assigned.get_mut(&log) {
            known.stored = Some(point);
        }
    }

    pub(crate) fn commit(&mut self, points: Vec<(usize, CommitPoint)>, id: Option<CommitId>) {
        if !points.is_empty() {
            self.sent.push_back(Sent { points, id });
        }
    }

    /// The commit interval has passed.
    pub(crate) fn commit_by_itself(&mut self) {
        let points = self
            .assigned
            .iter()
            .filter_map(|(&log, known)| known.later().map(|point| (log, point)))
            .collect();
        self.commit(points, None);
    }

    /// How many commits are under way.
    pub(crate) fn under_way(&self) -> usize {
        self.sent.len()
    }

    /// The oldest commit under way comes to the broker.
    pub(crate) fn arrives(&mut self) -> Option<Sent> {
        self.sent.pop_front()
    }

    /// The broker has it.
    pub(crate) fn taken(&mut self, sent: &Sent) {
        for (log, point) in &sent.points {
            if let Some(known) = self.assigned.get_mut(log) {
                known.committed = Some(point.client_position());
            }
        }
    }
}
