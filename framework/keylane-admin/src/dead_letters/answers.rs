//! What is answered about dead letters, and why something is refused.

use std::sync::Arc;

use axum::http::StatusCode;
use keylane::redrive::ops::{OpsState, TaskReport};
use keylane::redrive::{self, PlanRefusal, RedriveTaskError};
use serde::Serialize;

use super::body::RedriveOrder;
use crate::orders::DryRun;
use crate::problem::Problem;
use crate::redrives::{Here, NotStarted, Run};

/// A plan has as many; the others are counted.
const MOST_FINGERPRINTS: usize = 100;
/// Of each kind of refusal.
const MOST_EXAMPLES: usize = 3;

/// What a redrive would do, or does.
#[derive(Debug, Serialize)]
pub(super) struct Planned<'a> {
    subscription: &'a str,
    dry_run: bool,
    /// The task that runs.
    pub(super) task: Option<String>,
    /// Why it would be refused.
    refusal: Option<String>,
    plan: redrive::Planned,
}

impl<'a> Planned<'a> {
    pub(super) fn new(
        subscription: &'a str,
        order: &RedriveOrder,
        mut plan: redrive::Planned,
        refusal: Option<(&'static str, String)>,
    ) -> Self {
        let kept = plan.fingerprints.len().min(MOST_FINGERPRINTS);
        let others = plan.fingerprints.drain(kept..).map(|(_, count)| count);
        plan.other_fingerprints += others.sum::<u64>();
        for refusals in plan.refused.values_mut() {
            refusals.examples.truncate(MOST_EXAMPLES);
        }
        Self {
            subscription,
            dry_run: order.dry_run == DryRun::Yes,
            task: None,
            refusal: refusal.map(|(_, text)| text),
            plan,
        }
    }
}

/// The tasks of a group, and what runs or ran last on this server.
#[derive(Serialize)]
pub(super) struct Tasks {
    tasks: Vec<TaskReport>,
    here: Option<Here>,
    /// Records of the operations topic that are not shown: of a newer version, unreadable, or beyond
    /// the bounds.
    unread: u64,
}

impl Tasks {
    /// The last one that was started comes first.
    pub(super) fn of(state: &OpsState, here: Option<Arc<Run>>, limit: usize) -> Self {
        let mut tasks: Vec<_> = state.tasks().map(|task| task.report()).collect();
        tasks.sort_by_key(|task| std::cmp::Reverse(task.started));
        tasks.truncate(limit);
        Self::new(state, here, tasks)
    }

    pub(super) fn of_one(state: &OpsState, here: Option<Arc<Run>>, id: &str) -> Self {
        let task = state.task(id).map(|task| task.report());
        Self::new(state, here, task.into_iter().collect())
    }

    fn new(state: &OpsState, here: Option<Arc<Run>>, tasks: Vec<TaskReport>) -> Self {
        let dropped = state.dropped();
        let newer = state.newer().count() as u64;
        Self {
            tasks,
            here: here.map(|run| run.here()),
            unread: newer
                + state.unreadable()
                + dropped.tasks
                + dropped.orders
                + dropped.resolutions,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.here.is_none()
    }
}

/// What was asked of a task.
#[derive(Serialize)]
pub(super) struct TaskRequested<'a> {
    pub(super) action: &'static str,
    pub(super) subscription: &'a str,
    pub(super) task: &'a str,
}

/// Letters that were marked.
#[derive(Serialize)]
pub(super) struct Resolved<'a> {
    pub(super) subscription: &'a str,
    pub(super) group: &'a str,
    pub(super) topic: &'a str,
    pub(super) letters: &'a [(i32, i64, i64)],
    pub(super) dry_run: bool,
    /// What they are now, or would be.
    pub(super) state: &'static str,
}

pub(super) fn not_started(why: NotStarted) -> Problem {
    match why {
        NotStarted::Busy { task, subscription } => {
            let text = format!(
                "this server runs the redrive {task} of the subscription {subscription}: wait for its end, or cancel it"
            );
            Problem::new(StatusCode::CONFLICT, "redrive_runs", text)
        }
        NotStarted::NoThread(error) => {
            let text = format!("there is no thread for the redrive: {error}");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no_answer", text)
        }
    }
}

/// A code, and what to do.
pub(super) fn plan_refused(refusal: &PlanRefusal) -> (&'static str, String) {
    match refusal {
        PlanRefusal::Unfinished { id } => (
            "unfinished",
            format!(
                "the redrive {id} of the same topic has not ended: it runs, or its process was killed; resume it, or \
                 set `take_over`"
            ),
        ),
        PlanRefusal::NoRetryTopic { count } => (
            "no_retry_topic",
            format!(
                "{count} dead letters match, and they name no retry topic of the group: give `retry_topic`, the one \
                 that the group reads; or `to`, a topic or `origin`, where every group that reads it gets the records"
            ),
        ),
        PlanRefusal::NoneCanBeCopied { count, examples } => {
            let examples: Vec<_> = examples
                .iter()
                .take(MOST_EXAMPLES)
                .map(String::as_str)
                .collect();
            let text = format!(
                "{count} dead letters match, and none can be copied: {}",
                examples.join("; ")
            );
            ("none_can_be_copied", text)
        }
        _ => ("refused", "the redrive would not begin".to_owned()),
    }
}

pub(super) fn problem(error: &RedriveTaskError) -> Problem {
    use RedriveTaskError as Error;
    let (status, code) = match error {
        Error::Setting { .. } => (StatusCode::BAD_REQUEST, "bad_body"),
        Error::NoSuchTask { .. } => (StatusCode::NOT_FOUND, "no_such_task"),
        Error::Unfinished { .. } => (StatusCode::CONFLICT, "unfinished"),
        Error::TakenOver => (StatusCode::CONFLICT, "taken_over"),
        Error::AlreadyEnded { .. } => (StatusCode::CONFLICT, "already_ended"),
        Error::IdTaken { .. } => (StatusCode::CONFLICT, "name_taken"),
        Error::Kafka(_)
        | Error::Letters(_)
        | Error::OpsTopic { .. }
        | Error::Lock { .. }
        | Error::Thread { .. }
        | Error::Transaction { .. }
        | Error::Stopped => (StatusCode::SERVICE_UNAVAILABLE, "not_done"),
        _ => (StatusCode::CONFLICT, "refused"),
    };
    Problem::new(status, code, error.to_string())
}
