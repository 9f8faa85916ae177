//! The public status of a subscription.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

#[doc(inline)]
pub use keylane_core::{PausedBy, Position, RecordState, RetryTier, Snapshot, WaitingFor};
use serde::Serialize;

use super::control_feed::{ControlPause, ControlStatus};
use super::json;
use super::outage::OutageStatus;
use super::places::InFlight;
use crate::record::KeyHash;

/// The state of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u8)]
pub enum State {
    /// Joining the group: nothing was assigned yet.
    Starting = 0,
    /// Member of the group, polling and processing; the assignment may be empty.
    Running = 1,
    /// Paused by the user: polling goes on, nothing is fetched and no attempt starts. A partition
    /// that is just starting attempts finishes that pass: [`PartitionStatus::paused_by_user`] is
    /// true once the pause is in force there.
    Paused = 2,
    /// Giving partitions back: the attempts in flight there are finishing.
    Rebalancing = 3,
    /// Shutting down: no attempt starts, those in flight are finishing.
    Draining = 4,
    /// Ended without an error.
    Stopped = 5,
    /// Ended with an error, which `run` returned.
    Failed = 6,
}

impl State {
    pub(super) fn from_u8(value: u8) -> Self {
        match value {
            0 => Self::Starting,
            1 => Self::Running,
            2 => Self::Paused,
            3 => Self::Rebalancing,
            4 => Self::Draining,
            5 => Self::Stopped,
            _ => Self::Failed,
        }
    }

    /// Its name in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Rebalancing => "rebalancing",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}

/// A snapshot of a subscription, at most a second old. It can be serialized; its partitions then
/// have the form of the admin server's answers.
///
/// # Examples
/// ```
/// use keylane::Subscription;
///
/// fn report(subscription: &Subscription) {
///     let status = subscription.status();
///     println!("{}, {} partitions", status.state.as_str(), status.partitions.len());
///     for trouble in &status.troubles {
///         println!("{} at {}: {}", trouble.kind.as_str(), trouble.place, trouble.message);
///     }
/// }
/// # let _ = report;
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SubscriptionStatus {
    /// The state of the subscription.
    pub state: State,
    /// Whether the group has given the subscription an assignment at least once; one without
    /// partitions counts.
    pub joined: bool,
    /// Whether it has an assignment now, which may be without partitions (more members than
    /// partitions). It is false while the member joins again: after its assignment was lost, and in
    /// every rebalance of an eager assignor.
    pub assigned: bool,
    /// How long ago the polling thread began its last pass. That is some 50 ms at most in a healthy
    /// process, and 12 s while an assignment waits for slow brokers. During a shutdown, how long
    /// ago its deadline passed, if it has.
    #[serde(rename = "polled_seconds_ago", serialize_with = "json::seconds")]
    pub polled_ago: Duration,
    /// The worst of [`troubles`](Self::troubles): the oldest of the worst kind.
    pub trouble: Option<Trouble>,
    /// What is wrong at present, the worst first. Bounded: 64 at most.
    pub troubles: Vec<Trouble>,
    /// The outages that this member suspects now, and what is held because of them; `None` without
    /// any.
    pub outage: Option<OutageStatus>,
    /// The attempts in flight over all partitions; `None` without `limits.max_in_flight`.
    pub in_flight: Option<InFlight>,
    /// The control topic, as this member has read it; `None` without
    /// [`control_topic`](crate::SubscriptionConfig::control_topic).
    pub control: Option<ControlStatus>,
    /// The assigned partitions, by topic and number.
    pub partitions: Vec<PartitionStatus>,
}

impl SubscriptionStatus {
    /// A subscription in this state that has no partitions and no trouble: what a test of your own
    /// code starts from. It has joined its group unless it is [starting](State::Starting).
    ///
    /// # Examples
    /// ```
    /// use keylane::status::{PartitionStatus, State, SubscriptionStatus};
    ///
    /// let mut status = SubscriptionStatus::new(State::Running);
    /// status.partitions.push(PartitionStatus::new("parking-events", 0));
    /// assert!(status.joined && status.troubles.is_empty());
    /// ```
    pub fn new(state: State) -> Self {
        let joined = state != State::Starting;
        Self {
            state,
            joined,
            assigned: joined,
            polled_ago: Duration::ZERO,
            trouble: None,
            troubles: Vec::new(),
            outage: None,
            in_flight: None,
            control: None,
            partitions: Vec::new(),
        }
    }
}

/// Something that is wrong, mostly a complaint of the Kafka client, at one place.
///
/// It lasts until there is a sign of health of the same place. For a broker, that is an answer of
/// its own; for the coordinator, a commit. For a forbidden topic it is a record of it; for writes,
/// a write to the same topic. Trouble with connections or credentials, and other trouble of a
/// topic, also ends when a minute has passed without a complaint while other parts of the cluster
/// answered. Trouble with writes does not: it lasts until this member writes to that topic again,
/// also where no record waits for such a write any longer.
///
/// # Examples
/// ```
/// use keylane::status::{SubscriptionStatus, TroubleKind};
///
/// fn needs_an_operator(status: &SubscriptionStatus) -> bool {
///     use TroubleKind::{Authentication, Authorization, MissingTopic};
///     let refused = [Authentication, Authorization, MissingTopic];
///     status.troubles.iter().any(|trouble| refused.contains(&trouble.kind))
/// }
/// # let _ = needs_an_operator;
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Trouble {
    /// The kind of trouble.
    pub kind: TroubleKind,
    /// The place of the trouble.
    #[serde(serialize_with = "json::text")]
    pub place: TroublePlace,
    /// The latest message, mostly the client's.
    pub message: String,
    /// When it was first reported. If the same trouble comes again within 30 s, it keeps this time.
    #[serde(serialize_with = "json::date")]
    pub since: SystemTime,
}

impl Trouble {
    /// A trouble that begins now.
    ///
    /// # Examples
    /// ```
    /// use keylane::status::{Trouble, TroubleKind, TroublePlace};
    ///
    /// let trouble = Trouble::new(TroubleKind::Connection, TroublePlace::Broker(1), "it is down");
    /// assert_eq!(trouble.kind.as_str(), "connection");
    /// ```
    pub fn new(kind: TroubleKind, place: TroublePlace, message: impl Into<String>) -> Self {
        Self {
            kind,
            place,
            message: message.into(),
            since: SystemTime::now(),
        }
    }
}

/// The place of a trouble.
///
/// # Examples
/// ```
/// use keylane::status::TroublePlace;
///
/// assert_eq!(TroublePlace::Broker(3).to_string(), "broker 3");
/// assert_eq!(TroublePlace::WritesTo("dlq".into()).to_string(), "writes to topic dlq");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TroublePlace {
    /// The cluster as a whole, or a part of it that the client does not name.
    Cluster,
    /// The broker with this id.
    Broker(i32),
    /// The broker that coordinates the consumer group, in that role.
    Coordinator,
    /// The consumer group.
    Group,
    /// A topic that is read.
    Topic(String),
    /// Writes to this topic: the retry or the dead-letter topic.
    WritesTo(String),
    /// Records of this retry topic that other groups wrote.
    RetriesIn(String),
}

