//! All checks of a journal at once, readable when one of them fails.

use std::{collections::BTreeSet, fmt};

use super::{
    Entry, Place, Produced,
    loss::{Duplicate, duplicates, lost, unknown},
    order::{OrderFault, OrderFaultKind, Rewinds, order_faults},
    overlap::{Overlap, overlaps},
};

/// How many findings of one kind are printed.
const SHOWN: usize = 10;

/// What the members went through, hence what may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Orderly hand-overs only: every record once, every key in order.
    Drained,
    /// Members crashed or lost partitions: records may come again, key by key and without gaps.
    Crashes,
    /// The retry topic was in use, so keys have no order, and members crashed: nothing lost and no
    /// overlap is all.
    Unordered,
}

/// What the checks found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How many records were produced.
    pub produced: usize,
    /// How many attempts started.
    pub attempts: usize,
    /// Produced and never processed.
    pub lost: Vec<Produced>,
    /// Seen and never produced.
    pub unknown: BTreeSet<Place>,
    /// Processed more than once, whether or not that was to be expected.
    pub duplicates: Vec<Duplicate>,
    /// Started out of turn.
    pub order: Vec<OrderFault>,
    /// Two at a time of one key.
    pub overlaps: Vec<Overlap>,
    expect: Expect,
}

impl Report {
    /// Runs the checks.
    pub fn of(entries: &[Entry], produced: &[Produced], expect: Expect) -> Self {
        Self {
            produced: produced.len(),
            attempts: entries
                .iter()
                .filter(|entry| matches!(entry, Entry::Started(_)))
                .count(),
            lost: lost(entries, produced),
            unknown: unknown(entries, produced),
            duplicates: duplicates(entries),
            order: match expect {
                Expect::Drained => order_faults(entries, produced, Rewinds::Forbidden),
                Expect::Crashes => order_faults(entries, produced, Rewinds::Allowed),
                Expect::Unordered => Vec::new(),
            },
            overlaps: overlaps(entries),
            expect,
        }
    }

    /// Whether nothing was found that must not be.
    pub fn is_clean(&self) -> bool {
        !self.breaks_a_promise()
            && self.order.is_empty()
            && (self.duplicates.is_empty() || self.expect != Expect::Drained)
    }

    /// Whether something was found that no clock can be to blame for, as it can for what is
    /// processed again.
    pub fn breaks_a_promise(&self) -> bool {
        let left_out = |fault: &OrderFault| fault.kind != OrderFaultKind::Rewind;
        !(self.lost.is_empty() && self.unknown.is_empty() && self.overlaps.is_empty())
            || self.order.iter().any(left_out)
    }

    /// For where records may be processed again and beside each other.
    ///
    /// # Panics
    /// Where a record is lost or was never produced, with the report.
    #[track_caller]
    pub fn assert_nothing_lost(&self) {
        assert!(
            self.lost.is_empty() && self.unknown.is_empty(),
            "broken promise: {self}"
        );
    }

    /// # Panics
    /// Unless [`Report::is_clean`], with the report.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(!self.breaks_a_promise(), "broken promise: {self}");
        assert!(self.is_clean(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} records produced, {} attempts, expecting {:?}",
            self.produced, self.attempts, self.expect
        )?;
        let place =
            |place: &Place| format!("{}[{}]@{}", place.topic, place.partition, place.offset);
        section(
            f,
            "lost",
            self.lost
                .iter()
                .map(|record| format!("{} (id {})", place(&record.place()), record.id)),
        )?;
        section(f, "never produced", self.unknown.iter().map(place))?;
        let twice = |found: &Duplicate| format!("id {} on {}", found.id, found.members.join(", "));
        section(
            f,
            "processed more than once",
            self.duplicates.iter().map(twice),
        )?;
        section(
            f,
            "out of turn",
            self.order.iter().map(OrderFault::to_string),
        )?;
        section(
            f,
            "overlapping",
            self.overlaps.iter().map(Overlap::to_string),
        )
    }
}

fn section(
    f: &mut fmt::Formatter<'_>,
    title: &str,
    findings: impl ExactSizeIterator<Item = String>,
) -> fmt::Result {
    let count = findings.len();
    writeln!(f, "  {title}: {count}")?;
    for finding in findings.take(SHOWN) {
        writeln!(f, "    {finding}")?;
    }
    if count > SHOWN {
        writeln!(f, "    and {} more", count - SHOWN)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Journal, Work,
            testing::{history, produced, work},
        },
        Expect, Report,
    };

    #[test]
    fn a_clean_history_is_clean_by_every_measure() {
        let entries = history([0, 1, 2].map(work));
        for expect in [Expect::Drained, Expect::Crashes, Expect::Unordered] {
            let report = Report::of(&entries, &produced(0..3), expect);
            assert!(report.is_clean(), "{report}");
        }
    }

    #[test]
    fn a_rewind_is_clean_after_crashes_only() {
        let entries = history([0, 1, 1, 2].map(work));
        assert!(!Report::of(&entries, &produced(0..3), Expect::Drained).is_clean());
        assert!(Report::of(&entries, &produced(0..3), Expect::Crashes).is_clean());
    }

    #[test]
    fn disorder_is_clean_only_where_no_order_was_promised() {
        let entries = history([1, 0].map(work));
        assert!(!Report::of(&entries, &produced(0..2), Expect::Crashes).is_clean());
        assert!(Report::of(&entries, &produced(0..2), Expect::Unordered).is_clean());
    }

    #[test]
    fn a_loss_a_stranger_and_an_overlap_are_never_clean() {
        let lossy = Report::of(&history([work(0)]), &produced(0..2), Expect::Unordered);
        assert!(
            !lossy.is_clean() && lossy.to_string().contains("t[0]@1 (id 1)"),
            "{lossy}"
        );

        let strange = Report::of(
            &history([0, 9].map(work)),
            &produced([0]),
            Expect::Unordered,
        );
        assert!(
            !strange.is_clean() && strange.to_string().contains("t[0]@9"),
            "{strange}"
        );

        let journal = Journal::new();
        let running = [
            work(0),
            Work {
                member: "b".into(),
                ..work(1)
            },
        ]
        .map(|work| journal.started(work));
        drop(running);
        let overlapping = journal.check(&produced(0..2), Expect::Unordered);
        assert!(
            !overlapping.is_clean() && overlapping.to_string().contains("while @0 ran on a"),
            "{overlapping}"
        );
    }

    #[test]
    #[should_panic(expected = "lost: 12")]
    fn the_assertion_shows_the_counts() {
        Report::of(&[], &produced(0..12), Expect::Drained).assert_clean();
    }

    #[test]
    fn long_lists_are_cut() {
        let report = Report::of(&[], &produced(0..12), Expect::Drained).to_string();
        assert!(
            report.contains("t[0]@9 ")
                && !report.contains("t[0]@10")
                && report.contains("and 2 more"),
            "{report}"
        );
    }
}
