//! The only folder besides `producer/` that uses rdkafka, or `unsafe`. It has the consumer with its
//! queues and callbacks, queries to the brokers, the client's settings and log lines, and start-up
//! checks.

mod assigned;
mod brokers;
mod callbacks;
mod client;
mod client_error;
pub(crate) mod client_log;
mod commit_queue;
mod committed;
pub(crate) mod config;
mod describe;
mod end_offsets;
mod events;
mod fetch_queue;
mod fetcher_wakeup;
mod groups;
mod healthy;
mod letters;
mod lists;
mod message;
mod native;
#[doc(hidden)]
pub mod operator;
mod ops_follower;
mod ops_topic;
mod other_groups;
mod permissions;
#[cfg(test)]
mod plain_client;
mod read;
mod reader;
mod record_count;
mod refusal;
mod replies;
mod seek_reader;
mod starts;
mod tail;
mod topic_ids;
pub mod topics;
pub(crate) mod trouble;
mod trouble_place;

pub(crate) use callbacks::Context;
pub(crate) use client::{Cached, Client, PositionToSet, SeekTo};
pub(crate) use client_error::ClientError;
pub(crate) use commit_queue::CommitAnswer;
pub(crate) use end_offsets::{Answers, EndOffsets, Question};
pub(crate) use events::{CommittedPoint, GroupEvent, NewPartition};
pub(crate) use healthy::{Sign, healthy};
pub use letters::LetterRange;
pub(crate) use letters::{Polled, TopicReader, answer_ranges, ranges, ranges_by};
pub(crate) use message::NativeMessage;
pub(crate) use native::CachedRange;
pub(crate) use ops_follower::{Open, OpenLetters, OpsFollower};
pub(crate) use ops_topic::{OpsEnd, OpsLog, create_ops_topic, log_of, writable_topics};
pub(crate) use other_groups::OtherGroups;
pub(crate) use permissions::Operation;
pub(crate) use read::{FailedFetch, Failure, READ_LIMIT};
pub(crate) use refusal::CommitRefused;
pub(crate) use seek_reader::SeekReader;
pub(crate) use starts::{Starts, compare_logs};
pub(crate) use tail::{Tail, TailError};
pub(crate) use topic_ids::{Answer, Logs};
