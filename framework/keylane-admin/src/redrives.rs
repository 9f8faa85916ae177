//! The redrive that this server runs: one at a time, each on a thread of its own.
//!
//! Reading a topic takes time and a processor. The server's thread answers probes meanwhile.

mod run;

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use keylane::redrive::{Planned, RedriveTask, RedriveTaskError};
use keylane::status::State;
use tokio::runtime::Builder;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::lock::locked;
use crate::served::Served;
pub(crate) use run::{Here, Phase, Run};

/// How soon a subscription that ends is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What runs here, and what ran last.
#[derive(Debug)]
pub(crate) struct Redrives {
    last: Mutex<Option<Arc<Run>>>,
    /// Dry runs, and other reading: one at a time.
    reading: Semaphore,
    stop: CancellationToken,
    /// How long a request waits for the brokers.
    pub(crate) patience: Duration,
}

/// What is to be run.
pub(crate) enum Work {
    Begin,
    Resume,
}

/// Why a redrive is not started.
#[derive(Debug)]
pub(crate) enum NotStarted {
    /// This one runs.
    Busy { task: String, subscription: String },
    /// There is no thread to be had.
    NoThread(std::io::Error),
}

impl Redrives {
    pub(crate) fn new(patience: Duration) -> Self {
        Self {
            last: Mutex::default(),
            reading: Semaphore::new(1),
            stop: CancellationToken::new(),
            patience,
        }
    }

    /// What runs, or ran last.
    pub(crate) fn last(&self) -> Option<Arc<Run>> {
        locked(&self.last).clone()
    }

    /// Refused where one runs.
    pub(crate) fn check(&self) -> Result<(), NotStarted> {
        check(locked(&self.last).as_deref())
    }

    /// Waits for the end of other reading.
    pub(crate) async fn turn_to_read(&self) -> Option<SemaphorePermit<'_>> {
        let turn = tokio::time::timeout(self.patience, self.reading.acquire());
        turn.await.ok()?.ok()
    }

    /// The plan of a task; `None` where it takes too long.
    pub(crate) async fn plan(
        &self,
        task: RedriveTask,
    ) -> Option<Result<Planned, RedriveTaskError>> {
        let _turn = self.turn_to_read().await?;
        let stop = self.stop.child_token();
        // A request that is dropped, or has waited for too long, ends the reading.
        let _stops = stop.clone().drop_guard();
        let planned = on_a_thread(move || async move {
            tokio::select! {
                planned = task.plan() => Some(planned),
                () = stop.cancelled() => None,
            }
        });
        let planned = planned.ok()?;
        tokio::time::timeout(self.patience, planned)
            .await
            .ok()?
            .ok()?
    }

    /// Starts a task. It stops when the server does, or the subscription.
    pub(crate) fn start(
        &self,
        served: Arc<dyn Served>,
        task: RedriveTask,
        (id, topic): (String, String),
        work: Work,
    ) -> Result<Arc<Run>, NotStarted> {
        let mut last = locked(&self.last);
        check(last.as_deref())?;
        let (show, seen) = watch::channel(Here::new(id.clone(), topic));
        let over = CancellationToken::new();
        let run = Arc::new(Run {
            subscription: served.name().to_owned(),
            seen,
            over: over.clone(),
        });
        let (show, stop) = (Arc::new(show), self.stop.clone());
        let of_progress = show.clone();
        let task = task.on_progress(move |it| {
            of_progress.send_modify(|here| here.progress(it));
        });
        let run_it = move || async move {
            // However the thread ends.
            let _over = over.drop_guard();
            let task = task.stop(until_it_is_to_stop(stop, served));
            let ended = match work {
                Work::Begin => task.run().await,
                Work::Resume => task.resume(id).await,
            };
            show.send_modify(|here| here.end(ended));
        };
        on_a_thread(run_it).map_err(NotStarted::NoThread)?;
        *last = Some(run.clone());
        Ok(run)
    }

    /// Stops what runs after its transaction, and waits for that.
    pub(crate) async fn shutdown(&self, within: Duration) {
        self.stop.cancel();
        if let Some(run) = self.last() {
            let waited = tokio::time::timeout(within, run.over.cancelled()).await;
            if waited.is_err() {
                let task = run.here().task;
                tracing::warn!(
                    task,
                    "a redrive has not stopped in time: an open transaction is aborted, and it can be resumed"
                );
            }
        }
    }
}

impl Drop for Redrives {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn check(last: Option<&Run>) -> Result<(), NotStarted> {
    match last.filter(|run| !run.over.is_cancelled()) {
        None => Ok(()),
        Some(run) => Err(NotStarted::Busy {
            task: run.here().task,
            subscription: run.subscription.clone(),
        }),
    }
}

async fn until_it_is_to_stop(stop: CancellationToken, served: Arc<dyn Served>) {
    let is_ending = || {
        let state = served.state();
        matches!(state, State::Draining | State::Stopped | State::Failed)
    };
    while !is_ending() {
        if tokio::time::timeout(LOOK_EVERY, stop.cancelled())
            .await
            .is_ok()
        {
            return;
        }
    }
}

/// Runs this on a thread with a runtime of its own. A thread that panics has no answer.
fn on_a_thread<T, F>(
    make: impl FnOnce() -> F + Send + 'static,
) -> std::io::Result<oneshot::Receiver<T>>
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    let (answer, answered) = oneshot::channel();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new()
        .name("keylane-admin-redrive".to_owned())
        .spawn(move || {
            // The request may have gone.
            let _ = answer.send(runtime.block_on(make()));
            // A client that waits for its brokers may take its time.
            runtime.shutdown_background();
        })?;
    Ok(answered)
}
