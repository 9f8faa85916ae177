//! The thread of a member that reads the control topic.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};
use std::{io, thread};

use keylane_core::control::{Acks, Applied, Directives};
use keylane_core::{Doubling, Offset};

use super::acknowledging::Acknowledging;
use super::skips::Skips;
use super::wire;
use crate::dead_letter::bounded_text;
use crate::kafka::config::ClientSettings;
use crate::kafka::{Tail, TailError};
use crate::status::{Control, ControlFeed, SubscriptionError, TroubleKind, TroublePlace};
use crate::support::{LogLimit, clock, panics};

/// One look at the topic, at the questions of the polling thread, and at the order to end.
const POLL: Duration = Duration::from_millis(50);
/// How often the topic is asked for its end without a question.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// The pause after a query that failed, and the first one after a client that could not read.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// The longest pause before another client.
const OPEN_AGAIN: Duration = Duration::from_secs(30);
/// The most clients that are being closed. One of a re-created topic may not come to its end.
const MOST_CLOSING: usize = 3;
/// How long one answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// How long nothing may come of what is there, up to an end that is known.
const READ_WITHIN: Duration = Duration::from_secs(10);
/// How often troubles, acknowledgements and skips are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long the end of a subscription waits for this thread: a query, and a last write.
const END_WITHIN: Duration = Duration::from_secs(7);
const UNKNOWN_KEYS_EVERY: Duration = Duration::from_secs(10);
/// When what was left out for want of room is looked for, as soon as there is some: at first after
/// the one, then after twice as long each time, up to the other. A log that is not compacted yet
/// leaves it out again.
const FOLD_AGAIN: Duration = Duration::from_secs(5);
const FOLD_AGAIN_AT_MOST: Duration = Duration::from_secs(600);
/// How often acknowledgements of members that are gone are looked for, and the most at once.
const GONE_EVERY: Duration = Duration::from_secs(60);
const GONE_AT_ONCE: usize = 100;
/// What is logged of a key.
const KEY_BYTES: usize = 256;

/// Reads the control topic. Its calls block.
pub(crate) struct Follower {
    config: ClientSettings,
    answers_ids: bool,
    feed: Arc<ControlFeed>,
    control: Arc<Control>,
    tail: Tail,
    /// What was read until now.
    read: Directives,
    /// It is not published before the end: the beginning of a log alone says what no longer holds.
    is_rereading: bool,
    /// The tail reads nothing more: another one is due.
    is_lost: bool,
    /// The pause after the next client that cannot read.
    open_again: Duration,
    /// Those that are dropped.
    closing: Vec<thread::JoinHandle<()>>,
    /// Why it is read from its beginning again.
    replaced: Option<&'static str>,
    /// A member of another group that acknowledges here, by its name.
    foreign: Option<(String, String)>,
    /// When it was last begun again for want of room, and when it may be next.
    folded: Instant,
    fold_again: Doubling,
    /// What the members have acknowledged.
    acks: Acks,
    looked_for_gone: Option<Instant>,
    /// The version that was published last.
    published: u64,
    goal: Option<Goal>,
    answered: u64,
    next_query: Instant,
    /// Why the topic cannot be read.
    problem: Option<String>,
    unknown_keys: LogLimit,
    acknowledging: Acknowledging,
    skips: Skips,
    looked_at: Instant,
}

/// An end to read to.
#[derive(Clone, Copy)]
struct Goal {
    question: u64,
    end: i64,
    /// What was read, and when that was last more.
    position: i64,
    since: Instant,
}

impl Follower {
    /// Begins to read.
    pub(crate) fn open(
        config: ClientSettings,
        answers_ids: bool,
        control: Arc<Control>,
        feed: Arc<ControlFeed>,
        acknowledging: Acknowledging,
        skips: Skips,
    ) -> Result<Self, String> {
        let tail = match Tail::follow(&config, feed.topic(), answers_ids) {
            Ok(tail) => tail,
            Err(error) => return Err(reason(error)),
        };
        Ok(Self {
            config,
            answers_ids,
            feed,
            control,
            tail,
            read: nothing_read(answers_ids),
            is_rereading: true,
            is_lost: false,
            open_again: ASK_AGAIN,
            closing: Vec::new(),
            replaced: None,
            foreign: None,
            folded: Instant::now(),
            fold_again: Doubling::new(FOLD_AGAIN, FOLD_AGAIN_AT_MOST),
            acks: Acks::default(),
            looked_for_gone: None,
            published: 0,
            goal: None,
            answered: 0,
            next_query: Instant::now(),
            problem: None,
            unknown_keys: LogLimit::every(UNKNOWN_KEYS_EVERY),
            acknowledging,
            skips,
            looked_at: Instant::now(),
        })
    }

