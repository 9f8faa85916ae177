//! The settings of a subscription, as plain data.

mod blocker;
mod bootstrap_servers;
mod control_topic;
pub(crate) mod dead_letter;
pub(crate) mod duration;
mod hot_keys;
mod into_core;
mod kafka_settings;
mod legacy_tasks;
mod limits;
mod names;
mod outage;
pub(crate) mod retry;
mod spans;
mod stored_retry;
pub(crate) mod subscription_config;
pub(crate) mod validate;
mod watchdog;

pub use blocker::{Blocker, BlockerAction};
pub use bootstrap_servers::BootstrapServers;
pub use control_topic::ControlTopic;
pub(crate) use dead_letter::DeadLetter;
pub use dead_letter::HeaderConvention;
pub use hot_keys::HotKeySettings;
pub use kafka_settings::KafkaSettings;
pub use legacy_tasks::LegacyTasks;
pub use limits::Limits;
pub use outage::Outage;
pub(crate) use retry::Retry;
pub use retry::{
    Backoff, Exhausted, FailureReason, ForeignRetries, InPlace, RetryTopic, SpringHeaders,
};
pub use spans::{KeyInSpans, Tracing};
pub use subscription_config::Reading;
pub(crate) use subscription_config::SubscriptionConfig;
pub(crate) use validate::ConfigError;
pub use watchdog::Watchdog;

pub(crate) use names::NAME_LIMIT_BYTES;