impl fmt::Display for TroublePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("cluster"),
            Self::Broker(id) => write!(f, "broker {id}"),
            Self::Coordinator => f.write_str("coordinator"),
            Self::Group => f.write_str("group"),
            Self::Topic(topic) => write!(f, "topic {topic}"),
            Self::WritesTo(topic) => write!(f, "writes to topic {topic}"),
            Self::RetriesIn(topic) => write!(f, "retries in topic {topic}"),
        }
    }
}

/// Kinds of trouble of a running subscription, the worst first. What an operator has to repair
/// comes before what may pass by itself. The subscription keeps trying in all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TroubleKind {
    /// The brokers refuse the credentials, or TLS fails.
    Authentication,
    /// An ACL forbids the group or a topic.
    Authorization,
    /// A subscribed topic is gone; or the retry or dead-letter topic, or a partition of it, at a
    /// write to it.
    MissingTopic,
    /// The group's other members use another assignor. This member gets no partition as long as
    /// they are there.
    GroupProtocol,
    /// Retries of another group are held, because it is unknown whether that group processes them.
    ForeignRetries,
    /// Brokers are down or cannot be reached.
    Connection,
    /// The member was cut off from its group and joins again.
    Membership,
    /// Commits fail.
    Commit,
    /// The control topic cannot be read, or records of it are refused. What was last read of it
    /// holds.
    ControlTopic,
    /// Anything else.
    Other,
}

impl TroubleKind {
    /// Its name in logs and answers over HTTP.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Authentication => "authentication",
            Self::Authorization => "authorization",
            Self::MissingTopic => "missing_topic",
            Self::Membership => "membership",
            Self::Commit => "commit",
            Self::ControlTopic => "control_topic",
            Self::GroupProtocol => "group_protocol",
            Self::ForeignRetries => "foreign_retries",
            Self::Other => "other",
        }
    }
}