    /// Reads to the end as it is now.
    ///
    /// # Errors
    /// Why it could not, in this time.
    pub(crate) fn catch_up(&mut self, within: Duration) -> Result<(), String> {
        let (question, deadline) = (self.feed.ask(), Instant::now() + within);
        while self.answered < question {
            if Instant::now() >= deadline {
                let problem = self.problem.take();
                return Err(
                    problem.unwrap_or_else(|| format!("its end was not read in {within:?}"))
                );
            }
            self.follow();
        }
        Ok(())
    }

    /// Goes on in a thread of its own.
    pub(crate) fn spawn(self, label: &str) -> io::Result<Following> {
        let feed = self.feed.clone();
        let (done, is_done) = sync_channel(1);
        thread::Builder::new()
            .name(format!("keylane-control-{label}"))
            .spawn(move || {
                // Until all of it is closed.
                let _done = done;
                self.run();
            })?;
        Ok(Following { feed, is_done })
    }

    fn run(mut self) {
        let control = self.control.clone();
        let turns = || {
            while !self.feed.must_stop() {
                self.follow();
                self.look_after();
            }
            self.acknowledging.take_back();
        };
        if let Err(text) = panics::caught(turns) {
            control.fail(SubscriptionError::Internal(format!(
                "the thread that reads the control topic panicked: {text}"
            )));
        }
    }

    /// Reads what is there, and answers questions.
    fn follow(&mut self) {
        let now = Instant::now();
        let asked = self.feed.asked();
        let is_due =
            asked > self.answered || self.problem.is_some() || now >= self.next_query + CHECK_EVERY;
        if self.goal.is_none() && is_due && now >= self.next_query {
            self.set_goal(asked);
        }
        if self.is_lost {
            thread::sleep(POLL);
            return;
        }
        let (is_news, read) = self.take();
        // Also where the read failed after them.
        if is_news && !self.is_rereading {
            self.publish();
        }
        if let Err(error) = read {
            self.lose(reason(error));
        }
        let position = self.tail.position();
        let Some(goal) = &mut self.goal else {
            let has_waited = self.folded.elapsed() >= self.fold_again.get();
            if self.read.is_to_be_folded_again() && has_waited {
                self.fold_again();
            }
            return;
        };
        if position > goal.position {
            (goal.position, goal.since) = (position, Instant::now());
        }
        let goal = *goal;
        if position >= goal.end {
            self.reached(goal);
        } else if goal.since.elapsed() >= READ_WITHIN {
            self.lose(format!(
                "it ends at offset {}, and nothing came after {position} for {READ_WITHIN:?}",
                goal.end
            ));
        }
    }

    fn set_goal(&mut self, question: u64) {
        let mut end = self.tail.end(ANSWER_WITHIN);
        let replaced = match &end {
            Err(TailError::Replaced(reason)) => Some(*reason),
            // What was lost can be asked: it is worth another client.
            Ok(_) if self.is_lost => Some("it could not be read"),
            _ => None,
        };
        self.next_query = Instant::now() + ASK_AGAIN;
        if let Some(replaced) = replaced {
            // While clients are opened and closed, too.
            self.set_problem(replaced.to_owned());
            if self.feed.must_stop() {
                return;
            }
            end = self.reopen(replaced);
        }
        match end {
            Ok(end) => {
                self.next_query = Instant::now();
                self.goal = Some(Goal {
                    question,
                    end,
                    position: self.tail.position(),
                    since: Instant::now(),
                });
            }
            Err(error) if replaced.is_some() => self.lose(reason(error)),
            Err(error) => self.set_problem(reason(error)),
        }
    }

