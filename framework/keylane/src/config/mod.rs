//! The settings of a subscription, as plain data.

mod blocker;
mod bootstrap_servers;
mod dead_letter;
mod hot_keys;
mod into_core;
mod kafka_settings;
mod limits;
mod names;
mod outage;
mod retry;
mod spans;
mod stored_retry;
mod subscription_config;
mod validate;
mod watchdog;

pub use blocker::{Blocker, BlockerAction};
pub use bootstrap_servers::BootstrapServers;
pub use dead_letter::DeadLetter;
pub use hot_keys::HotKeySettings;
pub use kafka_settings::KafkaSettings;
pub use limits::Limits;
pub use outage::Outage;
pub use retry::{Backoff, Exhausted, FailureReason, ForeignRetries, InPlace, Retry, RetryTopic};
pub use spans::{KeyInSpans, Tracing};
pub use subscription_config::{Reading, SubscriptionConfig};
pub use validate::ConfigError;
pub use watchdog::Watchdog;

pub(crate) use names::NAME_LIMIT_BYTES;
