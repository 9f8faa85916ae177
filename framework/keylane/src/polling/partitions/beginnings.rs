//! Partitions without a position to be read from: their start is queried, committed, and only then
//! read. And those whose position is to be confirmed: was the log cut below it?
//!
//! [`Beginning`] decides what comes next; this carries it out. Fetching is paused from before the
//! assignment to the last step, so nothing starts in the partition. The waits for a broker are
//! short.

use std::time::{Duration, Instant};

use keylane_core::{Doubling, Step};

use super::assigned::Assigned;
use super::assignment::Assignment;
use crate::kafka::{PositionToSet, trouble};
use crate::polling::failures::without_position;
use crate::polling::member::Member;
use crate::polling::watch::SideClient;

/// How long after a question the next one follows that has no answer yet.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// The same for a position that the client does not take yet: it takes none before it has started
/// the partition, usually within milliseconds. Twice as long each time, up to the former.
const SEEK_AGAIN: Duration = Duration::from_millis(5);
/// The same for what is committed: the question keeps the polling thread, for a tenth of its time
/// at most.
const ASK_COMMITTED_AGAIN: Duration = Duration::from_secs(5);
/// How long that is awaited at first.
const COMMITTED_WITHIN: Duration = Duration::from_millis(500);
/// Twice as long each time, up to this: the answers of a coordinator that always takes longer would
/// never be used.
const COMMITTED_WITHIN_AT_MOST: Duration = Duration::from_secs(8);
/// How long the client may take to set positions. It answers at once.
const SEEK_WITHIN: Duration = Duration::from_millis(500);
/// When a partition that still has no position is reported, and how often from then on.
const REPORT_EVERY: Duration = Duration::from_secs(30);

/// The way to first positions: when the queries were sent last, over all partitions.
pub(crate) struct Beginnings {
    range: Option<Instant>,
    committed: Option<Instant>,
    /// How long one query may take.
    committed_within: Doubling,
    seek: Seek,
    reported: Option<Instant>,
}

impl Default for Beginnings {
    fn default() -> Self {
        Self {
            range: None,
            committed: None,
            committed_within: Doubling::new(COMMITTED_WITHIN, COMMITTED_WITHIN_AT_MOST),
            seek: Seek::default(),
            reported: None,
        }
    }
}

/// When positions are set next.
struct Seek {
    again_at: Option<Instant>,
    wait: Doubling,
}

impl Default for Seek {
    fn default() -> Self {
        Self {
            again_at: None,
            wait: Doubling::new(SEEK_AGAIN, ASK_AGAIN),
        }
    }
}

impl Seek {
    /// How long that is from now on.
    fn due_in(&self) -> Duration {
        self.again_at.map_or(Duration::ZERO, |again_at| {
            again_at.saturating_duration_since(Instant::now())
        })
    }

    /// They were set, all or only some.
    fn done(&mut self, all: bool) {
        if all {
            *self = Self::default();
        } else {
            self.again_at = Some(Instant::now() + self.wait.get());
            self.wait.failed();
        }
    }
}

impl Beginnings {
    /// New partitions: those are tried at once.
    pub(crate) fn hurry(&mut self) {
        self.seek = Seek::default();
    }

    fn is_due(asked: &mut Option<Instant>, interval: Duration) -> bool {
        let is_due = asked.is_none_or(|asked| asked.elapsed() >= interval);
        if is_due {
            *asked = Some(Instant::now());
        }
        is_due
    }

    /// Takes the next steps of the partitions that have no position yet.
    pub(crate) fn look_after(&mut self, member: &mut Member, side_client: &mut SideClient) {
        let is_searching = |p: &Assigned| p.beginning.is_some();
        if !member.assignment.partitions.iter().any(is_searching)
            || member.is_draining()
            || member.hand_over.is_under_way()
        {
            return;
        }
        if at(&member.assignment, Step::AskCommitted).next().is_some() {
            self.ask_committed(member);
        }
        if let Some(p) = at(&member.assignment, Step::Fail).next() {
            return member.control.fail(without_position(&p.topic, p.partition));
        }
        self.ask_ranges(member, side_client);
        open_known(&mut member.assignment);
        self.seek(member);
        self.report(&member.assignment);
    }

    /// What the assignment could not find out.
    fn ask_committed(&mut self, member: &mut Member) {
        let within = self.committed_within.get();
        if !Self::is_due(&mut self.committed, ASK_COMMITTED_AGAIN.max(within * 10)) {
            return;
        }
        let unknown = at(&member.assignment, Step::AskCommitted);
        let unknown = unknown.map(|p| (&*p.topic, p.partition));
        match member.client.committed(unknown, within) {
            Ok(answers) => {
                self.committed_within.succeeded();
                for answer in answers {
                    member.assignment.committed_is(
                        &answer.topic,
                        answer.partition,
                        answer.committed,
                    );
                }
            }
            Err(error) => {
                if error.is_time_out() {
                    self.committed_within.failed();
                } else {
                    self.committed_within.succeeded();
                }
                trouble::note_committed(&member.control, &member.metrics, &error);
            }
        }
    }

