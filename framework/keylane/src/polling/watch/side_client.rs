//! The side client: what the consumer does not learn by itself is queried at intervals.

use std::sync::Arc;
use std::time::Instant;

use keylane_core::WITHHELD_AFTER;

use super::dead_letters::{DeadLetterTopic, Shown};
use crate::kafka::{Answers, EndOffsets, Question, Sign, healthy, trouble};
use crate::polling::member::Member;
use crate::polling::partitions::Assigned;
use crate::status::{SubscriptionError, TroubleKind};

pub(crate) struct SideClient {
    end_offsets: EndOffsets,
    dead_letters: DeadLetterTopic,
}

impl SideClient {
    pub(crate) fn new(end_offsets: EndOffsets, dead_letter_topic: Option<Arc<str>>) -> Self {
        Self {
            end_offsets,
            dead_letters: DeadLetterTopic::new(dead_letter_topic),
        }
    }

    /// Queries the ranges of these partitions without waiting for the next interval.
    pub(crate) fn ask_at_once(&mut self, ends: Vec<(Arc<str>, i32)>) {
        self.end_offsets.ask_at_once(ends);
    }

    /// Keeps lag true for partitions that do not fetch, looks whether the brokers are back, and
    /// counts dead letters.
    pub(crate) fn look_after(&mut self, member: &mut Member) {
        self.take(member);
        let partitions = &member.assignment.partitions;
        let place = |p: &Assigned| (p.topic.clone(), p.partition);
        let is_asked = |p: &&Assigned| {
            p.fetch_paused
                || p.withheld.wants_answer(p.now())
                || p.may_be_unanswered(WITHHELD_AFTER)
        };
        let mut ask: Vec<_> = partitions.iter().filter(is_asked).map(place).collect();
        // On a quiet topic nothing else would show that the brokers are back.
        let away = [TroubleKind::Connection, TroubleKind::Authentication];
        let is_away = away.iter().any(|kind| member.control.troubles.has(*kind));
        if ask.is_empty() && is_away {
            ask.extend(partitions.first().map(place));
        }
        let brokers = member.control.troubles.brokers();
        let led = match brokers.is_empty() {
            true => Vec::new(),
            false => partitions.iter().map(place).collect(),
        };
        let (topics, dead_letters) = (
            doubtful_topics(member),
            self.dead_letters.due(Instant::now()),
        );
        if self.end_offsets.ask(Question {
            ends: ask,
            topics,
            brokers,
            led,
            dead_letters,
        }) {
            self.dead_letters.asked(Instant::now());
            for partition in &mut member.assignment.partitions {
                partition.withheld.asked();
            }
        }
    }

    /// Takes in what the side client was answered.
    pub(crate) fn take(&mut self, member: &mut Member) {
        let Answers {
            ends,
            topics,
            brokers,
            dead_letters,
            open,
            panicked,
        } = self.end_offsets.take();
        if let Some(text) = panicked {
            let error = format!("the thread that queries end offsets panicked: {text}");
            member.control.fail(SubscriptionError::Internal(error));
        }
        let DeadLetterTopic {
            records: figure,
            open: of_open,
            ..
        } = &mut self.dead_letters;
        match figure.take_in(dead_letters, Instant::now()) {
            Shown::Unchanged => {}
            Shown::Records(records) => member.metrics.set_dead_letter_topic_records(Some(records)),
            Shown::Unknown => member.metrics.set_dead_letter_topic_records(None),
        }
        match of_open.take_in_open(open, Instant::now()) {
            Shown::Unchanged => {}
            Shown::Records(letters) => member.metrics.set_open_dead_letters(Some(letters)),
            Shown::Unknown => member.metrics.set_open_dead_letters(None),
        }
        if !ends.is_empty() || !topics.is_empty() {
            healthy(&member.control, Sign::Answer);
        }
        for broker in brokers {
            healthy(&member.control, Sign::AnswerOf(broker));
        }
        for (topic, is_there) in &topics {
            match is_there {
                true => healthy(&member.control, Sign::Topic(topic)),
                false => trouble::note_missing(&member.control, &member.metrics, topic),
            }
        }
        let subscribed =
            member.settings.topics.len() + usize::from(member.settings.retry_topic.is_some());
        if topics.len() == subscribed && topics.values().all(|is_there| *is_there) {
            healthy(&member.control, Sign::AllTopics);
        }
        for ((topic, partition), range) in ends {
            if let Some(assigned) = member.assignment.find(&topic, partition) {
                assigned.look_at_range(range);
            }
        }
    }
}

/// Subscribed topics that may be gone: this member has nothing of them (there may just be more
/// members than partitions). Once one was missing, all: nothing else would show for certain
/// that it is back.
fn doubtful_topics(member: &Member) -> Vec<Arc<str>> {
    if !member.control.has_joined() || member.is_draining() || member.hand_over.is_under_way() {
        return Vec::new();
    }
    let was_missing = member.control.troubles.has(TroubleKind::MissingTopic);
    let settings = &member.settings;
    let subscribed = settings.topics.iter().chain(&settings.retry_topic);
    let partitions = &member.assignment.partitions;
    let has_none = |topic: &Arc<str>| partitions.iter().all(|p| p.topic != *topic);
    subscribed
        .filter(|topic| was_missing || has_none(topic))
        .cloned()
        .collect()
}
