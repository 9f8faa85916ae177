use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::commit_map::{MAX_METADATA_BYTES, decode};

fn offset(offset: i64) -> Offset {
    Offset::new(offset)
}

fn position(position: i64) -> Option<Position> {
    Some(Position::new(position))
}

fn map(ranges: &[(i64, i64)]) -> SettledMap {
    let mut map = SettledMap::new();
    ranges
        .iter()
        .for_each(|&(first, last)| assert!(map.append(range(first, last))));
    map
}

fn range(first: i64, last: i64) -> SettledRange {
    SettledRange {
        first: offset(first),
        last: offset(last),
    }
}

/// Admits and pushes, as a partition does; the slot is the offset.
fn deliver(ledger: &mut Ledger, at: i64) -> Sequence {
    assert_eq!(
        ledger.admit(offset(at), |_| panic!("nothing is to be forgotten")),
        Admission::New
    );
    ledger.push(offset(at), at as u32)
}

fn committed(ledger: &Ledger) -> Vec<SettledRange> {
    let text = ledger
        .commit_metadata(None, &Evidence::default(), MAX_METADATA_BYTES)
        .text;
    ledger.watermark().map_or(Vec::new(), |watermark| {
        decode(watermark, &text).unwrap().settled.ranges().collect()
    })
}

#[test]
fn the_watermark_is_the_lowest_unsettled_offset() {
    let mut ledger = Ledger::new(position(10), SettledMap::new());
    assert_eq!(ledger.watermark(), position(10));
    let sequences = [10, 11, 12].map(|at| deliver(&mut ledger, at));
    ledger.settle(sequences[1]);
    assert_eq!(
        (ledger.watermark(), ledger.settled_ahead()),
        (position(10), 1)
    );
    ledger.settle(sequences[0]);
    assert_eq!(
        (ledger.watermark(), ledger.settled_ahead()),
        (position(12), 0)
    );
    ledger.settle(sequences[2]);
    assert_eq!(ledger.watermark(), position(13));
    assert_eq!(ledger.oldest(), None);
}

#[test]
fn without_a_start_nothing_is_known_until_the_first_delivery() {
    let mut ledger = Ledger::new(None, SettledMap::new());
    assert_eq!((ledger.watermark(), ledger.next()), (None, None));
    let sequence = deliver(&mut ledger, 7);
    assert_eq!(ledger.watermark(), position(7));
    ledger.settle(sequence);
    assert_eq!(ledger.watermark(), position(8));
}

#[test]
fn a_repeated_offset_is_not_entered_again_settled_or_not() {
    let mut ledger = Ledger::new(position(10), SettledMap::new());
    let first = deliver(&mut ledger, 10);
    deliver(&mut ledger, 11);
    ledger.settle(first);
    for again in [10, 11] {
        assert_eq!(
            ledger.admit(offset(again), |_| panic!()),
            Admission::Repeated
        );
    }
    assert_eq!(
        (ledger.watermark(), ledger.next()),
        (position(11), position(12))
    );
}

#[test]
fn holes_are_part_of_a_run_only_between_delivered_offsets() {
    let mut ledger = Ledger::new(position(0), map(&[(30, 35)]));
    let sequences = [0, 5, 9, 10, 20].map(|at| deliver(&mut ledger, at));
    ledger.settle(sequences[1]);
    ledger.settle(sequences[2]);
    ledger.settle(sequences[4]);
    assert_eq!(
        committed(&ledger),
        [range(5, 9), range(20, 20), range(30, 35)]
    );
}

#[test]
fn what_a_previous_owner_settled_is_settled_at_once() {
    let mut ledger = Ledger::new(position(10), map(&[(11, 12), (14, 20)]));
    assert_eq!(ledger.settled_ahead(), 0, "counts from its delivery on");
    let head = deliver(&mut ledger, 10);
    for inherited in [11, 12] {
        assert_eq!(
            ledger.admit(offset(inherited), |_| panic!()),
            Admission::AlreadySettled
        );
    }
    assert_eq!(ledger.settled_ahead(), 2);
    assert_eq!(
        committed(&ledger),
        [range(11, 12), range(14, 20)],
        "with what is not delivered yet"
    );
    ledger.settle(head);
    assert_eq!(ledger.watermark(), position(13));
    assert_eq!(committed(&ledger), [range(14, 20)]);
    deliver(&mut ledger, 13);
    for inherited in [14, 15, 16] {
        assert_eq!(
            ledger.admit(offset(inherited), |_| panic!()),
            Admission::AlreadySettled
        );
    }
    assert_eq!(committed(&ledger), [range(14, 20)], "half used up");
    assert_eq!(ledger.admit(offset(15), |_| panic!()), Admission::Repeated);
}

