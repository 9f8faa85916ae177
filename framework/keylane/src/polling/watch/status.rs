//! The status of each partition: the owner's figures, and the polling thread's own.

use std::time::{Duration, Instant};

use keylane_core::{Behind, Snapshot};

use super::blocked_owner;
use super::lag::{lag_age, lag_records, look_for_withheld, workable_age};
use super::paused_by::{Common, paused_by, report_not_due};
use crate::config::Watchdog;
use crate::kafka::{Sign, healthy};
use crate::polling::member::Member;
use crate::polling::partitions::Assigned;
use crate::status::{Control, Oldest, PartitionStatus};

/// Publishes the state of each partition to the handle and the metrics. Measures from the client's
/// own state, without a request to a broker.
pub(crate) fn publish(member: &mut Member) {
    let common = Common::of(&member.assignment, member.is_draining());
    let (control, watchdog) = (&member.control, &member.settings.watchdog);
    for partition in &mut member.assignment.partitions {
        let range = member
            .client
            .cached()
            .range(&partition.topic_c, partition.partition);
        if range.end.is_some() {
            note_answered_fetch(partition, control);
        }
        partition.look_for_emptied_log(&range);
        send_log_end(partition, range.end);
        partition.look_for_an_answer(range.end);
        let status = status(partition, range.end, &common, watchdog);
        report_not_due(partition, status.paused_by, &status.snapshot);
        let paused = (status.paused, Instant::now());
        partition.read_metrics.set_paused(paused.0, paused.1);
        partition.read_metrics.show(&status);
        partition.read_metrics.touch();
        let hot_keys = partition.progress.hot_keys();
        control.set_hot_keys(&partition.topic, partition.partition, hot_keys);
        control.set_partition(status);
    }
}

/// The client's figure is frozen while a partition is paused; the side client's is then the
/// newer one.
fn known_end(assigned: &Assigned, cached: Option<i64>) -> Option<i64> {
    cached.max(assigned.queried.map(|range| range.end.get()))
}

/// The client has the end of the log from its last fetch, and none where that was refused. It
/// reports the refusal alone: where no record follows this is the only sign that it is over.
fn note_answered_fetch(assigned: &Assigned, control: &Control) {
    if control
        .troubles
        .readable(&assigned.topic, assigned.partition)
    {
        healthy(control, Sign::Readable(&assigned.topic));
    } else if !assigned.fetch_paused {
        healthy(control, Sign::Fetched(&assigned.topic));
    }
}

fn send_log_end(assigned: &mut Assigned, cached: Option<i64>) {
    if assigned.sent_log_end || !assigned.knows_log_end(cached) {
        return;
    }
    if let Some(end) = known_end(assigned, cached) {
        assigned.sent_log_end = true;
        assigned.inbox.order(|orders| orders.log_end = Some(end));
    }
}

/// The owner's figures and what is seen from here, together: the only place where they meet.
fn status(
    assigned: &mut Assigned,
    cached: Option<i64>,
    common: &Common,
    watchdog: &Watchdog,
) -> PartitionStatus {
    // The pause first: what it left running shows in the figures then.
    // One that waits for the control topic alone is not paused by a user.
    let is_paused = assigned.held_by_user || assigned.steered.pause.is_some();
    let paused_by_user = assigned.is_at_rest() && is_paused;
    let pending = assigned.pending_records();
    let figures = assigned.progress.figures();
    let mut snapshot = figures.snapshot;
    snapshot.pending = pending;
    let blocked_for = add_blocked(assigned, &mut snapshot, watchdog);
    let settled = snapshot.watermark.or_else(|| assigned.unread_from());
    let lag_records = lag_records(known_end(assigned, cached), settled);
    // Of a partition that was assigned a moment ago it is not known.
    let all_settled = pending == 0 && !assigned.fetch_paused && assigned.knows_log_end(cached);
    let behind = look_for_withheld(assigned, all_settled, cached);
    let oldest_timestamp = figures.oldest_timestamp_millis;
    let lag_age = lag_age(lag_records, oldest_timestamp, all_settled, behind);
    let is_not_read = assigned.fetch_paused || behind.is_some();
    PartitionStatus {
        paused: assigned.fetch_paused,
        paused_by: paused_by(assigned, common, &figures),
        paused_by_user,
        paused_by_control: assigned.steered.pause.as_deref().cloned(),
        waits_for_place: figures.waits_for_place,
        delivered_offset: assigned.log.next().map(|next| next.get() - 1),
        lag_records,
        lag_age,
        workable_lag_age: workable_age(lag_age, figures.workable_timestamp_millis, is_not_read),
        withheld_records: behind.map_or(0, Behind::offsets),
        oldest: figures.oldest.map(Oldest::seen),
        snapshot,
        blocked_for,
        ..PartitionStatus::new(assigned.topic.clone(), assigned.partition)
    }
}

/// Stalled work, also where the owner is blocked and cannot report it.
fn add_blocked(
    assigned: &mut Assigned,
    snapshot: &mut Snapshot,
    watchdog: &Watchdog,
) -> Option<Duration> {
    let blocked = blocked_owner::look(assigned, watchdog)?;
    let stalled_for = Some(blocked.lasting).filter(|&it| it >= watchdog.stalled_after);
    snapshot.stalled_for = snapshot.stalled_for.max(stalled_for);
    snapshot.slow_attempts += u64::from(blocked.by_its_attempt);
    Some(blocked.lasting)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{TroubleKind, TroublePlace};
    use crate::{Raw, Subscription, Task, TaskError};
    use bytes::Bytes;
    use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};

    const PATIENCE: Duration = Duration::from_secs(60);

    /// The client reports a refused fetch as an error, and one that is answered not at all.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_partition_that_may_be_read_again_is_no_trouble_where_no_record_follows() {
        let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
        broker.create_topic("tasks", 2).unwrap();
        let member = Subscription::builder("group", "tasks")
            .bootstrap_servers(broker.bootstrap_servers())
            .kafka_settings(EmbeddedBroker::client_settings())
            .start(Raw, |_: Task<Bytes>| async { Ok::<(), TaskError>(()) })
            .await
            .unwrap();
        let troubles = &member.handle().control.troubles;
        let deadline = Instant::now() + PATIENCE;
        while member.status().partitions.len() < 2 {
            assert!(Instant::now() < deadline, "nothing is assigned");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for partition in 0..2 {
            troubles.unreadable("tasks", partition);
        }
        let place = TroublePlace::Topic("tasks".into());
        troubles.note(TroubleKind::Authorization, place, "refused");
        while !troubles.lasting().is_empty() {
            assert!(Instant::now() < deadline, "{troubles:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        member.shutdown().await.unwrap();
    }
}
