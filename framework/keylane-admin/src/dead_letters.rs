//! Dead letters: written back by tasks, and marked as handled.
//!
//! All of it asks brokers, and filters may name keys: also what only reads needs the token.

mod answers;
mod body;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use keylane::redrive::ops::OpsState;
use keylane::redrive::{RedriveTask, RedriveTaskError};
use keylane::status::State as Life;

use crate::access;
use crate::answers::json;
use crate::dead_letters::answers::{Planned, Tasks, not_started, plan_refused, problem};
#[cfg(test)]
pub(crate) use crate::dead_letters::body::HEAD;
use crate::dead_letters::body::{RedriveOrder, ResolveOrder, TaskOrder};
use crate::orders::DryRun;
use crate::problem::Problem;
use crate::redrives::{Here, Phase, Run, Work};
use crate::routes::{Answer, At, Limited, Shared, at, limit};
use crate::served::Served;

/// How long a request waits for brokers, three times at most. The server ends a connection after a
/// minute.
pub(crate) const PATIENCE: Duration = Duration::from_secs(18);
/// Of a task that runs. An open transaction of another one may take 20 seconds.
const PATIENCE_OF_TASKS: Duration = Duration::from_secs(30);

pub(crate) type TaskPath = (String, String);

/// `POST …/dead-letters/redrive`
pub(crate) async fn redrive(
    State(shared): State<Arc<Shared>>,
    path: At<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    access::authorize(shared.token.as_ref(), &headers)?;
    let served = shared.find(&at(path)?)?;
    let mut order = RedriveOrder::read(&body, &*served)?;
    let redrives = &shared.redrives;
    if order.dry_run == DryRun::No {
        check_life(&*served)?;
        redrives.check().map_err(not_started)?;
    }
    let planned = redrives.plan(order.task(&*served)?).await;
    let planned = planned.ok_or_else(late)?.map_err(|it| problem(&it))?;
    let refusal = planned.refusal(order.request.take_over);
    let refusal = refusal.map(|it| plan_refused(&it));
    let is_done = order.dry_run == DryRun::Yes || (refusal.is_none() && planned.turns == 0);
    if is_done {
        let answer = Planned::new(served.name(), &order, planned, refusal);
        return Ok(json(StatusCode::OK, &answer));
    }
    if let Some((code, text)) = refusal {
        return Err(Problem::new(StatusCode::CONFLICT, code, text));
    }
    // The letters that were planned, and no later ones.
    order.request.ranges = Some(planned.ranges.clone());
    let id = order.request.name.get_or_insert_with(RedriveTask::new_id);
    let named = (id.clone(), order.topic.clone());
    let task = order.task(&*served)?;
    let run = redrives.start(served.clone(), task, named, Work::Begin);
    let here = match began(&*run.map_err(not_started)?, redrives.patience).await {
        Err(RedriveTaskError::TakenOver) => {
            return Err(taken_over(&shared, &*served, &order.topic).await);
        }
        begun => begun.map_err(|error| problem(&error))?,
    };
    ordered(&*served, "redrive", &here.task, &order.by, &order.why);
    let mut answer = Planned::new(served.name(), &order, planned, None);
    answer.task = Some(here.task);
    Ok(json(StatusCode::ACCEPTED, &answer))
}

/// `GET …/dead-letters/tasks`
pub(crate) async fn tasks(
    State(shared): State<Arc<Shared>>,
    path: At<String>,
    query: Limited,
    headers: HeaderMap,
) -> Answer {
    access::authorize(shared.token.as_ref(), &headers)?;
    let served = shared.find(&at(path)?)?;
    let limit = limit(query)?;
    let state = state(&shared, &*served).await?;
    let here = here(&shared, &*served);
    Ok(json(StatusCode::OK, &Tasks::of(&state, here, limit)))
}

/// `GET …/dead-letters/tasks/{task}`
pub(crate) async fn task(
    State(shared): State<Arc<Shared>>,
    path: At<TaskPath>,
    headers: HeaderMap,
) -> Answer {
    access::authorize(shared.token.as_ref(), &headers)?;
    let (name, id) = at(path)?;
    let served = shared.find(&name)?;
    let state = state(&shared, &*served).await?;
    let here = here(&shared, &*served).filter(|run| run.here().task == id);
    let tasks = Tasks::of_one(&state, here, &id);
    match tasks.is_empty() {
        false => Ok(json(StatusCode::OK, &tasks)),
        true => Err(no_task(&*served, id)),
    }
}

/// `POST …/dead-letters/tasks/{task}/cancel`
pub(crate) async fn cancel(
    State(shared): State<Arc<Shared>>,
    path: At<TaskPath>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    access::authorize(shared.token.as_ref(), &headers)?;
    let (name, id) = at(path)?;
    let served = shared.find(&name)?;
    let order = TaskOrder::read(&body)?;
    let operations = served.operations().patience(shared.redrives.patience);
    let cancelled = operations.cancel(&id, &order.by, &order.why);
    within(&shared, cancelled)
        .await?
        .map_err(|it| problem(&it))?;
    ordered(&*served, "cancel", &id, &order.by, &order.why);
    Ok(requested(&*served, "cancel", &id))
}

