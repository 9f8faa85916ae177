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

fn plan(position: i64, content: CommitContent, target: i64) -> OffsetReset {
    let committed = Some((Position::new(position), content));
    OffsetReset::plan(committed, Position::new(target), RANGE, log(1))
}

fn written(reset: &OffsetReset, target: i64) -> CommitContent {
    decode(Position::new(target), &reset.metadata).unwrap()
}

fn pairs(content: &CommitContent) -> Vec<(i64, i64)> {
    let ranges = content.settled.ranges();
    ranges.map(|it| (it.first.get(), it.last.get())).collect()
}

#[test]
fn back_everything_is_done_again_and_nothing_is_known_any_longer_but_the_log() {
    let mut content = content(&[(42, 44), (50, 50)]);
    content.evidence.suspects = vec![Suspect {
        offset: Offset::new(41),
        crashes: 2,
        survived: false,
    }];
    let reset = plan(40, content, 30);
    assert_eq!(
        (reset.repeated, reset.skipped, reset.kept),
        (Some(14), Some(0), 0)
    );
    let only_the_log = CommitContent {
        log: log(1),
        ..CommitContent::default()
    };
    assert_eq!(written(&reset, 30), only_the_log);
}

#[test]
fn forward_what_is_settled_from_the_target_on_stays_so_and_only_unsettled_offsets_are_skipped() {
    let reset = plan(40, content(&[(42, 44), (48, 52), (60, 60)]), 50);
    assert_eq!(
        (reset.repeated, reset.skipped, reset.kept),
        (Some(0), Some(5), 4)
    );
    let written = written(&reset, 50);
    assert_eq!(pairs(&written), [(50, 52), (60, 60)]);
    assert_eq!(written.leader_epoch, Some(LeaderEpoch::new(2)));
    assert_eq!(written.log, log(1));
}

#[test]
fn what_was_committed_for_another_log_or_never_makes_nothing_known() {
    let of_another = CommitContent {
        log: log(9),
        ..content(&[(42, 44)])
    };
    for committed in [None, Some((Position::new(40), of_another))] {
        let reset = OffsetReset::plan(committed, Position::new(50), RANGE, log(1));
        assert_eq!((reset.repeated, reset.skipped, reset.kept), (None, None, 0));
        assert_eq!(pairs(&written(&reset, 50)), []);
        assert_eq!(written(&reset, 50).log, log(1));
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
        OffsetReset::plan(committed, Position::new(target), range, log(1))
    };
    assert_eq!(reset(41, 35).repeated, Some(6 + 2));
    assert_eq!(reset(10, 40).skipped, Some(5));
}

#[test]
fn forward_crash_evidence_stays_for_what_is_still_to_run() {
    let suspect = |offset| Suspect {
        offset: Offset::new(offset),
        crashes: 1,
        survived: false,
    };
    let with = |named: Named| CommitContent {
        evidence: Evidence {
            running: Some(Instance::new(7)),
            named,
            unclean_starts: 1,
            suspects: vec![suspect(41), suspect(55)],
        },
        ..content(&[])
    };
    let evidence = |named| written(&plan(40, with(named), 50), 50).evidence;
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
    ) {
        let ahead: BTreeSet<i64> = ahead.into_iter().map(|it| it + position + 1).collect();
        let ranges: Vec<_> = ahead.iter().map(|offset| (*offset, *offset)).collect();
        let target = target.clamp(first, end);
        let range = LogRange { first: Position::new(first), end: Position::new(end) };
        let committed = Some((Position::new(position), content(&ranges)));
        let reset = OffsetReset::plan(committed, Position::new(target), range, log(1));

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
        prop_assert_eq!((reset.repeated, reset.skipped, reset.kept), (Some(repeated), Some(skipped), kept));
    }
}
