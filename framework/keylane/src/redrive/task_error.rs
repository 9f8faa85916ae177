//! Why a redrive task does not begin, or does not go on.

use keylane_core::redrive::TooMany;

use super::LettersError;
use super::ops::TaskState;
use crate::kafka::config::ClientConfigError;

/// Why a redrive task does not begin, or does not go on. The message names the fix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RedriveTaskError {
    /// A setting of the Kafka client cannot be used.
    #[error(transparent)]
    Kafka(#[from] ClientConfigError),
    /// A setting of the task cannot be used.
    #[error("the redrive cannot begin: {reason}")]
    Setting {
        /// What is wrong, and what is right.
        reason: String,
    },
    /// The dead letters cannot be read.
    #[error(transparent)]
    Letters(#[from] LettersError),
    /// Too many letters match.
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// No letter that matches names a group.
    #[error(
        "no dead letter that matches names a consumer group; name the group by `group`, and its retry topic by \
         `Redrive::to_retry_topic_of`"
    )]
    NoGroup,
    /// The letters that match are of several groups.
    #[error(
        "the dead letters that match are of {}; redrive one group after another, by `group`",
        listed(.groups)
    )]
    SeveralGroups {
        /// The groups, the first 20 of them.
        groups: Vec<String>,
    },
    /// The operations topic cannot be used.
    #[error("the operations topic {topic} cannot be used: {reason}")]
    OpsTopic {
        /// The topic.
        topic: String,
        /// What is wrong, and the fix.
        reason: String,
    },
    /// A newer version of keylane wrote records that the task depends on.
    #[error(
        "the operations topic {topic} has records of a newer version of keylane, such as {key}; use that version"
    )]
    Newer {
        /// The topic.
        topic: String,
        /// The key of one of them.
        key: String,
    },
    /// Another task on the same dead-letter topic has not ended.
    #[error(
        "the redrive {id} of the same dead-letter topic, begun by {who}, has not ended: it runs, or its process was \
         killed; resume it, or end it by `take_over`"
    )]
    Unfinished {
        /// Its name.
        id: String,
        /// Who began it.
        who: String,
    },
    /// Another task has this name.
    #[error("there is a redrive {id} already, or was; choose another name")]
    IdTaken {
        /// The name.
        id: String,
    },
    /// There is no task of this name.
    #[error("the operations topic {topic} has no redrive {id}; check the name and the group")]
    NoSuchTask {
        /// The name.
        id: String,
        /// The topic.
        topic: String,
    },
    /// The task has ended.
    #[error(
        "the redrive {id} has ended ({state:?}); begin another one with its filter: what it has copied is left out"
    )]
    Ended {
        /// The name.
        id: String,
        /// How it ended.
        state: TaskState,
    },
    /// The dead-letter topic was re-created.
    #[error(
        "the dead-letter topic {topic} was deleted and re-created since the redrive {id} began: it has other letters; \
         begin another redrive by `take_over`"
    )]
    OtherLog {
        /// The task's name.
        id: String,
        /// The topic.
        topic: String,
    },
    /// The task was started with another edit.
    #[error("the redrive {id} was begun with {was}; resume it with the same")]
    OtherEdit {
        /// The name.
        id: String,
        /// The edit that it has.
        was: String,
    },
    /// A topic that copies go to cannot be used.
    #[error("the target topic {topic} cannot be used: {reason}")]
    Target {
        /// The topic.
        topic: String,
        /// What is wrong, and the fix.
        reason: String,
    },
    /// It was stopped while the letters were read.
    #[error("the redrive was stopped before it began; nothing was written")]
    Stopped,
    /// Another executor has taken the task's lock, or the brokers did where a transaction was open for
    /// too long.
    #[error(
        "another redrive of this group and dead-letter topic took over, or a transaction of this one was open for more \
         than 10 s; it has stopped: see the task, and resume it if nothing else runs it"
    )]
    TakenOver,
    /// A letter cannot be copied, and the task has ended.
    #[error(
        "the redrive {id} has failed at the dead letter {place}: {reason}; mend that, or begin another one that passes \
         over such letters (`on_refused`)"
    )]
    Refused {
        /// The task's name.
        id: String,
        /// The letter.
        place: String,
        /// Why.
        reason: String,
    },
    /// The order of the task cannot be read.
    #[error(
        "the order of the redrive {id} cannot be read: {reason}; begin another one by `take_over`"
    )]
    Order {
        /// The task's name.
        id: String,
        /// What is wrong.
        reason: String,
    },
    /// The brokers do not answer, or refuse.
    #[error("the redrive cannot go on: {reason}; resume it")]
    Transaction {
        /// The client's reason.
        reason: String,
    },
}

fn listed(groups: &[String]) -> String {
    groups.join(", ")
}
