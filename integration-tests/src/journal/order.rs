//! G2, the order: the records of a key start in offset order.
//!
//! The rule after a crash is that of Decaton's guarantee suite. A step backwards is a rewind to
//! what was committed. It never goes below an earlier rewind; from there on every record comes
//! again, without a gap; and what remains when the rewound parts are taken out is what was
//! produced. A missing tail is no fault of order, it is a loss.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use super::{Entry, Place, Produced, Work, show_key};

/// Whether records of a key may come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rewinds {
    /// After a crash or a partition that was lost.
    Allowed,
    /// The starts in an epoch chain of orderly hand-overs.
    Forbidden,
}

/// A record that started out of its turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderFault {
    /// Which record.
    pub place: Place,
    /// Its key.
    pub key: Vec<u8>,
    /// Who started it.
    pub member: String,
    /// What was wrong.
    pub kind: OrderFaultKind,
}

/// What was wrong with the order.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum OrderFaultKind {
    /// An earlier record of the key had not started: the record at this offset.
    Gap {
        /// The offset whose turn it was; `None` when no record of the key was left.
        expected: Option<i64>,
    },
    /// The record had started before, where rewinds are forbidden.
    Rewind,
    /// The rewind went below an earlier one, which had started at this offset.
    RewindBelow {
        /// The offset of the earlier rewind.
        earlier: i64,
    },
}

impl fmt::Display for OrderFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of key {} on {} ",
            self.place,
            show_key(&self.key),
            self.member
        )?;
        match self.kind {
            OrderFaultKind::Gap {
                expected: Some(expected),
            } => write!(f, "started before offset {expected}"),
            OrderFaultKind::Gap { expected: None } => {
                write!(f, "started after the key's last record")
            }
            OrderFaultKind::Rewind => write!(f, "started again"),
            OrderFaultKind::RewindBelow { earlier } => {
                write!(f, "rewound below the earlier rewind to {earlier}")
            }
        }
    }
}

/// The starts that were out of turn. Null keys have no order; records that were not produced are
/// left to [`unknown`](super::unknown).
pub fn order_faults(entries: &[Entry], produced: &[Produced], rewinds: Rewinds) -> Vec<OrderFault> {
    let mut lanes = lanes(produced);
    let mut faults = Vec::new();
    for entry in entries {
        let Entry::Started(work) = entry else {
            continue;
        };
        let Some(key) = &work.key else { continue };
        let Some(lane) = lanes.get_mut(&(&work.topic, work.partition, key)) else {
            continue;
        };
        let Ok(position) = lane.offsets.binary_search(&work.offset) else {
            continue;
        };
        if let Some(kind) = lane.start(position, work, rewinds) {
            faults.push(OrderFault {
                place: work.place(),
                key: key.clone(),
                member: work.member.clone(),
                kind,
            });
        }
    }
    faults
}

type LaneId<'a> = (&'a String, i32, &'a Vec<u8>);

fn lanes(produced: &[Produced]) -> HashMap<LaneId<'_>, Lane> {
    let mut offsets: BTreeMap<LaneId<'_>, Vec<i64>> = BTreeMap::new();
    for record in produced {
        if let Some(key) = &record.key {
            offsets
                .entry((&record.topic, record.partition, key))
                .or_default()
                .push(record.offset);
        }
    }
    offsets
        .into_iter()
        .map(|(id, mut offsets)| {
            offsets.sort_unstable();
            (
                id,
                Lane {
                    offsets,
                    next: 0,
                    floor: 0,
                    last: None,
                },
            )
        })
        .collect()
}

/// How far one key has come. Positions count the key's records, so that the next one is simply one
/// more.
struct Lane {
    offsets: Vec<i64>,
    /// The position whose turn it is.
    next: usize,
    /// The position of the latest rewind.
    floor: usize,
    /// Who made the latest attempt, and which.
    last: Option<(usize, String, u32)>,
}

