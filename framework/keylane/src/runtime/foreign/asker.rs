//! Asking the brokers whether a consumer group is alive, on a thread of its own: it takes round
//! trips.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use super::answers::Answers;
use crate::kafka::OtherGroups;
use crate::kafka::config::ClientSettings;
use crate::producer::TopicTarget;
use crate::status::{Control, SubscriptionError};
use crate::support::lock::lock;
use crate::support::panics::caught;

/// The thread starts with the first question, and ends with this.
pub(crate) struct Asker {
    config: ClientSettings,
    retry_topic: TopicTarget,
    answers: Arc<Answers>,
    control: Arc<Control>,
    questions: Mutex<Option<SyncSender<Arc<str>>>>,
}

impl Asker {
    pub(crate) fn new(
        config: ClientSettings,
        retry_topic: TopicTarget,
        answers: Arc<Answers>,
        control: Arc<Control>,
    ) -> Self {
        Self {
            config,
            retry_topic,
            answers,
            control,
            questions: Mutex::default(),
        }
    }

    /// `false` where the query cannot be sent. Does not wait: one query is under way at a time.
    pub(crate) fn ask(&self, group: Arc<str>) -> bool {
        let mut questions = lock(&self.questions);
        if questions.is_none() {
            *questions = self.start();
        }
        let asked = questions
            .as_ref()
            .is_some_and(|questions| questions.try_send(group).is_ok());
        if !asked {
            *questions = None;
        }
        asked
    }

    fn start(&self) -> Option<SyncSender<Arc<str>>> {
        let (sender, receiver) = sync_channel(1);
        let (config, topic, answers) = (
            self.config.clone(),
            self.retry_topic.clone(),
            self.answers.clone(),
        );
        let control = self.control.clone();
        std::thread::Builder::new()
            .name("keylane-foreign".into())
            .spawn(move || {
                let answer = || answer(&config, &topic, &receiver, &answers);
                if let Err(panic) = caught(answer) {
                    let what = format!("the thread that queries other groups panicked: {panic}");
                    control.fail(SubscriptionError::Internal(what));
                }
            })
            .inspect_err(|error| tracing::warn!(%error, "other consumer groups cannot be queried"))
            .ok()?;
        Some(sender)
    }
}

fn answer(
    config: &ClientSettings,
    topic: &TopicTarget,
    questions: &Receiver<Arc<str>>,
    answers: &Answers,
) {
    let groups = match OtherGroups::connect(config) {
        Ok(groups) => groups,
        Err(error) => {
            return tracing::warn!(%error, "other consumer groups cannot be queried");
        }
    };
    while let Ok(group) = questions.recv() {
        #[cfg(test)]
        crate::support::panics::planted::step("foreign", &topic.name);
        let liveness = groups.liveness(&topic.name, topic.partitions.get(), &group);
        tracing::debug!(
            group = &*group,
            ?liveness,
            "another consumer group was queried"
        );
        answers.put(&group, liveness);
    }
}
