//! The polling thread.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::batching::Batching;
use super::commits::Commits;
use super::failures::panicked;
use super::group::HandOver;
use super::partitions::{Asked, Assignment};
use super::settings::{OwnerFactory, PollSettings};
use super::watch::{DeadLetterTopic, Identities};
use crate::kafka::{Client, EndOffsets, FailedFetch, Failure, READ_LIMIT, Sign, healthy, trouble};
use crate::metrics::{PollMetrics, PollSection, SubscriptionMetrics};
use crate::status::{Control, State, SubscriptionError};
use crate::support::panics;
use keylane_core::member::Standing;

/// How often pauses, commit points and orders are checked: often enough that no work waits for it,
/// seldom enough that a thousand idle partitions cost little. While starts wait for a commit it is
/// [`DRAIN_WAIT`]: the commit is sent, and its answer is taken in, by two of these looks.
const HOUSEKEEPING: Duration = Duration::from_millis(5);
/// The longest wait for a message. Bounds how long an order of the handle waits.
const IDLE_WAIT: Duration = Duration::from_millis(50);
/// The same while owners drain: their end is not signalled, and a drain keeps every partition
/// waiting. The same while the broker's answer is awaited: it is not signalled either.
const DRAIN_WAIT: Duration = Duration::from_millis(2);

/// Everything the polling thread owns.
pub(crate) struct PollLoop {
    pub(crate) client: Client,
    pub(crate) identities: Identities,
    pub(crate) commits: Commits,
    pub(crate) hand_over: HandOver,
    pub(crate) standing: Standing,
    pub(crate) control: Arc<Control>,
    pub(crate) metrics: Arc<SubscriptionMetrics>,
    pub(crate) poll_metrics: PollMetrics,
    pub(crate) settings: Arc<PollSettings>,
    pub(crate) assignment: Assignment,
    pub(crate) batching: Batching,
    pub(crate) end_offsets: EndOffsets,
    /// On the way to first positions.
    pub(crate) asked: Asked,
    pub(crate) dead_letters: DeadLetterTopic,
    /// The subscription's pause, for the state and for new owners.
    pub(crate) was_paused: bool,
    pub(crate) last_housekeeping: Instant,
    pub(crate) taken_since_housekeeping: usize,
    pub(crate) last_slow_housekeeping: Instant,
    pub(crate) last_touch: Instant,
}

impl PollLoop {
    pub(crate) fn new(
        client: Client,
        control: Arc<Control>,
        metrics: Arc<SubscriptionMetrics>,
        settings: PollSettings,
        end_offsets: EndOffsets,
        open: OwnerFactory,
    ) -> Self {
        let dead_letters = DeadLetterTopic::new(settings.dead_letter_topic.clone());
        let batching = Batching::new(settings.intake);
        let settings = Arc::new(settings);
        Self {
            client,
            identities: Identities::default(),
            commits: Commits::new(settings.commit_every),
            hand_over: HandOver::new(),
            standing: Standing::default(),
            control,
            assignment: Assignment::new(settings.clone(), open),
            poll_metrics: PollMetrics::new(&settings.subscription),
            metrics,
            settings,
            batching,
            end_offsets,
            asked: Asked::default(),
            dead_letters,
            was_paused: false,
            last_housekeeping: Instant::now(),
            taken_since_housekeeping: 0,
            last_slow_housekeeping: Instant::now(),
            last_touch: Instant::now(),
        }
    }

    /// Runs until a shutdown, a failure or a panic, then closes the consumer.
    pub(crate) fn run(mut self) {
        if let Err(text) = panics::caught(|| self.turn()) {
            // Before the consumer closes, which may take its time.
            self.control.fail(panicked(&text));
        }
        self.close();
    }

    fn turn(&mut self) {
        while !self.control.must_end() {
            if let Some(deadline) = self.control.shutdown_deadline() {
                self.hand_over.shut_down(deadline);
                self.advance_hand_over();
                if self.hand_over.is_closed() {
                    break;
                }
            }
            self.pass();
        }
    }

    /// Whether all partitions are being given back, for good.
    pub(crate) fn is_draining(&self) -> bool {
        self.hand_over.is_shutting_down()
    }

