//! The methods of a subscription's handle that the server needs. Tests have another implementation,
//! which runs nothing.

use std::fmt;
use std::sync::Arc;

use keylane::SubscriptionHandle;
use keylane::redrive::RedriveTask;
use keylane::redrive::ops::OpsTopic;
use keylane::status::{HotKeys, State, SubscriptionStatus};
use keylane::subscription::OperatorNote;

use crate::acts::{self, Act, Acting, Trying};

pub(crate) trait Served: fmt::Debug + Send + Sync {
    fn name(&self) -> &str;
    fn group(&self) -> &str;
    fn state(&self) -> State;
    fn status(&self) -> SubscriptionStatus;
    fn hot_keys(&self) -> HotKeys;
    fn pause(&self);
    fn resume(&self);
    fn request_shutdown(&self);
    /// `false` where the partition is not assigned.
    fn pause_partition(&self, topic: &str, partition: i32) -> bool;
    /// `false` where the partition is not assigned.
    fn resume_partition(&self, topic: &str, partition: i32) -> bool;
    fn act(&self, act: Act, note: OperatorNote) -> Acting<'_>;
    /// What the act would do.
    fn try_act(&self, act: Act) -> Trying<'_>;
    /// `None` where it has none.
    fn dead_letter_topic(&self) -> Option<&str>;
    /// Of its group's letters in this topic.
    fn redrive(&self, topic: &str) -> RedriveTask;
    fn operations(&self) -> OpsTopic;
}

impl Served for SubscriptionHandle {
    fn name(&self) -> &str {
        self.name()
    }

    fn group(&self) -> &str {
        self.group()
    }

    fn state(&self) -> State {
        self.state()
    }

    fn status(&self) -> SubscriptionStatus {
        self.status()
    }

    fn hot_keys(&self) -> HotKeys {
        self.hot_keys()
    }

    fn pause(&self) {
        self.pause();
    }

    fn resume(&self) {
        self.resume();
    }

    fn request_shutdown(&self) {
        self.request_shutdown();
    }

    fn pause_partition(&self, topic: &str, partition: i32) -> bool {
        self.pause_partition(topic, partition).is_ok()
    }

    fn resume_partition(&self, topic: &str, partition: i32) -> bool {
        self.resume_partition(topic, partition).is_ok()
    }

    fn act(&self, act: Act, note: OperatorNote) -> Acting<'_> {
        Box::pin(acts::carry_out(self, act, note))
    }

    fn try_act(&self, act: Act) -> Trying<'_> {
        Box::pin(acts::try_out(self, act))
    }

    fn dead_letter_topic(&self) -> Option<&str> {
        self.dead_letter_topic()
    }

    fn redrive(&self, topic: &str) -> RedriveTask {
        self.redrive(topic)
    }

    fn operations(&self) -> OpsTopic {
        self.operations()
    }
}

/// The subscriptions that are served.
#[derive(Debug, Default)]
pub(crate) struct AllServed(Vec<Arc<dyn Served>>);

impl AllServed {
    /// `false` where one of this name still runs. One that has ended makes way.
    pub(crate) fn add(&mut self, subscription: Arc<dyn Served>) -> bool {
        let Self(all) = self;
        all.retain(|there| {
            there.name() != subscription.name()
                || !matches!(there.state(), State::Stopped | State::Failed)
        });
        let is_new = all.iter().all(|there| there.name() != subscription.name());
        if is_new {
            all.push(subscription);
        }
        is_new
    }

    /// `false` where there is none of this name.
    pub(crate) fn remove(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|there| there.name() != name);
        self.0.len() < before
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<dyn Served>> {
        self.0.iter().find(|there| there.name() == name).cloned()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &dyn Served> {
        self.0.iter().map(|there| &**there)
    }
}
