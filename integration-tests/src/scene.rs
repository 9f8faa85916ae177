//! What most suites begin with: a topic, a group that reads it, its members, and what they did.

#![allow(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "helpers of tests stop the test as the tests do"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    ops::Deref,
    time::Duration,
};

use bytes::Bytes;
use keylane::status::TroubleKind;
use keylane::subscription::SubscriptionBuilder;
use keylane::{DeadLetter, Raw, Subscription, Task, TaskError};

use crate::{
    claims::{Claim, claims, unclaimed},
    dead_letters::dead_letters,
    gate::Gate,
    journal::{Entry, Expect, Journal, Outcome, Place, Produced, Work},
    kafka::{Committed, HarnessError, Kafka, NewRecord, StoredRecord},
    member::{journaled, number_of, spread},
    protocol::Protocol,
    wait::{wait_for, wait_until},
};

/// For what a busy machine may take its time for.
pub const DEADLINE: Duration = Duration::from_secs(90);
/// Long: no member of an orderly test may fall out of the group because the machine is busy.
pub const SESSION_MS: u32 = 30_000;

/// A topic, a group, and what the group's members did.
///
/// Its methods stop the test where something cannot be done.
#[derive(Debug)]
#[non_exhaustive]
pub struct Scene<'a> {
    /// Where the topic is.
    pub kafka: &'a Kafka,
    /// By which the members share the partitions: cooperative unless [`Scene::by`] says otherwise.
    pub protocol: Protocol,
    /// After which a silent member of the classic protocol is out.
    pub session_ms: u32,
    /// The topic.
    pub topic: String,
    /// The group.
    pub group: String,
    /// What the members did.
    pub journal: Journal,
}

impl<'a> Scene<'a> {
    /// A topic of so many partitions, and a group that has never read it.
    pub async fn new(kafka: &'a Kafka, partitions: i32) -> Self {
        let topic = kafka.unique("scene");
        create(kafka, &topic, partitions).await;
        Self::of(kafka, topic)
    }

    /// A topic that the test has created, and a group that has never read it.
    pub fn of(kafka: &'a Kafka, topic: String) -> Self {
        Self {
            kafka,
            protocol: Protocol::Cooperative,
            session_ms: SESSION_MS,
            topic,
            group: kafka.unique("group"),
            journal: Journal::new(),
        }
    }

    /// With members that share the partitions by this protocol.
    #[must_use]
    pub fn by(self, protocol: Protocol) -> Self {
        Self { protocol, ..self }
    }

    /// With members whose silence is noticed after this time.
    #[must_use]
    pub fn session_ms(self, session_ms: u32) -> Self {
        Self { session_ms, ..self }
    }

    /// Another topic, whose name says what it is for.
    pub async fn another(&self, purpose: &str, partitions: i32) -> String {
        let topic = format!("{}-{purpose}", self.topic);
        create(self.kafka, &topic, partitions).await;
        topic
    }

    /// A subscription of the group to the topic.
    pub fn subscribe(&self) -> SubscriptionBuilder {
        let Self { group, topic, .. } = self;
        self.protocol
            .subscribe(self.kafka, group, topic, self.session_ms)
    }

    /// Starts a member that does this, and has it in the journal under its name.
    pub async fn start<F>(
        &self,
        builder: SubscriptionBuilder,
        name: &str,
        process: impl Fn(Task<Bytes>) -> F + Send + Sync + 'static,
    ) -> Subscription
    where
        F: Future<Output = Result<(), TaskError>> + Send + 'static,
    {
        let processor = journaled(&self.journal, name, process);
        builder.start(Raw, processor).await.unwrap()
    }

    /// Starts a member that works on each record for up to `most`.
    pub async fn worker(
        &self,
        builder: SubscriptionBuilder,
        name: &str,
        most: Duration,
    ) -> Subscription {
        let work = move |task| async move {
            tokio::time::sleep(spread(&task, most)).await;
            Ok(())
        };
        self.start(builder, name, work).await
    }

    /// Starts a member whose attempts wait at the gate where `waits` says so.
    pub async fn gated(
        &self,
        builder: SubscriptionBuilder,
        name: &str,
        gate: &Gate,
        waits: impl Fn(&Task<Bytes>) -> bool + Send + Sync + 'static,
    ) -> Subscription {
        let gate = gate.clone();
        let process = move |task: Task<Bytes>| {
            let gate = waits(&task).then(|| gate.clone());
            async move {
                if let Some(gate) = gate {
                    gate.passed().await;
                }
                Ok(())
            }
        };
        self.start(builder, name, process).await
    }

    /// Writes to the topic.
    pub async fn write(&self, records: Vec<NewRecord>) {
        self.kafka.produce(&self.topic, records).await.unwrap();
    }

