//! Whatever happens in whatever order: what the shell is never ordered to do, and what it always
//! is, in the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Event {
    Assigned(i32),
    Revoked {
        first: i32,
        count: i32,
        lost: bool,
        is_looked_up: bool,
        deadline: u64,
    },
    /// What runs of a partition has finished.
    OwnerEnds(i32),
    CommitIsOver,
    /// The client speaks of a loss, or no longer.
    Lost(bool),
    ShutDown(u64),
    Fail,
    Passes(u64),
    /// The process is stopped for so long.
    StandsStill(u64),
}

const PARTITIONS: i32 = 4;
/// How often the shell looks, in milliseconds.
const LOOK: u64 = 250;
/// From a hand-over's deadline to its answer, at most, with a look late at each step.
const WHOLE_WAY: Duration = Duration::from_secs(8);

fn event() -> impl Strategy<Value = Event> {
    let partition = 0..PARTITIONS;
    let millis = || prop_oneof![0..50_u64, 0..700_u64, 0..20_000_u64];
    prop_oneof![
        4 => partition.clone().prop_map(Event::Assigned),
        3 => (partition.clone(), 0..3, prop::bool::weighted(0.2), any::<bool>(), millis()).prop_map(
            |(first, count, lost, is_looked_up, deadline)| {
                Event::Revoked { first, count, lost, is_looked_up, deadline }
            }
        ),
        6 => partition.prop_map(Event::OwnerEnds),
        3 => Just(Event::CommitIsOver),
        1 => prop::bool::weighted(0.3).prop_map(Event::Lost),
        1 => millis().prop_map(Event::ShutDown),
        1 => prop::bool::weighted(0.1).prop_map(|fails| match fails {
            true => Event::Fail,
            false => Event::Passes(1),
        }),
        6 => millis().prop_map(Event::Passes),
        1 => millis().prop_map(Event::StandsStill),
    ]
}

struct Epoch {
    topic: Arc<str>,
    partition: i32,
    has_ended: bool,
    has_drained: bool,
    may_start: bool,
    /// It came in a shutdown: nothing of it has ever started.
    is_idle: bool,
    ordered_to_end: Option<Moment>,
}

impl Owner for Epoch {
    fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    fn partition(&self) -> i32 {
        self.partition
    }

    fn has_ended(&self) -> bool {
        self.has_ended
    }

    fn has_drained(&self) -> bool {
        self.has_drained
    }

    fn pending(&self) -> u64 {
        0
    }
}

/// The shell and the client, as far as they matter here, and the rules in other words.
struct Model {
    hand_over: HandOver,
    now: Moment,
    epochs: BTreeMap<i32, Epoch>,
    /// Revoked and not answered: whether they are lost, and by when to be answered at the latest.
    owed: Option<(BTreeMap<i32, bool>, Moment)>,
    spoken_of: bool,
    /// Since the revoke.
    was_spoken_of: bool,
    last_commit_is_over: bool,
    stored: Vec<TopicPartition>,
    close_by: Option<Moment>,
    has_failed: bool,
    is_closed: bool,
}