#[test]
fn an_inherited_offset_moves_the_watermark_when_nothing_is_pending() {
    let mut ledger = Ledger::new(position(10), map(&[(10, 11)]));
    assert_eq!(ledger.watermark(), position(10));
    assert_eq!(
        ledger.admit(offset(10), |_| panic!()),
        Admission::AlreadySettled
    );
    assert_eq!(
        (ledger.watermark(), ledger.settled_ahead()),
        (position(11), 0)
    );
    assert_eq!(committed(&ledger), [range(11, 11)]);
}

#[test]
fn a_delivery_below_the_start_forgets_the_inherited_map_and_what_is_above() {
    let mut ledger = Ledger::new(position(100), map(&[(102, 150)]));
    let pending = deliver(&mut ledger, 100);
    let settled = deliver(&mut ledger, 101);
    ledger.settle(settled);
    assert_eq!(
        ledger.admit(offset(102), |_| panic!()),
        Admission::AlreadySettled
    );
    let mut forgotten = Vec::new();
    assert_eq!(
        ledger.admit(offset(3), |slot| forgotten.push(slot)),
        Admission::New
    );
    assert_eq!(
        forgotten,
        [100],
        "the pending one; {pending:?} must no longer be settled"
    );
    ledger.settle(Sequence::FORGOTTEN);
    let first = ledger.push(offset(3), 0);
    assert_eq!(
        (ledger.watermark(), ledger.next(), ledger.settled_ahead()),
        (position(3), position(4), 0)
    );
    assert_eq!(committed(&ledger), []);
    ledger.settle(first);
    deliver(&mut ledger, 4);
    deliver(&mut ledger, 120);
    assert_eq!(ledger.watermark(), position(4), "120 is another record now");
}

#[test]
fn a_delivery_into_a_hole_forgets_what_is_above_and_keeps_what_is_below() {
    let mut ledger = Ledger::new(position(0), SettledMap::new());
    deliver(&mut ledger, 0);
    let settled = deliver(&mut ledger, 10);
    deliver(&mut ledger, 11);
    ledger.settle(settled);
    let mut forgotten = Vec::new();
    assert_eq!(
        ledger.admit(offset(5), |slot| forgotten.push(slot)),
        Admission::New
    );
    assert_eq!(forgotten, [11]);
    ledger.push(offset(5), 5);
    assert_eq!(
        (ledger.watermark(), ledger.next(), ledger.settled_ahead()),
        (position(0), position(6), 0)
    );
    deliver(&mut ledger, 10);
}

#[test]
fn room_for_less_keeps_the_lowest_ranges() {
    let mut ledger = Ledger::new(position(0), SettledMap::new());
    let sequences: Vec<_> = (0..4_000).map(|at| deliver(&mut ledger, at)).collect();
    sequences
        .iter()
        .skip(1)
        .step_by(2)
        .for_each(|&sequence| ledger.settle(sequence));
    let metadata = ledger.commit_metadata(None, &Evidence::default(), 200);
    assert!(metadata.truncated && metadata.text.len() <= 200);
    let ranges: Vec<_> = decode(Position::new(0), &metadata.text)
        .unwrap()
        .settled
        .ranges()
        .collect();
    assert!(ranges.len() > 60);
    assert!(
        ranges
            .iter()
            .zip(0..)
            .all(|(&kept, index)| kept == range(2 * index + 1, 2 * index + 1))
    );
}

