//! End offsets of partitions that do not fetch.
//!
//! What the consumer knows of a partition's end is as old as its last fetch, so lag would stand still exactly where it
//! matters: while a partition is paused by a limit. A client without a group asks for those, on a thread of its own, because
//! asking takes a round trip.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

const ASK_EVERY: Duration = Duration::from_secs(10);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

type Key = (Arc<str>, i32);

/// Asks for end offsets; the thread starts with the first question, so that a subscription that never pauses has none.
pub(super) struct EndOffsets {
    config: ClientConfig,
    questions: Option<SyncSender<Vec<Key>>>,
    answers: Arc<Mutex<HashMap<Key, i64>>>,
    asked: Option<Instant>,
}

impl EndOffsets {
    pub(super) fn new(config: ClientConfig) -> Self {
        Self { config, questions: None, answers: Arc::default(), asked: None }
    }

    /// Asks for these partitions, unless it asked a short while ago.
    pub(super) fn ask(&mut self, paused: Vec<Key>) {
        if paused.is_empty() || self.asked.is_some_and(|asked| asked.elapsed() < ASK_EVERY) {
            return;
        }
        self.asked = Some(Instant::now());
        let Some(questions) = self.thread() else { return };
        // Full: the last question is still being answered, and the next one is ten seconds away.
        if let Err(TrySendError::Disconnected(_)) = questions.try_send(paused) {
            self.questions = None;
        }
    }

    /// The answers since the last call.
    pub(super) fn take(&self) -> HashMap<Key, i64> {
        std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn thread(&mut self) -> Option<&SyncSender<Vec<Key>>> {
        if self.questions.is_none() {
            let (sender, receiver) = sync_channel(1);
            let (config, answers) = (self.config.clone(), self.answers.clone());
            std::thread::Builder::new()
                .name("keylane-end-offsets".into())
                .spawn(move || answer(&config, &receiver, &answers))
                .inspect_err(|error| tracing::warn!(%error, "lag of paused partitions cannot be measured"))
                .ok()?;
            self.questions = Some(sender);
        }
        self.questions.as_ref()
    }
}

/// Ends when the subscription has ended, at the latest one answer later.
fn answer(config: &ClientConfig, questions: &Receiver<Vec<Key>>, answers: &Mutex<HashMap<Key, i64>>) {
    let client: BaseConsumer = match config.create() {
        Ok(client) => client,
        Err(error) => return tracing::warn!(%error, "lag of paused partitions cannot be measured"),
    };
    while let Ok(partitions) = questions.recv() {
        for key in partitions {
            match client.fetch_watermarks(&key.0, key.1, ANSWER_WITHIN) {
                Ok((_, end)) => {
                    answers.lock().unwrap_or_else(PoisonError::into_inner).insert(key, end);
                }
                Err(error) => {
                    tracing::debug!(topic = %key.0, partition = key.1, %error, "no end offset");
                    break;
                }
            }
        }
    }
}