    fn ask_ranges(&mut self, member: &mut Member, side_client: &mut SideClient) {
        if at(&member.assignment, Step::AskRange).next().is_none() {
            return;
        }
        side_client.take(member);
        if Self::is_due(&mut self.range, ASK_AGAIN) {
            let unknown = at(&member.assignment, Step::AskRange);
            // What is pending may still be settled; a new epoch would drop it.
            let unknown = unknown.filter(|p| p.pending_records() == 0);
            let ends: Vec<_> = unknown.map(|p| (p.topic.clone(), p.partition)).collect();
            if !ends.is_empty() {
                side_client.ask_at_once(ends);
            }
        }
    }

    /// How long the next read may wait for records: positions are to be set soon.
    pub(crate) fn until_next_seek(&self, assignment: &Assignment) -> Option<Duration> {
        let is_wanted = |p: &Assigned| matches!(p.step(), Some(Step::Seek(..)));
        let wanted = assignment.partitions.iter().any(is_wanted);
        wanted.then(|| self.seek.due_in())
    }

    /// Sets all positions that are known in one call: one partition more costs no time.
    fn seek(&mut self, member: &mut Member) {
        if self
            .until_next_seek(&member.assignment)
            .is_none_or(|wait| !wait.is_zero())
        {
            return;
        }
        let (mut places, mut positions) = (Vec::new(), Vec::new());
        for (place, partition) in member.assignment.partitions.iter().enumerate() {
            let Some(Step::Seek(position, leader_epoch)) = partition.step() else {
                continue;
            };
            places.push((place, position, leader_epoch));
            positions.push(PositionToSet {
                topic: &partition.topic,
                partition: partition.partition,
                position,
                leader_epoch,
            });
        }
        let answers = member.client.seek_all(&positions, SEEK_WITHIN);
        let mut refused = 0;
        for ((place, position, epoch), answer) in places.into_iter().zip(answers) {
            let partition = &mut member.assignment.partitions[place];
            let (topic, id, position) = (&partition.topic, partition.partition, position.get());
            match answer {
                None => {
                    match epoch {
                        None => tracing::info!(%topic, partition = id, position, "reading begins"),
                        Some(epoch) => tracing::debug!(
                            %topic, partition = id, position, leader_epoch = epoch.get(),
                            "reading begins, unless the log was cut"
                        ),
                    }
                    partition.beginning = None;
                    let now = partition.now();
                    partition.start_question.ask(epoch.map(|_| now));
                }
                Some(error) => {
                    tracing::debug!(%error, %topic, partition = id, "the client takes no position yet");
                    refused += 1;
                }
            }
        }
        self.seek.done(refused == 0);
        member.update_pauses();
        // A second later health would still report that there is no position.
        member.publish_partitions();
    }

    fn report(&mut self, assignment: &Assignment) {
        let is_late =
            |p: &&Assigned| p.beginning.is_some() && p.searching_since.elapsed() >= REPORT_EVERY;
        let late = assignment.partitions.iter().filter(is_late);
        let (first, late) = (late.clone().next(), late.count());
        if late > 0 && Self::is_due(&mut self.reported, REPORT_EVERY) {
            let place = first
                .map(|p| format!("{}-{}", p.topic, p.partition))
                .unwrap_or_default();
            tracing::warn!(
                partitions = late, first = place, step = ?first.and_then(Assigned::step),
                "partitions have no position to be read from yet, and nothing starts there: the brokers do not \
                 answer, do not take the commit, or records from before are not settled"
            );
        }
    }
}

/// The partitions whose next step is this one.
fn at(assignment: &Assignment, step: Step) -> impl Iterator<Item = &Assigned> {
    let is_at = move |p: &&Assigned| p.step() == Some(step);
    assignment.partitions.iter().filter(is_at)
}

/// Begins the epochs of the partitions whose position is known.
fn open_known(assignment: &mut Assignment) {
    let known: Vec<_> = (assignment.partitions.iter())
        .filter_map(|p| match p.step() {
            Some(Step::Commit(position)) => Some((p.topic.clone(), p.partition, position)),
            _ => None,
        })
        .collect();
    for (topic, partition, position) in known {
        assignment.begin_at(&topic, partition, position);
    }
    assignment.take_confirmations();
}

#[cfg(test)]
mod tests;