    /// Has a topic refuse what is larger, and returns when it does. Records that it took until then
    /// lie in it, without headers.
    pub async fn limit_bytes(&self, topic: &str, limit: usize) {
        let setting = [("max.message.bytes", &*limit.to_string())];
        self.kafka.configure_topic(topic, &setting).await.unwrap();
        wait_for("the topic refuses large records", DEADLINE, async || {
            self.probe(topic, limit).await.err()
        })
        .await;
    }

    /// Has it take such records again.
    pub async fn lift_limit(&self, topic: &str, limit: usize) {
        self.kafka.configure_topic(topic, &[]).await.unwrap();
        wait_for("the topic takes large records", DEADLINE, async || {
            self.probe(topic, limit).await.ok()
        })
        .await;
    }

    async fn probe(&self, topic: &str, limit: usize) -> Result<(), HarnessError> {
        let large = NewRecord::keyed("probe", vec![b'x'; limit + 1]);
        self.kafka.produce(topic, vec![large]).await.map(drop)
    }

    /// What lies in the topic.
    pub async fn produced(&self) -> Vec<Produced> {
        self.kafka.produced(&self.topic).await.unwrap()
    }

    /// Waits until so many different records are processed.
    pub async fn done(&self, count: usize) {
        wait_until(&format!("{count} are processed"), DEADLINE, || {
            self.journal.done() >= count
        })
        .await;
    }

    /// Waits until all that lies in the topic is processed, and returns it.
    pub async fn all_done(&self) -> Vec<Produced> {
        let produced = self.produced().await;
        self.done(produced.len()).await;
        produced
    }

    /// Checks that `produced` was processed in order, all of it and each record once.
    pub fn assert_drained(&self, produced: &[Produced]) {
        self.journal.check(produced, Expect::Drained).assert_clean();
    }

    /// Waits until all that lies in the topic is processed, ends the members, and checks that each
    /// record was processed once and that everything is committed.
    pub async fn end_drained(&self, members: impl IntoIterator<Item = Subscription>) {
        let produced = self.all_done().await;
        for member in members {
            member.shutdown().await.unwrap();
        }
        self.assert_drained(&produced);
        self.assert_all_committed().await;
    }

    /// The attempts of `member` that began.
    pub fn started_by(&self, member: &str) -> Vec<i64> {
        self.started(|work| work.member == member)
    }

    /// The offsets of the attempts of that kind that began, in their order.
    pub fn started(&self, is_meant: impl Fn(&Work) -> bool) -> Vec<i64> {
        let entries = self.journal.entries();
        let offset = |entry: &Entry| match entry {
            Entry::Started(work) if is_meant(work) => Some(work.offset),
            _ => None,
        };
        entries.iter().filter_map(offset).collect()
    }

    /// Waits until `member` has ended twenty more attempts, of whatever outcome.
    pub async fn works(&self, member: &str) {
        let ended = || {
            let entries = self.journal.entries();
            let own =
                |entry: &&Entry| matches!(entry, Entry::Ended(work, ..) if work.member == member);
            entries.iter().filter(own).count()
        };
        let before = ended();
        wait_until(&format!("{member} works"), DEADLINE, || {
            ended() > before + 20
        })
        .await;
    }

    /// The numbers that are the values of the records that `member` has processed.
    pub fn numbers_done_by(&self, member: &str) -> BTreeSet<usize> {
        let entries = self.journal.entries();
        let done = entries.iter().filter_map(|entry| match entry {
            Entry::Ended(work, _, Outcome::Done) if work.member.starts_with(member) => Some(work),
            _ => None,
        });
        done.map(|work| number_of(&work.id)).collect()
    }

    /// What the group has committed for the topic.
    pub async fn committed(&self) -> Vec<Committed> {
        let Self { group, topic, .. } = self;
        self.kafka.committed(group, topic).await.unwrap()
    }

    /// Waits until the group has committed the end of each of the topic's partitions.
    pub async fn all_committed(&self) {
        self.all_committed_of(&self.topic).await;
    }

    /// The same for another topic.
    pub async fn all_committed_of(&self, topic: &str) {
        let ends = self.kafka.end_offsets(topic).await.unwrap();
        wait_for("the whole topic is committed", DEADLINE, async || {
            let committed = self.kafka.committed(&self.group, topic).await.unwrap();
            reach(&committed, &ends).then_some(())
        })
        .await;
    }

    /// After all members have left: the end of each of the topic's partitions is committed.
    pub async fn assert_all_committed(&self) {
        self.assert_all_committed_of(&self.topic).await;
    }

    /// The same for another topic.
    pub async fn assert_all_committed_of(&self, topic: &str) {
        let ends = self.kafka.end_offsets(topic).await.unwrap();
        let committed = self.kafka.committed(&self.group, topic).await.unwrap();
        assert!(
            reach(&committed, &ends),
            "{committed:?}, the logs end at {ends:?}"
        );
    }

    /// The group's only member, as the coordinator calls it; of the classic protocol.
    pub async fn only_member(&self) -> String {
        self.other_member("").await
    }

