//! Whose a retry is, and which ones are held for that.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use keylane_core::{ForeignPolicy, Liveness, Moment, Ownership, Ruling, Whose};

use super::answers::Answers;
use super::asker::Asker;
use super::held::{Held, HeldRecords, Place};
use crate::SubscriptionConfig;
use crate::config::{ForeignRetries, RetryTopic};
use crate::dead_letter::{group_as_written, provenance_of};
use crate::kafka::config::ClientSettings;
use crate::producer::TopicTarget;
use crate::record::Record;
use crate::status::Control;

/// One for each subscription with a retry topic.
pub(crate) struct RetryOwnership {
    ownership: Ownership,
    topic: Arc<str>,
    answers: Arc<Answers>,
    asker: Asker,
    held: HeldRecords,
}

impl RetryOwnership {
    pub(crate) fn new(
        config: &SubscriptionConfig,
        retry: &RetryTopic,
        target: &TopicTarget,
        side_config: ClientSettings,
        control: Arc<Control>,
        origin_of_time: Instant,
    ) -> Self {
        let ownership = Ownership {
            group: group_as_written(&config.group),
            adopted: retry
                .adopt
                .iter()
                .map(|group| group_as_written(group))
                .collect(),
            // What another program wrote to the retry topic was read there first.
            origins: config
                .topics
                .iter()
                .cloned()
                .chain([target.name.to_string()])
                .collect(),
            policy: match retry.foreign {
                ForeignRetries::Settle => ForeignPolicy::Settle,
                ForeignRetries::Hold => ForeignPolicy::Hold,
                ForeignRetries::Process => ForeignPolicy::Process,
            },
        };
        let answers = Arc::new(Answers {
            groups: Mutex::default(),
            version: AtomicU64::new(0),
            origin_of_time,
        });
        Self {
            ownership,
            topic: target.name.clone(),
            asker: Asker::new(
                side_config,
                target.clone(),
                answers.clone(),
                control.clone(),
            ),
            held: HeldRecords::new(control, &target.name),
            answers,
        }
    }

    /// What becomes of a record of the retry topic.
    pub(crate) fn rule(&self, record: &Record, now: Moment) -> Ruling {
        let provenance = provenance_of(record);
        let whose = self.ownership.whose(provenance);
        if whose == Whose::Ours {
            return Ruling::Process;
        }
        let group = provenance.group.unwrap_or_default();
        self.ownership
            .rule(whose, || self.answers.groups().liveness(group, now))
    }

    /// Starts the query of the next group, if one is due. Does not wait.
    pub(crate) fn ask(&self, now: Moment) {
        let Some(group) = self.answers.groups().next_question(now) else {
            return;
        };
        if !self.asker.ask(group.clone()) {
            self.answers.put(&group, Liveness::Unknown);
        }
    }

    /// Changes with each answer.
    pub(crate) fn version(&self) -> u64 {
        self.answers.version.load(Ordering::Acquire)
    }

    /// Notes that a partition holds such records as this one, or, with none, that it holds nothing.
    pub(crate) fn note_held(
        &self,
        place: Place,
        held: Option<(&Record, keylane_core::HeldBecause)>,
    ) {
        self.held.note(
            place,
            held.and_then(|(record, because)| Held::of(&self.topic, record, because)),
        );
    }
}
