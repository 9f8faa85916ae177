//! A redrive as a task: planned, run, resumed, and recorded.

mod canary;
mod executor;
mod letters_in_order;
mod report;
mod scan;
mod setup;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use keylane_core::redrive::{Canary, MAX_CANARY, MAX_WINDOW, RunSettings};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, connection_setters};
use super::copy::Target;
use super::edit::{Edit, LONGEST_TEXT};
use super::ops::records::TaskRecord;
use super::ops::{Handled, OnRefused, OpsState, OpsTopic, TaskSettings};
use super::task_error::RedriveTaskError;
use super::{Letters, Redrive};
use crate::dead_letter::Filter;
use crate::kafka::{LetterRange, writable_topics};
use crate::support::{clock, panics};
use scan::Scan;
use setup::{Setup, Start, execute};

pub use report::{Ended, Planned, RedriveProgress, Refusals};

/// The longest name of who begins a task.
const LONGEST_NAME: usize = 255;

/// Copies the dead letters of a topic that match a filter, as one task.
///
/// # What it guarantees
/// * Each letter that matches is copied once, for readers with `read_committed`: the copies and the
///   progress of the task are written in one transaction. A process that is killed leaves at most one
///   transaction open, of [`window`](Self::window) copies; it is aborted when the task is resumed, or
///   after 10 seconds. Readers with `read_uncommitted` may see those copies twice.
///   keylane's own consumers read with `read_committed` unless set otherwise.
/// * Copies of one key are written in the order of their origins.
/// * What is written to the topic after the beginning belongs to no run of the task.
/// * Of a group and a dead-letter topic one task runs at a time. A second executor that takes over
///   fences the first one, by the transactional id `keylane-redrive/<group>/<topic>`.
/// * Letters that another task has copied, or that were resolved by hand, are left out.
///
/// The task is recorded in the group's [operations topic](super::ops), which is created if it does not
/// exist. A retention that removes letters meanwhile is no error: they are counted as gone.
///
/// # Memory
/// While the letters are read first: 64 bytes for each that can be copied, of which there may be
/// 1,000,000. Then 40 bytes for each, at most 32 MiB of letters that were read before their turn, and
/// the copies of a transaction: 16 MiB, or one copy.
///
/// # Permissions
/// `READ` on the dead-letter topic; `READ` and `WRITE` on the operations topic, and to create it;
/// `WRITE` on the target topics; `WRITE` and `DESCRIBE` on the transactional id.
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
    take_over: bool,
    stop: Pin<Box<dyn Future<Output = ()> + Send>>,
    on_progress: OnProgress,
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
            take_over: false,
            stop: Box::pin(std::future::pending()),
            on_progress: Box::new(|_| {}),
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
    /// without a limit of time. Copies have to be for one group, so not to an origin topic.
    /// Default: none.
    pub fn canary(mut self, canary: Canary) -> Self {
        self.settings.canary = Some(canary);
        self
    }

    /// What is done with a letter whose copy cannot be written: one that is too large for the target,
    /// for example, or that cannot be edited. Default: [`OnRefused::Stop`].
    pub fn on_refused(mut self, on_refused: OnRefused) -> Self {
        self.on_refused = on_refused;
        self
    }

    /// Copies letters also that were redriven or resolved before. Default: they are left out.
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

    /// Who begins it, for the record. Default: the variable `USER`.
    pub fn by(mut self, who: impl Into<String>) -> Self {
        self.who = Some(who.into());
        self
    }

    /// Ends a task on the same dead-letter topic that has not ended, as failed. What it has copied is
    /// left out. Default: that is an error.
    pub fn take_over(mut self) -> Self {
        self.take_over = true;
        self
    }

    /// Stops the run when this ends, after the transaction that is open. The task can be resumed.
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

    /// Is called after each transaction, on the task's thread.
    pub fn on_progress(mut self, call: impl Fn(&RedriveProgress) + Send + 'static) -> Self {
        self.on_progress = Box::new(call);
        self
    }

    /// What the task would do. Nothing is written. A task that runs is not disturbed.
    ///
    /// # Errors
    /// As [`run`](Self::run) has before its first copy, except for a task that has not ended.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn plan(self) -> Result<Planned, RedriveTaskError> {
        self.check()?;
        let (mut scan, ranges, not_letters) = self.scan(true).await?;
        let group = scan.group(self.group.as_deref())?;
        let state = self.ops(&group).read().await?;
        let handled = self.handled(&state);
        let could = scan.index.len() as u64;
        (scan.index).retain(|partition, offset| !handled.contains(partition, offset.get()));
        let turns = scan.index.len() as u64;
        let (fingerprints, other_fingerprints) = scan.take_fingerprints();
        check_targets(&self.connection, scan.targets.keys().cloned().collect()).await?;
        Ok(Planned {
            group,
            matched: scan.matched,
            turns,
            handled: could - turns,
            refused: scan.refused,
            of_other_groups: scan.of_other_groups,
            not_letters,
            targets: scan.targets,
            for_every_group: !is_for_one_group(self.redrive.target()),
            fingerprints,
            other_fingerprints,
            ranges,
            unfinished: state.running(&self.topic).map(|task| task.id.to_owned()),
            topic: self.topic,
        })
    }

    /// Runs the task to its end, on a thread of its own.
    ///
    /// # Cancellation
    /// A run that is dropped stops after the transaction that is open. It can be resumed.
    ///
    /// # Errors
    /// [`RedriveTaskError`], which names the fix. After one that does not say that the task has ended,
    /// it can be resumed.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn run(mut self) -> Result<Ended, RedriveTaskError> {
        self.check()?;
        let mut stop = std::mem::replace(&mut self.stop, Box::pin(std::future::pending()));
        let (scan, ranges, _) = tokio::select! {
            scan = self.scan(false) => scan?,
            () = &mut stop => return Err(RedriveTaskError::Stopped),
        };
        self.stop = stop;
        let group = scan.group(self.group.as_deref())?;
        let of_guard = scan.refused.get("too-often").map_or(0, |it| it.count);
        let refused: u64 = scan.refused.values().map(|it| it.count).sum();
        let (target, max_count) = (self.redrive.target().clone(), self.redrive.limit());
        let mut record = TaskRecord::new(&self.topic, &group, target, max_count);
        record.filter = self.filter.to_string();
        record.targets = scan.targets.into_keys().collect();
        record.settings = TaskSettings {
            window: self.settings.window,
            rate: self.settings.rate,
            max: self.settings.max,
            canary: self.settings.canary,
            on_refused: self.on_refused,
        };
        record.edit = self.edit.as_ref().map(|edit| edit.text());
        record.counts.matched = scan.matched;
        record.counts.guard = of_guard;
        record.counts.refused = refused - of_guard;
        record.ranges = ranges;
        record.who = self.who();
        record.host = gethostname::gethostname().to_string_lossy().into_owned();
        let start = Start::New {
            id: self.id.clone().unwrap_or_else(new_id),
            record: Box::new(record),
            index: scan.index,
        };
        self.execute(group, start).await
    }

    /// Goes on with a task that was stopped, or whose process was killed, with its own settings. Of
    /// this one count the group, which is needed, and how it is run: brokers, edit, stop, progress. One
    /// that still runs is fenced, and ends with [`RedriveTaskError::TakenOver`].
    ///
    /// # Errors
    /// As [`run`](Self::run); [`RedriveTaskError::NoSuchTask`] and [`RedriveTaskError::Ended`] where it
    /// cannot be resumed.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn resume(self, id: impl Into<String>) -> Result<Ended, RedriveTaskError> {
        let group = self
            .group
            .clone()
            .ok_or_else(|| RedriveTaskError::Setting {
                reason: "a task is resumed by its group and its name; name the group by `group`"
                    .into(),
            })?;
        self.check()?;
        self.execute(group, Start::Resume { id: id.into() }).await
    }

    async fn execute(self, group: String, start: Start) -> Result<Ended, RedriveTaskError> {
        let stop = CancellationToken::new();
        let stops_when_dropped = stop.clone().drop_guard();
        let setup = Setup {
            ops: self.ops(&group),
            connection: self.connection,
            topic: self.topic,
            group,
            take_over: self.take_over,
            again: self.again,
            edit: self.edit,
            stop,
            on_progress: self.on_progress,
        };
        let (answer, mut ended) = oneshot::channel();
        let failed = |reason: String| RedriveTaskError::Transaction { reason };
        std::thread::Builder::new()
            .name("keylane-redrive".into())
            .spawn(move || {
                let executed = panics::caught(|| execute(setup, start));
                // Nobody waits for it where the run was dropped.
                let _ = answer.send(executed.unwrap_or_else(|text| Err(failed(text))));
            })
            .map_err(|error| failed(error.to_string()))?;
        let ended = tokio::select! {
            ended = &mut ended => ended,
            () = self.stop => {
                drop(stops_when_dropped);
                ended.await
            }
        };
        ended.unwrap_or_else(|error| Err(failed(error.to_string())))
    }

    /// The first pass. Its future holds nothing of the task that threads cannot share.
    fn scan(
        &self,
        with_fingerprints: bool,
    ) -> impl Future<Output = Result<(Scan, Vec<LetterRange>, u64), RedriveTaskError>> + Send + '_
    {
        let connection = self.connection.clone();
        let mut letters = Letters::of(&self.topic)
            .bootstrap_servers(connection.bootstrap_servers)
            .kafka_settings(connection.kafka)
            .patience(connection.patience);
        if let Some(ranges) = &self.ranges {
            letters = letters.ranges(ranges.iter().copied());
        }
        let (filter, group, redrive) = (&self.filter, self.group.as_deref(), &self.redrive);
        async move {
            let mut letters = letters.read().await?;
            let mut scan = Scan::new(with_fingerprints);
            while let Some(letter) = letters.next().await {
                scan.add(&letter?, filter, group, redrive)?;
            }
            Ok((scan, letters.ranges().to_vec(), letters.not_letters()))
        }
    }

    fn ops(&self, group: &str) -> OpsTopic {
        let mut topic = OpsTopic::of(group);
        topic.connection = self.connection.clone();
        match &self.ops_topic {
            Some(name) => topic.named(name),
            None => topic,
        }
    }

    fn handled(&self, state: &OpsState) -> Handled {
        match self.again {
            true => Handled::default(),
            false => state.handled(&self.topic),
        }
    }

    fn check(&self) -> Result<(), RedriveTaskError> {
        let wrong = |reason: &str| {
            Err(RedriveTaskError::Setting {
                reason: reason.to_owned(),
            })
        };
        let id = self.id.as_ref().map(Redrive::named).transpose();
        if let Err(error) = id {
            return wrong(&error.to_string());
        }
        if !(1..=MAX_WINDOW).contains(&self.settings.window) {
            return wrong("the window is from 1 to 10,000 copies");
        }
        if self.settings.rate == Some(0) {
            return wrong("a rate is at least 1 copy a second");
        }
        if let Some(canary) = self.settings.canary {
            if !(1..=MAX_CANARY).contains(&canary.copies) || canary.percent > 100 {
                return wrong("a canary has 1 to 10,000 copies, and 0 to 100 percent");
            }
            if !is_for_one_group(self.redrive.target()) {
                return wrong(
                    "a canary needs copies for one group, whose progress shows what became of them; use a retry \
                     topic, or no canary",
                );
            }
        }
        if self.who().len() > LONGEST_NAME {
            return wrong("the name of who begins a redrive has at most 255 bytes");
        }
        if let Some(edit) = &self.edit
            && edit.text().len() > LONGEST_TEXT
        {
            return wrong("the text of an edit has at most 64 KiB");
        }
        Ok(())
    }

    fn who(&self) -> String {
        let user = || std::env::var("USER").unwrap_or_else(|_| "unknown".to_owned());
        self.who.clone().unwrap_or_else(user)
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

async fn check_targets(
    connection: &Connection,
    topics: Vec<String>,
) -> Result<(), RedriveTaskError> {
    let (config, patience) = (connection.side_client()?, connection.patience);
    let check = move || writable_topics(&config, &topics, patience).map(drop);
    let checked = tokio::task::spawn_blocking(check).await;
    let checked = checked.unwrap_or_else(|error| Err((String::new(), error.to_string())));
    checked.map_err(|(topic, reason)| RedriveTaskError::Target { topic, reason })
}

fn is_for_one_group(target: &Target) -> bool {
    match target {
        Target::RetryTopic => true,
        Target::Origin => false,
        Target::Topic { group, .. } => group.is_some(),
    }
}

/// `20261121-042043-7f3a`
fn new_id() -> String {
    let since = clock::wall().duration_since(UNIX_EPOCH);
    let time: SystemTime = UNIX_EPOCH + since.unwrap_or_default();
    let text = humantime::format_rfc3339_seconds(time).to_string();
    let digits: String = text
        .chars()
        .filter(|it| it.is_ascii_digit() || *it == 'T')
        .collect();
    let time = digits.replace('T', "-");
    format!("{time}-{:04x}", fastrand::u16(..))
}

/// A record's topic is shared by all that go there.
fn names(topics: &[String]) -> Vec<Arc<str>> {
    topics.iter().map(|topic| Arc::from(&**topic)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_cannot_be_used_is_refused_before_a_broker_is_asked() {
        let canary = Canary {
            copies: 5,
            percent: 90,
        };
        let origin = || Redrive::default().to_origin();
        for (task, words) in [
            (RedriveTask::of("d").window(0), "from 1 to 10,000"),
            (RedriveTask::of("d").rate(0), "at least 1 copy"),
            (RedriveTask::of("d").id("a/b"), "the name of a redrive"),
            (
                RedriveTask::of("d").canary(canary).redrive(origin()),
                "one group",
            ),
            (
                RedriveTask::of("d").by("x".repeat(256)),
                "at most 255 bytes",
            ),
        ] {
            let error = task
                .bootstrap_servers("127.0.0.1:1")
                .run()
                .await
                .unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
        let error = RedriveTask::of("d").resume("x").await.unwrap_err();
        assert!(error.to_string().contains("name the group"), "{error}");
        assert!(Redrive::named(new_id()).is_ok());
    }
}
