//! Looking, now and then, whether the topics are still the ones that are read.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use keylane_core::{LogId, Reset};

use crate::kafka::{Answer, Logs};
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
    /// Takes in an answer, if one has come, and queries the topics, if it is time to. Never waits.
    pub(crate) fn look_after(&mut self, member: &mut Member) {
        if let Some(Answer::Logs(logs)) = member.client.take_topic_ids() {
            self.known.extend(logs.iter().cloned());
            compare(member, &logs);
        }
        let partitions = &member.assignment.partitions;
        let pause = match partitions.iter().any(|p| p.log.is_doubtful()) {
            true => CONFIRM_AFTER,
            false => ASK_EVERY,
        };
        let is_due = self.asked.is_none_or(|asked| asked.elapsed() >= pause);
        let topics: BTreeSet<_> = partitions.iter().map(|p| &*p.topic).collect();
        if !topics.is_empty() && is_due && !member.client.is_asking_topic_ids() {
            self.asked = Some(Instant::now());
            let topics = Vec::from_iter(topics);
            member.client.ask_topic_ids(&topics, ANSWER_WITHIN);
        }
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

/// Looks whether the topics are still the ones that are read.
fn compare(member: &mut Member, logs: &Logs) {
    let drain_timeout = member.settings.drain_timeout;
    if !member.is_draining()
        && member.assignment.see_logs(logs, drain_timeout)
        && member.settings.reset == Reset::Error
    {
        let mut partitions = member.assignment.partitions.iter();
        let topic = partitions.find(|p| p.log.is_recreated()).map(|p| &*p.topic);
        member.control.fail(recreated(topic.unwrap_or_default()));
    }
}
