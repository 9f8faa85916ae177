//! What the control topic orders for the assigned partitions.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keylane_core::control::{ControlKey, Directives};
use keylane_core::{LogId, Offset, Sign};

use super::assigned::Assigned;
use crate::status::{Control, ControlFeed, ControlPause, TroubleKind, TroublePlace};
use crate::support::clock;

/// How often ends of orders are looked for, and so how exact they are. The clock may be corrected,
/// so no moment is computed.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long a partition may wait for the id of its log before that is reported. Ids are queried
/// every 5 s.
const LOG_KNOWN_WITHIN: Duration = Duration::from_secs(30);

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
    /// A record of it is to be skipped if its log is one with this id, and that is not known: the
    /// first such record, and since when.
    lacks_log: Option<(Offset, Instant)>,
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
        self.question.is_some() || self.lacks_log.is_some()
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
        let needs_log = || self.directives.needs_log(topic, number, now_millis);
        let lacks_log = log.is_none().then(needs_log).flatten();
        let since = partition.steered.lacks_log.map(|(_, since)| since);
        let lacks_log = lacks_log.map(|it| (it, since.unwrap_or_else(Instant::now)));
        let pause = self.directives.pause_of(topic, number, now_millis);
        let pause = pause.map(|(scope, order)| ControlPause::of(scope, order));
        partition.direct(directives);
        let steered = &mut partition.steered;
        (steered.lacks_log, steered.directed_for) = (lacks_log, log);
        if steered.pause.as_deref() != pause.as_ref() {
            steered.pause = pause.map(Arc::new);
        }
    }

    /// Reports partitions that wait for the id of their log for long. Nothing else would show why
    /// they start nothing.
    pub(crate) fn report_waiting(&self, partitions: &[Assigned], control: &Control) {
        let troubles = &control.troubles;
        let now = Instant::now();
        let mut topics: Vec<_> = partitions.iter().map(|it| &it.topic).collect();
        topics.sort_unstable();
        topics.dedup();
        for topic in topics {
            let of_topic = partitions.iter().filter(|it| it.topic == *topic);
            let mut late = of_topic.filter_map(|it| {
                let (offset, since) = it.steered.lacks_log?;
                let is_late = now.saturating_duration_since(since) >= LOG_KNOWN_WITHIN;
                is_late.then_some((it.partition, offset))
            });
            let place = TroublePlace::Topic(topic.to_string());
            if let Some((partition, offset)) = late.next() {
                let text = self.text_of_waiting(topic, partition, offset, late.count());
                troubles.note(TroubleKind::ControlTopic, place, &text);
            } else {
                let is_it = |kind, other: &TroublePlace| {
                    kind == TroubleKind::ControlTopic && *other == place
                };
                troubles.healthy(|kind, other, _| is_it(kind, other).then_some(Sign::There));
            }
        }
    }

    fn text_of_waiting(
        &self,
        topic: &str,
        partition: i32,
        offset: Offset,
        others: usize,
    ) -> String {
        let key = ControlKey::Skip {
            topic: topic.to_owned(),
            partition,
            offset,
        };
        let others = match others {
            0 => String::new(),
            some => format!(", and {some} more of it"),
        };
        format!(
            "{topic}/{partition} starts nothing{others}: the order `{key}` of the control topic `{}` is about one log, and \
             the brokers have not answered with the id of topic `{topic}` for {LOG_KNOWN_WITHIN:?}; check this client's \
             permission to DESCRIBE it, or take the order back by `keylane skip --cancel`",
            self.feed.topic()
        )
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

#[cfg(test)]
mod tests {
    use keylane_core::LeaderEpoch;
    use keylane_core::control::{Content, Order};

    use super::*;

    /// A member that is steered by one skip, and a partition whose log is not known.
    fn waiting() -> (Steering, Vec<Assigned>) {
        let feed = Arc::new(ControlFeed::new("steering"));
        let mut steering = Steering::new(feed.clone());
        let skip = Order {
            log: LogId::of_topic(1, 2),
            leader_epoch: Some(LeaderEpoch::new(0)),
            ..Order::default()
        };
        let mut directives = Directives::default();
        directives.apply(Offset::new(0), "skip/tasks/0/17", Content::Order(skip));
        feed.publish(directives);
        let mut partitions = vec![Assigned::for_tests("tasks", 1)];
        steering.look(&mut partitions);
        (steering, partitions)
    }

    #[test]
    fn a_partition_that_waits_for_the_id_of_its_log_for_long_is_a_trouble_with_the_order_and_the_fix()
     {
        let (steering, mut partitions) = waiting();
        assert!(partitions[0].steered.waits());
        let control = Control::new(Duration::ZERO);
        steering.report_waiting(&partitions, &control);
        assert_eq!(control.troubles.lasting(), [], "ids come in a moment");
        let (offset, since) = partitions[0].steered.lacks_log.unwrap();
        let earlier = since.checked_sub(LOG_KNOWN_WITHIN).unwrap();
        partitions[0].steered.lacks_log = Some((offset, earlier));
        steering.report_waiting(&partitions, &control);
        let lasting = control.troubles.lasting();
        let message = &lasting[0].message;
        assert_eq!(lasting[0].kind, TroubleKind::ControlTopic);
        for part in ["tasks/0 ", "`skip/tasks/0/17`", "`steering`", "--cancel"] {
            assert!(message.contains(part), "{message}");
        }
    }

    /// Another order begins no new wait, and the end of it is seen.
    #[test]
    fn how_long_a_partition_waits_counts_from_the_first_order_to_the_last() {
        let (mut steering, mut partitions) = waiting();
        let first = partitions[0].steered.lacks_log.unwrap();
        let mut directives = Directives::clone(&steering.feed.directives());
        let pause = Content::Order(Order::default());
        directives.apply(Offset::new(1), "pause/others", pause);
        steering.feed.publish(directives.clone());
        steering.look(&mut partitions);
        assert_eq!(partitions[0].steered.lacks_log, Some(first));
        directives.apply(Offset::new(2), "skip/tasks/0/17", Content::Nothing);
        steering.feed.publish(directives);
        steering.look(&mut partitions);
        assert!(!partitions[0].steered.waits());
    }
}