impl Model {
    fn new() -> Self {
        Self {
            hand_over: HandOver::default(),
            now: Moment::ORIGIN,
            epochs: BTreeMap::new(),
            owed: None,
            spoken_of: false,
            was_spoken_of: false,
            last_commit_is_over: false,
            stored: Vec::new(),
            close_by: None,
            has_failed: false,
            is_closed: false,
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            // The client is gone.
            Event::Assigned(_) | Event::Revoked { .. } if self.is_closed => {}
            Event::Assigned(partition) => {
                let place = TopicPartition::new("t", partition);
                if self.epochs.contains_key(&partition) {
                    return;
                }
                let epoch = Epoch {
                    topic: place.topic.clone(),
                    partition,
                    has_ended: false,
                    has_drained: false,
                    may_start: true,
                    is_idle: self.hand_over.is_shutting_down(),
                    ordered_to_end: None,
                };
                self.epochs.insert(partition, epoch);
                self.hand_over.assigned(&[place]);
            }
            Event::Revoked {
                first,
                count,
                lost,
                is_looked_up,
                deadline,
            } => {
                self.revoke(first..first + count, lost, is_looked_up, deadline);
            }
            Event::OwnerEnds(partition) => {
                if let Some(epoch) = self.epochs.get_mut(&partition).filter(|it| !it.may_start) {
                    (epoch.has_ended, epoch.has_drained) = (true, epoch.ordered_to_end.is_none());
                }
            }
            Event::CommitIsOver => self.last_commit_is_over = true,
            Event::Lost(spoken_of) => self.spoken_of = spoken_of,
            Event::ShutDown(millis) => {
                let deadline = self.now + Duration::from_millis(millis);
                self.hand_over.shut_down(deadline);
                let by = self.now.max(deadline) + WHOLE_WAY + SHUTDOWN.most;
                self.close_by = Some(self.close_by.map_or(by, |earlier| earlier.min(by)));
            }
            Event::Fail => {
                self.hand_over.fail();
                self.has_failed = true;
                self.close_by = Some(self.now + WHOLE_WAY);
            }
            Event::Passes(millis) => {
                for _ in 0..millis / LOOK {
                    self.now = self.now + Duration::from_millis(LOOK);
                    self.look();
                }
                self.now = self.now + Duration::from_millis(millis % LOOK);
            }
            Event::StandsStill(millis) => {
                self.now = self.now + Duration::from_millis(millis);
                if let Some((_, by)) = &mut self.owed {
                    *by = (*by).max(self.now) + WHOLE_WAY;
                }
                self.close_by = self.close_by.map(|by| by.max(self.now) + SHUTDOWN.most);
            }
        }
    }

    fn revoke(
        &mut self,
        range: std::ops::Range<i32>,
        lost: bool,
        is_looked_up: bool,
        deadline: u64,
    ) {
        let owed = self.owed.as_ref().map(|(places, _)| places);
        let is_owed = |partition: &i32| owed.is_some_and(|owed| owed.contains_key(partition));
        let partitions: Vec<_> = range
            .filter(|it| self.epochs.contains_key(it) && !is_owed(it))
            .collect();
        let revoked = if lost { Revoked::Lost } else { Revoked::Asked };
        if revoked.answered_by(self.is_closed, self.owed.is_some()) == AnsweredBy::Callback {
            self.epochs
                .retain(|partition, _| !partitions.contains(partition));
            return;
        }
        let deadline = self.now + Duration::from_millis(deadline);
        let places = partitions
            .iter()
            .map(|&it| TopicPartition::new("t", it))
            .collect();
        self.hand_over
            .revoke(places, revoked, is_looked_up, deadline, self.now);
        if self.owed.is_none() {
            self.was_spoken_of = false;
        }
        let (owed, by) = self.owed.get_or_insert((BTreeMap::new(), deadline));
        owed.extend(partitions.into_iter().map(|partition| (partition, lost)));
        *by = (*by).max(self.now) + WHOLE_WAY;
    }

    fn look(&mut self) {
        for turn in 0.. {
            assert!(turn < 50, "orders without end");
            let owners = Vec::from_iter(std::mem::take(&mut self.epochs).into_values());
            self.was_spoken_of |= self.spoken_of;
            let seen = Seen {
                now: self.now,
                lost: self.spoken_of,
                last_commit_is_over: self.last_commit_is_over,
                owners: &owners,
            };
            let order = self.hand_over.next(&seen);
            self.epochs = owners.into_iter().map(|it| (it.partition, it)).collect();
            let Some(order) = order else { break };
            self.carry_out(order);
        }
        assert_eq!(self.hand_over.is_under_way(), self.owed.is_some());
        if let Some((_, by)) = &self.owed {
            assert!(self.now <= *by, "no answer");
        }
        if let Some(by) = self.close_by.filter(|_| !self.is_closed) {
            assert!(self.now <= by, "no end");
        }
    }

