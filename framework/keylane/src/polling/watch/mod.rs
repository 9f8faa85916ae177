//! What the polling thread looks after besides records: lag, pauses, topics, brokers.

mod dead_letters;
mod housekeeping;
mod lag;
mod paused_by;
mod status;
mod topic_ids;

pub(crate) use dead_letters::DeadLetterTopic;
pub(crate) use topic_ids::Identities;
