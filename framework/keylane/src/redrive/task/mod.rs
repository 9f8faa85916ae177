//! A redrive as a task: planned, run, resumed, and recorded.

mod batch;
mod canary;
mod checks;
mod ending;
mod executor;
mod letters_in_order;
mod limit;
mod lock;
mod plan;
mod regain;
mod report;
mod run;
mod scan;
mod setup;
mod targets;
#[cfg(test)]
mod tests;
mod waiting;

use std::fmt;
use std::pin::Pin;

use keylane_core::redrive::{Canary, RunSettings};

use super::Redrive;
use super::connection::{Connection, connection_setters};
use super::edit::Edit;
use super::ops::OnRefused;
use crate::dead_letter::Filter;
use crate::kafka::LetterRange;
use lock::TakeLock;

pub use report::{Ended, PlanRefusal, Planned, RedriveProgress, Refusals};

/// Copies the dead letters of a topic that match a filter, as one task.
///
/// # What it guarantees
/// * Each letter that matches is copied once, for readers with `read_committed`: the copies and the
///   progress of the task are written in one transaction. A process that is killed leaves at most one
///   transaction open, of [`window`](Self::window) copies; it is aborted when the task is resumed, or
///   after 10 seconds. Readers with `read_uncommitted` may see those copies twice.
///   keylane's own consumers read with `read_committed` unless set otherwise.
/// * Copies of one key are written in the order of the origin, if their records came from the same
///   partition of a topic. Between records of different partitions or topics no order is promised, as
///   it is none that a consumer saw. A target that gets more partitions meanwhile does not change
///   where the copies of the task go.
/// * Letters that are written after the beginning belong to no run of the task.
/// * One task runs at a time for a group and a dead-letter topic. A second executor that takes over
///   fences the first one, by the transactional id `keylane-redrive/<group>/<topic>`.
/// * Letters that another task has copied, or that were resolved by hand, are left out.
///
/// The task is recorded in the group's [operations topic](super::ops), which is created if it does not
/// exist. A task without letters is not recorded. A retention that removes letters meanwhile is no error: they are counted as gone.
///
/// # Memory
/// While the letters are read first: 64 bytes for each letter that can be copied, for at most
/// 1,000,000 letters. Then 40 bytes for each, at most 32 MiB of letters that were read before their
/// turn, and the copies of a transaction: 16 MiB, or one copy. What the operations topic says comes
/// on top: see [`OpsState`](super::ops::OpsState).
///
/// # Permissions
/// `READ` on the dead-letter topic; `READ` and `WRITE` on the operations topic, and to create it;
/// `WRITE` on the target topics; `WRITE` and `DESCRIBE` on the transactional id. With a canary also
/// `READ` on the target topics, and `DESCRIBE` on the group.
///
/// # Examples
/// ```no_run
/// use keylane::dead_letter::Filter;
/// use keylane::redrive::RedriveTask;
///
/// # async fn redrive() -> Result<(), Box<dyn std::error::Error>> {
/// let task = || -> Result<RedriveTask, Box<dyn std::error::Error>> {
///     Ok(RedriveTask::of("parking-events-dlq")
///         .bootstrap_servers("localhost:9092")
///         .filter(Filter::parse(["reason=exhausted", "error~time.?out"])?)
///         .id("after-the-outage")
///         .by("ada"))
/// };
/// let planned = task()?.plan().await?;
/// println!("{} letters would go to {:?}", planned.turns, planned.targets);
/// let ended = task()?.on_progress(|it| println!("{} of {}", it.done, it.turns)).run().await?;
/// println!("{} copies were written", ended.progress.copied());
/// # Ok(()) }
/// ```
#[must_use = "nothing is done until `plan`, `run` or `resume`"]
pub struct RedriveTask {
    connection: Connection,
    topic: String,
    group: Option<String>,
    ops_topic: Option<String>,
    filter: Filter,
    ranges: Option<Vec<LetterRange>>,
    redrive: Redrive,
    settings: RunSettings,
    on_refused: OnRefused,
    again: bool,
    edit: Option<Box<dyn Edit>>,
    id: Option<String>,
    who: Option<String>,
    why: Option<String>,
    take_over: bool,
    stop: Pin<Box<dyn Future<Output = ()> + Send>>,
    on_progress: OnProgress,
    take_lock: TakeLock,
}

type OnProgress = Box<dyn Fn(&RedriveProgress) + Send>;

impl RedriveTask {
    /// For the letters of this dead-letter topic.
    pub fn of(topic: impl Into<String>) -> Self {
        Self {
            connection: Connection::default(),
            topic: topic.into(),
            group: None,
            ops_topic: None,
            filter: Filter::default(),
            ranges: None,
            redrive: Redrive::default(),
            settings: RunSettings::default(),
            on_refused: OnRefused::default(),
            again: false,
            edit: None,
            id: None,
            who: None,
            why: None,
            take_over: false,
            stop: Box::pin(std::future::pending()),
            on_progress: Box::new(|_| {}),
            take_lock: Box::new(lock::take),
        }
    }

