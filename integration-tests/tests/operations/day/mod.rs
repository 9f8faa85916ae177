//! The manual's page "An operator's day", followed command by command on a real Kafka and a real
//! Prometheus.

mod page;
mod stack;

use std::collections::{BTreeMap, BTreeSet};

use keylane_integration_tests::{
    kafka::{Nodes, StoredRecord},
    kafka_or_skip,
    members::day::Push,
    wait::wait_for,
};
use operators_day::{LOCKED, ParkingEvent};

use super::{prometheus::program, scene::DEADLINE};
use page::Page;
use stack::{DEAD, RETRY, Stack, TOPIC};

/// The vehicle's attempts have to be missing among so many others.
const OTHERS: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_of_an_operators_day_holds_command_by_command() {
    let (Some(prometheus), Some(promtool)) = (program("prometheus"), program("promtool")) else {
        return;
    };
    let kafka = kafka_or_skip!(Nodes::One);
    let mut page = Page::parse(include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../docs/src/operations/a-day.md"
    )));
    let mut stack = Stack::new(kafka, &prometheus, promtool).await;
    let mut follow = async |stack: &mut Stack<_>, title: &str| {
        for step in page.next(title) {
            stack.take(&step).await;
        }
    };

    follow(&mut stack, "The service").await;
    follow(&mut stack, "An alert comes").await;
    follow(&mut stack, "Find the key").await;
    follow(&mut stack, "Pause it").await;
    let paused = stack.pushes_after_now().await;
    wait_for("the other vehicles go on", DEADLINE, async || {
        (stack.pushes().len() > paused + OTHERS).then_some(())
    })
    .await;
    let meanwhile = &stack.pushes()[paused..];
    assert!(
        meanwhile.iter().all(|push| push.vehicle != LOCKED),
        "broken promise: it was paused"
    );

    follow(&mut stack, "Look at the letters").await;
    follow(&mut stack, "Mend the gateway").await;
    stack.pushes_after_now().await;
    let refused = |push: &&Push| !push.is_accepted && push.vehicle != LOCKED;
    let failed: BTreeSet<u64> = numbers(stack.pushes().iter().filter(refused)).collect();
    // The last one may still be on its way.
    wait_for(
        "what failed is a letter, and nothing else",
        DEADLINE,
        async || (letters(&stack.kafka.read_all(DEAD).await.ok()?) == failed).then_some(()),
    )
    .await;
    assert!(failed.len() > 4, "more than the canary");

    follow(&mut stack, "Write back what failed").await;
    let copies = |push: &&Push| push.topic == RETRY;
    wait_for("the group has processed the copies", DEADLINE, async || {
        (stack.pushes().iter().filter(copies).count() >= failed.len()).then_some(())
    })
    .await;
    let done = stack.pushes();
    once_and_in_order(done.iter().filter(copies), &failed);

    follow(&mut stack, "Replay an hour").await;
    let before = stack.pushes_before_the_restart();
    let (first, all) = (
        &stack.pushes()[..before],
        stack.written_before_the_restart(),
    );
    let accepted = |push: &&Push| push.is_accepted && push.topic == TOPIC;
    let processed: BTreeSet<u64> = numbers(first.iter().filter(accepted)).collect();
    once_and_in_order(first.iter().filter(accepted), &processed);
    let left: BTreeSet<u64> = processed.intersection(&failed).copied().collect();
    assert_eq!(left, BTreeSet::new(), "letters are no successes");

    wait_for("the hour is done again", DEADLINE, async || {
        let pushes = stack.pushes();
        let again: BTreeSet<u64> = numbers(pushes[before..].iter().filter(accepted)).collect();
        all.is_subset(&again).then_some(())
    })
    .await;
    follow(&mut stack, "See it done").await;
    assert!(page.is_done(), "the whole page was followed");
    let pushes = stack.pushes();
    let again = pushes[before..].iter().filter(accepted);
    once_and_in_order(again.filter(|push| all.contains(&push.number)), &all);
    // Copies were done before, and are not done again.
    once_and_in_order(pushes.iter().filter(copies), &failed);
    assert_eq!(
        stack.prometheus.fired().await,
        ["KeylaneDeadLettersGrowing", "KeylaneWatermarkStalled"],
        "what the page tells of, and no other"
    );
    stack.end().await;
}

/// These events and no others were processed, each of them once, and those of a vehicle in the
/// order in which they were written.
fn once_and_in_order<'a>(pushes: impl Iterator<Item = &'a Push>, expected: &BTreeSet<u64>) {
    let mut of_vehicle: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for push in pushes {
        of_vehicle
            .entry(&push.vehicle)
            .or_default()
            .push(push.number);
    }
    for (vehicle, numbers) in &of_vehicle {
        let is_in_order = numbers.windows(2).all(|two| two[0] < two[1]);
        assert!(is_in_order, "broken promise: {vehicle}, {numbers:?}");
    }
    let all: BTreeSet<u64> = of_vehicle.into_values().flatten().collect();
    assert_eq!(all, *expected);
}

fn numbers<'a>(pushes: impl Iterator<Item = &'a Push>) -> impl Iterator<Item = u64> {
    pushes.map(|push| push.number)
}

fn letters(records: &[StoredRecord]) -> BTreeSet<u64> {
    let values = records
        .iter()
        .map(|record| record.value.as_deref().unwrap());
    let events = values.map(|value| serde_json::from_slice::<ParkingEvent>(value).unwrap());
    events.map(|event| event.number).collect()
}