    /// Begins again at the beginning: another log has the topic's name, or this one was lost.
    fn reopen(&mut self, why: &'static str) -> Result<i64, TailError> {
        self.closing.retain(|closing| !closing.is_finished());
        if self.closing.len() >= MOST_CLOSING {
            return Err(TailError::Unreadable(
                "clients that read it before do not close; restart this member".to_owned(),
            ));
        }
        let tail = Tail::follow(&self.config, self.feed.topic(), self.answers_ids)?;
        let old = std::mem::replace(&mut self.tail, tail);
        let closing = thread::Builder::new().name("keylane-control-close".to_owned());
        let closing = closing.spawn(move || drop(old));
        self.closing.extend(closing.ok());
        self.read = nothing_read(self.answers_ids);
        (self.acks, self.foreign) = (Acks::default(), None);
        self.replaced.get_or_insert(why);
        (self.is_rereading, self.is_lost) = (true, false);
        self.tail.end(ANSWER_WITHIN)
    }

    /// What was left out for want of room has some now. What was published holds until then.
    fn fold_again(&mut self) {
        (self.folded, self.next_query) = (Instant::now(), Instant::now());
        self.fold_again.failed();
        let question = self.answered;
        match self.reopen("records that were left out have room now") {
            Ok(end) => {
                self.goal = Some(Goal {
                    question,
                    end,
                    position: self.tail.position(),
                    since: Instant::now(),
                });
            }
            Err(error) => self.lose(reason(error)),
        }
    }

    /// Takes records in. Returns whether there were any, also where the read failed after them.
    fn take(&mut self) -> (bool, Result<(), TailError>) {
        let Self {
            tail,
            read,
            feed,
            unknown_keys,
            is_rereading,
            foreign,
            acknowledging,
            acks,
            ..
        } = self;
        let group = acknowledging.group().to_owned();
        let mut is_news = false;
        let result = tail.read(POLL, |record| {
            let key = record.key.and_then(|key| std::str::from_utf8(key).ok());
            let key = key.unwrap_or_default();
            if let Some(name) = key.strip_prefix("ack/") {
                let ack = wire::decode_ack(record.value);
                acknowledging.see(name, ack.as_ref());
                let of = ack.as_ref().and_then(|ack| ack.group.clone());
                acks.apply(name, ack);
                match of.filter(|of| *of != group) {
                    Some(of) => *foreign = Some((bounded_text(name, KEY_BYTES), of)),
                    None => drop(foreign.take_if(|(of, _)| of == name)),
                }
                return;
            }
            is_news = true;
            let content = wire::decode(record.value);
            let applied = read.apply(Offset::new(record.offset), key, content);
            let (topic, offset, key) = (feed.topic(), record.offset, bounded_text(key, KEY_BYTES));
            match applied {
                Applied::Taken if !*is_rereading => {
                    tracing::info!(%topic, offset, key, "the control topic has changed");
                }
                Applied::Taken | Applied::Other => {}
                Applied::UnknownKey => {
                    if let Some(left_out) = unknown_keys.due(Instant::now()) {
                        tracing::info!(
                            %topic, offset, key, left_out,
                            "this version of keylane has no such key in a control topic; the record is ignored"
                        );
                    }
                }
                Applied::Refused(refusal) => tracing::warn!(
                    %topic, offset, key,
                    "a record of the control topic is refused; what held before holds on, and a pause holds: {refusal}"
                ),
            }
        });
        (is_news, result)
    }

    fn reached(&mut self, goal: Goal) {
        if self.is_rereading {
            self.is_rereading = false;
            let (topic, revision) = (self.feed.topic(), self.read.revision().get());
            let orders = self.read.orders().count();
            match self.replaced.take() {
                Some(why) => tracing::warn!(
                    %topic, revision, orders,
                    "the control topic was read again from its beginning, and what it says now holds: {why}"
                ),
                None => tracing::info!(
                    %topic, revision, orders, "the control topic is read to its end"
                ),
            }
            self.acknowledging.begin_again();
            self.publish();
        }
        if self.read.left_out() == 0 {
            self.fold_again.succeeded();
        }
        self.goal = None;
        self.answered = self.answered.max(goal.question);
        (self.problem, self.open_again) = (None, ASK_AGAIN);
        self.feed.set_readable(true);
        self.feed.answer(self.answered);
    }

    fn publish(&mut self) {
        self.published = self.feed.publish(self.read.clone());
    }