    connection_setters!();

    /// The consumer group whose letters are meant. Letters that name another one do not match;
    /// those that name none do. Default: the one group that the letters which match name.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// The operations topic. Default: `<group>-keylane-ops`.
    pub fn ops_topic(mut self, topic: impl Into<String>) -> Self {
        self.ops_topic = Some(topic.into());
        self
    }

    /// Which letters are meant. Default: all.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    /// Reads these ranges. Default: the whole topic, to its end as it is now.
    pub fn ranges(mut self, ranges: impl IntoIterator<Item = LetterRange>) -> Self {
        self.ranges = Some(ranges.into_iter().collect());
        self
    }

    /// Where copies go, and how many times the same record may be written back. Its name is the
    /// task's, and the partitions are those of the target. Default: the retry topic that each letter
    /// names, three times.
    pub fn redrive(mut self, redrive: Redrive) -> Self {
        self.redrive = redrive;
        self
    }

    /// Copies a second at most. Default: no limit. With a rate, transactions have fewer copies.
    pub fn rate(mut self, copies_per_second: u32) -> Self {
        self.settings.rate = Some(copies_per_second);
        self
    }

    /// Copies at most: the first ones of the order. Default: no limit.
    pub fn max(mut self, copies: u64) -> Self {
        self.settings.max = Some(copies);
        self
    }

    /// Copies of a transaction at most, from 1 to 10,000. Default: 500. It has fewer where their
    /// bytes exceed 16 MiB, or where they take longer than a second to make.
    pub fn window(mut self, copies: u32) -> Self {
        self.settings.window = copies;
        self
    }

    /// Copies some letters first, and the others if those succeed. A copy succeeds when the group has
    /// settled it, with its retries, and there is no new dead letter of it. The task waits for that
    /// without a limit of time. Letters that are gone, or are passed over, do not count: others take
    /// their place. Copies have to be for one group, so not to an origin topic.
    /// Default: none.
    pub fn canary(mut self, canary: Canary) -> Self {
        self.settings.canary = Some(canary);
        self
    }

    /// What is done with a letter whose copy cannot be written: one that is too large for the target,
    /// for example, or that cannot be edited. A letter that is passed over stays open. A later redrive
    /// copies it behind later letters of its key. Default: [`OnRefused::Stop`].
    pub fn on_refused(mut self, on_refused: OnRefused) -> Self {
        self.on_refused = on_refused;
        self
    }

    /// Copies also letters that were redriven or resolved before. Default: they are left out. It is an
    /// error if the operations topic no longer shows all of them.
    pub fn again(mut self) -> Self {
        self.again = true;
        self
    }

    /// Gives the copies other values. Default: none.
    pub fn edit(mut self, edit: impl Edit + 'static) -> Self {
        self.edit = Some(Box::new(edit));
        self
    }

    /// The task's name, which copies have in their `keylane-redrive-id`. No other task of the group may
    /// have had it. Default: the time, and four random digits.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// A new name for a task: the time, and four random digits.
    pub fn new_id() -> String {
        run::new_id()
    }

    /// Who begins or resumes the task, for the record. Default: the variable `USER`.
    pub fn by(mut self, who: impl Into<String>) -> Self {
        self.who = Some(who.into());
        self
    }

    /// Why, for the record. At most 4 KiB. Default: nothing.
    pub fn why(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    /// Ends another task on the same dead-letter topic as failed, if that task has not ended. What it
    /// has copied is left out. Default: such a task is an error, unless its end was requested: then it
    /// ends as cancelled.
    pub fn take_over(mut self) -> Self {
        self.take_over = true;
        self
    }

    /// Stops the run when this ends, after the transaction that is open. The task can be resumed. A
    /// transaction that the brokers do not take is tried for some minutes.
    ///
    /// # Examples
    /// ```
    /// use keylane::redrive::RedriveTask;
    ///
    /// let task = RedriveTask::of("parking-events-dlq").stop(async { drop(tokio::signal::ctrl_c().await) });
    /// # let _ = task;
    /// ```
    pub fn stop(mut self, stop: impl Future<Output = ()> + Send + 'static) -> Self {
        self.stop = Box::pin(stop);
        self
    }

    /// Calls this after each transaction, on the task's thread.
    pub fn on_progress(mut self, call: impl Fn(&RedriveProgress) + Send + 'static) -> Self {
        self.on_progress = Box::new(call);
        self
    }
}

impl fmt::Debug for RedriveTask {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RedriveTask")
            .field("topic", &self.topic)
            .field("group", &self.group)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
