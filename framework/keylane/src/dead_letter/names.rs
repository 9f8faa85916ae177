//! The names of the headers, in one place. `headers.md` explains them to users.

pub(super) const ORIGIN_TOPIC: &str = "keylane-origin-topic";
pub(super) const ORIGIN_PARTITION: &str = "keylane-origin-partition";
pub(super) const ORIGIN_OFFSET: &str = "keylane-origin-offset";
/// Which log the offset is about.
pub(super) const ORIGIN_LOG: &str = "keylane-origin-log";
pub(super) const ORIGIN_TIMESTAMP: &str = "keylane-origin-timestamp";
pub(super) const GROUP: &str = "keylane-group";
/// Which assignment wrote it.
pub(super) const EPOCH: &str = "keylane-epoch";
pub(super) const ATTEMPTS: &str = "keylane-attempts";
pub(super) const FIRST_FAILURE: &str = "keylane-first-failure";
pub(super) const LAST_FAILURE: &str = "keylane-last-failure";
pub(super) const REASON: &str = "keylane-reason";
pub(super) const ERROR_CLASS: &str = "keylane-error-class";
pub(super) const ERROR: &str = "keylane-error";
/// The group's, of a dead letter.
pub(super) const RETRY_TOPIC: &str = "keylane-retry-topic";
/// The other conventions that a dead letter is written in.
pub(super) const HEADERS: &str = "keylane-headers";
pub(super) const RETRY_ROUND: &str = "keylane-retry-round";
pub(super) const RETRY_DUE: &str = "keylane-retry-due";
pub(super) const RETRIED_FOR: &str = "keylane-retried-for";
/// How often a record was written back, and which act of which task did it last. Retries and dead
/// letters keep them as they keep any header of others: so they are not in `OURS`.
pub(crate) const REDRIVE_COUNT: &str = "keylane-redrive-count";
pub(crate) const REDRIVE_ID: &str = "keylane-redrive-id";
/// The SHA-256 of the value that was there before it was edited.
pub(crate) const EDITED_FROM: &str = "keylane-edited-from";
/// Decaton's header; not ours to remove unless we wrote it.
pub(super) use crate::record::TASK_METADATA as DECATON_METADATA;

/// Spring Kafka's headers. Retries and dead letters keep them, and the copy of a dead letter does not.
pub(super) const SPRING_RETRIES: &str = "retry_topic-";
pub(super) const SPRING_NEXT_ATTEMPT: &str = "retry_topic-attempts";
pub(super) const SPRING_DUE: &str = "retry_topic-backoff-timestamp";

/// Every header that is keylane's alone.
pub(super) const OURS: [&str; 18] = [
    ORIGIN_TOPIC,
    ORIGIN_PARTITION,
    ORIGIN_OFFSET,
    ORIGIN_LOG,
    ORIGIN_TIMESTAMP,
    GROUP,
    EPOCH,
    ATTEMPTS,
    FIRST_FAILURE,
    LAST_FAILURE,
    REASON,
    ERROR_CLASS,
    ERROR,
    RETRY_TOPIC,
    HEADERS,
    RETRY_ROUND,
    RETRY_DUE,
    RETRIED_FOR,
];
