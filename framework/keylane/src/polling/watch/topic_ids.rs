//! Looking, now and then, whether the topics are still the ones that are read.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use keylane_core::{LogId, Reset};

use crate::kafka::{Answer, Client, Logs};
use crate::polling::failures::recreated;
use crate::polling::member::Member;

/// The interval of queries, and the shorter one where an answer has to be confirmed. What is read
/// until then from a wrong position is read again. The commits name the log they are about, so
/// nothing is lost, also in a crash.
const ASK_EVERY: Duration = Duration::from_secs(5);
const CONFIRM_AFTER: Duration = Duration::from_millis(500);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The questions to the brokers, one at a time.
#[derive(Default)]
pub(crate) struct Identities {
    asked: Option<Instant>,
    /// The last answers: for an assignment that gets none in time. One that is out of date leads to
    /// reading once more from the beginning, never past records.
    known: HashMap<String, LogId>,
}

impl Identities {
    /// Looks whether the topics are still the ones that are read.
    pub(crate) fn look_after(&mut self, member: &mut Member) {
        let logs = self.take(&mut member.client).unwrap_or_default();
        if !member.is_draining()
            && member
                .assignment
                .see_logs(&logs, member.settings.drain_timeout)
            && member.settings.reset == Reset::Error
        {
            let topic = member
                .assignment
                .partitions
                .iter()
                .find(|p| p.log.is_recreated())
                .map(|p| p.topic.clone());
            member.control.fail(recreated(&topic.unwrap_or_default()));
        }
        let doubtful = member
            .assignment
            .partitions
            .iter()
            .any(|p| p.log.is_doubtful());
        let topics = member.assignment.partitions.iter().map(|p| &*p.topic);
        self.ask(&mut member.client, topics, doubtful);
    }

    /// Takes in an answer, if one has come. Never waits.
    fn take(&mut self, client: &mut Client) -> Option<Logs> {
        let Some(Answer::Logs(logs)) = client.take_topic_ids() else {
            return None;
        };
        self.known.extend(logs.iter().cloned());
        Some(logs)
    }

    /// Queries `topics`, if it is time to. `doubtful`: an answer is to be confirmed.
    fn ask<'a>(
        &mut self,
        client: &mut Client,
        topics: impl Iterator<Item = &'a str>,
        doubtful: bool,
    ) {
        let pause = if doubtful { CONFIRM_AFTER } else { ASK_EVERY };
        if client.is_asking_topic_ids() || self.asked.is_some_and(|asked| asked.elapsed() < pause) {
            return;
        }
        let mut topics: Vec<_> = topics.collect();
        topics.sort_unstable();
        topics.dedup();
        if topics.is_empty() {
            return;
        }
        self.asked = Some(Instant::now());
        client.ask_topic_ids(&topics, ANSWER_WITHIN);
    }

    /// Something indicates another topic: it is queried at the next opportunity.
    pub(crate) fn hurry(&mut self) {
        self.asked = None;
    }

    /// What was answered last.
    pub(crate) fn known(&self, topic: &str) -> Option<LogId> {
        self.known.get(topic).copied()
    }
}