/// `POST …/dead-letters/tasks/{task}/resume`
pub(crate) async fn resume(
    State(shared): State<Arc<Shared>>,
    path: At<TaskPath>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    access::authorize(shared.token.as_ref(), &headers)?;
    let (name, id) = at(path)?;
    let served = shared.find(&name)?;
    let order = TaskOrder::read(&body)?;
    check_life(&*served)?;
    shared.redrives.check().map_err(not_started)?;
    let state = state(&shared, &*served).await?;
    let topic = state.task(&id).map(|task| task.record.topic.clone());
    let topic = topic.ok_or_else(|| no_task(&*served, id.clone()))?;
    let task = served
        .redrive(&topic)
        .by(&order.by)
        .why(&order.why)
        .patience(PATIENCE_OF_TASKS);
    let named = (id.clone(), topic);
    let run = shared
        .redrives
        .start(served.clone(), task, named, Work::Resume);
    let begun = began(&*run.map_err(not_started)?, shared.redrives.patience).await;
    begun.map_err(|error| problem(&error))?;
    ordered(&*served, "resume", &id, &order.by, &order.why);
    Ok(requested(&*served, "resume", &id))
}

/// `POST …/dead-letters/resolve`
pub(crate) async fn resolve(
    State(shared): State<Arc<Shared>>,
    path: At<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    access::authorize(shared.token.as_ref(), &headers)?;
    let served = shared.find(&at(path)?)?;
    let order = ResolveOrder::read(&body, &*served)?;
    let operations = served.operations().patience(shared.redrives.patience);
    if order.dry_run == DryRun::No {
        let (topic, ranges) = (&*order.topic, order.ranges());
        let resolved = async {
            match order.undo {
                false => {
                    operations
                        .resolve(topic, ranges, &order.by, &order.why)
                        .await
                }
                true => {
                    operations
                        .unresolve(topic, ranges, &order.by, &order.why)
                        .await
                }
            }
        };
        within(&shared, resolved)
            .await?
            .map_err(|it| problem(&it))?;
    }
    Ok(json(StatusCode::OK, &order.answer(&*served)))
}

/// What the operations topic says now.
async fn state(shared: &Shared, served: &dyn Served) -> Result<OpsState, Problem> {
    let operations = served.operations().patience(shared.redrives.patience);
    let read = within(shared, operations.read()).await?;
    read.map_err(|error| problem(&error))
}

/// One request at a time asks the brokers.
async fn within<T>(shared: &Shared, asked: impl Future<Output = T>) -> Result<T, Problem> {
    let redrives = &shared.redrives;
    let _turn = redrives.turn_to_read().await.ok_or_else(late)?;
    let answer = tokio::time::timeout(redrives.patience, asked).await;
    answer.map_err(|_| late())
}

/// What runs or ran on this server for this subscription.
fn here(shared: &Shared, served: &dyn Served) -> Option<Arc<Run>> {
    let last = shared.redrives.last();
    last.filter(|run| run.subscription == served.name())
}

/// Waits until it is known whether a run was refused.
async fn began(run: &Run, within: Duration) -> Result<Here, RedriveTaskError> {
    let here = run.begun(within).await;
    match (here.phase, here.error.clone()) {
        (Phase::Failed, Some(error)) => Err(error),
        _ => Ok(here),
    }
}

/// Another member was faster. Its task names it.
async fn taken_over(shared: &Shared, served: &dyn Served, topic: &str) -> Problem {
    let Ok(state) = state(shared, served).await else {
        return problem(&RedriveTaskError::TakenOver);
    };
    match state.running(topic) {
        Some(task) => problem(&RedriveTaskError::Unfinished {
            id: task.id.to_owned(),
            who: task.record.who.clone(),
        }),
        None => problem(&RedriveTaskError::TakenOver),
    }
}

fn check_life(served: &dyn Served) -> Result<(), Problem> {
    match served.state() {
        Life::Draining | Life::Stopped | Life::Failed => {
            let text = "the subscription ends or has ended, and redrives with it: ask another member, or use `keylane dlq`";
            Err(Problem::new(StatusCode::CONFLICT, "closing", text))
        }
        _ => Ok(()),
    }
}

fn no_task(served: &dyn Served, id: String) -> Problem {
    let topic = served.operations().name().to_owned();
    problem(&RedriveTaskError::NoSuchTask { id, topic })
}

fn late() -> Problem {
    let text = "the brokers have not answered in time, or there is too much to read: try again, name `ranges`, or use \
                `keylane dlq`";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no_answer", text)
}

/// For the log. What is about a task, or a topic, is also in the operations topic.
fn ordered(served: &dyn Served, act: &str, of: &str, by: &str, why: &str) {
    let subscription = served.name();
    tracing::info!(subscription, act, of, by, why, "an operator's order");
}

fn requested(served: &dyn Served, action: &'static str, task: &str) -> Response {
    json(
        StatusCode::ACCEPTED,
        &answers::TaskRequested {
            action,
            subscription: served.name(),
            task,
        },
    )
}
