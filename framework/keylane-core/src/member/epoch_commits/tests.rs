use super::*;
use crate::commit_map::MAX_METADATA_BYTES;
use crate::{
    Evidence, Instance, LeaderEpoch, Offset, Position, SettledMap, SettledRange, commit_map,
};

fn commits() -> EpochCommits {
    EpochCommits::new(TopicPartition::new("tasks", 0), Epoch::new(1))
}

fn point(position: i64) -> CommitPoint {
    CommitPoint {
        position: Position::new(position),
        leader_epoch: Some(LeaderEpoch::new(1)),
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

fn take(commits: &mut EpochCommits, point: CommitPoint) -> Option<Due> {
    let ending = false;
    commits.take(Report { point, ending }, MetadataLimit::All)
}

fn take_last(commits: &mut EpochCommits, point: CommitPoint) -> Option<Due> {
    let ending = true;
    commits.take(Report { point, ending }, MetadataLimit::All)
}

/// It may lie before what was committed.
#[test]
fn the_first_point_of_an_epoch_is_due_at_once_and_every_other_one_with_the_interval() {
    let mut commits = commits();
    assert_eq!(commits.due(), None);
    assert_eq!(take(&mut commits, point(6)), Some(Due::AtOnce));
    assert_eq!(take(&mut commits, point(6)), None, "nothing is new");
    assert_eq!(commits.due(), Some(Due::AtOnce), "it was not sent");
    assert_eq!(take(&mut commits, point(9)), Some(Due::AtOnce));
    commits.sent();
    assert_eq!(commits.due(), None);
    let only_its_map = with_metadata(9, "a map");
    assert_eq!(take(&mut commits, only_its_map), Some(Due::AtInterval));
    assert_eq!(take(&mut commits, point(12)), Some(Due::AtInterval));
    commits.sent();
    commits.owe(Due::AtInterval);
    assert_eq!(commits.due(), Some(Due::AtInterval), "it was refused");
}

#[test]
fn a_point_that_takes_a_mark_back_is_due_at_once() {
    let mut commits = commits();
    let _ = take(&mut commits, marked(6, 1));
    commits.confirm(Mark::new(1));
    commits.sent();
    assert_eq!(take_last(&mut commits, point(7)), Some(Due::AtOnce));
}

#[test]
fn a_mark_waits_for_its_answer() {
    let mut commits = commits();
    assert_eq!(take(&mut commits, marked(5, 1)), Some(Due::AsMark));
    assert_eq!(commits.unconfirmed_mark(), Some(Mark::new(1)));
    commits.sent();
    assert_eq!(commits.due(), Some(Due::AsMark), "there is no answer");
    commits.confirm(Mark::new(1));
    assert_eq!((commits.unconfirmed_mark(), commits.due()), (None, None));
    assert_eq!(take(&mut commits, marked(5, 1)), None);
    assert_eq!(take(&mut commits, marked(5, 2)), Some(Due::AsMark));
    commits.confirm(Mark::new(1));
    assert_eq!(commits.unconfirmed_mark(), Some(Mark::new(2)));
}

/// Else what came after the mark was sent would wait for the next change.
#[test]
fn a_point_that_was_reported_while_its_mark_was_under_way_is_still_due() {
    let mut commits = commits();
    let _ = take(&mut commits, marked(5, 1));
    commits.sent();
    let _ = take(&mut commits, marked(7, 1));
    commits.confirm(Mark::new(1));
    assert_eq!(commits.due(), Some(Due::AtInterval));
}

#[test]
fn a_first_position_that_is_not_confirmed_needs_its_answer_also_where_another_point_takes_its_place()
 {
    let mut commits = commits();
    commits.open_at_first_position();
    for metadata in ["", "more"] {
        let taken = take(&mut commits, with_metadata(5, metadata));
        assert_eq!(taken, Some(Due::AsMark));
        assert_eq!(commits.unconfirmed_mark(), Some(OPENING));
    }
    commits.confirm(OPENING);
    assert_eq!(commits.unconfirmed_mark(), None);
    assert!(!commits.is_opening());
}

#[test]
fn the_last_point_of_an_epoch_does_not_wait_for_its_first_position() {
    let mut commits = commits();
    commits.open_at_first_position();
    let _ = take(&mut commits, point(5));
    commits.sent();
    let taken = take_last(&mut commits, point(6));
    assert_eq!(commits.unconfirmed_mark(), None);
    assert_eq!(taken, Some(Due::AtInterval));
}

#[test]
fn the_last_point_of_an_owner_that_does_not_report_takes_its_mark_back() {
    let mut commits = commits();
    assert_eq!(commits.last_point(), None);
    let _ = take(&mut commits, marked(7, 1));
    let last = commits.last_point().expect("it says that records run");
    let evidence = commit_map::decode(last.position, &last.metadata).map(|it| it.evidence);
    assert_eq!(evidence, Ok(Evidence::default()));
    assert_eq!((last.position, last.mark), (Position::new(7), None));
    assert_eq!(take_last(&mut commits, last), Some(Due::AtOnce));
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
    assert!(
        commits.awaits_mark(false, soon),
        "a first position is no mark"
    );
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
        let (point, ending) = (with_metadata(5, &full), false);
        let _ = commits.take(Report { point, ending }, limit);
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
    take(&mut commits, marked(6, 1));
    commits.shrink(MetadataLimit::WithoutMap);
    assert_eq!(commits.stored(), Some(&marked(6, 1)), "there is no map");
    commits.shrink(MetadataLimit::Nothing);
    let left = commits.stored().map(|stored| stored.metadata.as_str());
    assert_eq!(left, Some(""));
}
