//! What the polling thread looks after besides records: lag, pauses, topics, brokers.

mod blocked_owner;
mod dead_letters;
mod lag;
mod paused_by;
mod side_client;
pub(super) mod status;
mod topic_ids;

pub(crate) use side_client::SideClient;
pub(crate) use topic_ids::Identities;
