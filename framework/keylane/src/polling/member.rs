//! What the parts of the polling thread work on: a member of the group, with its client and its
//! partitions.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::commits::Commits;
use super::group::HandOver;
use super::partitions::Assignment;
use super::settings::{OwnerFactory, PollSettings};
use crate::kafka::{Client, FailedFetch, Failure, Sign, healthy, trouble};
use crate::metrics::SubscriptionMetrics;
use crate::status::{Control, State, SubscriptionError};

pub(crate) struct Member {
    pub(crate) client: Client,
    pub(crate) assignment: Assignment,
    pub(crate) commits: Commits,
    pub(crate) hand_over: HandOver,
    pub(crate) control: Arc<Control>,
    pub(crate) metrics: Arc<SubscriptionMetrics>,
    pub(crate) settings: Arc<PollSettings>,
}

impl Member {
    pub(crate) fn new(
        client: Client,
        control: Arc<Control>,
        metrics: Arc<SubscriptionMetrics>,
        settings: PollSettings,
        open: OwnerFactory,
    ) -> Self {
        let settings = Arc::new(settings);
        Self {
            client,
            assignment: Assignment::new(settings.clone(), control.feed.clone(), open),
            commits: Commits::new(settings.commit_every),
            hand_over: HandOver::new(),
            control,
            metrics,
            settings,
        }
    }

    /// Whether all partitions are being given back, for good.
    pub(crate) fn is_draining(&self) -> bool {
        self.hand_over.is_shutting_down()
    }

    /// Hands what was read over to its owners. `senders`: the brokers it came from, where there are
    /// troubles.
    pub(crate) fn deliver(&mut self, senders: BTreeSet<i32>) {
        let control = &self.control;
        for partition in &mut self.assignment.partitions {
            partition.hand_over();
        }
        healthy(control, Sign::Delivery);
        for sender in senders {
            healthy(control, Sign::DeliveryFrom(sender));
        }
    }

    /// Errors are either the end or passing trouble. Returns whether a topic is missing.
    pub(crate) fn note(&self, failure: Failure, places: &[FailedFetch]) -> bool {
        let error = match failure {
            Failure::Fatal(text) => SubscriptionError::Fatal(text),
            Failure::NoPosition(text) => SubscriptionError::OffsetReset(text),
            Failure::Passing(None) => return false,
            Failure::Passing(Some(code)) => {
                // What is about no partition was reported to the context before, with the client's
                // words.
                for place in places {
                    let (topic, id) = (&place.topic, place.partition);
                    trouble::note_unreadable(&self.control, &self.metrics, code, topic, id);
                }
                return trouble::is_missing_topic(code);
            }
        };
        self.control.fail(error);
        false
    }

    pub(crate) fn update_pauses(&mut self) {
        let is_draining = self.is_draining();
        let outages = &self.control.outages;
        self.assignment
            .update_pauses(&self.client, outages, is_draining);
    }

    /// After the answer to a rebalance: the partitions that stay are read on at once.
    pub(crate) fn wake_fetchers(&self) {
        if !self.is_draining() {
            self.assignment.wake_fetchers(&self.client);
        }
    }

    /// Begins the new epochs of partitions whose logs have changed. Returns whether one went back.
    pub(crate) fn reopen(&mut self) -> bool {
        // An epoch without an order to drain would be waited for until the deadline. The next owner
        // finds the same.
        if self.is_draining() {
            return false;
        }
        let begun = self.assignment.reopen(&self.client);
        begun.unwrap_or_else(|error| {
            // Reading on would pass over records.
            let error = SubscriptionError::OffsetReset(error.to_string());
            self.control.fail(error);
            false
        })
    }

    /// An owner ends only on order, or by a panic, which it reports itself. One that ended
    /// otherwise was dropped with its runtime, and its partition would stand still unnoticed.
    pub(crate) fn watch_owners(&self) {
        if self.is_draining() {
            return;
        }
        let mut partitions = self.assignment.partitions.iter();
        let dead = partitions.find(|p| !p.revoking && !p.log.is_recreated() && p.has_ended());
        if let Some(dead) = dead {
            let error = format!(
                "the owner of {}-{} ended: the tokio runtime was shut down before the subscription",
                dead.topic, dead.partition
            );
            self.control.fail(SubscriptionError::Internal(error));
        }
    }

    pub(crate) fn show_state(&self) {
        self.set_state(if self.is_draining() {
            State::Draining
        } else if self.hand_over.is_under_way() {
            State::Rebalancing
        } else if self.control.is_paused() {
            State::Paused
        } else if self.control.has_joined() {
            State::Running
        } else {
            State::Starting
        });
    }

    fn set_state(&self, state: State) {
        self.control.set_state(state);
        self.metrics.set_state(state);
    }
}

impl Drop for Member {
    /// However the loop has ended: the owners end before the client closes.
    fn drop(&mut self) {
        for partition in &self.assignment.partitions {
            partition.inbox.end();
        }
    }
}