    /// The same once it is not `id`.
    pub async fn other_member(&self, id: &str) -> String {
        let what = format!("there is a member other than {id:?}");
        wait_for(&what, DEADLINE, async || {
            let described = self.kafka.group(&self.group).await.unwrap();
            let mut ids = described.members.into_iter().map(|member| member.id);
            ids.next().filter(|found| found != id)
        })
        .await
    }

    /// Waits until the first partition is committed up to this offset.
    pub async fn committed_at(&self, offset: i64) {
        wait_for(&format!("{offset} is committed"), DEADLINE, async || {
            (self.committed().await[0].offset == Some(offset)).then_some(())
        })
        .await;
    }

    /// What the group's commits say is settled.
    pub async fn claims(&self) -> Vec<Claim> {
        self.claims_of(&self.topic).await
    }

    /// The same for another topic.
    pub async fn claims_of(&self, topic: &str) -> Vec<Claim> {
        claims(self.kafka, &self.group, topic).await.unwrap()
    }

    /// Waits until the commits say of every record of another topic that it is settled.
    pub async fn all_claimed_of(&self, topic: &str) {
        let produced = self.kafka.produced(topic).await.unwrap();
        wait_for("everything is committed as settled", DEADLINE, async || {
            unclaimed(&self.claims_of(topic).await, &produced)
                .is_empty()
                .then_some(())
        })
        .await;
    }

    /// Waits until the commits leave out exactly `expected` of `produced`, and returns them.
    pub async fn unclaimed(&self, produced: &[Produced], expected: &BTreeSet<Place>) -> Vec<Claim> {
        wait_for("the commits say what is settled", DEADLINE, async || {
            let claims = self.claims().await;
            (unclaimed(&claims, produced) == *expected).then_some(claims)
        })
        .await
    }

    /// The same for a topic of one partition: exactly these offsets are left out.
    pub async fn unclaimed_at(&self, offsets: impl IntoIterator<Item = i64>) -> Vec<Claim> {
        let expected = offsets.into_iter().map(|offset| self.place(offset));
        self.unclaimed(&self.produced().await, &expected.collect())
            .await
    }

    /// Where that record of the first partition lies.
    pub fn place(&self, offset: i64) -> Place {
        Place {
            topic: self.topic.clone(),
            partition: 0,
            offset,
        }
    }
}

/// A [`Scene`] with a retry and a dead-letter topic, of as many partitions as the first one has.
#[derive(Debug)]
pub struct FailureScene<'a> {
    /// The rest.
    pub scene: Scene<'a>,
    /// The retry topic.
    pub retry: String,
    /// The dead-letter topic.
    pub dead: String,
}

impl<'a> Deref for FailureScene<'a> {
    type Target = Scene<'a>;

    fn deref(&self) -> &Self::Target {
        &self.scene
    }
}

impl<'a> FailureScene<'a> {
    /// Three topics of so many partitions.
    pub async fn new(kafka: &'a Kafka, partitions: i32, protocol: Protocol) -> Self {
        let scene = Scene::new(kafka, partitions).await.by(protocol);
        let retry = scene.another("retry", partitions).await;
        let dead = scene.another("dead", partitions).await;
        Self { scene, retry, dead }
    }

    /// A subscription that dead-letters, and commits often.
    pub fn subscribe(&self) -> SubscriptionBuilder {
        self.scene
            .subscribe()
            .commit_interval(Duration::from_millis(50))
            .dead_letter(DeadLetter::topic(&self.dead))
    }

    /// The dead letters by where they came from.
    pub async fn dead_letters(&self) -> BTreeMap<Place, Vec<StoredRecord>> {
        dead_letters(self.kafka, &self.dead).await.unwrap()
    }
}

async fn create(kafka: &Kafka, topic: &str, partitions: i32) {
    kafka.create_topic(topic, partitions, 1, &[]).await.unwrap();
}

/// Whether commits stand at the ends of the logs. Nothing is committed for a partition without
/// records.
pub fn reach(committed: &[Committed], ends: &[i64]) -> bool {
    let committed = committed
        .iter()
        .map(|committed| committed.offset.unwrap_or(0));
    committed.eq(ends.iter().copied())
}

/// The partitions that a member has at the moment.
pub fn partitions(member: &Subscription) -> BTreeSet<i32> {
    let status = member.status();
    status
        .partitions
        .iter()
        .map(|partition| partition.partition)
        .collect()
}

/// Waits until the member is in trouble of this kind, and returns what it says about it.
pub async fn trouble(member: &Subscription, kind: TroubleKind) -> String {
    wait_for(&format!("the trouble is {kind:?}"), DEADLINE, async || {
        let trouble = member.status().trouble?;
        (trouble.kind == kind).then_some(trouble.message)
    })
    .await
}

/// Waits until the member is in no trouble.
pub async fn no_trouble(member: &Subscription) {
    wait_until("the trouble has passed", DEADLINE, || {
        member.status().trouble.is_none()
    })
    .await;
}
