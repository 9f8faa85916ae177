//! G1 and the zero of duplicates: each produced id was processed, and how often.

use std::collections::{BTreeMap, BTreeSet};

use super::{Entry, Place, Produced, done};

/// An id that was processed successfully more than once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duplicate {
    /// The id.
    pub id: String,
    /// The members that processed it, in order.
    pub members: Vec<String>,
}

/// The produced records that no member has processed successfully.
pub fn lost(entries: &[Entry], produced: &[Produced]) -> Vec<Produced> {
    let done: BTreeSet<&str> = entries
        .iter()
        .filter_map(done)
        .map(|work| work.id.as_str())
        .collect();
    produced
        .iter()
        .filter(|record| !done.contains(record.id.as_str()))
        .cloned()
        .collect()
}

/// The ids that were processed successfully more than once.
pub fn duplicates(entries: &[Entry]) -> Vec<Duplicate> {
    let mut members: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for work in entries.iter().filter_map(done) {
        members
            .entry(&work.id)
            .or_default()
            .push(work.member.clone());
    }
    let often = members.into_iter().filter(|(_, members)| members.len() > 1);
    often
        .map(|(id, members)| Duplicate {
            id: id.to_owned(),
            members,
        })
        .collect()
}

/// Where records were read that were not produced, or that carried another id than the one produced
/// there.
pub fn unknown(entries: &[Entry], produced: &[Produced]) -> BTreeSet<Place> {
    let ids: BTreeMap<Place, &str> = produced
        .iter()
        .map(|record| (record.place(), record.id.as_str()))
        .collect();
    let started = entries.iter().filter_map(|entry| match entry {
        Entry::Started(work) => Some(work),
        Entry::Ended(..) => None,
    });
    started
        .filter(|work| ids.get(&work.place()) != Some(&work.id.as_str()))
        .map(|work| work.place())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Journal, Outcome, Work,
            testing::{history, produced, work},
        },
        duplicates, lost, unknown,
    };

    #[test]
    fn a_record_without_a_successful_end_is_lost() {
        let journal = Journal::new();
        journal.started(work(0)).finished(Outcome::Done);
        journal.started(work(1)).finished(Outcome::Failed);
        drop(journal.started(work(2)));
        let lost = lost(&journal.entries(), &produced(0..4));
        assert_eq!(
            lost.iter().map(|record| record.offset).collect::<Vec<_>>(),
            [1, 2, 3]
        );
    }

    #[test]
    fn a_retry_that_succeeds_is_neither_a_loss_nor_a_duplicate() {
        let journal = Journal::new();
        journal.started(work(0)).finished(Outcome::Failed);
        journal
            .started(Work {
                attempt: 2,
                ..work(0)
            })
            .finished(Outcome::Done);
        assert!(lost(&journal.entries(), &produced([0])).is_empty());
        assert!(duplicates(&journal.entries()).is_empty());
    }

    #[test]
    fn two_successes_of_one_id_are_a_duplicate_and_name_both_members() {
        let entries = history([
            work(0),
            work(1),
            Work {
                member: "b".into(),
                ..work(1)
            },
        ]);
        let duplicates = duplicates(&entries);
        assert_eq!(duplicates.len(), 1);
        assert_eq!(
            (duplicates[0].id.as_str(), &duplicates[0].members[..]),
            ("1", &["a".into(), "b".into()][..])
        );
    }

    #[test]
    fn what_nobody_produced_and_what_changed_its_id_are_unknown() {
        let entries = history([
            work(0),
            Work {
                id: "other".into(),
                ..work(1)
            },
            work(7),
        ]);
        let places = unknown(&entries, &produced(0..3));
        assert_eq!(
            places.iter().map(|place| place.offset).collect::<Vec<_>>(),
            [1, 7]
        );
    }
}
