//! How many partitions a topic has that keylane writes to.
//!
//! The count is read at start, and again while records are written: the topic may get more
//! partitions, or be re-created with fewer. Then writes to missing partitions would always fail.

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::kafka::config::ClientSettings;
use crate::kafka::topics::{Cluster, Lookup, NamedTopic, TopicRole};
use crate::status::{Control, SubscriptionError, TroubleKind, TroublePlace};
use crate::support::lock::lock;
use crate::support::panics::caught;

/// The interval between two requests while records are written.
const ASK_EVERY: Duration = Duration::from_secs(60);
/// The same after a write to a partition, or a topic, that is not there.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A topic keylane writes to.
#[derive(Clone, Debug)]
pub(crate) struct TopicTarget {
    pub(crate) name: Arc<str>,
    pub(crate) partitions: PartitionCount,
}

/// Shared by all clones.
#[derive(Clone, Debug)]
pub(crate) struct PartitionCount {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    count: AtomicI32,
    asking: Mutex<Asking>,
}

#[derive(Debug)]
struct Asking {
    /// When the count was read or requested last.
    asked: Instant,
    /// A write has failed since.
    is_doubtful: bool,
    in_progress: bool,
}

impl PartitionCount {
    /// What was read at `now`.
    pub(crate) fn new(count: i32, now: Instant) -> Self {
        let asking = Mutex::new(Asking {
            asked: now,
            is_doubtful: false,
            in_progress: false,
        });
        Self {
            shared: Arc::new(Shared {
                count: AtomicI32::new(count),
                asking,
            }),
        }
    }

    /// A count that is never requested again.
    pub(crate) fn fixed(count: i32) -> Self {
        let fixed = Self::new(count, Instant::now());
        fixed.asking().in_progress = true;
        fixed
    }

    pub(crate) fn get(&self) -> i32 {
        self.shared.count.load(Ordering::Relaxed)
    }

    /// A write has failed in a way that another count would explain.
    pub(crate) fn doubt(&self) {
        self.asking().is_doubtful = true;
    }

    /// Where it is time to ask: one question at a time.
    fn question(&self, now: Instant) -> Option<Question> {
        let mut asking = self.asking();
        let pause = if asking.is_doubtful {
            ASK_AGAIN_AFTER
        } else {
            ASK_EVERY
        };
        if asking.in_progress || now.saturating_duration_since(asking.asked) < pause {
            return None;
        }
        *asking = Asking {
            asked: now,
            is_doubtful: false,
            in_progress: true,
        };
        Some(Question(self.clone()))
    }

    fn asking(&self) -> MutexGuard<'_, Asking> {
        lock(&self.shared.asking)
    }
}

/// However it ends, the next request may be sent.
struct Question(PartitionCount);

impl Question {
    /// Takes in the answer, and returns the count before it where that was another one.
    fn answered(&self, count: i32) -> Option<i32> {
        let before = self.0.shared.count.swap(count, Ordering::Relaxed);
        (before != count).then_some(before)
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.0.asking().in_progress = false;
    }
}

impl TopicTarget {
    /// Requests the topic's partition count, if it is time to. Does not wait for the answer.
    pub(crate) fn refresh(&self, config: &ClientSettings, control: &Arc<Control>, now: Instant) {
        let Some(question) = self.partitions.question(now) else {
            return;
        };
        let (topic, config, control) = (self.name.clone(), config.clone(), control.clone());
        let asked = std::thread::Builder::new()
            .name("keylane-partitions".to_owned())
            .spawn(move || {
                let of_question = control.clone();
                let until_it_is_there = move || {
                    while is_missing(&question, &config, &topic, &of_question)
                        && !of_question.has_ended()
                    {
                        std::thread::sleep(ASK_AGAIN_AFTER);
                    }
                };
                if let Err(panic) = caught(until_it_is_there) {
                    let what = format!(
                        "the thread that requests a topic's partition count panicked: {panic}"
                    );
                    control.fail(SubscriptionError::Internal(what));
                }
            });
        if let Err(error) = asked {
            tracing::warn!(topic = %self.name, %error, "cannot query how many partitions the topic has");
        }
    }
}

/// Sends one request. A missing topic is a trouble until it is found, or a write to it is
/// acknowledged.
fn is_missing(
    question: &Question,
    config: &ClientSettings,
    topic: &str,
    control: &Control,
) -> bool {
    let place = TroublePlace::WritesTo(topic.to_owned());
    #[cfg(test)]
    crate::support::panics::planted::step("partitions", topic);
    match ask(config, topic) {
        Some(Lookup::Found { partitions: count }) if count > 0 => {
            control.troubles.found(&place);
            if let Some(before) = question.answered(count) {
                tracing::warn!(
                    topic,
                    before,
                    count,
                    "a topic that is written to has another number of partitions; partition numbers wrap round there"
                );
            }
            false
        }
        Some(Lookup::Missing) => {
            control.troubles.note(
                TroubleKind::MissingTopic,
                place,
                "the topic does not exist; create it",
            );
            true
        }
        _ => control.troubles.has_at(TroubleKind::MissingTopic, &place),
    }
}

