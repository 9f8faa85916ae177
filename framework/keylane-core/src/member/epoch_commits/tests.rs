use super::*;
use crate::commit_map::MAX_METADATA_BYTES;
use crate::{Evidence, Instance, LeaderEpoch, Position, SettledMap, SettledRange, commit_map};

const CALM: Situation = Situation {
    suspended: false,
    ending: false,
};
const SUSPENDED: Situation = Situation {
    suspended: true,
    ending: false,
};
const ENDING: Situation = Situation {
    suspended: false,
    ending: true,
};

fn at(position: i64, leader_epoch: u32) -> ClientPosition {
    ClientPosition {
        position: Position::new(position),
        leader_epoch: Some(LeaderEpoch::new(leader_epoch)),
    }
}

/// Behind a commit of position 5.
fn commits() -> EpochCommits {
    let place = TopicPartition::new("tasks", 0);
    EpochCommits::new(place, Epoch::new(1), Some(at(5, 1)))
}

fn point(position: i64) -> CommitPoint {
    let ClientPosition {
        position,
        leader_epoch,
    } = at(position, 1);
    CommitPoint {
        position,
        leader_epoch,
        metadata: String::new(),
        mark: None,
        running: false,
    }
}

fn with_metadata(position: i64, metadata: &str) -> CommitPoint {
    CommitPoint {
        metadata: metadata.to_owned(),
        ..point(position)
    }
}

fn marked(position: i64, mark: u64) -> CommitPoint {
    let evidence = Evidence {
        running: Some(Instance::new(1)),
        ..Evidence::default()
    };
    let position = Position::new(position);
    CommitPoint {
        metadata: commit_map::encode(position, [], &evidence, MAX_METADATA_BYTES).text,
        mark: Some(Mark::new(mark)),
        running: true,
        ..point(position.get())
    }
}

fn take(commits: &mut EpochCommits, point: CommitPoint, situation: Situation) -> Option<Committed> {
    commits.take(point, MetadataLimit::All, situation)
}

const fn explicitly(why: Explicit) -> Option<Committed> {
    Some(Committed::Explicitly(why))
}

#[test]
fn the_client_commits_what_has_moved_on() {
    let mut commits = commits();
    assert_eq!(
        take(&mut commits, point(6), CALM),
        Some(Committed::ByClient)
    );
    assert_eq!(take(&mut commits, point(6), CALM), None, "nothing is new");
    assert_eq!(
        take(&mut commits, point(9), CALM),
        Some(Committed::ByClient)
    );
}

#[test]
fn what_the_client_leaves_out_is_committed_explicitly() {
    let mut map_only = commits();
    let _ = take(&mut map_only, point(6), CALM);
    let only_its_map = take(&mut map_only, with_metadata(6, "a map"), CALM);
    assert_eq!(only_its_map, explicitly(Explicit::SamePosition));

    let first = take(&mut commits(), with_metadata(5, "a map"), CALM);
    assert_eq!(first, explicitly(Explicit::SamePosition), "the first one");

    let waiting = take(&mut commits(), point(6), SUSPENDED);
    assert_eq!(waiting, explicitly(Explicit::Suspended));

    let mut ends = commits();
    let _ = take(&mut ends, marked(6, 1), CALM);
    let end = take(&mut ends, point(7), ENDING);
    assert_eq!(end, explicitly(Explicit::MarkWithdrawn));
}

#[test]
fn a_position_before_an_earlier_commit_is_committed_explicitly_until_it_is_passed() {
    let mut commits = commits();
    let _ = take(&mut commits, point(20), CALM);
    for position in [10, 11, 19] {
        let taken = take(&mut commits, point(position), CALM);
        assert_eq!(taken, explicitly(Explicit::Earlier), "{position}");
    }
    assert_eq!(
        take(&mut commits, point(21), CALM),
        Some(Committed::ByClient)
    );

    let mut cut = EpochCommits::new(
        TopicPartition::new("tasks", 0),
        Epoch::new(2),
        Some(at(50, 1)),
    );
    let later_leader = CommitPoint {
        leader_epoch: Some(LeaderEpoch::new(2)),
        ..point(10)
    };
    assert_eq!(
        take(&mut cut, later_leader, CALM),
        Some(Committed::ByClient)
    );
    let earlier_leader = take(&mut cut, point(60), CALM);
    assert_eq!(earlier_leader, explicitly(Explicit::Earlier));
}

#[test]
fn the_position_at_which_a_re_created_topic_was_left_is_committed_explicitly() {
    let mut commits = commits();
    commits.leave(at(5, 1));
    let taken = take(&mut commits, point(5), CALM);
    assert_eq!(taken, explicitly(Explicit::Earlier));
}

#[test]
fn an_epoch_that_follows_another_compares_with_what_that_has_stored() {
    let mut earlier = commits();
    let _ = take(&mut earlier, point(20), CALM);
    let place = TopicPartition::new("tasks", 0);
    let mut next = EpochCommits::new(place, Epoch::new(2), None);
    next.follow(&earlier);
    assert_eq!(next.latest(), Some(at(20, 1)));
    let taken = take(&mut next, point(10), CALM);
    assert_eq!(taken, explicitly(Explicit::Earlier));
}

