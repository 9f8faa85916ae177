//! A redrive as a task: planned, run, resumed, and recorded.

mod canary;
mod executor;
mod letters_in_order;
mod limit;
mod regain;
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
use super::ops::{LONGEST_NAME, LONGEST_REASON, OnRefused, OpsTopic, TaskSettings};
use super::task_error::RedriveTaskError;
use super::{Letters, Redrive};
use crate::dead_letter::Filter;
use crate::kafka::{LetterRange, log_of, writable_topics};
use crate::support::{clock, panics};
use scan::Scan;
use setup::{Setup, Start, execute};

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
///   it is none that a consumer saw.
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
        new_id()
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

    /// What the task would do. Nothing is written. A task that runs is not disturbed.
    ///
    /// # Errors
    /// As [`run`](Self::run) has before its first copy, except for a task that has not ended.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn plan(self) -> Result<Planned, RedriveTaskError> {
        self.check_new()?;
        let mut scan = self.scan(true).await?;
        let group = scan.group(self.group.as_deref())?;
        let ops = self.ops(&group);
        ops.check_name()?;
        let (of_ops, topic, again) = (ops.clone(), self.topic.clone(), self.again);
        let log = scan.log.clone();
        let read = ops.blocking(move || {
            let state = of_ops.state(Some(&topic))?;
            of_ops.check_newer(&state)?;
            let handled = of_ops.left_out(&state, &topic, log.as_deref(), again)?;
            let unfinished = state.running(&topic).filter(|it| it.cancel.is_none());
            let unfinished = unfinished.map(|task| task.id.to_owned());
            Ok((handled, unfinished))
        });
        let (handled, unfinished) = read.await?;
        let handled = scan.leave_out(&handled);
        let targets = scan.targets()?;
        setup::check_targets(targets.keys(), &self.topic, ops.name())?;
        check_writable(&self.connection, targets.keys().cloned().collect()).await?;
        let (fingerprints, other_fingerprints) = scan.take_fingerprints();
        Ok(Planned {
            group,
            matched: scan.matched,
            turns: scan.index.len() as u64,
            handled,
            refused: scan.refused,
            of_other_groups: scan.of_other_groups,
            not_letters: scan.not_letters,
            targets,
            for_every_group: !is_for_one_group(self.redrive.target()),
            fingerprints,
            other_fingerprints,
            ranges: scan.ranges,
            unfinished,
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
        self.check_new()?;
        let mut stop = std::mem::replace(&mut self.stop, Box::pin(std::future::pending()));
        let scan = tokio::select! {
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
        record.ranges.clone_from(&scan.ranges);
        record.who = self.who();
        record.why.clone_from(&self.why);
        record.host = host();
        let start = Start::New {
            id: self.id.clone().unwrap_or_else(new_id),
            record: Box::new(record),
            scan: Box::new(scan),
        };
        self.execute(group, start).await
    }

    /// Goes on with a task that was stopped, or whose process was killed, with the settings that it
    /// was started with. Set the group, which is needed, and how the task is run: brokers, edit, stop,
    /// progress, who resumes it. A [`MergePatch`](super::MergePatch) may be left out: the task has it. A run that has not ended is fenced, and ends with
    /// [`RedriveTaskError::TakenOver`]. The task's record names who resumed it.
    ///
    /// # Errors
    /// As [`run`](Self::run); [`RedriveTaskError::NoSuchTask`] and [`RedriveTaskError::AlreadyEnded`]
    /// where the task cannot be resumed; [`RedriveTaskError::Setting`] where settings are given that
    /// the task has already.
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
        self.check_resume()?;
        self.execute(group, Start::Resume { id: id.into() }).await
    }

    async fn execute(self, group: String, start: Start) -> Result<Ended, RedriveTaskError> {
        let stop = CancellationToken::new();
        let stops_when_dropped = stop.clone().drop_guard();
        let setup = Setup {
            ops: self.ops(&group),
            who: self.who(),
            why: self.why,
            host: host(),
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
        let failed = |reason: String| RedriveTaskError::Thread { reason };
        std::thread::Builder::new()
            .name("keylane-redrive".into())
            .spawn(move || {
                let executed = panics::caught(|| execute(setup, start));
                // The run may have been dropped.
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
    ) -> impl Future<Output = Result<Scan, RedriveTaskError>> + Send + '_ {
        let connection = self.connection.clone();
        let mut letters = Letters::of(&self.topic)
            .bootstrap_servers(connection.bootstrap_servers.clone())
            .kafka_settings(connection.kafka.clone())
            .patience(connection.patience);
        if let Some(ranges) = &self.ranges {
            letters = letters.ranges(ranges.iter().copied());
        }
        let (filter, group, redrive) = (&self.filter, self.group.as_deref(), &self.redrive);
        let name = self.topic.clone();
        async move {
            // Before the letters: the topic may be re-created while they are read.
            let (config, patience) = (connection.side_client()?, connection.patience);
            let log = tokio::task::spawn_blocking(move || log_of(&config, &name, patience));
            let log = log.await.unwrap_or_default();
            let mut letters = letters.read().await?;
            let mut scan = Scan::new(with_fingerprints, log);
            while let Some(letter) = letters.next().await {
                scan.add(&letter?, filter, group, redrive)?;
            }
            scan.ranges = letters.ranges().to_vec();
            scan.not_letters = letters.not_letters();
            Ok(scan)
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

    fn check_new(&self) -> Result<(), RedriveTaskError> {
        let id = self.id.as_ref().map(Redrive::named).transpose();
        if let Err(error) = id {
            return wrong(&error.to_string());
        }
        if self.redrive.is_named_or_partitioned() {
            return wrong(
                "its `Redrive` has a name, or partitions; name the task by `id`, the partitions are those of the target",
            );
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
        self.check_run()
    }

    /// A task that is resumed has its settings. Others would be ignored.
    fn check_resume(&self) -> Result<(), RedriveTaskError> {
        let Self {
            filter,
            ranges,
            redrive,
            settings,
            on_refused,
            again,
            id,
            take_over,
            ..
        } = self;
        let are_given = [
            ("filter", !filter.to_string().is_empty()),
            ("ranges", ranges.is_some()),
            ("redrive", *redrive != Redrive::default()),
            (
                "rate, max, window or canary",
                *settings != RunSettings::default(),
            ),
            ("on_refused", *on_refused != OnRefused::default()),
            ("again", *again),
            ("id", id.is_some()),
            ("take_over", *take_over),
        ];
        match are_given.into_iter().find(|(_, is_given)| *is_given) {
            Some((name, _)) => wrong(&format!(
                "a task is resumed with the settings that it was started with; leave out {name}"
            )),
            None => self.check_run(),
        }
    }

    fn check_run(&self) -> Result<(), RedriveTaskError> {
        if self.who().len() > LONGEST_NAME {
            return wrong("the name of who begins a redrive has at most 255 bytes");
        }
        if self
            .why
            .as_ref()
            .is_some_and(|why| why.len() > LONGEST_REASON)
        {
            return wrong("the reason of a redrive has at most 4,096 bytes");
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

fn wrong(reason: &str) -> Result<(), RedriveTaskError> {
    Err(RedriveTaskError::Setting {
        reason: reason.to_owned(),
    })
}

fn host() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}

async fn check_writable(
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
        let named = Redrive::named("own").unwrap();
        let parted = Redrive::default().partitions(3);
        for redrive in [named, parted] {
            let task = RedriveTask::of("d").bootstrap_servers("127.0.0.1:1");
            let error = task.redrive(redrive).plan().await.unwrap_err();
            assert!(error.to_string().contains("by `id`"), "{error}");
        }
        let all: [fn(RedriveTask) -> RedriveTask; 5] = [
            |it| it.id("x"),
            |it| it.window(7),
            |it| it.again(),
            |it| it.filter(Filter::parse(["reason=fatal"]).unwrap()),
            |it| it.redrive(Redrive::default().to_origin()),
        ];
        for given in all {
            let task = RedriveTask::of("d").bootstrap_servers("127.0.0.1:1");
            let error = given(task.group("g")).resume("x").await.unwrap_err();
            assert!(error.to_string().contains("leave out"), "{error}");
        }
        let error = RedriveTask::of("d").resume("x").await.unwrap_err();
        assert!(error.to_string().contains("name the group"), "{error}");
        assert!(Redrive::named(new_id()).is_ok());
    }
}