/// `None` where the brokers do not answer.
fn ask(config: &ClientSettings, topic: &str) -> Option<Lookup> {
    let cluster = Cluster::new(config).ok()?;
    let now = Instant::now();
    // The role is for the words of an error alone.
    let named = NamedTopic {
        role: TopicRole::DeadLetter,
        name: topic.to_owned(),
    };
    let answer = cluster.look_up(&named, now, now + ANSWER_WITHIN);
    answer
        .inspect_err(
            |error| tracing::debug!(topic, %error, "the topic's partition count cannot be read"),
        )
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_asked_for_now_and_then_and_soon_after_a_failed_write_and_once_at_a_time() {
        let begin = Instant::now();
        let count = PartitionCount::new(4, begin);
        assert!(count.question(begin + ASK_EVERY / 2).is_none());
        let question = count.question(begin + ASK_EVERY).unwrap();
        count.doubt();
        assert!(
            count.question(begin + ASK_EVERY * 2).is_none(),
            "one is under way"
        );
        assert_eq!((question.answered(4), count.get()), (None, 4));
        drop(question);
        let soon = begin + ASK_EVERY + ASK_AGAIN_AFTER;
        assert!(
            count.question(soon - Duration::from_millis(1)).is_none(),
            "bounded"
        );
        let question = count.question(soon).unwrap();
        assert_eq!((question.answered(2), count.get()), (Some(4), 2));
        drop(question);
        // The doubt is over.
        assert!(count.question(soon + ASK_AGAIN_AFTER).is_none());
    }

    /// Guarantee G9, as `subscription/panic_tests.rs` has it for the other threads.
    #[tokio::test]
    async fn a_panic_of_the_thread_that_asks_ends_the_subscription() {
        let begun = Instant::now();
        let control = Arc::new(Control::new(Duration::ZERO));
        let target = TopicTarget {
            name: "panic-partitions".into(),
            partitions: PartitionCount::new(8, begun),
        };
        crate::support::panics::planted::plant("partitions", "panic-partitions", 0);
        target.partitions.doubt();
        target.refresh(
            &ClientSettings::default(),
            &control,
            begun + ASK_AGAIN_AFTER,
        );
        let deadline = begun + Duration::from_secs(60);
        while !control.must_end() {
            assert!(Instant::now() < deadline, "the panic is silent");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        control.set_ended();
        let error = control.ended().await.unwrap_err().to_string();
        assert!(
            error.ends_with("the thread that requests a topic's partition count panicked: boom"),
            "{error}"
        );
        assert!(
            !target.partitions.asking().in_progress,
            "the next request may be sent"
        );
    }

    #[test]
    fn a_topic_with_fewer_partitions_than_it_had_is_seen_and_one_that_is_gone_is_a_trouble() {
        use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};

        let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
        broker.create_topic("dead", 2).unwrap();
        let mut config = ClientSettings::default();
        config.set("bootstrap.servers", broker.bootstrap_servers());
        let control = Arc::new(Control::new(Duration::ZERO));
        let begun = Instant::now();
        let target = |name: &str| TopicTarget {
            name: name.into(),
            partitions: PartitionCount::new(8, begun),
        };
        let (dead, gone) = (target("dead"), target("gone"));
        dead.refresh(&config, &control, begun);
        assert!(
            dead.partitions.get() == 8 && !dead.partitions.asking().in_progress,
            "it is not time yet"
        );
        for target in [&dead, &gone] {
            target.partitions.doubt();
            target.refresh(&config, &control, begun + ASK_AGAIN_AFTER);
        }
        let deadline = begun + Duration::from_secs(60);
        while dead.partitions.get() != 2 || !control.troubles.has(TroubleKind::MissingTopic) {
            assert!(
                Instant::now() < deadline,
                "{:?}, {:?}",
                dead.partitions,
                control.troubles
            );
            std::thread::yield_now();
        }
        assert_eq!(gone.partitions.get(), 8);

        // The request is repeated until the topic exists.
        broker.create_topic("gone", 3).unwrap();
        while gone.partitions.get() != 3 {
            assert!(Instant::now() < deadline, "{:?}", gone.partitions);
            std::thread::yield_now();
        }
    }
}