/// What happens to the ledger in a property test.
#[derive(Clone, Debug)]
enum Step {
    /// Deliver the offset this many behind the next.
    Deliver(i64),
    /// Deliver one that was delivered.
    Repeat(prop::sample::Index),
    Settle(prop::sample::Index),
    /// A new owner takes over from the commit.
    HandOver,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop_oneof![3 => Just(0_i64), 1 => 1_i64..4].prop_map(Step::Deliver),
        1 => any::<prop::sample::Index>().prop_map(Step::Repeat),
        4 => any::<prop::sample::Index>().prop_map(Step::Settle),
        1 => Just(Step::HandOver),
    ]
}

/// Every offset that exists, and whether it is settled; the log is read again from the watermark by
/// each owner.
#[derive(Default)]
struct Model {
    log: BTreeSet<i64>,
    settled: BTreeSet<i64>,
    unsettled: BTreeMap<i64, Sequence>,
    next: i64,
}

impl Model {
    fn check(&self, ledger: &Ledger) -> Result<(), TestCaseError> {
        let lowest = self.unsettled.keys().next().copied();
        let watermark = ledger.watermark().map(Position::get);
        prop_assert_eq!(watermark, Some(lowest.unwrap_or(self.next)));
        prop_assert_eq!(ledger.oldest(), lowest.map(|lowest| lowest as u32));
        let ahead = lowest.map_or(0, |lowest| self.settled.range(lowest..self.next).count());
        prop_assert_eq!(ledger.settled_ahead(), ahead);

        let mut named = BTreeSet::new();
        for range in committed(ledger) {
            named.extend(
                self.log
                    .range(range.first.get()..=range.last.get())
                    .copied(),
            );
        }
        let expected: BTreeSet<i64> = self
            .settled
            .range(watermark.unwrap_or(0)..)
            .copied()
            .collect();
        prop_assert_eq!(named, expected);
        Ok(())
    }
}

proptest! {
    #[test]
    fn the_ledger_agrees_with_a_set_of_offsets(steps in proptest::collection::vec(any_step(), 1..150)) {
        let mut model = Model::default();
        let mut ledger = Ledger::new(position(0), SettledMap::new());
        for step in steps {
            match step {
                Step::Deliver(skip) => {
                    // Where the log is known already, what comes next is in it.
                    let at = model.log.range(model.next..).next().copied().unwrap_or(model.next + skip);
                    model.log.insert(at);
                    model.next = at + 1;
                    match ledger.admit(offset(at), |_| unreachable!()) {
                        Admission::New => {
                            prop_assert!(!model.settled.contains(&at));
                            model.unsettled.insert(at, ledger.push(offset(at), at as u32));
                        }
                        Admission::AlreadySettled => prop_assert!(model.settled.contains(&at)),
                        Admission::Repeated => prop_assert!(false, "{} is new", at),
                    }
                }
                Step::Repeat(index) => {
                    let delivered: Vec<i64> = model.log.range(..model.next).copied().collect();
                    if !delivered.is_empty() {
                        let at = offset(*index.get(&delivered));
                        // Below where this owner started is a rewind, which has tests of its own.
                        if ledger.start.is_some_and(|start| start.covers(at)) {
                            prop_assert_eq!(ledger.admit(at, |_| unreachable!()), Admission::Repeated);
                        }
                    }
                }
                Step::Settle(index) => {
                    let unsettled: Vec<i64> = model.unsettled.keys().copied().collect();
                    if !unsettled.is_empty() {
                        let at = *index.get(&unsettled);
                        ledger.settle(model.unsettled.remove(&at).unwrap());
                        model.settled.insert(at);
                    }
                }
                Step::HandOver => {
                    let watermark = ledger.watermark().unwrap();
                    let text = ledger.commit_metadata(None, &Evidence::default(), MAX_METADATA_BYTES).text;
                    ledger = Ledger::new(Some(watermark), decode(watermark, &text).unwrap().settled);
                    model.unsettled.clear();
                    model.next = watermark.get();
                }
            }
            model.check(&ledger)?;
        }
    }
}

fn under(epoch: u32) -> LeaderEpoch {
    LeaderEpoch::new(epoch)
}

/// A ledger at 50 whose predecessor had settled 51 to 199 and read under `epoch`.
fn inherits(epoch: Option<u32>) -> Ledger {
    let mut map = SettledMap::new();
    map.append(SettledRange {
        first: Offset::new(51),
        last: Offset::new(199),
    });
    let mut ledger = Ledger::new(Some(Position::new(50)), map);
    ledger.inherit_leader_epoch(epoch.map(under));
    ledger
}