impl Lane {
    fn start(&mut self, position: usize, work: &Work, rewinds: Rewinds) -> Option<OrderFaultKind> {
        // The same member tries the same record again: a retry in place, which holds the lane.
        let retried = self.last.as_ref().is_some_and(|(last, member, attempt)| {
            *last == position && *member == work.member && work.attempt > *attempt
        });
        self.last = Some((position, work.member.clone(), work.attempt));
        if retried {
            return None;
        }
        let fault = if position > self.next {
            Some(OrderFaultKind::Gap {
                expected: self.offsets.get(self.next).copied(),
            })
        } else if position == self.next {
            None
        } else if rewinds == Rewinds::Forbidden {
            Some(OrderFaultKind::Rewind)
        } else if position < self.floor {
            Some(OrderFaultKind::RewindBelow {
                earlier: self.offsets[self.floor],
            })
        } else {
            self.floor = position;
            None
        };
        // After a fault, go on from here: one fault should be reported once.
        self.next = position + 1;
        fault
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Produced, Work,
            testing::{history, produced, work},
        },
        OrderFaultKind, Rewinds, order_faults,
    };

    fn kinds(
        works: impl IntoIterator<Item = Work>,
        rewinds: Rewinds,
    ) -> Vec<(i64, OrderFaultKind)> {
        let faults = order_faults(&history(works), &produced([10, 20, 30, 40, 50]), rewinds);
        faults
            .into_iter()
            .map(|fault| (fault.place.offset, fault.kind))
            .collect()
    }

    #[test]
    fn offset_order_has_no_fault() {
        assert_eq!(
            kinds([10, 20, 30, 40, 50].map(work), Rewinds::Forbidden),
            []
        );
    }

    #[test]
    fn a_skipped_record_is_a_gap_and_its_late_start_a_rewind() {
        let faults = kinds([10, 30, 20].map(work), Rewinds::Forbidden);
        let gap = OrderFaultKind::Gap { expected: Some(20) };
        assert_eq!(faults, [(30, gap), (20, OrderFaultKind::Rewind)]);
    }

    #[test]
    fn a_rewind_that_repeats_everything_is_fine_only_where_rewinds_are_allowed() {
        let works = || [10, 20, 30, 20, 30, 40, 50].map(work);
        assert_eq!(kinds(works(), Rewinds::Allowed), []);
        assert_eq!(
            kinds(works(), Rewinds::Forbidden),
            [(20, OrderFaultKind::Rewind)]
        );
    }

    #[test]
    fn a_rewind_with_a_hole_is_a_gap() {
        let gap = OrderFaultKind::Gap { expected: Some(30) };
        assert_eq!(
            kinds([10, 20, 30, 20, 40].map(work), Rewinds::Allowed),
            [(40, gap)]
        );
    }

    #[test]
    fn a_rewind_below_an_earlier_rewind_is_a_fault() {
        let faults = kinds([10, 20, 30, 30, 40, 20].map(work), Rewinds::Allowed);
        assert_eq!(faults, [(20, OrderFaultKind::RewindBelow { earlier: 30 })]);
    }

    #[test]
    fn a_retry_in_place_is_no_rewind_but_a_repetition_by_another_member_is() {
        let retry = Work {
            attempt: 2,
            ..work(10)
        };
        let repetition = Work {
            member: "b".into(),
            attempt: 2,
            ..work(20)
        };
        let works = [work(10), retry, work(20), repetition, work(30)];
        assert_eq!(
            kinds(works, Rewinds::Forbidden),
            [(20, OrderFaultKind::Rewind)]
        );
    }

    #[test]
    fn other_keys_and_null_keys_do_not_disturb() {
        let other = |offset| Work {
            key: Some(b"other".to_vec()),
            ..work(offset)
        };
        let null = |offset| Work {
            key: None,
            ..work(offset)
        };
        let mut records = produced([10, 20]);
        records.extend(produced([11, 21]).into_iter().map(|record| Produced {
            key: Some(b"other".to_vec()),
            ..record
        }));
        records.extend(produced([12, 22]).into_iter().map(|record| Produced {
            key: None,
            ..record
        }));
        let entries = history([work(10), null(22), other(11), null(12), work(20), other(21)]);
        assert_eq!(order_faults(&entries, &records, Rewinds::Forbidden), []);

        let swapped = history([work(10), other(21), work(20), other(11)]);
        assert_eq!(
            order_faults(&swapped, &records, Rewinds::Forbidden).len(),
            2
        );
    }
}
