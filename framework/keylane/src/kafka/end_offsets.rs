//! What the consumer does not learn by itself: end offsets of partitions that do not fetch, topics
//! that are gone, and how many records lie in the dead-letter topic, and how many of them are open.
//!
//! The consumer's end of a partition is as old as its last fetch. So lag would stand still exactly
//! where it matters: while a partition is paused by a limit. And where the broker assigns
//! (`group.protocol=consumer`), a deleted topic is revoked without an error. A client without a
//! group sends the queries, on a thread of its own, because each takes a round trip.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keylane_core::{LogRange, Position};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode as Code;

use super::brokers::{Key, answering};
use super::ops_follower::{Open, OpsFollower};
use super::record_count;
use crate::kafka::config::{ClientSettings, creation_error};
use crate::kafka::topics::LastError;
use crate::support::lock::lock;
use crate::support::panics;

const ASK_EVERY: Duration = Duration::from_secs(10);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long one question may ask for ends until the rest of them is left to the next.
const ENDS_WITHIN: Duration = Duration::from_secs(10);
/// A partition that takes longer has a leader that does not answer, as far as the others are
/// concerned.
const ANSWERS_SOON: Duration = Duration::from_secs(1);
/// When the thread has ended because it could not create a client, the next one starts no sooner.
const START_AGAIN: Duration = Duration::from_secs(5);

/// What to ask.
#[derive(Default)]
pub(crate) struct Question {
    /// The end offsets of these partitions.
    pub(crate) ends: Vec<Key>,
    /// Whether these topics are there.
    pub(crate) topics: Vec<Arc<str>>,
    /// Whether these brokers answer.
    pub(crate) brokers: Vec<i32>,
    /// The partitions that they may be queried about: those that this member reads.
    pub(crate) led: Vec<Key>,
    /// How many records lie in this topic.
    pub(crate) dead_letters: Option<Arc<str>>,
}

/// What was answered; nothing where a broker did not answer.
#[derive(Default)]
pub(crate) struct Answers {
    pub(crate) ends: HashMap<Key, LogRange>,
    /// Whether each topic exists.
    pub(crate) topics: HashMap<Arc<str>, bool>,
    /// Brokers that answer.
    pub(crate) brokers: Vec<i32>,
    /// The text of the panic that ended the thread.
    pub(crate) panicked: Option<String>,
    pub(crate) dead_letters: Option<u64>,
    /// How many of them are open.
    pub(crate) open: Open,
}

/// Sends queries. The thread starts with the first query, so that a subscription without one has no
/// thread.
pub(crate) struct EndOffsets {
    config: ClientSettings,
    /// Of the group of a dead-letter topic. The thread that answers has it.
    follower: Option<Arc<Mutex<OpsFollower>>>,
    questions: Option<SyncSender<Question>>,
    answers: Arc<Mutex<Answers>>,
    asked: Option<Instant>,
    /// When the last thread was started.
    started: Option<Instant>,
}

impl EndOffsets {
    pub(crate) fn new(config: ClientSettings) -> Self {
        Self {
            config,
            follower: None,
            questions: None,
            answers: Arc::default(),
            asked: None,
            started: None,
        }
    }

    /// Counts the dead letters that are open, too.
    pub(crate) fn counting_open(mut self, follower: OpsFollower) -> Self {
        self.follower = Some(Arc::new(Mutex::new(follower)));
        self
    }

    /// Sends a query, unless the last one is recent. Returns whether it did.
    pub(crate) fn ask(&mut self, question: Question) -> bool {
        if (question.ends.is_empty()
            && question.topics.is_empty()
            && question.dead_letters.is_none())
            || self.asked.is_some_and(|asked| asked.elapsed() < ASK_EVERY)
        {
            return false;
        }
        self.asked = Some(Instant::now());
        self.send(question)
    }

    /// Queries the ranges of logs that cannot be read before.
    pub(crate) fn ask_at_once(&mut self, ends: Vec<Key>) {
        self.send(Question {
            ends,
            ..Question::default()
        });
    }

