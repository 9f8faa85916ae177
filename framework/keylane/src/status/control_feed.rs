//! What the thread that reads the control topic shares with the polling thread and the status.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use keylane_core::control::{Directives, Order, PauseScope};
use serde::Serialize;

use super::json;
use crate::support::clock;
use crate::support::lock::lock;

/// The control topic as this member has read it.
///
/// A question is a number: the polling thread takes the next one when partitions are assigned, and
/// the reading thread answers it when it has read to the end as it was after that.
#[derive(Debug)]
pub(crate) struct ControlFeed {
    topic: Arc<str>,
    known: Mutex<Known>,
    /// Changes with what holds.
    version: AtomicU64,
    asked: AtomicU64,
    answered: AtomicU64,
    /// The latest version that is in force in every partition.
    in_force: AtomicU64,
    readable: AtomicBool,
    must_stop: AtomicBool,
}

#[derive(Debug, Default)]
struct Known {
    directives: Arc<Directives>,
    membership: Option<Arc<str>>,
}

impl ControlFeed {
    pub(crate) fn new(topic: &str) -> Self {
        Self {
            topic: topic.into(),
            known: Mutex::default(),
            version: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            in_force: AtomicU64::new(0),
            readable: AtomicBool::new(true),
            must_stop: AtomicBool::new(false),
        }
    }

    pub(crate) fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// Asks the reading thread to read to the end. The number of the question.
    pub(crate) fn ask(&self) -> u64 {
        self.asked.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The number of the latest question.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Acquire)
    }

    /// The number of the latest question that is answered. What was read until then is published.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Acquire)
    }

    /// The end as it was after this question is read, and what it says is published.
    pub(crate) fn answer(&self, question: u64) {
        self.answered.store(question, Ordering::Release);
    }

    /// What holds from now on. Returns its version.
    pub(crate) fn publish(&self, directives: Directives) -> u64 {
        self.known().directives = Arc::new(directives);
        self.version.fetch_add(1, Ordering::AcqRel) + 1
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(crate) fn directives(&self) -> Arc<Directives> {
        self.known().directives.clone()
    }

    /// This version is in force in every partition: nothing that it forbids starts.
    pub(crate) fn set_in_force(&self, version: u64) {
        self.in_force.store(version, Ordering::Release);
    }

    pub(crate) fn in_force(&self) -> u64 {
        self.in_force.load(Ordering::Acquire)
    }

    pub(crate) fn set_readable(&self, readable: bool) {
        self.readable.store(readable, Ordering::Relaxed);
    }

    pub(crate) fn is_readable(&self) -> bool {
        self.readable.load(Ordering::Relaxed)
    }

    /// The group's name for this member, as `generation/member`.
    pub(crate) fn set_membership(&self, membership: Option<Arc<str>>) {
        self.known().membership = membership;
    }

    /// The group's name for this member.
    pub(crate) fn member(&self) -> Option<String> {
        let known = self.known();
        let (_, member) = known.membership.as_deref()?.split_once('/')?;
        Some(member.to_owned())
    }

    /// The reading thread is to end.
    pub(crate) fn stop(&self) {
        self.must_stop.store(true, Ordering::Release);
    }

    pub(crate) fn must_stop(&self) -> bool {
        self.must_stop.load(Ordering::Acquire)
    }

    pub(crate) fn status(&self) -> ControlStatus {
        let directives = self.directives();
        ControlStatus {
            topic: self.topic.clone(),
            revision: directives.revision().get(),
            readable: self.is_readable(),
            refused: directives.refused().count() as u64 + directives.left_out(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }
}

/// The control topic of a subscription, as this member has read it.
///
/// # Examples
/// ```
/// use keylane::status::SubscriptionStatus;
///
/// fn is_steered(status: &SubscriptionStatus) -> bool {
///     status.control.as_ref().is_some_and(|control| control.readable)
/// }
/// # let _ = is_steered;
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ControlStatus {
    /// Its name.
    #[serde(serialize_with = "json::text")]
    pub topic: Arc<str>,
    /// The offset behind the last record that this member has taken in; acknowledgements of members
    /// do not count.
    pub revision: i64,
    /// Whether it can be read. If not, what was last read of it holds, and no partition that is
    /// newly assigned starts or is fetched.
    pub readable: bool,
    /// How many of its records this member refuses: they are of a newer version, damaged, or too
    /// many.
    pub refused: u64,
}

impl ControlStatus {
    /// A topic that is read, up to this revision: what a test of your own code starts from.
    ///
    /// # Examples
    /// ```
    /// use keylane::status::ControlStatus;
    ///
    /// let mut control = ControlStatus::new("parking-notifier-keylane-control", 12);
    /// control.readable = false;
    /// ```
    pub fn new(topic: impl Into<Arc<str>>, revision: i64) -> Self {
        Self {
            topic: topic.into(),
            revision,
            readable: true,
            refused: 0,
        }
    }
}

/// A pause by the control topic.
///
/// # Examples
/// ```
/// use keylane::status::PartitionStatus;
///
/// fn why(partition: &PartitionStatus) -> Option<&str> {
///     partition.paused_by_control.as_ref().map(|pause| &*pause.why)
/// }
/// # let _ = why;
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ControlPause {
    /// What is paused: `subscription`, `topic NAME` or `partition NAME/NUMBER`.
    pub scope: String,
    /// Who ordered it.
    pub by: String,
    /// Why.
    pub why: String,
    /// When it was ordered, by the clock of the program that wrote it.
    #[serde(serialize_with = "json::known_date")]
    pub at: Option<SystemTime>,
    /// When it ends by itself, by this member's clock; `None` where it lasts until it is ended.
    #[serde(serialize_with = "json::known_date")]
    pub until: Option<SystemTime>,
}

impl ControlPause {
    /// A pause without an end: what a test of your own code starts from.
    ///
    /// # Examples
    /// ```
    /// use keylane::status::{ControlPause, PartitionStatus};
    ///
    /// let mut status = PartitionStatus::new("parking-events", 0);
    /// let pause = ControlPause::new("topic parking-events", "ann", "the gateway is down");
    /// status.paused_by_control = Some(pause);
    /// ```
    pub fn new(scope: impl Into<String>, by: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            scope: scope.into(),
            by: by.into(),
            why: why.into(),
            at: None,
            until: None,
        }
    }

    pub(crate) fn of(scope: &PauseScope, order: &Order) -> Self {
        Self {
            scope: scope.to_string(),
            by: order.by.clone(),
            why: order.why.clone(),
            at: order.at_millis.and_then(clock::of_unix_millis),
            until: order.until_millis.and_then(clock::of_unix_millis),
        }
    }
}
