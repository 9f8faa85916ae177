//! What the control topic orders for the assigned partitions.

use std::sync::Arc;
use std::time::{Duration, Instant};

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
    /// That of `directives`, and the questions that were answered then.
    seen: (u64, u64),
    looked_at: Option<Instant>,
    in_force: bool,
}

/// What the control topic means for one partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Steered {
    /// The question that has to be answered before the partition starts.
    question: Option<u64>,
    /// The pause that is in force.
    pub(crate) pause: Option<Arc<ControlPause>>,
}

impl Steered {
    /// A partition that was assigned just now, and waits for the answer to this question.
    pub(crate) fn from(question: u64) -> Self {
        Self {
            question: Some(question),
            pause: None,
        }
    }

    /// Whether nothing may start.
    pub(crate) fn is_held(&self) -> bool {
        self.question.is_some() || self.pause.is_some()
    }

    /// Whether the topic has not been read to its end since the assignment.
    pub(crate) fn waits(&self) -> bool {
        self.question.is_some()
    }
}

impl Steering {
    pub(crate) fn new(feed: Arc<ControlFeed>) -> Self {
        Self {
            directives: feed.directives(),
            feed,
            seen: (0, 0),
            looked_at: None,
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
        if self.seen == (version, answered) && !is_due {
            return;
        }
        if self.seen.0 != version {
            self.directives = self.feed.directives();
            self.in_force = false;
        }
        self.seen = (version, answered);
        self.looked_at = Some(Instant::now());
        let now = clock::unix_millis();
        for partition in partitions.iter_mut() {
            let waits = partition.steered.question.filter(|it| *it > answered);
            let pause = self
                .directives
                .pause_of(&partition.topic, partition.partition, now)
                .map(|(scope, order)| ControlPause::of(scope, order));
            let is_same = partition.steered.pause.as_deref() == pause.as_ref();
            self.direct(partition, now);
            partition.steered.question = waits;
            if !is_same {
                partition.steered.pause = pause.map(Arc::new);
            }
        }
    }

    /// Gives the owner of an epoch that begins what is ordered, before its first record.
    pub(super) fn begin(&self, partition: &mut Assigned) {
        self.direct(partition, clock::unix_millis());
    }

    fn direct(&self, partition: &mut Assigned, now_millis: i64) {
        let log = partition.log.id();
        let (topic, number) = (&partition.topic, partition.partition);
        let directives = self.directives.of(topic, number, log, now_millis);
        partition.direct(directives);
    }

    /// After the orders were given: whether every owner has them.
    pub(crate) fn look_whether_in_force(&mut self, partitions: &[Assigned]) {
        if self.in_force {
            return;
        }
        if partitions.iter().all(Assigned::obeys_control) {
            self.in_force = true;
            self.feed.set_in_force(self.seen.0);
        }
    }
}