#[test]
fn a_mark_waits_for_its_answer_and_is_not_committed_beside_that() {
    for situation in [CALM, SUSPENDED] {
        let mut commits = commits();
        let taken = take(&mut commits, marked(5, 1), situation);
        assert_eq!(taken, Some(Committed::WithAnswer), "{situation:?}");
        assert_eq!(commits.unconfirmed_mark(), Some(Mark::new(1)));
        commits.confirm(Mark::new(1));
        assert_eq!(commits.unconfirmed_mark(), None);
        let again = take(&mut commits, marked(5, 1), situation);
        assert_eq!(again, None, "{situation:?}");
        assert_eq!(
            take(&mut commits, marked(5, 2), situation),
            Some(Committed::WithAnswer)
        );
        commits.confirm(Mark::new(1));
        assert_eq!(commits.unconfirmed_mark(), Some(Mark::new(2)));
    }
}

/// A partition without anything to start would otherwise keep all others from their marks.
#[test]
fn an_opening_that_is_not_confirmed_still_needs_its_answer_when_the_owner_reports_without_a_mark() {
    let mut commits = commits();
    commits.open_after_crash(with_metadata(5, "a crash"));
    assert_eq!(commits.unconfirmed_mark(), Some(OPENING));
    let taken = take(&mut commits, with_metadata(5, "more"), CALM);
    assert_eq!(taken, Some(Committed::WithAnswer));
    assert_eq!(commits.unconfirmed_mark(), Some(OPENING));
    commits.confirm(OPENING);
    assert_eq!(commits.unconfirmed_mark(), None);
    assert!(!commits.is_opening());
}

#[test]
fn the_last_point_of_an_epoch_does_not_wait_for_its_opening() {
    let mut commits = commits();
    commits.open_after_crash(with_metadata(5, "a crash"));
    let taken = take(&mut commits, point(6), ENDING);
    assert_eq!(commits.unconfirmed_mark(), None);
    assert_eq!(taken, Some(Committed::ByClient));
}

#[test]
fn the_last_point_of_an_owner_that_does_not_report_takes_its_mark_back() {
    let mut commits = commits();
    assert_eq!(commits.last_point(), None);
    let _ = take(&mut commits, marked(7, 1), CALM);
    let last = commits.last_point().expect("it says that records run");
    let evidence = commit_map::decode(last.position, &last.metadata).map(|it| it.evidence);
    assert_eq!(evidence, Ok(Evidence::default()));
    assert_eq!((last.position, last.mark), (Position::new(7), None));
    let taken = take(&mut commits, last, ENDING);
    assert_eq!(taken, explicitly(Explicit::SamePosition));
    assert_eq!(commits.last_point(), None, "it is taken back once");
}

#[test]
fn a_first_mark_is_awaited_soon_after_the_first_records_and_every_one_in_isolation() {
    let mut commits = commits();
    let soon = Some(Duration::from_millis(10));
    assert!(!commits.awaits_mark(false, None), "nothing was delivered");
    assert!(commits.awaits_mark(false, soon));
    assert!(!commits.awaits_mark(false, Some(FIRST_MARK_SOON)));
    commits.confirm(OPENING);
    assert!(commits.awaits_mark(false, soon), "an opening is no mark");
    commits.confirm(Mark::new(1));
    assert!(!commits.awaits_mark(false, soon));
    assert!(commits.awaits_mark(true, None));
}

#[test]
fn metadata_shrinks_to_what_the_broker_takes() {
    let position = Position::new(5);
    let mut map = SettledMap::new();
    let nine = Offset::new(9);
    assert!(map.append(SettledRange {
        first: nine,
        last: nine
    }));
    let evidence = Evidence {
        running: Some(Instance::new(1)),
        ..Evidence::default()
    };
    let full = commit_map::encode(position, map.ranges(), &evidence, MAX_METADATA_BYTES).text;
    let content = |limit: MetadataLimit| {
        let mut commits = commits();
        let _ = commits.take(with_metadata(5, &full), limit, CALM);
        let stored = commits.stored().expect("it was taken").metadata.clone();
        commit_map::decode(position, &stored).expect("it is our own")
    };
    let all = content(MetadataLimit::All);
    assert_eq!((&all.settled, &all.evidence), (&map, &evidence));
    let less = content(MetadataLimit::WithoutMap);
    assert!(less.settled.is_empty());
    assert_eq!(less.evidence, evidence);
    assert_eq!(
        content(MetadataLimit::Nothing).evidence,
        Evidence::default()
    );
}

#[test]
fn what_is_stored_shrinks_with_what_the_broker_takes() {
    let mut commits = commits();
    commits.shrink(MetadataLimit::Nothing);
    assert_eq!(commits.stored(), None, "nothing to shrink");
    take(&mut commits, marked(6, 1), CALM);
    commits.shrink(MetadataLimit::WithoutMap);
    assert_eq!(commits.stored(), Some(&marked(6, 1)), "there is no map");
    commits.shrink(MetadataLimit::Nothing);
    let left = commits.stored().map(|stored| stored.metadata.as_str());
    assert_eq!(left, Some(""));
}

#[test]
fn only_an_opening_can_be_refused() {
    let mut commits = commits();
    commits.refuse_opening();
    assert!(!commits.is_opening_refused());
    commits.open_after_crash(point(5));
    commits.refuse_opening();
    assert!(commits.is_opening_refused() && !commits.holds_up_marks());
    commits.confirm(OPENING);
    assert!(!commits.is_opening_refused());
}
