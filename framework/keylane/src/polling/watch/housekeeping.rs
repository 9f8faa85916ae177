//! What the polling thread looks after now and then: pauses, commits, the logs behind the topics,
//! lag, and the owners.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use keylane_core::member::NextEpoch;
use keylane_core::{Reset, WITHHELD_AFTER};

use super::status;
use crate::kafka::trouble;
use crate::kafka::{Answers, Question, Sign, healthy};
use crate::metrics::PollSection;
use crate::polling::failures::recreated;
use crate::polling::thread::PollLoop;
use crate::status::{SubscriptionError, TroubleKind};

const SLOW_HOUSEKEEPING: Duration = Duration::from_secs(1);
/// Some recorders drop metrics without updates.
const TOUCH: Duration = Duration::from_secs(10);

impl PollLoop {
    pub(crate) fn housekeeping(&mut self) {
        self.last_housekeeping = Instant::now();
        self.taken_since_housekeeping = 0;
        let paused = self.control.is_paused();
        if paused != self.was_paused {
            self.was_paused = paused;
            self.show_state();
        }
        let mut is_news = false;
        for partition in &mut self.assignment.partitions {
            let held = paused
                || self
                    .control
                    .is_partition_paused(&partition.topic, partition.partition);
            is_news |= partition.set_held(held);
        }
        if is_news {
            // An earlier pause may have been shown: it is over, and this one not in force.
            self.publish_partitions();
        }
        let began = Instant::now();
        if !self.hand_over.is_under_way() {
            self.update_pauses();
        }
        let paused_at = Instant::now();
        self.poll_metrics
            .section(PollSection::Pause, paused_at - began);
        self.commits
            .send(&self.client, &mut self.assignment.partitions);
        self.poll_metrics
            .section(PollSection::Commit, paused_at.elapsed());
        self.reopen();
        self.look_after_beginnings();
        self.watch_owners();
        if self.last_slow_housekeeping.elapsed() >= SLOW_HOUSEKEEPING {
            self.last_slow_housekeeping = Instant::now();
            self.look_at_membership();
            self.look_at_identities();
            self.control.troubles.end_due();
            self.ask_end_offsets();
            self.publish_partitions();
            self.metrics
                .set_assigned_partitions(self.assignment.partitions.len());
            self.publish_figures();
            self.control
                .given_up
                .report_left_out(self.control.name(), Instant::now());
            self.poll_metrics.set_last_poll(
                SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default(),
            );
            if self.last_touch.elapsed() >= TOUCH {
                self.last_touch = Instant::now();
                self.metrics.touch();
                self.poll_metrics.touch();
            }
            self.poll_metrics.flush();
        }
    }

    pub(crate) fn update_pauses(&mut self) {
        let resumed = self
            .assignment
            .update_pauses(&self.client, self.is_draining());
        let resumed = resumed
            .into_iter()
            .map(|place| &self.assignment.partitions[place]);
        self.client
            .wake(resumed.map(|partition| (&*partition.topic, partition.partition)));
    }

    /// Publishes partition state to the handle and the metrics.
    pub(crate) fn publish_partitions(&mut self) {
        let common = self.assignment.common(self.is_draining());
        let partitions = &mut self.assignment.partitions;
        status::update(
            self.client.cached(),
            partitions,
            &common,
            &self.control,
            &self.settings.watchdog,
        );
    }

    /// Begins the new epochs of partitions whose logs have changed.
    pub(crate) fn reopen(&mut self) {
        // An epoch without an order to drain would be waited for until the deadline. The next owner
        // finds the same.
        if self.is_draining() {
            return;
        }
        match self.assignment.reopen(&self.client, self.was_paused) {
            Ok(begun) if begun.is_empty() => {}
            Ok(begun) => {
                self.batching.table_changed();
                if begun.iter().any(|next| matches!(next, NextEpoch::From(_))) {
                    self.identities.hurry();
                }
            }
            // Reading on would pass over records.
            Err(error) => self
                .control
                .fail(SubscriptionError::OffsetReset(error.to_string())),
        }
    }

    /// Looks whether the topics are still the ones that are read.
    fn look_at_identities(&mut self) {
        let logs = self.identities.take(&mut self.client).unwrap_or_default();
        if !self.is_draining()
            && self.assignment.see_logs(&logs, self.settings.drain_timeout)
            && self.settings.reset == Reset::Error
        {
            let topic = self
                .assignment
                .partitions
                .iter()
                .find(|p| p.log.is_recreated())
                .map(|p| p.topic.clone());
            self.control.fail(recreated(&topic.unwrap_or_default()));
        }
        let doubtful = self
            .assignment
            .partitions
            .iter()
            .any(|p| p.log.is_doubtful());
        let topics = self.assignment.partitions.iter().map(|p| &*p.topic);
        self.identities.ask(&mut self.client, topics, doubtful);
    }

