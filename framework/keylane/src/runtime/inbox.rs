//! How anything reaches an owner: one mailbox, emptied whole.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use keylane_core::{LeaderEpoch, LogId, PartitionDirectives, Ticket};
use tokio::sync::Notify;

use super::attempts::AttemptOutcome;
use super::crash_care::Permit;
use crate::processing::EpochLife;
use crate::producer::raw::Acknowledged;
use crate::producer::write_error::WriteError;
use crate::record::Record;
use crate::status::{Act, TakesActs};
use crate::support::lock::lock;

/// A buffer that has grown to more records than this by a burst is not kept for the next one.
const KEPT_CAPACITY: usize = 1_024;
/// Operators' acts that wait for the owner.
const MOST_ACTS: usize = 256;
/// The owner takes so many at once: each may be a walk over all that is pending.
const ACTS_PER_PASS: usize = 4;

/// The mailbox of one owner.
///
/// Bounded by its senders: the polling thread sends at most what the budget allows, and there is
/// one `Finished` or `Written` per attempt or write in flight. Acts are bounded here.
#[derive(Default)]
pub(crate) struct Inbox {
    mail: Mutex<Mail>,
    notify: Notify,
    /// The order to end, readable in the middle of a pass.
    ended: AtomicBool,
    life: Arc<EpochLife>,
}

/// What was in the mailbox.
#[derive(Default)]
pub(super) struct Mail {
    /// Records that are not pending yet. The owner takes some in each pass. Figures of pending
    /// records leave the others out; limits and lag include them.
    pub(super) records: VecDeque<Record>,
    /// From which of them on another leader's epoch holds. Fewer than records.
    pub(super) leaders: VecDeque<(i64, LeaderEpoch)>,
    pub(super) finished: Vec<Finished>,
    pub(super) written: Vec<Written>,
    pub(super) orders: Orders,
    /// A permit that was requested.
    pub(super) permit: Option<Permit>,
    /// Operators' acts, in their order.
    pub(super) acts: Vec<Act>,
    /// What the control topic directs, where that has changed, and its number.
    pub(super) directives: Option<(u64, PartitionDirectives)>,
    /// Others wait in the mailbox.
    pub(super) more_acts: bool,
}

/// The polling thread's orders to an owner. `drain`, `end` and `shutdown` are never taken back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Orders {
    /// Start nothing new; end when what runs has finished.
    pub(crate) drain: bool,
    /// End now: drop what runs.
    pub(crate) end: bool,
    /// The subscription shuts down: an end of the process from now on blames no record.
    pub(crate) shutdown: bool,
    /// The number of the user's pause, of the subscription or the partition, that is on; 0 for
    /// none.
    pub(crate) pause: u64,
    /// Counts the times that starts became possible again after a doubt of membership.
    pub(crate) confirmed: u64,
    /// Attempts of an earlier epoch of this partition have not ended yet.
    pub(crate) waits_for_predecessors: bool,
    /// The number of the latest mark that the broker has; 0 for none.
    pub(crate) marked: u64,
    /// Where the log ended soon after the epoch began.
    pub(crate) log_end: Option<i64>,
    /// The log that is read, as soon as it is known.
    pub(crate) log: Option<LogId>,
    /// A broker has named it since it was last in doubt.
    pub(crate) log_is_confirmed: bool,
}

/// An attempt that did not end at its first poll has ended.
pub(super) struct Finished {
    pub(super) ticket: Ticket,
    /// `None` where its future was dropped before it had one.
    pub(super) outcome: Option<AttemptOutcome>,
    /// From the start of the attempt to its end.
    pub(super) elapsed: Duration,
    /// The part of it that a thread spent on it, where the attempt ran apart from the start.
    pub(super) busy: Option<Duration>,
}

/// The answer to a write to the retry or dead-letter topic.
pub(super) struct Written {
    pub(super) ticket: Ticket,
    pub(super) result: Result<Acknowledged, WriteError>,
}

impl Inbox {
    /// An empty inbox with standing orders: the pause of the subscription (0 for none), and whether
    /// to wait for an earlier epoch of the partition. A partition that arrives during a pause waits
    /// for its end like the others.
    pub(crate) fn new(pause: u64, waits_for_predecessors: bool) -> Self {
        let orders = Orders {
            pause,
            waits_for_predecessors,
            ..Orders::default()
        };
        Self {
            mail: Mutex::new(Mail {
                orders,
                ..Mail::default()
            }),
            ..Self::default()
        }
    }

