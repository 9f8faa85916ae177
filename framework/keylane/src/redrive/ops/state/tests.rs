use std::time::{Duration, SystemTime};

use keylane_core::Offset;
use keylane_core::redrive::Turn;

use super::super::records::written;
use super::*;
use crate::redrive::copy::Target;

fn task(topic: &str, second: u64, state: TaskState) -> TaskRecord {
    let mut task = TaskRecord::new(topic, "billing", Target::RetryTopic, 3);
    task.started = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
    task.state = state;
    task
}

fn put(state: &mut OpsState, bounds: Bounds, key: OpsKey, value: Vec<u8>) {
    state.apply_within(bounds, Some(key.text().as_bytes()), Some(value.into()));
}

fn order(offsets: &[i64]) -> Order {
    let turn = |offset: &i64| Turn {
        partition: 0,
        offset: Offset::new(*offset),
    };
    Order::new(offsets.iter().map(turn).collect())
}

#[test]
fn handled_is_what_tasks_have_copied_and_what_was_resolved_until_it_is_taken_back() {
    let mut state = OpsState::default();
    let id = || "a".to_owned();
    // As compaction leaves it: the task's own record comes last.
    for (number, chunk) in (0..).zip(order(&[7, 3, 9, 4]).chunks()) {
        put(&mut state, BOUNDS, OpsKey::Order(id(), number), chunk);
    }
    let progress = TaskProgress::new(3, 0, vec![1]);
    put(
        &mut state,
        BOUNDS,
        OpsKey::Progress(id()),
        written(&progress),
    );
    assert!(state.handled("dead").is_empty() && state.tasks().count() == 0);
    let record = task("dead", 1, TaskState::Running);
    put(&mut state, BOUNDS, OpsKey::Task(id()), written(&record));
    let place = Place {
        topic: "dead".to_owned(),
        partition: 1,
        first: 10,
    };
    let resolution = Resolution::new(12, Some("one".to_owned()), "ada", "refunded");
    put(
        &mut state,
        BOUNDS,
        OpsKey::Resolved(place.clone()),
        written(&resolution),
    );

    let ranges: Vec<_> = state.handled("dead").ranges().collect();
    assert_eq!(ranges, [(0, 7, 7), (0, 9, 9), (1, 10, 12)]);
    assert!(state.handled("other").is_empty());
    assert_eq!(state.running("dead").map(|it| it.id), Some("a"));
    assert!(state.running("other").is_none());
    let resolved: Vec<_> = state
        .resolved("dead")
        .map(|it| (it.0, it.1, &*it.2.why))
        .collect();
    assert_eq!(resolved, [(1, 10..=12, "refunded")]);

    // Of another log the resolved letters are others; the task does not say of which it was.
    let log = |id: &str| BTreeMap::from([("dead".to_owned(), id.to_owned())]);
    state.set_logs(log("one"));
    assert_eq!(state.handled("dead").ranges().count(), 3);
    state.set_logs(log("two"));
    assert_eq!(state.handled("dead").ranges().count(), 2);
    state.set_logs(log("one"));

    state.apply(Some(OpsKey::Resolved(place).text().as_bytes()), None);
    assert_eq!(state.handled("dead").ranges().count(), 2);
}

#[test]
fn what_a_newer_version_wrote_is_named_until_it_is_written_again() {
    let mut state = OpsState::default();
    let key = || OpsKey::Task("a".to_owned());
    put(&mut state, BOUNDS, key(), b"{\"v\":2}".to_vec());
    put(
        &mut state,
        BOUNDS,
        OpsKey::Progress("b".to_owned()),
        b"{".to_vec(),
    );
    state.apply(Some(b"unheard/of"), None);
    assert_eq!(state.newer().collect::<Vec<_>>(), ["task/a"]);
    assert_eq!(state.unreadable(), 2);
    let record = task("dead", 1, TaskState::Done);
    put(&mut state, BOUNDS, key(), written(&record));
    assert_eq!((state.newer().count(), state.tasks().count()), (0, 1));
}

#[test]
fn beyond_the_bounds_the_oldest_that_has_ended_is_dropped_and_counted() {
    let chunk = order(&[1, 2, 3]).chunks().remove(0);
    let bounds = Bounds {
        tasks: 3,
        resolutions: 2,
        order_bytes: chunk.len() * 2,
        newer: 1,
    };
    let mut state = OpsState::default();
    let tasks = [
        ("running", 1, TaskState::Running),
        ("new", 9, TaskState::Done),
        ("old", 2, TaskState::Done),
        ("newest", 10, TaskState::Done),
    ];
    for (id, second, how) in tasks {
        let record = written(&task("dead", second, how));
        put(&mut state, bounds, OpsKey::Task(id.to_owned()), record);
        put(
            &mut state,
            bounds,
            OpsKey::Order(id.to_owned(), 0),
            chunk.clone(),
        );
    }
    for first in 0..4 {
        let place = Place {
            topic: "dead".to_owned(),
            partition: 0,
            first: first * 10,
        };
        let resolution = Resolution::new(first * 10, None, "ada", "");
        put(
            &mut state,
            bounds,
            OpsKey::Resolved(place),
            written(&resolution),
        );
    }
    let ids: Vec<_> = state.tasks().map(|it| it.id).collect();
    assert_eq!(ids, ["new", "newest", "running"]);
    let dropped = state.dropped();
    assert_eq!(
        (dropped.tasks, dropped.orders, dropped.resolutions),
        (1, 2, 2)
    );
    assert_eq!(
        state.order("running").unwrap().len(),
        3,
        "it may be resumed"
    );
    assert_eq!(state.resolved("dead").count(), 2);
    let bytes: usize = state
        .tasks
        .values()
        .flat_map(|it| it.chunks.values())
        .map(Bytes::len)
        .sum();
    assert_eq!(state.order_bytes, bytes);
}
