//! What the control topic orders for the assigned partitions.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keylane_core::LogId;
use keylane_core::control::Directives;

use super::assigned::Assigned;
use crate::status::{ControlFeed, ControlPause};
use crate::support::clock;

/// How often ends of orders are looked for, and so how exact they are. The clock may be corrected,
/// so no moment is computed.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The polling thread's view of the control topic.
pub(crate) struct Steering {
    feed: Arc<ControlFeed>,
    directives: Arc<Directives>,
    /// That of `directives`.
    version: u64,
    /// The questions that were answered at the last look.
    answered: u64,
    looked_at: Option<Instant>,
    /// Between these moments of the clock, what holds does not change with time.
    steady: Option<(i64, i64)>,
    in_force: bool,
}

/// What the control topic means for one partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Steered {
    /// The question that has to be answered before the partition starts.
    question: Option<u64>,
    /// A record of it is to be skipped if its log is one with this id, and that is not known.
    lacks_log: bool,
    /// What is directed was computed for this log.
    directed_for: Option<LogId>,
    /// The pause that is in force.
    pub(crate) pause: Option<Arc<ControlPause>>,
}

impl Steered {
    /// A partition that was assigned just now, and waits for the answer to this question.
    pub(crate) fn waiting_for(question: u64) -> Self {
        Self {
            question: Some(question),
            ..Self::default()
        }
    }

    /// Whether nothing may start.
    pub(crate) fn is_held(&self) -> bool {
        self.waits() || self.pause.is_some()
    }

    /// Whether it is not known what may start: the topic has not been read to its end since the
    /// assignment, or the partition's log is not known.
    pub(crate) fn waits(&self) -> bool {
        self.question.is_some() || self.lacks_log
    }
}

impl Steering {
    pub(crate) fn new(feed: Arc<ControlFeed>) -> Self {
        Self {
            directives: feed.directives(),
            feed,
            version: 0,
            answered: 0,
            looked_at: None,
            steady: None,
            in_force: false,
        }
    }

    /// A question for what is in the topic now.
    pub(crate) fn ask(&self) -> u64 {
        self.feed.ask()
    }

    /// Takes in what has changed: in the topic, or with time.
    pub(crate) fn look(&mut self, partitions: &mut [Assigned]) {
        // In this order: what an answered question has seen is published before the answer.
        let answered = self.feed.answered();
        let version = self.feed.version();
        let is_due = self
            .looked_at
            .is_none_or(|looked| looked.elapsed() >= LOOK_EVERY);
        if (self.version, self.answered) == (version, answered) && !is_due {
            return;
        }
        let now = clock::unix_millis();
        let mut is_news = self.steady.is_none_or(|(from, to)| now < from || now >= to);
        if self.version != version {
            self.directives = self.feed.directives();
            (self.in_force, is_news) = (false, true);
        }
        if is_news {
            let next = self.directives.next_deadline(now);
            self.steady = Some((now, next.unwrap_or(i64::MAX)));
        }
        (self.version, self.answered) = (version, answered);
        self.looked_at = Some(Instant::now());
        for partition in partitions.iter_mut() {
            if is_news || partition.log.id() != partition.steered.directed_for {
                self.direct(partition, now);
            }
            let steered = &mut partition.steered;
            steered.question = steered.question.filter(|it| *it > answered);
        }
    }

    /// Gives the owner of an epoch that begins what is ordered, before its first record.
    pub(super) fn begin(&self, partition: &mut Assigned) {
        self.direct(partition, clock::unix_millis());
    }

    fn direct(&self, partition: &mut Assigned, now_millis: i64) {
        let log = partition.log.id();
        let (topic, number) = (&*partition.topic, partition.partition);
        let directives = self.directives.of(topic, number, log, now_millis);
        let lacks_log = log.is_none() && self.directives.needs_log(topic, number, now_millis);
        let pause = self.directives.pause_of(topic, number, now_millis);
        let pause = pause.map(|(scope, order)| ControlPause::of(scope, order));
        partition.direct(directives);
        let steered = &mut partition.steered;
        (steered.lacks_log, steered.directed_for) = (lacks_log, log);
        if steered.pause.as_deref() != pause.as_ref() {
            steered.pause = pause.map(Arc::new);
        }
    }

    /// After the orders were given: whether every owner has them.
    pub(crate) fn look_whether_in_force(&mut self, partitions: &[Assigned]) {
        if self.in_force {
            return;
        }
        if partitions.iter().all(Assigned::obeys_control) {
            self.in_force = true;
            self.feed.set_in_force(self.version);
        }
    }
}