fn admit(ledger: &mut Ledger, offset: i64) -> Admission {
    let admission = ledger.admit(Offset::new(offset), |_| ());
    if admission == Admission::New {
        ledger.push(Offset::new(offset), 0);
    }
    admission
}

#[test]
fn what_was_written_anew_under_a_later_leader_is_new_although_the_map_names_it() {
    let mut ledger = inherits(Some(4));
    assert!(!ledger.read_under(under(3), Offset::new(50)));
    assert!(!ledger.read_under(under(4), Offset::new(60)));
    assert_eq!(admit(&mut ledger, 99), Admission::AlreadySettled);
    // Cut to 100.
    assert!(ledger.read_under(under(5), Offset::new(100)));
    assert_eq!(admit(&mut ledger, 100), Admission::New);
    assert_eq!(admit(&mut ledger, 150), Admission::New);
}

#[test]
fn a_later_leader_behind_the_map_is_no_cut() {
    let mut ledger = inherits(Some(4));
    assert_eq!(admit(&mut ledger, 190), Admission::AlreadySettled);
    // What is left of the map was compacted away.
    assert!(!ledger.read_under(under(5), Offset::new(200)));
    assert_eq!(admit(&mut ledger, 200), Admission::New);
}

#[test]
fn a_map_without_a_leader_epoch_is_believed() {
    let mut ledger = inherits(None);
    assert!(!ledger.read_under(under(5), Offset::new(50)));
    assert_eq!(admit(&mut ledger, 60), Admission::AlreadySettled);
}

#[test]
fn a_commit_says_under_which_leader_its_map_was_read() {
    let written = |ledger: &Ledger| {
        let position = ledger.watermark().expect("it is known");
        let text = ledger
            .commit_metadata(None, &Evidence::default(), MAX_METADATA_BYTES)
            .text;
        commit_map::decode(position, &text)
            .expect("it was just written")
            .leader_epoch
    };
    let mut ledger = inherits(Some(4));
    ledger.read_under(under(3), Offset::new(50));
    admit(&mut ledger, 50);
    assert_eq!(
        written(&ledger),
        Some(under(4)),
        "what is still to come was read under it"
    );
    ledger.read_under(under(7), Offset::new(100));
    let sequence = deliver(&mut ledger, 100);
    ledger.settle(sequence);
    assert_eq!(written(&ledger), Some(under(7)));
    let mut without = inherits(None);
    without.read_under(under(7), Offset::new(50));
    admit(&mut without, 50);
    assert_eq!(
        written(&without),
        None,
        "records that are still to come have no leader epoch"
    );
}

#[test]
fn a_position_is_committed_under_the_highest_epoch_known_of_the_log_below_it() {
    let mut ledger = Ledger::new(Some(Position::new(50)), SettledMap::new());
    assert_eq!(ledger.position_epoch(), None, "the commit before had none");
    ledger.start_under(Some(under(4)));
    assert_eq!(
        ledger.position_epoch(),
        Some(under(4)),
        "an opening repeats it"
    );
    ledger.read_under(under(3), Offset::new(50));
    admit(&mut ledger, 50);
    assert_eq!(ledger.position_epoch(), Some(under(4)));
    ledger.read_under(under(6), Offset::new(51));
    admit(&mut ledger, 51);
    assert_eq!(ledger.position_epoch(), Some(under(6)));
    assert_eq!(
        inherits(Some(9)).position_epoch(),
        None,
        "the map's epoch is not the position's"
    );
}

#[test]
fn a_log_that_went_back_is_committed_under_its_own_epoch() {
    // Cut and written on by a later leader; or re-created, where epochs begin again.
    for epoch in [6, 0] {
        let mut ledger = Ledger::new(Some(Position::new(50)), SettledMap::new());
        ledger.start_under(Some(under(4)));
        ledger.read_under(under(5), Offset::new(50));
        admit(&mut ledger, 50);
        ledger.read_under(under(epoch), Offset::new(10));
        assert_eq!(admit(&mut ledger, 10), Admission::New);
        assert_eq!(ledger.position_epoch(), Some(under(epoch)));
    }
}
