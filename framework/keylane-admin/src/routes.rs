//! The routes, and their answers.

use std::fmt;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use serde::Deserialize;

use crate::access::{self, Hosts, Token};
use crate::acts;
use crate::answers::{
    OldestList, Requested, SubscriptionDetail, SubscriptionList, SubscriptionSummary, json,
};
use crate::dead_letters;
use crate::health::{self, Question, Seen, Verdict};
use crate::hot_keys::{HotKeyLists, Keys};
use crate::lock;
use crate::problem::{self, Problem};
use crate::redrives::Redrives;
use crate::served::{AllServed, Served};

const OPENAPI: &str = include_str!("openapi.json");
const LIMIT_DEFAULT: usize = 20;
const LIMIT_MOST: usize = 1_000;

/// What every request can look at.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) subscriptions: RwLock<AllServed>,
    pub(crate) token: Option<Token>,
    pub(crate) hosts: Hosts,
    pub(crate) polling_limit: Duration,
    pub(crate) act_timeout: Duration,
    pub(crate) metrics: Option<Metrics>,
    pub(crate) redrives: Arc<Redrives>,
}

/// Renders the metrics, in Prometheus' text format.
#[derive(Clone)]
pub(crate) struct Metrics(Arc<dyn Fn() -> String + Send + Sync>);

impl Metrics {
    pub(crate) fn new(render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(render))
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Metrics")
    }
}

type Routes = MethodRouter<Arc<Shared>>;
/// A path, and what answers there.
type Route = (&'static str, fn() -> Routes);
pub(crate) type Answer = Result<Response, Problem>;
pub(crate) type At<T> = Result<Path<T>, PathRejection>;
pub(crate) type Limited = Result<Query<Limit>, QueryRejection>;
type PartitionPath = (String, String, String);

/// The paths of `openapi.json`.
pub(crate) const ROUTES: &[Route] = &[
    ("/health/startup", || get(startup)),
    ("/health/live", || get(live)),
    ("/health/ready", || get(ready)),
    ("/v1/subscriptions", || get(subscriptions)),
    ("/v1/subscriptions/{name}", || get(subscription)),
    ("/v1/subscriptions/{name}/oldest", || get(oldest)),
    ("/v1/subscriptions/{name}/hot-keys", || get(hot_keys)),
    ("/v1/subscriptions/{name}/pause", || post(pause)),
    ("/v1/subscriptions/{name}/resume", || post(resume)),
    ("/v1/subscriptions/{name}/release-held", || {
        post(acts::release_held)
    }),
    ("/v1/subscriptions/{name}/shutdown", || post(shutdown)),
    ("/v1/subscriptions/{name}/dead-letters/redrive", || {
        post(dead_letters::redrive)
    }),
    ("/v1/subscriptions/{name}/dead-letters/resolve", || {
        post(dead_letters::resolve)
    }),
    ("/v1/subscriptions/{name}/dead-letters/tasks", || {
        get(dead_letters::tasks)
    }),
    ("/v1/subscriptions/{name}/dead-letters/tasks/{task}", || {
        get(dead_letters::task)
    }),
    (
        "/v1/subscriptions/{name}/dead-letters/tasks/{task}/cancel",
        || post(dead_letters::cancel),
    ),
    (
        "/v1/subscriptions/{name}/dead-letters/tasks/{task}/resume",
        || post(dead_letters::resume),
    ),
    ("/v1/subscriptions/{name}/keys/pause", || {
        post(acts::pause_key)
    }),
    ("/v1/subscriptions/{name}/keys/resume", || {
        post(acts::resume_key)
    }),
    ("/v1/subscriptions/{name}/keys/retry-now", || {
        post(acts::retry_now)
    }),
    (
        "/v1/subscriptions/{name}/partitions/{topic}/{partition}/records/{offset}/skip",
        || post(acts::skip),
    ),
    (
        "/v1/subscriptions/{name}/partitions/{topic}/{partition}/records/{offset}/dead-letter-now",
        || post(acts::dead_letter_now),
    ),
    (
        "/v1/subscriptions/{name}/partitions/{topic}/{partition}",
        || get(partition),
    ),
    (
        "/v1/subscriptions/{name}/partitions/{topic}/{partition}/pause",
        || post(pause_partition),
    ),
    (
        "/v1/subscriptions/{name}/partitions/{topic}/{partition}/resume",
        || post(resume_partition),
    ),
    ("/metrics", || get(metrics)),
    ("/openapi.json", || get(openapi)),
];

/// For a server that serves nothing else: other paths are refused in the same way.
pub(crate) fn alone(shared: Arc<Shared>) -> Router {
    paths()
        .fallback(|| async { StatusCode::NOT_FOUND })
        .layer(from_fn_with_state(hosts(&shared), access::check))
        .layer(map_response(problem::complete))
        .with_state(shared)
}

/// For an app that has paths of its own, which none of this touches.
pub(crate) fn mounted(shared: Arc<Shared>) -> Router {
    paths()
        .route_layer(from_fn_with_state(hosts(&shared), access::check))
        .route_layer(map_response(problem::complete))
        .with_state(shared)
}

fn hosts(shared: &Shared) -> Arc<Hosts> {
    Arc::new(shared.hosts.clone())
}

fn paths() -> Router<Arc<Shared>> {
    ROUTES
        .iter()
        .fold(Router::new(), |router, (path, methods)| {
            router.route(path, methods())
        })
}

impl Shared {
    pub(crate) fn find(&self, name: &str) -> Result<Arc<dyn Served>, Problem> {
        let found = lock::read(&self.subscriptions).find(name);
        found.ok_or_else(|| {
            let text =
                format!("there is no subscription `{name}` here: /v1/subscriptions lists them");
            Problem::new(StatusCode::NOT_FOUND, "no_such_subscription", text)
        })
    }

    fn health(&self, question: Question) -> Response {
        let seen: Vec<_> = {
            let all = lock::read(&self.subscriptions);
            all.iter()
                .map(|handle| Seen {
                    name: handle.name().to_owned(),
                    status: handle.status(),
                })
                .collect()
        };
        let health = health::look(question, &seen, self.polling_limit);
        let status = match health.status {
            Verdict::Failing => StatusCode::SERVICE_UNAVAILABLE,
            Verdict::Ok | Verdict::Degraded => StatusCode::OK,
        };
        json(status, &health)
    }
}

async fn startup(State(shared): State<Arc<Shared>>) -> Response {
    shared.health(Question::Startup)
}

async fn live(State(shared): State<Arc<Shared>>) -> Response {
    shared.health(Question::Live)
}

async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    shared.health(Question::Ready)
}