    fn send(&mut self, question: Question) -> bool {
        let Some(questions) = self.thread() else {
            return false;
        };
        // Full: the last question is still being answered, and the next one comes soon enough.
        match questions.try_send(question) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => false,
            Err(TrySendError::Disconnected(_)) => {
                self.questions = None;
                false
            }
        }
    }

    /// The answers since the last call.
    pub(crate) fn take(&self) -> Answers {
        std::mem::take(&mut *lock(&self.answers))
    }

    fn thread(&mut self) -> Option<&SyncSender<Question>> {
        if self.questions.is_none() {
            if self
                .started
                .is_some_and(|started| started.elapsed() < START_AGAIN)
            {
                return None;
            }
            self.started = Some(Instant::now());
            let (sender, receiver) = sync_channel(1);
            let (config, answers) = (self.config.clone(), self.answers.clone());
            let follower = self.follower.clone();
            std::thread::Builder::new()
                .name("keylane-end-offsets".into())
                .spawn(move || {
                    if let Err(text) =
                        panics::caught(|| answer(&config, &receiver, &answers, follower.as_deref()))
                    {
                        lock(&answers).panicked = Some(text);
                    }
                })
                .inspect_err(
                    |error| tracing::warn!(%error, "lag of paused partitions cannot be measured"),
                )
                .ok()?;
            self.questions = Some(sender);
        }
        self.questions.as_ref()
    }
}

/// Ends when the subscription has ended, at the latest one answer later.
fn answer(
    config: &ClientSettings,
    questions: &Receiver<Question>,
    answers: &Mutex<Answers>,
    follower: Option<&Mutex<OpsFollower>>,
) {
    let client: BaseConsumer<LastError> = match config.create_with_context(LastError::default()) {
        Ok(client) => client,
        Err(error) => {
            return tracing::warn!(error = %creation_error(error), "lag of paused partitions cannot be measured");
        }
    };
    let answers = || lock(answers);
    let mut unanswered = Unanswered::default();
    while let Ok(Question {
        ends,
        topics,
        brokers,
        led,
        dead_letters,
    }) = questions.recv()
    {
        #[cfg(test)]
        panics::planted::step(
            "end offsets",
            config.get("bootstrap.servers").unwrap_or_default(),
        );
        for topic in topics {
            if let Some(is_there) = is_there(&client, &topic) {
                answers().topics.insert(topic, is_there);
            }
        }
        ask_ends(&client, ends, &mut unanswered, |key, range| {
            answers().ends.insert(key, range);
        });
        if !brokers.is_empty() {
            let answering = answering(&client, &brokers, &led, ANSWER_WITHIN);
            answers().brokers = answering;
        }
        let Some(topic) = dead_letters else { continue };
        if let Some(ranges) = record_count::ranges(&client, &topic) {
            answers().dead_letters = Some(record_count::records(&ranges));
            if let Some(follower) = follower {
                let open = lock(follower).count(&client, &topic, &ranges);
                answers().open = open;
            }
        }
    }
}

/// Queries each end, also after one that is not available: its leader may be away, and others may
/// not. The other partitions of that leader are left to the next query: each of them would take the
/// whole time.
fn ask_ends(
    client: &BaseConsumer<LastError>,
    ends: Vec<Key>,
    unanswered: &mut Unanswered,
    take: impl Fn(Key, LogRange),
) {
    let began = Instant::now();
    let mut doubtful = BTreeSet::new();
    let mut left: VecDeque<_> = unanswered.last(ends).into();
    while let Some(key) = left.pop_front().filter(|_| began.elapsed() < ENDS_WITHIN) {
        let asked = Instant::now();
        match client.fetch_watermarks(&key.0, key.1, ANSWER_WITHIN) {
            Ok((first, end)) => {
                unanswered.0.remove(&key);
                take(
                    key,
                    LogRange {
                        first: Position::new(first),
                        end: Position::new(end),
                    },
                );
            }
            Err(error) => {
                tracing::debug!(topic = %key.0, partition = key.1, %error, "no end offset");
                if asked.elapsed() < ANSWERS_SOON {
                    doubtful.insert(key.0.clone());
                } else if let Some(alike) = led_alike(client, &key) {
                    let is_alike = |other: &Key| other.0 == key.0 && alike.contains(&other.1);
                    left.iter()
                        .filter(|other| is_alike(other))
                        .for_each(|other| unanswered.add(other.clone()));
                    left.retain(|other| !is_alike(other));
                }
                // It comes after those that were not queried, so that each gets its turn.
                unanswered.add(key);
            }
        }
    }
    // The client uses the old leaders of a topic until its metadata is refreshed.
    for topic in doubtful {
        if let Err(error) = client.fetch_metadata(Some(&topic), ANSWER_WITHIN) {
            tracing::debug!(%topic, %error, "no metadata");
            break;
        }
    }
}

