//! G4: nothing is committed that was not settled.

use std::{collections::BTreeSet, fmt};

use super::{Place, Produced};

/// An offset that a group has committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitPoint {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The next offset to read: all below it count as settled.
    pub offset: i64,
}

/// A record below the committed offset that was not settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedUnsettled {
    /// The record.
    pub place: Place,
    /// What was committed for its partition.
    pub committed: i64,
}

impl fmt::Display for CommittedUnsettled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is not settled, and {} is committed",
            self.place, self.committed
        )
    }
}

/// The produced records that a commit covers although they were not settled. With one record
/// covered by several commits, each is named.
///
/// Ask in this order while work goes on: read the commits, then take `settled`. The other way
/// round, a record that was settled in between looks like a fault.
pub fn committed_unsettled(
    commits: &[CommitPoint],
    produced: &[Produced],
    settled: &BTreeSet<Place>,
) -> Vec<CommittedUnsettled> {
    let mut found = Vec::new();
    for commit in commits {
        let covered = produced.iter().filter(|record| {
            record.topic == commit.topic
                && record.partition == commit.partition
                && record.offset < commit.offset
        });
        let unsettled = covered
            .map(Produced::place)
            .filter(|place| !settled.contains(place));
        found.extend(unsettled.map(|place| CommittedUnsettled {
            place,
            committed: commit.offset,
        }));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Journal, Outcome,
            testing::{produced, work},
        },
        CommitPoint, committed_unsettled,
    };

    fn commit(partition: i32, offset: i64) -> CommitPoint {
        CommitPoint {
            topic: "t".into(),
            partition,
            offset,
        }
    }

    #[test]
    fn a_commit_may_reach_to_the_first_unsettled_record_and_not_beyond() {
        let journal = Journal::new();
        for offset in [0, 1, 3] {
            journal.started(work(offset)).finished(Outcome::Done);
        }
        let (settled, produced) = (journal.settled(), produced(0..5));
        assert_eq!(
            committed_unsettled(&[commit(0, 2)], &produced, &settled),
            []
        );

        let found = committed_unsettled(&[commit(0, 4)], &produced, &settled);
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].to_string(),
            "t[0]@2 is not settled, and 4 is committed"
        );
    }

    #[test]
    fn a_commit_speaks_for_its_own_partition_and_for_what_was_produced() {
        let settled = Journal::new().settled();
        assert_eq!(
            committed_unsettled(&[commit(1, 100)], &produced(0..5), &settled),
            []
        );
        assert_eq!(
            committed_unsettled(&[commit(0, 100)], &produced([50]), &settled).len(),
            1
        );
    }
}
