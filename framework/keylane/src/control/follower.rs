//! The thread of a member that reads the control topic.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};
use std::{io, thread};

use keylane_core::Offset;
use keylane_core::control::{Applied, Directives};

use super::acknowledging::Acknowledging;
use super::skips::Skips;
use super::wire;
use crate::kafka::config::ClientSettings;
use crate::kafka::{Tail, TailError};
use crate::status::{Control, ControlFeed, SubscriptionError, TroubleKind, TroublePlace};
use crate::support::{LogLimit, panics};

/// One look at the topic, at the questions of the polling thread, and at the order to end.
const POLL: Duration = Duration::from_millis(50);
/// How often the topic is asked for its end without a question.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// The pause after a query that failed.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How long one answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// How long it may take to read to an end that is known.
const READ_WITHIN: Duration = Duration::from_secs(10);
/// How often troubles, acknowledgements and skips are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long the end of a subscription waits for this thread: a query, and a last write.
const END_WITHIN: Duration = Duration::from_secs(7);
const UNKNOWN_KEYS_EVERY: Duration = Duration::from_secs(10);

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
    /// The tail follows nothing any longer.
    is_lost: bool,
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
        let tail = match Tail::open(&config, feed.topic(), answers_ids) {
            Ok(tail) => tail,
            Err(error) => return Err(reason(error)),
        };
        Ok(Self {
            config,
            answers_ids,
            feed,
            control,
            tail,
            read: Directives::default(),
            is_rereading: true,
            is_lost: false,
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
            .spawn(move || self.run(done))?;
        Ok(Following { feed, is_done })
    }

    fn run(mut self, _done: SyncSender<()>) {
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
        match self.take() {
            Ok(true) if !self.is_rereading => self.publish(),
            Ok(_) => {}
            Err(error) => self.lose(reason(error)),
        }
        let Some(goal) = self.goal else { return };
        if self.tail.position() >= goal.end {
            self.reached(goal);
        } else if goal.since.elapsed() >= READ_WITHIN {
            let position = self.tail.position();
            self.lose(format!(
                "it ends at offset {}, and nothing came after {position} for {READ_WITHIN:?}",
                goal.end
            ));
        }
    }

    fn set_goal(&mut self, question: u64) {
        let mut end = self.tail.end(ANSWER_WITHIN);
        // One that is lost has an end again: it can be opened.
        if matches!(end, Err(TailError::Replaced)) || (self.is_lost && end.is_ok()) {
            end = self.reopen();
        }
        self.next_query = Instant::now();
        match end {
            Ok(end) => {
                let since = Instant::now();
                self.goal = Some(Goal {
                    question,
                    end,
                    since,
                });
            }
            Err(error) => {
                self.next_query += ASK_AGAIN;
                self.set_problem(reason(error));
            }
        }
    }

    /// Begins again at the beginning: another log has the topic's name, or this one was lost.
    fn reopen(&mut self) -> Result<i64, TailError> {
        self.tail = Tail::open(&self.config, self.feed.topic(), self.answers_ids)?;
        self.read = Directives::default();
        (self.is_rereading, self.is_lost) = (true, false);
        self.tail.end(ANSWER_WITHIN)
    }

    /// Takes records in. Returns whether there were any.
    fn take(&mut self) -> Result<bool, TailError> {
        let Self {
            tail,
            read,
            feed,
            unknown_keys,
            is_rereading,
            ..
        } = self;
        let mut is_news = false;
        tail.read(POLL, |record| {
            let key = record.key.and_then(|key| std::str::from_utf8(key).ok());
            let key = key.unwrap_or_default();
            if key.starts_with("ack/") {
                return;
            }
            is_news = true;
            let content = wire::decode(record.value);
            let applied = read.apply(Offset::new(record.offset), key, content);
            let (topic, offset) = (feed.topic(), record.offset);
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
                    "a record of the control topic is refused, and what held before holds on: {refusal}"
                ),
            }
        })?;
        Ok(is_news)
    }

    fn reached(&mut self, goal: Goal) {
        if self.is_rereading {
            self.is_rereading = false;
            let before = self.feed.directives().revision();
            let (topic, now) = (self.feed.topic(), self.read.revision());
            if now < before {
                tracing::warn!(
                    %topic, revision = now.get(), before = before.get(),
                    "the control topic was re-created, or its log was cut: what it says now holds"
                );
            } else {
                tracing::info!(
                    %topic, revision = now.get(), orders = self.read.orders().count(),
                    "the control topic is read to its end"
                );
            }
            self.publish();
        }
        self.goal = None;
        self.answered = self.answered.max(goal.question);
        self.problem = None;
        self.feed.set_readable(true);
        self.feed.answer(self.answered);
    }

    fn publish(&mut self) {
        self.published = self.feed.publish(self.read.clone());
    }

    fn lose(&mut self, reason: String) {
        (self.is_lost, self.goal) = (true, None);
        self.next_query = Instant::now() + ASK_AGAIN;
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
        if let Some(member) = self.feed.member() {
            self.acknowledging.acknowledge(&self.read, member);
        }
        if let Some(done) = self.skips.done(&self.read) {
            self.acknowledging.take_back_skips(done);
        }
    }

    fn trouble(&self) -> Option<String> {
        let topic = self.feed.topic();
        if let Some(problem) = &self.problem {
            return Some(format!(
                "the control topic `{topic}` cannot be read, so what was last read of it holds, and no partition that \
                 is newly assigned starts: {problem}"
            ));
        }
        let refused = self.read.refused().count() as u64 + self.read.left_out();
        let first = self.read.refused().next();
        let first = first.map_or_else(String::new, |(key, why)| {
            format!(", the first for `{key}`: {why}")
        });
        (refused > 0).then(|| {
            format!(
                "{refused} records of the control topic `{topic}` are refused, and what held before holds on{first}; \
                 write them again, or update this member"
            )
        })
    }
}

fn reason(error: TailError) -> String {
    match error {
        TailError::Unreadable(reason) => reason,
        TailError::Replaced => "it was re-created, or its log was cut".to_owned(),
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
