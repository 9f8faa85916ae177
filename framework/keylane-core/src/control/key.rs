//! What a record of the control topic is about.

use std::fmt;

use crate::offset::Offset;
use crate::topic_name::check_topic_name;

/// The longest name of a member in an [`Ack`](ControlKey::Ack).
const LONGEST_MEMBER_BYTES: usize = 300;

/// What a pause stops.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PauseScope {
    /// Everything that the group reads, its retry topic too.
    Subscription,
    /// A topic. The retry topic is another one.
    Topic(String),
    /// A partition.
    Partition(String, i32),
}

impl fmt::Display for PauseScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subscription => f.write_str("subscription"),
            Self::Topic(topic) => write!(f, "topic {topic}"),
            Self::Partition(topic, partition) => write!(f, "partition {topic}/{partition}"),
        }
    }
}

/// The key of a record of the control topic.
///
/// # Examples
/// ```
/// use keylane_core::Offset;
/// use keylane_core::control::{ControlKey, PauseScope};
///
/// let key = ControlKey::parse("pause/parking-events/3");
/// let scope = PauseScope::Partition("parking-events".to_owned(), 3);
/// assert_eq!(key, Some(ControlKey::Pause(scope)));
/// let skip = ControlKey::parse("skip/parking-events/3/4711").expect("a key");
/// assert_eq!(skip.to_string(), "skip/parking-events/3/4711");
/// assert_eq!(ControlKey::parse("pause/parking-events/03"), None, "a second name of one thing");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ControlKey {
    /// `pause`, `pause/<topic>`, `pause/<topic>/<partition>`.
    Pause(PauseScope),
    /// `pause-key/<topic>/<key hash>`.
    PauseKey {
        /// The topic.
        topic: String,
        /// The hash of the key that users see, as a number.
        key_hash: u64,
    },
    /// `skip/<topic>/<partition>/<offset>`.
    Skip {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The record.
        offset: Offset,
    },
    /// `ack/<member>`: which revision a member runs.
    Ack(String),
    /// `settings/…`: the place for live settings, which this version does not have.
    Settings,
}

impl ControlKey {
    /// Reads a key; `None` where this version has no such key. There is one form of each, so that
    /// compaction and the fold agree on what is one key.
    pub fn parse(text: &str) -> Option<Self> {
        if text.starts_with("settings/") {
            return Some(Self::Settings);
        }
        if let Some(member) = text.strip_prefix("ack/") {
            let is_name = (1..=LONGEST_MEMBER_BYTES).contains(&member.len());
            return is_name.then(|| Self::Ack(member.to_owned()));
        }
        let parts: Vec<&str> = text.splitn(5, '/').collect();
        let topic = |name: &str| check_topic_name(name).ok().map(|()| name.to_owned());
        let partition = |number: &str| number.parse::<i32>().ok().filter(|it| *it >= 0);
        let key = match *parts.as_slice() {
            ["pause"] => Self::Pause(PauseScope::Subscription),
            ["pause", name] => Self::Pause(PauseScope::Topic(topic(name)?)),
            ["pause", name, number] => {
                Self::Pause(PauseScope::Partition(topic(name)?, partition(number)?))
            }
            ["pause-key", name, hash] => Self::PauseKey {
                topic: topic(name)?,
                key_hash: u64::from_str_radix(hash, 16).ok()?,
            },
            ["skip", name, number, offset] => Self::Skip {
                topic: topic(name)?,
                partition: partition(number)?,
                offset: Offset::new(offset.parse().ok().filter(|it| *it >= 0)?),
            },
            _ => return None,
        };
        (key.to_string() == text).then_some(key)
    }
}

impl fmt::Display for ControlKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pause(PauseScope::Subscription) => f.write_str("pause"),
            Self::Pause(PauseScope::Topic(topic)) => write!(f, "pause/{topic}"),
            Self::Pause(PauseScope::Partition(topic, partition)) => {
                write!(f, "pause/{topic}/{partition}")
            }
            Self::PauseKey { topic, key_hash } => write!(f, "pause-key/{topic}/{key_hash:016x}"),
            Self::Skip {
                topic,
                partition,
                offset,
            } => write!(f, "skip/{topic}/{partition}/{offset}"),
            Self::Ack(member) => write!(f, "ack/{member}"),
            Self::Settings => f.write_str("settings/"),
        }
    }
}
