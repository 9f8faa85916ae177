//! Several killers, in one process and in several.

use keylane_integration_tests::{
    for_protocols,
    kafka::{Extras, NewRecord, Nodes},
    kafka_or_skip,
    protocol::Protocol,
    wait::wait_for,
};

use super::suite::{DEADLINE, Suite, healthy, record};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killers_in_several_partitions_are_found_one_by_one_and_nobody_else_is_blamed() {
    let kafka = kafka_or_skip!(Nodes::One, Extras::quick_sessions());
    let suite = Suite::new(kafka, "several", 3).await;
    let mut records = healthy(3, 20);
    records.insert(5, record(0, "0-1", "abort:0".to_owned()));
    records.insert(50, record(2, "2-4", "memory:2".to_owned()));
    suite.write(records).await;
    let starts = suite.restart_until_done(60).await;
    assert!(starts <= 9, "{starts} starts: four deaths for each at most");
    suite.expect_poison(&["abort:0", "memory:2"]).await;
}

/// Three members that are started again whenever they die; what the dead one had goes to those that
/// live, and kills them.
async fn cascade(protocol: Protocol) {
    const PARTITIONS: i32 = 6;
    const KILLERS: [&str; 3] = ["abort:0", "killed:3", "overflow:5"];
    let kafka = kafka_or_skip!(Nodes::One, Extras::quick_sessions());
    let mut suite = Suite::new(kafka, "cascade", PARTITIONS).await;
    suite.protocol = protocol;
    suite.write(with_killers(PARTITIONS, &KILLERS)).await;
    let began = std::time::Instant::now();
    let mut members: Vec<_> = (0..3).map(|_| suite.start(None)).collect();
    let mut deaths = 0;
    wait_for(
        "only the killers are left, and they are dead letters",
        DEADLINE * 4,
        async || {
            for member in &mut members {
                if member.died().is_some() {
                    member.killed().await;
                    deaths += 1;
                    *member = suite.start(None);
                }
            }
            let all_done = suite.done() == PARTITIONS as usize * 15;
            (all_done && suite.dead().await.len() >= KILLERS.len()).then_some(())
        },
    )
    .await;
    eprintln!(
        "{}: {deaths} deaths of {} killers, {:.1?} in all",
        suite.topic,
        KILLERS.len(),
        began.elapsed()
    );
    assert!(deaths <= 4 * KILLERS.len(), "{deaths} deaths");
    suite.expect_poison(&KILLERS).await;
    for member in members {
        member.terminate().await;
    }
}

for_protocols! { cascade:
    killers_that_go_from_member_to_member_are_found_in_few_deaths_and_nobody_else_is_blamed:
        Cooperative,
    with_the_consumer_protocol_killers_that_go_from_member_to_member_are_found_in_few_deaths_too:
        Consumer,
}

/// Each in the partition of its number, as its eighth record.
fn with_killers(partitions: i32, killers: &[&str]) -> Vec<NewRecord> {
    let mut records = healthy(partitions, 15);
    for killer in killers {
        let partition = killer.split_once(':').unwrap().1.parse().unwrap();
        let place = records
            .iter()
            .position(|record| record.partition == Some(partition))
            .unwrap();
        records.insert(
            place + 7,
            record(partition, &format!("{partition}-7"), (*killer).to_owned()),
        );
    }
    records
}