    /// Hands over one batch, and from which of its records on another leader's epoch holds.
    pub(crate) fn deliver(&self, records: &mut Vec<Record>, leaders: &mut Vec<(i64, LeaderEpoch)>) {
        self.put(|mail| {
            mail.records.extend(records.drain(..));
            mail.leaders.extend(leaders.drain(..));
        });
    }

    /// Whether the owner is to end now: nothing more may start, also in a pass that began before.
    pub(super) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Ends the owner now: what runs is dropped.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.life.set_over();
        self.order(|orders| orders.end = true);
    }

    /// Starts nothing new; ends when what runs has finished. At `deadline` the order to
    /// [`end`](Self::end) follows.
    pub(crate) fn drain(&self, deadline: Instant) {
        self.life.set_draining(deadline);
        self.order(|orders| orders.drain = true);
    }

    /// What of this epoch reaches beyond its owner.
    pub(crate) fn life(&self) -> &Arc<EpochLife> {
        &self.life
    }

    /// Changes the orders; wakes the owner only if they did change.
    pub(crate) fn order(&self, change: impl FnOnce(&mut Orders)) {
        self.put(|mail| change(&mut mail.orders));
    }

    /// Replaces what the control topic directs. Numbers are in order, from 1.
    pub(crate) fn direct(&self, number: u64, directives: PartitionDirectives) {
        self.put(|mail| mail.directives = Some((number, directives)));
    }

    pub(super) fn finished(&self, finished: Finished) {
        self.put(|mail| mail.finished.push(finished));
    }

    pub(super) fn written(&self, written: Written) {
        self.put(|mail| mail.written.push(written));
    }

    /// Unless the epoch is over: the permit would not be given back while this inbox is held.
    pub(super) fn permit(&self, permit: Permit) {
        self.put(|mail| mail.permit = Some(permit).filter(|_| !self.life.is_over()));
    }

    /// The owner ends, and its life is over. Acts that wait have no answer.
    pub(super) fn give_back_permit(&self) {
        self.put(|mail| {
            mail.permit = None;
            mail.acts.clear();
        });
    }

    /// Takes everything, leaving `taken`'s (cleared) buffers behind for reuse. Records come behind
    /// those that `taken` has.
    pub(super) fn take(&self, taken: &mut Mail) {
        taken.finished.clear();
        taken.written.clear();
        let mut mail = self.lock();
        if taken.records.is_empty() {
            std::mem::swap(&mut mail.records, &mut taken.records);
            if mail.records.capacity() > KEPT_CAPACITY {
                mail.records = VecDeque::new();
            }
        } else {
            taken.records.append(&mut mail.records);
        }
        taken.leaders.append(&mut mail.leaders);
        std::mem::swap(&mut mail.finished, &mut taken.finished);
        std::mem::swap(&mut mail.written, &mut taken.written);
        taken.orders = mail.orders;
        taken.permit = mail.permit.take();
        taken.directives = mail.directives.take();
        let few = mail.acts.len().min(ACTS_PER_PASS);
        taken.acts.extend(mail.acts.drain(..few));
        taken.more_acts = !mail.acts.is_empty();
    }

    /// Nothing takes them any longer: they have no answer.
    pub(super) fn drop_acts(&self) {
        let acts = std::mem::take(&mut self.lock().acts);
        drop(acts);
    }

    /// Waits until there may be something to take. Cancel-safe: a wake-up is kept for the next
    /// call.
    pub(super) async fn wait(&self) {
        self.notify.notified().await;
    }

    fn put(&self, put: impl FnOnce(&mut Mail)) {
        let wake = {
            let mut mail = self.lock();
            let (was_empty, orders) = (mail.is_empty(), mail.orders);
            put(&mut mail);
            // The first letter wakes the owner; those that follow find it awake or about to be.
            (was_empty && !mail.is_empty()) || mail.orders != orders
        };
        if wake {
            self.notify.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Mail> {
        // Nothing that runs under this lock can leave the mail half-written.
        lock(&self.mail)
    }
}

impl Mail {
    fn is_empty(&self) -> bool {
        let no_work =
            self.records.is_empty() && self.finished.is_empty() && self.written.is_empty();
        no_work && self.permit.is_none() && self.acts.is_empty() && self.directives.is_none()
    }
}

impl TakesActs for Inbox {
    fn take_act(&self, act: Act) -> bool {
        let mut has_room = true;
        self.put(|mail| {
            has_room = mail.acts.len() < MOST_ACTS;
            // Nothing else would answer it, while this inbox is held.
            if has_room && !self.life.is_over() {
                mail.acts.push(act);
            }
        });
        has_room
    }
}

#[cfg(test)]
mod tests {
    use keylane_core::{Offset, OperatorNote};
    use tokio::sync::oneshot;

    use super::*;
    use crate::record::Arena;
    use crate::status::ActKind;

    #[tokio::test]
    async fn a_permit_that_comes_too_late_is_given_back_although_an_attempt_still_holds_the_inbox()
    {
        for owner_goes_first in [true, false] {
            let late = Arc::new(Inbox::new(0, false));
            if owner_goes_first {
                late.life().set_over();
            }
            tokio::spawn(super::super::crash_care::request_trial(late.clone()));
            if !owner_goes_first {
                late.wait().await;
                late.life().set_over();
                late.give_back_permit();
            }
            let next = Arc::new(Inbox::new(0, false));
            tokio::spawn(super::super::crash_care::request_trial(next.clone()));
            let waited = tokio::time::timeout(Duration::from_secs(30), next.wait()).await;
            assert!(waited.is_ok(), "owner goes first: {owner_goes_first}");
            next.life().set_over();
            next.give_back_permit();
        }
    }

    #[test]
    fn acts_are_taken_a_few_at_a_time_and_those_that_are_left_have_no_answer() {
        let (inbox, mut mail) = (Inbox::new(0, false), Mail::default());
        let act = |number| {
            let (answer, wait) = oneshot::channel();
            let kind = ActKind::Skip(Offset::new(number), answer);
            let note = OperatorNote::new("ann", "INC-7");
            (Act { note, kind }, wait)
        };
        let mut waits = Vec::new();
        for number in 0..MOST_ACTS as i64 {
            let (act, wait) = act(number);
            assert!(inbox.take_act(act));
            waits.push(wait);
        }
        assert!(!inbox.take_act(act(-1).0));
        let mut taken = Vec::new();
        for pass in 1..=3 {
            inbox.take(&mut mail);
            assert!(mail.more_acts);
            taken.extend(mail.acts.drain(..).map(|act| match act.kind {
                ActKind::Skip(offset, _) => offset.get(),
                _ => -1,
            }));
            let expected: Vec<_> = (0..pass * ACTS_PER_PASS as i64).collect();
            assert_eq!(taken, expected);
        }
        inbox.life().set_over();
        inbox.drop_acts();
        assert!(waits.iter_mut().all(|wait| wait.try_recv().is_err()));
        inbox.take(&mut mail);
        assert!(!mail.more_acts && mail.acts.is_empty());
    }

    #[test]
    fn records_come_behind_those_that_were_left_over_and_a_burst_leaves_no_large_buffer() {
        let (inbox, mut mail, mut arena) =
            (Inbox::new(0, false), Mail::default(), Arena::default());
        let mut record = |offset| Record::new(&mut arena, offset, None, None, None, None);
        let burst = 2 * KEPT_CAPACITY as i64;
        inbox.deliver(&mut (0..burst).map(&mut record).collect(), &mut Vec::new());
        inbox.take(&mut mail);
        let mut taken: Vec<_> = mail
            .records
            .drain(..100)
            .map(|record| record.offset())
            .collect();
        inbox.deliver(
            &mut (burst..burst + 100).map(&mut record).collect(),
            &mut Vec::new(),
        );
        inbox.take(&mut mail);
        taken.extend(mail.records.drain(..).map(|record| record.offset()));
        assert_eq!(taken, (0..burst + 100).collect::<Vec<_>>());
        inbox.take(&mut mail);
        inbox.take(&mut mail);
        let kept = [mail.records.capacity(), inbox.lock().records.capacity()];
        assert!(
            kept.iter().all(|&capacity| capacity <= KEPT_CAPACITY),
            "{kept:?}"
        );
    }

    #[test]
    fn a_partition_opened_during_a_pause_is_paused_until_the_order_changes() {
        let (inbox, mut mail) = (Inbox::new(1, false), Mail::default());
        inbox.take(&mut mail);
        assert_eq!(mail.orders.pause, 1);
        inbox.order(|orders| orders.pause = 0);
        inbox.take(&mut mail);
        assert_eq!(mail.orders.pause, 0);
    }
}