async fn subscriptions(State(shared): State<Arc<Shared>>) -> Response {
    let all = lock::read(&shared.subscriptions);
    json(
        StatusCode::OK,
        &SubscriptionList {
            subscriptions: all.iter().map(SubscriptionSummary::of).collect(),
        },
    )
}

async fn subscription(State(shared): State<Arc<Shared>>, path: At<String>) -> Answer {
    Ok(json(
        StatusCode::OK,
        &SubscriptionDetail::of(&*shared.find(&at(path)?)?),
    ))
}

async fn partition(State(shared): State<Arc<Shared>>, path: At<PartitionPath>) -> Answer {
    let (name, topic, number) = at(path)?;
    let status = shared.find(&name)?.status();
    let is_it = |topic_there: &str, there: i32| topic_there == topic && number.parse() == Ok(there);
    let found = status
        .partitions
        .iter()
        .find(|it| is_it(&it.topic, it.partition));
    let found = found.ok_or_else(|| not_assigned(&topic, &number))?;
    Ok(json(StatusCode::OK, found))
}

async fn oldest(State(shared): State<Arc<Shared>>, path: At<String>, query: Limited) -> Answer {
    let handle = shared.find(&at(path)?)?;
    Ok(json(
        StatusCode::OK,
        &OldestList::of(handle.status(), limit(query)?),
    ))
}

async fn hot_keys(
    State(shared): State<Arc<Shared>>,
    path: At<String>,
    query: Limited,
    headers: HeaderMap,
) -> Answer {
    let handle = shared.find(&at(path)?)?;
    // Often personal data: not for everybody who reaches the port.
    let shown = match access::authorize(shared.token.as_ref(), &headers) {
        Ok(()) => Keys::Plain,
        Err(_) => Keys::Hashed,
    };
    Ok(json(
        StatusCode::OK,
        &HotKeyLists::of(&handle.hot_keys(), limit(query)?, shown),
    ))
}

async fn pause(State(shared): State<Arc<Shared>>, path: At<String>, headers: HeaderMap) -> Answer {
    steer(&shared, path, &headers, "pause", |it| it.pause())
}

