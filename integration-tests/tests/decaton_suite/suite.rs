//! The protocol: what every scenario goes through, and what must hold at its end.

use std::{
    sync::{LazyLock, Once},
    time::Duration,
};

use bytes::Bytes;
use keylane::status::State;
use keylane::subscription::SubscriptionBuilder;
use keylane::{Raw, Retry, Subscription, Task, TaskError};
use keylane_integration_tests::{
    dead_letters::origin,
    journal::{
        Entry, Expect, Journal, OrderFaultKind, Place, Produced, Rewinds, Work, order_faults,
    },
    kafka::{Kafka, NewRecord},
    protocol::Protocol,
    wait::{wait_for, wait_until},
};
use tokio::{sync::Semaphore, task::JoinHandle};

pub(crate) const DEADLINE: Duration = Duration::from_secs(90);
/// Long: no member may fall out of the group because the machine is busy.
const SESSION_MS: u32 = 60_000;
const PARTITIONS: i32 = 8;
const REPLICAS: i32 = 3;
const KEYS: usize = 100;
const MEMBERS: usize = 3;
/// Three brokers and three members each: more of these at a time starve each other on two
/// processors, until members fall out of their group.
static AT_A_TIME: Semaphore = Semaphore::const_new(2);

/// As many tasks as Decaton's suite has, 10,000, where the variable is set. Half of them reach
/// every state as well, in half the time.
pub(crate) static TASKS: LazyLock<usize> = LazyLock::new(|| {
    std::env::var("KEYLANE_DECATON_TASKS").map_or(5_000, |tasks| tasks.parse().unwrap())
});

/// What a scenario changes.
#[derive(Clone)]
pub(crate) struct Suite {
    pub(crate) protocol: Protocol,
    pub(crate) tasks: usize,
    /// The record of task `n`.
    pub(crate) record: fn(usize) -> NewRecord,
    /// For every member.
    pub(crate) settings: fn(SubscriptionBuilder) -> SubscriptionBuilder,
    /// For the member that takes the place of the n-th, on top.
    pub(crate) restarted: fn(SubscriptionBuilder, usize) -> SubscriptionBuilder,
    /// A retry policy that ends in the retry topic, if there is to be one.
    pub(crate) retry: Option<Retry>,
    /// The retry topic's own settings.
    pub(crate) retry_topic: &'static [(&'static str, &'static str)],
    pub(crate) order: Order,
}

/// What must hold of the order of a key. That nothing is lost, no two attempts overlap and nothing
/// succeeds twice, must hold in any case.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Every record starts once, in its turn: keylane's promise for orderly hand-overs. Decaton's
    /// suite checks less.
    Kept,
    /// Decaton's rule: records that were not finished may come again from there on.
    WithReplays,
    /// Records leave their turn for the retry topic. They still start in their turn the first time,
    /// and exactly once.
    Left,
}

impl Default for Suite {
    fn default() -> Self {
        Self {
            protocol: Protocol::Cooperative,
            tasks: *TASKS,
            record: |number| NewRecord::keyed(format!("key-{}", number % KEYS), number.to_string()),
            settings: |builder| builder.concurrency(16),
            restarted: |builder, _| builder,
            retry: None,
            retry_topic: &[],
            order: Order::Kept,
        }
    }
}

/// What a member is started with.
#[derive(Clone)]
pub(crate) struct Start {
    pub(crate) builder: SubscriptionBuilder,
    pub(crate) journal: Journal,
    pub(crate) name: String,
}

impl Start {
    /// Notes that an attempt at task `id` begins.
    #[must_use]
    pub(crate) fn begins<T>(
        &self,
        task: &Task<T>,
        id: String,
    ) -> keylane_integration_tests::journal::Running {
        self.journal.started(Work {
            member: self.name.clone(),
            topic: task.topic().to_owned(),
            partition: task.partition(),
            offset: task.offset(),
            key: task.key().map(<[u8]>::to_vec),
            id,
            attempt: task.attempt(),
        })
    }

    /// Starts a member that reads bytes which are the task's number, and does `work`.
    pub(crate) async fn raw<F, Fut>(self, work: F) -> Subscription
    where
        F: Fn(Task<Bytes>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), TaskError>> + Send,
    {
        let start = self.clone();
        let processor = move |task: Task<Bytes>| {
            let running = start.begins(&task, String::from_utf8_lossy(task.payload()).into_owned());
            let attempt = work(task);
            async move { running.returned(attempt.await) }
        };
        self.builder.start(Raw, processor).await.unwrap()
    }
}

