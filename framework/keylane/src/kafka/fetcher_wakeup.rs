//! Waking librdkafka's fetchers after a pause.
//!
//! A broker thread that finds all of its partitions paused sleeps for up to a second, and resuming
//! them does not wake it. So a pause of a millisecond may cost a second. Back-pressure pauses, and
//! the user, and librdkafka itself with every rebalance until it is answered, also with one that
//! changes nothing here. The start of a new partition wakes the thread, and so does any request. So
//! the leaders of the partitions that are to be read on get a request that is cheap and needs only
//! the permissions of reading: where do these logs end? The answers are not awaited, and not read.
//!
//! A partition that is read from a follower (`client.rack`) may still have to wait: the request
//! goes to its leader.
//!
//! SAFETY, for the whole file: as in `kafka/replies.rs`.
#![allow(unsafe_code)]

use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::{Offset, TopicPartitionList};

use super::replies::{AdminOptions, ReplyQueue};

/// After this time the threads are awake by themselves.
const USEFUL_FOR: Duration = Duration::from_secs(1);

/// The requests of one client; owned by the polling thread.
pub(crate) struct FetcherWakeup {
    /// Where the answers go. Bounded: each new request drops the answers of earlier ones.
    answers: ReplyQueue,
}

impl FetcherWakeup {
    pub(crate) fn new<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Self {
        Self {
            answers: ReplyQueue::new(consumer),
        }
    }

    /// Wakes the fetchers of these partitions, which must be distinct, without waiting. To be
    /// called after a rebalance was answered, or a resume: librdkafka resumes before it sends a
    /// later request.
    pub(crate) fn wake<'a, C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        partitions: impl Iterator<Item = (&'a str, i32)>,
    ) {
        while self.answers.poll(Duration::ZERO).is_some() {}
        let mut ends = TopicPartitionList::new();
        for (topic, partition) in partitions {
            // The only error is an offset that is none.
            if ends
                .add_partition_offset(topic, partition, Offset::End)
                .is_err()
            {
                return;
            }
        }
        if ends.count() > 0 {
            self.ask(consumer, &ends, USEFUL_FOR);
        }
    }

    fn ask<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        ends: &TopicPartitionList,
        timeout: Duration,
    ) {
        let operation = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS;
        let options = AdminOptions::new(consumer, operation, timeout);
        let client = consumer.client().native_ptr();
        // SAFETY: client, list, options and queue are live.
        unsafe {
            sys::rd_kafka_ListOffsets(client, ends.ptr(), options.as_ptr(), self.answers.as_ptr())
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Instant;

    use bytes::Bytes;
    use rdkafka::types::RDKafkaApiKey;

    use super::*;
    use crate::kafka::plain_client::{PATIENCE, client};
    use crate::{NewTask, Raw, Subscription, Task, TaskError, TaskProducer};
    use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions, EvictionGuard};

    /// How many partitions the next answer is about, if one comes.
    fn answer(wakeup: &FetcherWakeup) -> Option<usize> {
        let reply = wakeup.answers.poll(PATIENCE)?;
        let mut count = 0;
        // SAFETY: the reply is live; the result is null for one of another kind, and belongs to it;
        // `count` is a valid place to write to.
        unsafe {
            let result = sys::rd_kafka_event_ListOffsets_result(reply.as_ptr());
            if !result.is_null() {
                sys::rd_kafka_ListOffsets_result_infos(result, &mut count);
            }
        }
        Some(count)
    }

    #[test]
    fn the_leaders_of_all_partitions_are_asked_and_an_old_answer_does_not_stay() {
        let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default().brokers(3)).unwrap();
        broker.create_topic("one", 6).unwrap();
        let client = client(&broker);
        let wakeup = FetcherWakeup::new(&client);
        let deadline = Instant::now() + PATIENCE;
        // On a busy machine the question's own time may be up first; then the answer is about no
        // partition.
        let asked = |partitions: std::ops::Range<i32>| loop {
            assert!(Instant::now() < deadline, "no answer");
            wakeup.wake(
                &client,
                partitions.clone().map(|partition| ("one", partition)),
            );
            match answer(&wakeup) {
                Some(0) => {}
                about => break about,
            }
        };
        assert_eq!(asked(0..6), Some(6));
        wakeup.wake(&client, (0..6).map(|partition| ("one", partition)));
        // SAFETY: the queue is live.
        while unsafe { sys::rd_kafka_queue_length(wakeup.answers.as_ptr()) } == 0 {
            assert!(Instant::now() < deadline, "no answer");
            std::thread::yield_now();
        }
        assert_eq!(
            asked(3..4),
            Some(1),
            "the answer before was left in the queue"
        );
    }

    #[test]
    fn a_question_that_nobody_answers_lets_the_client_go() {
        let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
        let client = client(&broker);
        drop(broker);
        let wakeup = FetcherWakeup::new(&client);
        let mut ends = TopicPartitionList::new();
        ends.add_partition_offset("one", 0, Offset::End).unwrap();
        wakeup.ask(&client, &ends, Duration::from_millis(200));
        assert!(answer(&wakeup).is_some());
        wakeup.ask(&client, &ends, PATIENCE);
        drop(wakeup);
        drop(client);
    }

    async fn eventually(what: &str, condition: impl Fn() -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !condition() {
            assert!(
                tokio::time::Instant::now() < deadline,
                "not within {PATIENCE:?}: {what}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_rebalance_wakes_the_fetcher_of_a_partition_that_stays() {
        // The guard queries the ends of the logs as well.
        let options = EmbeddedBrokerOptions::default().eviction_guard(EvictionGuard::Off);
        let broker = EmbeddedBroker::start(options).unwrap();
        broker.create_topic("tasks", 1).unwrap();
        let producer = TaskProducer::builder("tasks").bootstrap_servers(broker.bootstrap_servers());
        let producer = producer.application_id("test").start().await.unwrap();
        producer.enqueue(NewTask::new("one")).await.unwrap();
        let processed = Arc::new(AtomicBool::new(false));
        let member = async || {
            let processed = processed.clone();
            let builder = Subscription::builder("group", "tasks")
                .bootstrap_servers(broker.bootstrap_servers());
            let processor = move |_: Task<Bytes>| {
                processed.store(true, Ordering::Relaxed);
                async { Ok::<(), TaskError>(()) }
            };
            // A member that gets no CPU for a while is not to be thrown out.
            let builder = builder
                .kafka_settings(EmbeddedBroker::client_settings())
                .kafka("session.timeout.ms", "6000");
            builder.start(Raw, processor).await.unwrap()
        };
        let staying = member().await;
        eventually("it reads", || processed.load(Ordering::Relaxed)).await;
        eventually("its partition shows", || {
            staying.status().partitions.len() == 1
        })
        .await;
        // One partition: the rebalance leaves it where it is, and no start has to be looked up.
        broker.remember_requests();
        let guest = member().await;
        eventually("its leader gets the request", || {
            broker.requests(RDKafkaApiKey::ListOffsets) > 0
        })
        .await;
        eventually("the guest is a member", || guest.status().joined).await;
        assert_eq!(
            (
                staying.status().partitions.len(),
                guest.status().partitions.len()
            ),
            (1, 0)
        );
        guest.shutdown().await.unwrap();
        staying.shutdown().await.unwrap();
        producer.close(PATIENCE).await.unwrap();
    }
}