    /// One pass: read, hand over, look after everything else.
    fn pass(&mut self) {
        #[cfg(test)]
        if self.hand_over.is_under_way() {
            panics::planted::step("pass in a hand-over", &self.settings.subscription);
        }
        let awaits_answer = self.commits.are_urgent(&self.assignment.partitions);
        let urgent = self.is_draining() || self.hand_over.is_under_way() || awaits_answer;
        let wait = match self.until_next_seek() {
            _ if urgent => DRAIN_WAIT,
            Some(until) => until.clamp(DRAIN_WAIT, IDLE_WAIT),
            None => IDLE_WAIT,
        };
        let entered = Instant::now();
        self.control.set_polled(entered);
        let (batching, table) = (&mut self.batching, &mut self.assignment.partitions);
        let troubled = self.control.troubles.any();
        let mut senders = BTreeSet::new();
        let mut read = self.client.read(wait, |message, cached| {
            if troubled {
                senders.insert(message.broker_id());
            }
            batching.take(cached, table, message);
        });
        let began = Instant::now();
        self.note_reading(began - entered, read.waited);
        // Before a new epoch's start is looked for: that one counts, and of two seeks the last.
        for failed in &read.failed_fetches {
            self.assignment.put_back(&self.client, failed);
        }
        if read.taken > 0 {
            self.reopen();
            for partition in &mut self.assignment.partitions {
                if !partition.batch.is_empty()
                    && self
                        .control
                        .troubles
                        .readable(&partition.topic, partition.partition)
                {
                    healthy(&self.control, Sign::Readable(&partition.topic));
                }
                partition.hand_over();
            }
            healthy(&self.control, Sign::Delivery);
            for sender in senders {
                healthy(&self.control, Sign::DeliveryFrom(sender));
            }
            self.poll_metrics
                .section(PollSection::HandOver, began.elapsed());
        }
        if let Some(failure) = self.client.failure(&mut read) {
            self.note(failure, &read.failed_fetches);
        }
        self.look_after_group();
        self.look_after_lease();
        self.taken_since_housekeeping += read.taken;
        let interval = if awaits_answer {
            DRAIN_WAIT
        } else {
            HOUSEKEEPING
        };
        if self.taken_since_housekeeping >= READ_LIMIT
            || self.last_housekeeping.elapsed() >= interval
        {
            self.housekeeping();
        }
    }

    /// Where the time of a read went. Rebalances are answered inside the client, in the middle of
    /// it.
    fn note_reading(&mut self, took: Duration, waited: Duration) {
        let rebalance = self.client.take_rebalance_time();
        let reading = took.saturating_sub(waited).saturating_sub(rebalance);
        let waited = took.saturating_sub(reading).saturating_sub(rebalance);
        for (section, time) in [
            (PollSection::Wait, waited),
            (PollSection::Read, reading),
            (PollSection::Rebalance, rebalance),
        ] {
            if !time.is_zero() {
                self.poll_metrics.section(section, time);
            }
        }
    }

    /// Errors are either the end or passing trouble.
    fn note(&mut self, failure: Failure, places: &[FailedFetch]) {
        let code = match failure {
            Failure::Fatal(text) => return self.control.fail(SubscriptionError::Fatal(text)),
            Failure::NoPosition(text) => {
                return self.control.fail(SubscriptionError::OffsetReset(text));
            }
            Failure::Passing(code) => code,
        };
        if code.is_some_and(trouble::is_missing_topic) {
            self.identities.hurry();
        }
        // What is about no partition was reported to the context before, with the client's words.
        if let Some(code) = code {
            for FailedFetch {
                topic, partition, ..
            } in places
            {
                trouble::note_unreadable(&self.control, &self.metrics, code, topic, *partition);
            }
        }
    }

    pub(crate) fn show_state(&self) {
        let state = if self.is_draining() {
            State::Draining
        } else if self.hand_over.is_under_way() {
            State::Rebalancing
        } else if self.control.is_paused() {
            State::Paused
        } else if self.control.has_joined() {
            State::Running
        } else {
            State::Starting
        };
        self.set_state(state);
    }

    pub(crate) fn set_state(&self, state: State) {
        self.control.set_state(state);
        self.metrics.set_state(state);
    }
}

impl Drop for PollLoop {
    /// However the loop has ended: the owners end before the client closes.
    fn drop(&mut self) {
        for partition in &self.assignment.partitions {
            partition.inbox.end();
        }
    }
}
