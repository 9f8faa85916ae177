//! What a member writes to the control topic: which revision it runs, and that a skip is carried
//! out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use keylane_core::Position;
use keylane_core::control::{ACKNOWLEDGE_EVERY, Ack, ControlKey, Directives, SkipEnd};
use tokio::runtime::Handle;

use super::wire;
use crate::Headers;
use crate::producer::raw::{OutgoingRecord, RawProducer};
use crate::support::clock;

/// The pause after a write that failed, and until a skip is taken back once more.
const WRITE_AGAIN: Duration = Duration::from_secs(30);
/// How long the last write may take. A shutdown does not wait for so long: see
/// [`Following::end`](super::follower::Following::end).
const LAST_WRITE_WITHIN: Duration = Duration::from_secs(10);

/// Writes to the control topic, without waiting.
pub(crate) struct Acknowledging {
    writer: RawProducer,
    tokio: Handle,
    topic: Arc<str>,
    group: String,
    /// This member's name in the topic.
    name: String,
    /// The key of its acknowledgement.
    key: String,
    host: String,
    /// What was acknowledged last, or is being so.
    last: Option<Acknowledged>,
    /// When that was written.
    written: Instant,
    /// It was taken out of the topic, by an operator or by a member that took this one for gone.
    is_taken_out: bool,
    under_way: Option<Receiver<Result<(), String>>>,
    not_before: Instant,
    /// Why the last one was not written.
    problem: Option<String>,
    /// When a skip was taken back. It goes when the tombstone is read.
    taken_back: BTreeMap<ControlKey, Instant>,
}

#[derive(Clone, PartialEq, Eq)]
struct Acknowledged {
    revision: Position,
    member: String,
    refused: u64,
}

impl Acknowledging {
    /// `name`: this member's, which no other has.
    pub(crate) fn new(
        writer: RawProducer,
        tokio: Handle,
        group: &str,
        topic: &str,
        name: &str,
    ) -> Self {
        let host = gethostname::gethostname();
        Self {
            writer,
            tokio,
            topic: topic.into(),
            group: group.to_owned(),
            name: name.to_owned(),
            key: ControlKey::Ack(name.to_owned()).to_string(),
            host: host.to_string_lossy().into_owned(),
            last: None,
            written: Instant::now(),
            is_taken_out: false,
            under_way: None,
            not_before: Instant::now(),
            problem: None,
            taken_back: BTreeMap::new(),
        }
    }

    pub(super) fn group(&self) -> &str {
        &self.group
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What the topic has as the acknowledgement of a member.
    pub(super) fn see(&mut self, name: &str, ack: Option<&Ack>) {
        if name == self.name {
            self.is_taken_out = ack.is_none();
        }
    }

    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// The topic is another one, which has no acknowledgement of this member.
    pub(super) fn begin_again(&mut self) {
        self.last = None;
    }

    /// Writes what this member runs: where that has changed, where it was taken out, and from time
    /// to time, as a sign that the member is there.
    pub(super) fn acknowledge(&mut self, directives: &Directives, member: String) {
        self.look_for_answer();
        let now = Acknowledged {
            revision: directives.revision(),
            member,
            refused: directives.refused().count() as u64 + directives.left_out(),
        };
        let is_fresh = self.written.elapsed() < ACKNOWLEDGE_EVERY && !self.is_taken_out;
        let is_acknowledged = is_fresh && self.last.as_ref() == Some(&now);
        if is_acknowledged || self.under_way.is_some() || Instant::now() < self.not_before {
            return;
        }
        let ack = Ack {
            revision: now.revision,
            member: Some(now.member.clone()),
            group: Some(self.group.clone()),
            host: self.host.clone(),
            at_millis: clock::unix_millis(),
            refused: now.refused,
        };
        self.last = Some(now);
        (self.written, self.is_taken_out) = (Instant::now(), false);
        self.under_way = Some(self.write(&self.key, Some(wire::encode_ack(&ack))));
    }

    /// These are carried out, or their log is gone: they need no order.
    pub(super) fn take_back_skips(&mut self, done: Vec<(ControlKey, SkipEnd)>) {
        let is_done = |key: &ControlKey| done.iter().any(|(other, _)| other == key);
        self.taken_back
            .retain(|key, at| is_done(key) && at.elapsed() < WRITE_AGAIN);
        for (key, end) in done {
            if self.taken_back.contains_key(&key) {
                continue;
            }
            match end {
                SkipEnd::Committed => {
                    tracing::info!(topic = %self.topic, %key, "the group's commit is behind the record of a skip; the order is taken out of the control topic");
                }
                SkipEnd::LogGone => {
                    tracing::warn!(topic = %self.topic, %key, "the log that a skip is about is gone, so it gave up nothing; the order is taken out of the control topic");
                }
            }
            // Its answer is what is read. Where none comes, it is written again.
            drop(self.write(&key.to_string(), None));
            self.taken_back.insert(key, Instant::now());
        }
    }

    /// These members have written nothing for long. One that is there writes its own again.
    pub(super) fn take_out(&self, gone: &[String]) {
        for name in gone {
            tracing::info!(topic = %self.topic, member = name, "this member of the group has acknowledged nothing for a day; its acknowledgement is taken out of the control topic");
            // Where that fails it is done again: it is still there.
            drop(self.write(&ControlKey::Ack(name.clone()).to_string(), None));
        }
    }

    /// The member ends: its acknowledgement no longer counts.
    pub(super) fn take_back(&mut self) {
        if self.last.is_none() {
            return;
        }
        // Behind one that is under way: one producer keeps the order.
        let answer = self.write(&self.key, None);
        if !matches!(answer.recv_timeout(LAST_WRITE_WITHIN), Ok(Ok(()))) {
            tracing::warn!(topic = %self.topic, "this member's acknowledgement stays in the control topic, and counts as one of a member that is gone");
        }
    }

    fn look_for_answer(&mut self) {
        let Some(answer) = &self.under_way else {
            return;
        };
        let error = match answer.try_recv() {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            Err(TryRecvError::Empty) => return,
            Err(TryRecvError::Disconnected) => Some("the tokio runtime has ended".to_owned()),
        };
        self.under_way = None;
        if let Some(error) = error {
            tracing::warn!(%error, "the revision of the control topic that this member runs cannot be acknowledged; it is tried again");
            self.last = None;
            self.not_before = Instant::now() + WRITE_AGAIN;
            self.problem = Some(error);
        } else {
            self.problem = None;
        }
    }

    fn write(&self, key: &str, value: Option<Vec<u8>>) -> Receiver<Result<(), String>> {
        let (done, answer) = sync_channel(1);
        let written = self.writer.send(OutgoingRecord {
            topic: self.topic.clone(),
            partition: Some(0),
            key: Some(Bytes::copy_from_slice(key.as_bytes())),
            value: value.map(Bytes::from),
            headers: Headers::new(),
            timestamp_millis: None,
        });
        self.tokio.spawn(async move {
            let answer = written.await;
            let _ = done.send(answer.map(drop).map_err(|error| error.to_string()));
        });
        answer
    }
}