    fn lose(&mut self, reason: String) {
        (self.is_lost, self.goal) = (true, None);
        self.next_query = Instant::now() + self.open_again;
        self.open_again = (self.open_again * 2).min(OPEN_AGAIN);
        self.set_problem(reason);
    }

    fn set_problem(&mut self, reason: String) {
        self.problem = Some(reason);
        self.feed.set_readable(false);
    }

    /// Notes troubles, acknowledges, and takes back skips that are carried out.
    fn look_after(&mut self) {
        if self.looked_at.elapsed() < LOOK_EVERY {
            return;
        }
        self.looked_at = Instant::now();
        let place = TroublePlace::Topic(self.feed.topic().to_string());
        let troubles = &self.control.troubles;
        match self.trouble() {
            Some(text) => troubles.note(TroubleKind::ControlTopic, place, &text),
            None => troubles.passed(&place),
        }
        if self.is_rereading || self.feed.in_force() < self.published {
            return;
        }
        // What the partitions were given: more may be read.
        let in_force = self.feed.directives();
        if let Some(member) = self.feed.member() {
            self.acknowledging.acknowledge(&in_force, member);
        }
        self.look_for_gone();
        // A question waits for no commit.
        if self.goal.is_some() || self.feed.asked() > self.answered || self.feed.must_stop() {
            return;
        }
        if let Some(done) = self.skips.done(&in_force, &self.control) {
            self.acknowledging.take_back_skips(done);
        }
    }

    /// Members that were killed cannot take their acknowledgements back.
    fn look_for_gone(&mut self) {
        let (own, group) = (self.acknowledging.name(), self.acknowledging.group());
        let is_due = self
            .looked_for_gone
            .is_none_or(|at| at.elapsed() >= GONE_EVERY);
        if !is_due || !self.acks.has(own) {
            return;
        }
        self.looked_for_gone = Some(Instant::now());
        let gone = self.acks.gone(own, group, clock::unix_millis());
        let gone: Vec<_> = gone.take(GONE_AT_ONCE).map(str::to_owned).collect();
        self.acknowledging.take_out(&gone);
    }

    fn trouble(&self) -> Option<String> {
        let topic = self.feed.topic();
        if let Some(problem) = &self.problem {
            return Some(format!(
                "the control topic `{topic}` cannot be read, so what was last read of it holds, and no partition that \
                 is newly assigned starts: {problem}"
            ));
        }
        if let Some(problem) = self.acknowledging.problem() {
            return Some(format!(
                "this member's revision of the control topic `{topic}` is in force, and cannot be acknowledged in it: \
                 {problem}; check this client's permission to WRITE it"
            ));
        }
        if let Some((name, group)) = &self.foreign {
            return Some(format!(
                "the control topic `{topic}` is also used by group `{group}`, by its member `{name}`: an order for one \
                 holds for both; give each a topic of its own, and a tombstone to the key `ack/{name}`"
            ));
        }
        let refused = self.read.refused().count() as u64 + self.read.left_out();
        let first = self.read.refused().next();
        let first = first.map_or_else(String::new, |(key, why)| {
            format!(", the first for `{key}`: {why}")
        });
        (refused > 0).then(|| {
            format!(
                "{refused} records of the control topic `{topic}` are refused; what held before holds on, and a pause \
                 that cannot be read holds{first}; write them again, or update this member"
            )
        })
    }
}

/// `answers_ids`: topics have ids, by which a skip names its log.
fn nothing_read(answers_ids: bool) -> Directives {
    match answers_ids {
        true => Directives::default(),
        false => Directives::without_log_ids(),
    }
}

fn reason(error: TailError) -> String {
    match error {
        TailError::Unreadable(reason) => reason,
        TailError::Replaced(reason) => reason.to_owned(),
    }
}

/// The thread that follows; it is to end when this is dropped.
pub(crate) struct Following {
    feed: Arc<ControlFeed>,
    is_done: Receiver<()>,
}

impl Following {
    /// Ends it, and waits for that: its last act is to take its acknowledgement back.
    pub(crate) fn end(self) {
        self.feed.stop();
        // Disconnected where it has ended. Where brokers are away it ends later, by itself.
        let _ = self.is_done.recv_timeout(END_WITHIN);
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.feed.stop();
    }
}