/// A snapshot of one assigned partition.
///
/// # Examples
/// ```
/// use keylane::status::{PartitionStatus, SubscriptionStatus};
///
/// fn furthest_behind(status: &SubscriptionStatus) -> Option<&PartitionStatus> {
///     status.partitions.iter().max_by_key(|partition| partition.lag_records)
/// }
/// # let _ = furthest_behind;
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PartitionStatus {
    /// The topic.
    #[serde(serialize_with = "json::text")]
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// Its figures. [`pending`](Snapshot::pending) is current. The others are as old as the last
    /// pass of the partition on the tokio runtime. Those that need a walk over its records are up
    /// to a second older.
    #[serde(flatten)]
    pub snapshot: Snapshot,
    /// Whether fetching is paused, by a limit or by the user.
    pub paused: bool,
    /// Why fetching is paused, if it is. With [`PausedBy::NotDue`] nothing more is read of the
    /// partition until records are due. That is a state of this partition, and no
    /// [trouble](SubscriptionStatus::trouble), which is about brokers and permissions. Health names
    /// it too.
    pub paused_by: Option<PausedBy>,
    /// Whether a pause by the user, of the partition or of the subscription, or one by the control
    /// topic is in force. Then no attempt starts, and [`running`](Snapshot::running) counts those
    /// that may still finish.
    pub paused_by_user: bool,
    /// The pause of it by the control topic; `None` without one. Of several, the widest.
    pub paused_by_control: Option<ControlPause>,
    /// Whether a record could start but for `limits.max_in_flight`: all places of the subscription
    /// are taken, and the partition waits for its turn.
    pub waits_for_place: bool,
    /// The offset of the latest record that was read and delivered; `None` before the first one.
    pub delivered_offset: Option<i64>,
    /// Records behind the known end of the log: the end offset minus the watermark. It is 0 where
    /// the end lies below the watermark: the log was cut, or its known end is older than the latest
    /// records.
    pub lag_records: Option<u64>,
    /// The age of the oldest unsettled record by its own timestamp; zero where all is settled.
    #[serde(rename = "lag_seconds", serialize_with = "json::known_seconds")]
    pub lag_age: Option<Duration>,
    /// The same age, of the oldest record that could be worked on. Records that wait for a moment
    /// or are parked, and those behind them in their lane, do not count.
    #[serde(
        rename = "workable_lag_seconds",
        serialize_with = "json::known_seconds"
    )]
    pub workable_lag_age: Option<Duration>,
    /// How many of the offsets behind the watermark cannot be read for some seconds because a
    /// transaction is open in front of them.
    pub withheld_records: u64,
    /// The oldest unsettled record, which the commit waits for. Its state is up to two seconds old;
    /// its age is current.
    pub oldest: Option<OldestRecord>,
    /// How long the partition has not run on the tokio runtime although it has work: a processor
    /// blocks its thread. `None` below the watchdog's thresholds. The figures of
    /// [`snapshot`](Self::snapshot) except `pending` are as old as that.
    #[serde(rename = "blocked_seconds", serialize_with = "json::known_seconds")]
    pub blocked_for: Option<Duration>,
}

impl PartitionStatus {
    /// A partition without records and with no figures yet: what a test of your own code starts
    /// from.
    ///
    /// # Examples
    /// ```
    /// use keylane::status::PartitionStatus;
    ///
    /// let mut status = PartitionStatus::new("parking-events", 0);
    /// status.snapshot.parked = 2;
    /// assert_eq!((status.snapshot.pending, status.lag_records), (0, None));
    /// ```
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self {
            topic: topic.into(),
            partition,
            snapshot: Snapshot::default(),
            paused: false,
            paused_by: None,
            paused_by_user: false,
            paused_by_control: None,
            waits_for_place: false,
            delivered_offset: None,
            lag_records: None,
            lag_age: None,
            workable_lag_age: None,
            withheld_records: 0,
            oldest: None,
            blocked_for: None,
        }
    }
}

/// The oldest unsettled record of a partition.
///
/// # Examples
/// ```
/// use keylane::status::SubscriptionStatus;
///
/// fn report(status: &SubscriptionStatus) {
///     for partition in &status.partitions {
///         if let Some(oldest) = &partition.oldest {
///             println!(
///                 "{}-{} waits for offset {} since {:?}, attempt {}",
///                 partition.topic, partition.partition, oldest.offset, oldest.age, oldest.attempts
///             );
///         }
///     }
/// }
/// # let _ = report;
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct OldestRecord {
    /// Its offset.
    pub offset: i64,
    /// The hash of its key; `None` where it has no key.
    pub key_hash: Option<KeyHash>,
    /// How long ago it was delivered to this member.
    #[serde(rename = "age_seconds", serialize_with = "json::seconds")]
    pub age: Duration,
    /// How often it was attempted, over all known retries.
    pub attempts: u32,
    /// What it is doing.
    pub state: RecordState,
    /// The text of its last error, here or in an earlier round through the retry topic: at most
    /// 1,024 bytes. It can be up to two seconds old. `None` where no attempt has failed.
    pub last_error: Option<String>,
}

impl OldestRecord {
    /// The record at this offset in this state, delivered just now and not attempted yet.
    ///
    /// # Examples
    /// ```
    /// use keylane::status::{OldestRecord, PartitionStatus, RecordState};
    ///
    /// let mut status = PartitionStatus::new("parking-events", 0);
    /// status.oldest = Some(OldestRecord::new(4711, RecordState::Running));
    /// ```
    pub fn new(offset: i64, state: RecordState) -> Self {
        Self {
            offset,
            key_hash: None,
            age: Duration::ZERO,
            attempts: 0,
            state,
            last_error: None,
        }
    }
}
