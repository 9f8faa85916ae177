//! A task is begun, or gone on with, on a thread of its own.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::RedriveTask;
use super::report::Ended;
use super::setup::{Setup, Start, execute};
use crate::redrive::RedriveTaskError;
use crate::redrive::ops::records::TaskRecord;
use crate::redrive::ops::{OpsTopic, TaskSettings};
use crate::support::{clock, panics};

impl RedriveTask {
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
    /// progress, who resumes it. A [`MergePatch`](super::super::MergePatch) may be left out: the task
    /// has it. A run that has not ended is fenced, and ends with [`RedriveTaskError::TakenOver`]. The
    /// task's record names who resumed it.
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
            take_lock: self.take_lock,
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

    pub(super) fn ops(&self, group: &str) -> OpsTopic {
        let mut topic = OpsTopic::of(group);
        topic.connection = self.connection.clone();
        match &self.ops_topic {
            Some(name) => topic.named(name),
            None => topic,
        }
    }

    pub(super) fn who(&self) -> String {
        let user = || std::env::var("USER").unwrap_or_else(|_| "unknown".to_owned());
        self.who.clone().unwrap_or_else(user)
    }
}

fn host() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}

/// `20261121-042043-7f3a`
pub(super) fn new_id() -> String {
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
