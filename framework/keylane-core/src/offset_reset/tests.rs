use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::commit_map::decode;
use crate::evidence::{Instance, Suspect};
use crate::offset::LeaderEpoch;
use crate::settled_map::SettledMap;

const RANGE: LogRange = LogRange {
    first: Position::new(0),
    end: Position::new(100),
};

fn log(number: u64) -> Option<LogId> {
    LogId::of_topic(number, 0)
}

fn content(ranges: &[(i64, i64)]) -> CommitContent {
    let mut settled = SettledMap::new();
    for &(first, last) in ranges {
        assert!(settled.append(SettledRange {
            first: Offset::new(first),
            last: Offset::new(last),
        }));
    }
    CommitContent {
        settled,
        log: log(1),
        leader_epoch: Some(LeaderEpoch::new(2)),
        ..CommitContent::default()
    }
}

fn plan(position: i64, content: CommitContent, target: i64, above: SettledAbove) -> OffsetReset {
    let committed = Some((Position::new(position), content));
    OffsetReset::plan(committed, Position::new(target), RANGE, log(1), above)
}

fn figures(reset: &OffsetReset) -> (Option<u64>, Option<u64>, u64) {
    (reset.repeated, reset.skipped, reset.kept)
}

fn written(reset: &OffsetReset, target: i64) -> CommitContent {
    decode(Position::new(target), &reset.metadata).unwrap()
}

fn pairs(content: &CommitContent) -> Vec<(i64, i64)> {
    let ranges = content.settled.ranges();
    ranges.map(|it| (it.first.get(), it.last.get())).collect()
}

fn suspect(offset: i64) -> Suspect {
    Suspect {
        offset: Offset::new(offset),
        crashes: 2,
        survived: false,
    }
}

#[test]
fn a_replay_repeats_everything_from_the_target_on_and_leaves_only_the_log() {
    let mut content = content(&[(42, 44), (50, 50)]);
    content.evidence.suspects = vec![suspect(41), suspect(60)];
    let only_the_log = CommitContent {
        log: log(1),
        ..CommitContent::default()
    };
    // Also where the target lies above the position, because the commit waits for one record.
    for (target, expected) in [
        (30, (Some(14), Some(0), 0)),
        (40, (Some(4), Some(0), 0)),
        (43, (Some(3), Some(2), 0)),
    ] {
        let reset = plan(40, content.clone(), target, SettledAbove::Repeated);
        assert_eq!(figures(&reset), expected, "to {target}");
        assert_eq!(written(&reset, target), only_the_log, "to {target}");
    }
}

#[test]
fn where_it_is_kept_what_is_settled_stays_so_and_only_unsettled_offsets_are_skipped() {
    let content = content(&[(42, 44), (48, 52), (60, 60)]);
    let reset = plan(40, content.clone(), 50, SettledAbove::Kept);
    assert_eq!(figures(&reset), (Some(0), Some(5), 4));
    let after = written(&reset, 50);
    assert_eq!(pairs(&after), [(50, 52), (60, 60)]);
    assert_eq!(after.leader_epoch, Some(LeaderEpoch::new(2)));
    assert_eq!(after.log, log(1));

    let back = plan(40, content, 30, SettledAbove::Kept);
    assert_eq!(figures(&back), (Some(10), Some(0), 9));
    assert_eq!(pairs(&written(&back, 30)), [(42, 44), (48, 52), (60, 60)]);
}

#[test]
fn what_was_committed_for_another_log_or_never_makes_nothing_known() {
    let of_another = CommitContent {
        log: log(9),
        ..content(&[(42, 44)])
    };
    for committed in [None, Some((Position::new(40), of_another))] {
        let plan = |target, above| {
            let committed = committed.clone();
            OffsetReset::plan(committed, Position::new(target), RANGE, log(1), above)
        };
        for above in [SettledAbove::Repeated, SettledAbove::Kept] {
            let reset = plan(50, above);
            assert_eq!(figures(&reset), (None, None, 0));
            assert_eq!(pairs(&written(&reset, 50)), []);
            assert_eq!(written(&reset, 50).log, log(1));
            // From the beginning nothing is passed over; from the end nothing is repeated.
            assert_eq!(figures(&plan(0, above)), (None, Some(0), 0));
            assert_eq!(figures(&plan(100, above)), (Some(0), None, 0));
        }
    }
}