/// What a run leaves behind.
pub(crate) struct Ran {
    pub(crate) journal: Journal,
    pub(crate) retry: String,
}

/// A member, and the states it was seen in.
struct Member {
    subscription: Subscription,
    states: JoinHandle<Vec<State>>,
}

impl Member {
    async fn start(start: Start, begin: impl AsyncFn(Start) -> Subscription) -> Self {
        let subscription = begin(start).await;
        let handle = subscription.handle();
        let states = tokio::spawn(async move {
            let mut seen = Vec::new();
            loop {
                let now = handle.state();
                if seen.last() != Some(&now) {
                    seen.push(now);
                }
                if matches!(now, State::Stopped | State::Failed) {
                    return seen;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        Self {
            subscription,
            states,
        }
    }

    async fn has_a_share(&self) {
        wait_until("the member has a share", DEADLINE, || {
            !self.subscription.status().partitions.is_empty()
        })
        .await;
    }

    async fn stop(self) {
        self.subscription.shutdown().await.unwrap();
        assert_legal(&self.states.await.unwrap());
    }
}

/// States are polled, so some may be missed; the allowed order is the same.
fn assert_legal(seen: &[State]) {
    for pair in seen.windows(2) {
        let legal = match (pair[0], pair[1]) {
            (State::Stopped | State::Failed, _) | (_, State::Starting | State::Failed) => false,
            (State::Draining, after) => after == State::Stopped,
            _ => true,
        };
        assert!(legal, "{:?} after {:?}: {seen:?}", pair[1], pair[0]);
    }
    assert_eq!(seen.last(), Some(&State::Stopped), "{seen:?}");
}

/// The tasks, in portions: half of them at first, and the others while members leave and join.
struct Tasks<'a> {
    kafka: &'static Kafka,
    topic: &'a str,
    suite: &'a Suite,
    written: Vec<Produced>,
}

impl Tasks<'_> {
    async fn write_up_to(&mut self, count: usize) {
        let numbers = self.written.len()..count;
        let records: Vec<NewRecord> = numbers.clone().map(self.suite.record).collect();
        let keys: Vec<_> = records.iter().map(|record| record.key.clone()).collect();
        let places = self.kafka.produce(self.topic, records).await.unwrap();
        for (((partition, offset), key), number) in places.into_iter().zip(keys).zip(numbers) {
            let topic = self.topic.to_owned();
            self.written.push(Produced {
                topic,
                partition,
                offset,
                key,
                id: number.to_string(),
            });
        }
    }
}

/// Runs the protocol: three members of a group on eight partitions, half of the tasks processed,
/// all members replaced one after the other while the rest of the tasks comes in, everything
/// committed, the guarantees checked.
///
/// `begin` starts a member; `Start` has its settings.
pub(crate) async fn run(
    kafka: &'static Kafka,
    suite: Suite,
    begin: impl AsyncFn(Start) -> Subscription,
) -> Ran {
    log_to_the_test();
    let _place = AT_A_TIME.acquire().await.unwrap();
    let (topic, group, journal) = (kafka.unique("suite"), kafka.unique("group"), Journal::new());
    let retry = format!("{topic}-retry");
    kafka
        .create_topic(&topic, PARTITIONS, REPLICAS, &[("retention.ms", "-1")])
        .await
        .unwrap();
    if suite.retry.is_some() {
        kafka
            .create_topic(&retry, PARTITIONS, REPLICAS, suite.retry_topic)
            .await
            .unwrap();
    }
    let start = |name: String| {
        // A busy coordinator takes its time with the last commit; without it records come again.
        let mut builder = suite
            .protocol
            .subscribe(kafka, &group, &topic, SESSION_MS)
            .shutdown_timeout(DEADLINE);
        if let Some(policy) = &suite.retry {
            builder = builder.retry(policy.clone());
        }
        Start {
            builder: (suite.settings)(builder),
            journal: journal.clone(),
            name,
        }
    };
    let (a, b, c) = tokio::join!(
        Member::start(start("member 0".into()), &begin),
        Member::start(start("member 1".into()), &begin),
        Member::start(start("member 2".into()), &begin),
    );
    let mut members = vec![a, b, c];
    for member in &members {
        member.has_a_share().await;
    }
    let mut tasks = Tasks {
        kafka,
        topic: &topic,
        suite: &suite,
        written: Vec::new(),
    };
    tasks.write_up_to(suite.tasks / 2 + suite.tasks / 20).await;
    tracing::info!("all members of {topic} have a share");
    wait_until("half of the tasks are processed", DEADLINE, || {
        journal.done() >= suite.tasks / 2
    })
    .await;

    tracing::info!("half of {topic} is processed");
    for place in 0..MEMBERS {
        let portion = |step: usize| suite.tasks * (2 * MEMBERS + step) / (4 * MEMBERS);
        let line = journal.entries().len();
        let leaving = members.remove(0);
        let ((), ()) = tokio::join!(tasks.write_up_to(portion(2 * place + 1)), async {
            wait_until("work goes on", DEADLINE, || journal.entries().len() > line).await;
            leaving.stop().await;
        });
        let mut successor = start(format!("successor {place}"));
        successor.builder = (suite.restarted)(successor.builder, place);
        let ((), member) = tokio::join!(
            tasks.write_up_to(portion(2 * place + 2)),
            Member::start(successor, &begin)
        );
        member.has_a_share().await;
        members.push(member);
        tracing::info!("{} of {topic} is replaced", place + 1);
    }
    let mut produced = tasks.written;
    assert_eq!(produced.len(), suite.tasks);
    wait_until("all tasks are processed", DEADLINE, || {
        journal.done() >= suite.tasks
    })
    .await;
    await_committed(kafka, &group, &topic).await;
    if suite.retry.is_some() {
        await_committed(kafka, &group, &retry).await;
    }
    tracing::info!("{topic} is processed and committed");
    for member in members {
        member.stop().await;
    }
    assert_turns(&journal.entries(), &produced, suite.order);
    if suite.retry.is_some() {
        produced.extend(retries(kafka, &retry, &produced).await);
    }
    let expect = match suite.order {
        Order::Kept => Expect::Drained,
        Order::WithReplays => Expect::Crashes,
        Order::Left => Expect::Unordered,
    };
    let report = journal.check(&produced, expect);
    report.assert_clean();
    assert_eq!(report.duplicates, [], "succeeded twice");
    Ran { journal, retry }
}

/// keylane's log is shown with a test that fails.
fn log_to_the_test() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::INFO)
            .with_test_writer()
            .try_init();
    });
}