/// The partitions of the topic that have the same leader, or as this one none. The answer also
/// makes the client look where the leaders are.
fn led_alike(client: &BaseConsumer<LastError>, (topic, partition): &Key) -> Option<BTreeSet<i32>> {
    let metadata = client.fetch_metadata(Some(topic), ANSWER_WITHIN).ok()?;
    let partitions = metadata.topics().first()?.partitions();
    let leader = partitions
        .iter()
        .find(|other| other.id() == *partition)?
        .leader();
    Some(
        partitions
            .iter()
            .filter(|other| other.leader() == leader)
            .map(|other| other.id())
            .collect(),
    )
}

/// Partitions without an answer to the last question about them, each with its place in the order
/// of these failures. Bounded by the partitions that this member has had.
#[derive(Default)]
struct Unanswered(HashMap<Key, u64>);

impl Unanswered {
    fn add(&mut self, key: Key) {
        let latest = self.0.values().max().copied().unwrap_or(0);
        self.0.insert(key, latest + 1);
    }

    /// In the order to ask in: these come last, and the latest of them at the very end. So one that
    /// takes all the time of a question does not take that of the next.
    fn last(&self, mut keys: Vec<Key>) -> Vec<Key> {
        keys.sort_by_key(|key| self.0.get(key).copied().unwrap_or(0));
        keys
    }
}

/// `None` where the brokers do not answer, or answer with another error, which the consumer gets
/// too.
fn is_there(client: &BaseConsumer<LastError>, topic: &str) -> Option<bool> {
    let metadata = client.fetch_metadata(Some(topic), ANSWER_WITHIN).ok()?;
    match metadata.topics().first()?.error().map(Code::from) {
        None => Some(true),
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Some(false),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(partition: i32) -> Key {
        ("tasks".into(), partition)
    }

    #[test]
    fn what_was_not_answered_is_asked_for_last_and_in_turn() {
        let mut unanswered = Unanswered::default();
        let order = |unanswered: &Unanswered| -> Vec<i32> {
            unanswered
                .last((0..5).map(key).collect())
                .into_iter()
                .map(|(_, partition)| partition)
                .collect()
        };
        assert_eq!(order(&unanswered), [0, 1, 2, 3, 4]);
        unanswered.add(key(0));
        unanswered.add(key(2));
        assert_eq!(order(&unanswered), [1, 3, 4, 0, 2]);
        unanswered.add(key(0));
        assert_eq!(order(&unanswered), [1, 3, 4, 2, 0]);
        unanswered.0.remove(&key(2));
        assert_eq!(order(&unanswered), [1, 2, 3, 4, 0]);
    }

    /// Not one for each question, of which there are ten a second.
    #[test]
    fn a_client_that_cannot_be_made_has_no_thread_started_again_at_once() {
        let mut config = ClientSettings::default();
        config.set("no.such.setting", "x");
        let mut ends = EndOffsets::new(config);
        let deadline = Instant::now() + Duration::from_secs(60);
        ends.ask_at_once(vec![key(0)]);
        while ends.questions.is_some() {
            assert!(Instant::now() < deadline, "the thread does not end");
            ends.ask_at_once(vec![key(0)]);
            std::thread::sleep(Duration::from_millis(1));
        }
        ends.started = Some(Instant::now());
        ends.ask_at_once(vec![key(0)]);
        assert!(ends.questions.is_none(), "another thread was started");
        let long_ago = Instant::now().checked_sub(START_AGAIN);
        ends.started = long_ago;
        ends.ask_at_once(vec![key(0)]);
        // It may have ended again by now.
        assert_ne!(ends.started, long_ago, "none was started");
    }
}