#[test]
fn offsets_that_the_log_no_longer_has_do_not_count() {
    let range = LogRange {
        first: Position::new(35),
        end: Position::new(45),
    };
    let reset = |position, target| {
        let committed = Some((Position::new(position), content(&[(43, 60)])));
        let target = Position::new(target);
        OffsetReset::plan(committed, target, range, log(1), SettledAbove::Repeated)
    };
    assert_eq!(reset(41, 35).repeated, Some(6 + 2));
    assert_eq!(reset(10, 40).skipped, Some(5));
}

#[test]
fn crash_evidence_that_is_kept_stays_for_what_is_still_to_run() {
    let with = |named: Named| CommitContent {
        evidence: Evidence {
            running: Some(Instance::new(7)),
            named,
            unclean_starts: 1,
            suspects: vec![suspect(41), suspect(55)],
        },
        ..content(&[])
    };
    let evidence = |named| {
        let reset = plan(40, with(named), 50, SettledAbove::Kept);
        written(&reset, 50).evidence
    };
    let passed_over = evidence(Named::Alone(Offset::new(41)));
    assert_eq!(passed_over.suspects, [suspect(55)]);
    assert_eq!(
        (passed_over.running, passed_over.named),
        (None, Named::Nobody)
    );
    let left = evidence(Named::Alone(Offset::new(55)));
    assert_eq!(left.named, Named::Alone(Offset::new(55)));
    assert!(left.running.is_some());
    let some = evidence(Named::Together([41, 55].map(Offset::new).to_vec()));
    assert_eq!(some.named, Named::Together(vec![Offset::new(55)]));
    assert!(evidence(Named::Nobody).running.is_some());
}

proptest! {
    /// Against sets of offsets.
    #[test]
    fn the_counts_and_the_map_are_those_of_sets(
        position in 0_i64..60,
        target in 0_i64..80,
        ahead in proptest::collection::btree_set(0_i64..60, 0..20),
        first in 0_i64..40,
        end in 60_i64..80,
        is_kept in any::<bool>(),
    ) {
        let above = match is_kept {
            true => SettledAbove::Kept,
            false => SettledAbove::Repeated,
        };
        let ahead: BTreeSet<i64> = ahead.into_iter().map(|it| it + position + 1).collect();
        let ranges: Vec<_> = ahead.iter().map(|offset| (*offset, *offset)).collect();
        let target = target.clamp(first, end);
        let range = LogRange { first: Position::new(first), end: Position::new(end) };
        let committed = Some((Position::new(position), content(&ranges)));
        let reset = OffsetReset::plan(committed, Position::new(target), range, log(1), above);

        let is_settled = |offset: &i64| *offset < position || ahead.contains(offset);
        let runs_again = |offset: &i64| *offset >= target;
        let (mut repeated, mut skipped, mut kept) = (0, 0, 0);
        let written = written(&reset, target);
        for offset in first..end {
            let stays_settled = written.settled.contains(Offset::new(offset));
            prop_assert!(!stays_settled || is_settled(&offset), "{offset} is not settled");
            match (is_settled(&offset), runs_again(&offset)) {
                (true, true) if stays_settled => kept += 1,
                (true, true) => repeated += 1,
                (false, false) => skipped += 1,
                _ => {}
            }
        }
        prop_assert!(is_kept || kept == 0);
        prop_assert_eq!(figures(&reset), (Some(repeated), Some(skipped), kept));
    }
}