async fn resume(State(shared): State<Arc<Shared>>, path: At<String>, headers: HeaderMap) -> Answer {
    steer(&shared, path, &headers, "resume", |it| it.resume())
}

async fn shutdown(
    State(shared): State<Arc<Shared>>,
    path: At<String>,
    headers: HeaderMap,
) -> Answer {
    steer(&shared, path, &headers, "shutdown", |it| {
        it.request_shutdown()
    })
}

async fn pause_partition(
    State(shared): State<Arc<Shared>>,
    path: At<PartitionPath>,
    headers: HeaderMap,
) -> Answer {
    steer_partition(&shared, path, &headers, Pause::Begin)
}

async fn resume_partition(
    State(shared): State<Arc<Shared>>,
    path: At<PartitionPath>,
    headers: HeaderMap,
) -> Answer {
    steer_partition(&shared, path, &headers, Pause::End)
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Answer {
    let Some(Metrics(render)) = &shared.metrics else {
        let text = "this server was not given the metrics: see AdminServerBuilder::metrics";
        return Err(Problem::new(StatusCode::NOT_FOUND, "no_metrics", text));
    };
    Ok(with_type(
        "text/plain; version=0.0.4; charset=utf-8",
        render(),
    ))
}

async fn openapi() -> Response {
    with_type("application/json", OPENAPI)
}

fn steer(
    shared: &Shared,
    path: At<String>,
    headers: &HeaderMap,
    action: &'static str,
    act: fn(&dyn Served),
) -> Answer {
    access::authorize(shared.token.as_ref(), headers)?;
    let handle = shared.find(&at(path)?)?;
    act(&*handle);
    let subscription = handle.name();
    tracing::info!(subscription, action, "requested over HTTP");
    Ok(json(
        StatusCode::ACCEPTED,
        &Requested {
            action,
            subscription,
            topic: None,
            partition: None,
        },
    ))
}

#[derive(Clone, Copy)]
enum Pause {
    Begin,
    End,
}

fn steer_partition(
    shared: &Shared,
    path: At<PartitionPath>,
    headers: &HeaderMap,
    pause: Pause,
) -> Answer {
    access::authorize(shared.token.as_ref(), headers)?;
    let (name, topic, number) = at(path)?;
    let handle = shared.find(&name)?;
    let unknown = || not_assigned(&topic, &number);
    let partition: i32 = number.parse().map_err(|_| unknown())?;
    let (action, is_assigned) = match pause {
        Pause::Begin => ("pause", handle.pause_partition(&topic, partition)),
        Pause::End => ("resume", handle.resume_partition(&topic, partition)),
    };
    if !is_assigned {
        return Err(unknown());
    }
    tracing::info!(
        subscription = name,
        topic,
        partition,
        action,
        "requested over HTTP"
    );
    let requested = Requested {
        action,
        subscription: &name,
        topic: Some(&topic),
        partition: Some(partition),
    };
    Ok(json(StatusCode::ACCEPTED, &requested))
}

pub(crate) fn at<T>(path: At<T>) -> Result<T, Problem> {
    let Path(path) =
        path.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "bad_path", error.body_text()))?;
    Ok(path)
}

pub(crate) fn not_assigned(topic: &str, partition: &str) -> Problem {
    let text = format!("partition {partition} of topic `{topic}` is not assigned to this member");
    Problem::new(StatusCode::NOT_FOUND, "partition_not_assigned", text)
}

/// How many records, or keys of each list, are wanted.
#[derive(Deserialize)]
pub(crate) struct Limit {
    #[serde(default = "default_limit")]
    limit: usize,
}

fn default_limit() -> usize {
    LIMIT_DEFAULT
}

pub(crate) fn limit(query: Limited) -> Result<usize, Problem> {
    match query {
        Ok(Query(Limit { limit })) if (1..=LIMIT_MOST).contains(&limit) => Ok(limit),
        _ => {
            let text = format!("`limit` is a number from 1 to {LIMIT_MOST}");
            Err(Problem::new(StatusCode::BAD_REQUEST, "bad_limit", text))
        }
    }
}

fn with_type(content_type: &'static str, body: impl IntoResponse) -> Response {
    (
        [(CONTENT_TYPE, HeaderValue::from_static(content_type))],
        body,
    )
        .into_response()
}