    /// Keeps lag true for partitions that do not fetch, looks whether the brokers are back, and
    /// counts dead letters.
    fn ask_end_offsets(&mut self) {
        self.take_end_offsets();
        let mut ask: Vec<_> = (self.assignment.partitions.iter())
            .filter(|p| {
                p.fetch_paused
                    || p.withheld.wants_answer(p.now())
                    || p.may_be_unanswered(WITHHELD_AFTER)
            })
            .map(|p| (p.topic.clone(), p.partition))
            .collect();
        // On a quiet topic nothing else would show that the brokers are back.
        let away = [TroubleKind::Connection, TroubleKind::Authentication];
        let is_away = away.iter().any(|kind| self.control.troubles.has(*kind));
        if ask.is_empty() && is_away {
            ask.extend(
                self.assignment
                    .partitions
                    .first()
                    .map(|p| (p.topic.clone(), p.partition)),
            );
        }
        let brokers = self.control.troubles.brokers();
        let led = match brokers.is_empty() {
            true => Vec::new(),
            false => self
                .assignment
                .partitions
                .iter()
                .map(|p| (p.topic.clone(), p.partition))
                .collect(),
        };
        let (topics, dead_letters) = (
            self.doubtful_topics(),
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
            for partition in &mut self.assignment.partitions {
                partition.withheld.asked();
            }
        }
    }

    /// Takes in what the side client was answered.
    pub(crate) fn take_end_offsets(&mut self) {
        let Answers {
            ends,
            topics,
            brokers,
            dead_letters,
            panicked,
        } = self.end_offsets.take();
        if let Some(text) = panicked {
            let error = format!("the thread that queries end offsets panicked: {text}");
            self.control.fail(SubscriptionError::Internal(error));
        }
        self.note_dead_letters(dead_letters);
        if !ends.is_empty() || !topics.is_empty() {
            healthy(&self.control, Sign::Answer);
        }
        for broker in brokers {
            healthy(&self.control, Sign::AnswerOf(broker));
        }
        for (topic, is_there) in &topics {
            match is_there {
                true => healthy(&self.control, Sign::Topic(topic)),
                false => trouble::note_missing(&self.control, &self.metrics, topic),
            }
        }
        let subscribed =
            self.settings.topics.len() + usize::from(self.settings.retry_topic.is_some());
        if topics.len() == subscribed && topics.values().all(|is_there| *is_there) {
            healthy(&self.control, Sign::AllTopics);
        }
        for ((topic, partition), range) in ends {
            if let Some(assigned) = self.assignment.find(&topic, partition) {
                assigned.end_offset = Some(range.end.get());
                assigned.look_at_range(range);
            }
        }
    }

    /// Subscribed topics that may be gone: this member has nothing of them (there may just be more
    /// members than partitions). Once one was missing, all: nothing else would show for certain
    /// that it is back.
    fn doubtful_topics(&self) -> Vec<Arc<str>> {
        if !self.control.has_joined() || self.is_draining() || self.hand_over.is_under_way() {
            return Vec::new();
        }
        let was_missing = self.control.troubles.has(TroubleKind::MissingTopic);
        let subscribed = self
            .settings
            .topics
            .iter()
            .chain(&self.settings.retry_topic);
        let has_none =
            |topic: &Arc<str>| self.assignment.partitions.iter().all(|p| p.topic != *topic);
        subscribed
            .filter(|topic| was_missing || has_none(topic))
            .cloned()
            .collect()
    }

    /// An owner ends only on order, or by a panic, which it reports itself. One that ended
    /// otherwise was dropped with its runtime, and its partition would stand still unnoticed.
    fn watch_owners(&self) {
        if self.is_draining() {
            return;
        }
        if let Some(dead) = self
            .assignment
            .partitions
            .iter()
            .find(|p| !p.revoking && !p.log.is_recreated() && p.has_ended())
        {
            let error = format!(
                "the owner of {}-{} ended: the tokio runtime was shut down before the subscription",
                dead.topic, dead.partition
            );
            self.control.fail(SubscriptionError::Internal(error));
        }
    }

    fn publish_figures(&self) {
        let (ongoing, held) = self.control.outages.report(self.control.name());
        self.metrics.set_outages(|kind| ongoing.contains(&kind));
        self.metrics.set_held_records(held);
        self.metrics.set_in_flight(self.control.in_flight());
    }
}