/// Waits until all that lies in the topic is committed, by members that go on.
async fn await_committed(kafka: &Kafka, group: &str, topic: &str) {
    wait_for(
        &format!("all of {topic} is committed"),
        DEADLINE,
        async || {
            let ends = kafka.end_offsets(topic).await.ok()?;
            let committed = kafka.committed(group, topic).await.ok()?;
            let all = committed
                .iter()
                .zip(&ends)
                .all(|(committed, end)| committed.offset.unwrap_or(0) == *end);
            all.then_some(())
        },
    )
    .await;
}

/// Also where records leave their turn for the retry topic, they start in it.
fn assert_turns(entries: &[Entry], origin: &[Produced], order: Order) {
    if order == Order::Left {
        let faults = order_faults(entries, origin, Rewinds::Forbidden);
        let left_out = faults
            .iter()
            .find(|fault| fault.kind != OrderFaultKind::Rewind);
        assert!(left_out.is_none(), "broken promise: {left_out:?}");
        assert!(
            faults.is_empty(),
            "{} again out of turn, such as {}",
            faults.len(),
            faults[0]
        );
    }
}

/// What lies in the retry topic, each record under the id of the task it came from.
async fn retries(kafka: &Kafka, retry: &str, tasks: &[Produced]) -> Vec<Produced> {
    let ids: std::collections::BTreeMap<Place, &str> = tasks
        .iter()
        .map(|task| (task.place(), task.id.as_str()))
        .collect();
    let stored = kafka.read_all(retry).await.unwrap();
    let of = |record: &keylane_integration_tests::kafka::StoredRecord| Produced {
        topic: retry.to_owned(),
        partition: record.partition,
        offset: record.offset,
        key: record.key.clone(),
        id: ids[&origin(record).unwrap()].to_owned(),
    };
    stored.iter().map(of).collect()
}