    fn carry_out(&mut self, order: Order) {
        assert!(!self.is_closed, "{order:?} after the end");
        let is_lost = |place: &TopicPartition| {
            let owed = self.owed.as_ref();
            owed.is_some_and(|(owed, _)| owed.get(&place.partition) == Some(&true))
        };
        match order {
            Order::Drain { places, .. } | Order::DrainAll { places, .. } => {
                for place in places {
                    if let Some(epoch) = self.epochs.get_mut(&place.partition) {
                        epoch.may_start = false;
                    }
                }
            }
            Order::End { places } => {
                for place in places {
                    if let Some(epoch) = self.epochs.get_mut(&place.partition) {
                        epoch.may_start = false;
                        epoch.ordered_to_end.get_or_insert(self.now);
                    }
                }
            }
            Order::Drop { places } => {
                for place in &places {
                    assert!(is_lost(place), "{place} is ours");
                }
                self.epochs
                    .retain(|_, it| !places.iter().any(|place| place.partition == it.partition));
            }
            Order::TakeLast { places } => {
                for place in &places {
                    assert!(!is_lost(place), "{place} is another's, and stored");
                    self.is_over(place);
                }
                self.stored = places;
            }
            Order::CommitLast { places } => {
                for place in &places {
                    assert!(!is_lost(place), "{place} is another's, and committed");
                    assert!(
                        self.stored.contains(place),
                        "{place} is committed as it was before"
                    );
                    self.is_over(place);
                }
                self.last_commit_is_over = false;
            }
            Order::Answer(answer) => {
                let was_spoken_of = std::mem::take(&mut self.was_spoken_of);
                let (owed, _) = self.owed.take().expect("nothing is owed");
                let all: Vec<_> = owed
                    .keys()
                    .map(|&it| TopicPartition::new("t", it))
                    .collect();
                assert_eq!(answer.places, all, "one answer, for all");
                if answer.outcome != Outcome::Lost {
                    let (with, without): (Vec<_>, Vec<_>) =
                        all.iter().partition(|place| self.stored.contains(place));
                    with.into_iter().for_each(|place| self.is_over(place));
                    // Lost as reported, or, where the client only speaks of a loss, as presumed.
                    let presumed_lost = &answer.presumed_lost;
                    for place in without {
                        assert!(
                            owed[&place.partition] || presumed_lost.contains(place),
                            "{place} without its last words"
                        );
                    }
                    assert!(presumed_lost.is_empty() || was_spoken_of);
                }
                assert!(
                    answer.outcome != Outcome::Lost || was_spoken_of || owed.values().all(|it| *it)
                );
                self.epochs
                    .retain(|partition, _| !owed.contains_key(partition));
            }
            Order::Close => {
                assert!(
                    self.owed.is_none(),
                    "the client does not close without its answer"
                );
                assert!(self.close_by.is_some(), "nobody asked for it");
                self.is_closed = true;
            }
            Order::ReportRunningOwners { .. } | Order::ReportUnanswered(_) => {}
        }
    }

    /// Nothing of it runs, or it had the order to end for as long as owners may take.
    fn is_over(&self, place: &TopicPartition) {
        let Some(epoch) = self.epochs.get(&place.partition) else {
            return;
        };
        assert!(!epoch.may_start, "{place} goes on");
        let is_over = epoch.has_ended || epoch.is_idle;
        let ordered = epoch
            .ordered_to_end
            .map(|ordered| self.now.since(ordered) >= END_GRACE);
        assert!(
            is_over || ordered == Some(true),
            "{place} runs: {ordered:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn nothing_is_answered_or_committed_too_early_and_everything_is_answered_once(
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut model = Model::new();
        for event in events {
            model.happens(event);
            model.look();
            prop_assert_eq!(model.hand_over.is_closed(), model.is_closed);
        }
        // From here on nobody ends, and no commit is answered.
        model.happens(Event::Passes(100_000));
        prop_assert!(model.owed.is_none(), "a revoke is unanswered");
        prop_assert_eq!(model.is_closed, model.close_by.is_some());
    }
}
