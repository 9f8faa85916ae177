//! Follows a topic of one partition from its beginning on, without a group.

use std::time::Duration;

use keylane_core::{Identity, Seen};
use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::assigned::{Assigned, Fetching};
use super::letters::{is_end, is_lasting};
use super::topic_ids::{Answer, Inquiry};
use super::topics::LastError;
use crate::kafka::config::{ClientSettings, creation_error};

/// The most records that one read takes.
const AT_ONCE: usize = 100;
const PARTITION: i32 = 0;
/// How often a doubtful id of the topic is asked for at once.
const ASKED_AT_ONCE: usize = 3;
/// How long a broker holds back a fetch for which there is nothing. A record ends that at once.
const FETCH_WAITS: Duration = Duration::from_secs(5);
/// The same where one client reads and asks: its questions wait behind its fetch.
const SHORT_FETCH_WAITS: Duration = Duration::from_millis(100);

/// How much longer than a fetch waits the client has to wait for its answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);

/// Its calls block.
pub(crate) struct Tail {
    assigned: Assigned<LastError>,
    /// Asks. A broker answers what comes over one connection in its order, and a fetch that waits
    /// would keep a question waiting.
    asker: Option<BaseConsumer<LastError>>,
    topic: String,
    /// Everything before it was read.
    position: i64,
    /// Where the log began. Compaction does not move that.
    start: Option<i64>,
    /// Of brokers that answer for it.
    identity: Option<Identity>,
}

/// A record as it is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tailed<'a> {
    pub(crate) offset: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
}

/// Why a tail is of no use.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TailError {
    /// No answer, or a refusal, with the reason.
    Unreadable(String),
    /// Another log is there than the one that it began with, with what happened to that.
    Replaced(&'static str),
}

impl Tail {
    /// Begins to read, to go on for long.
    ///
    /// `answers_ids`: there is a broker to ask for topic ids. Otherwise it is librdkafka's mock, where
    /// a record does not end a fetch that waits.
    pub(crate) fn follow(
        config: &ClientSettings,
        topic: &str,
        answers_ids: bool,
    ) -> Result<Self, TailError> {
        let mut tail = match answers_ids {
            true => Self::begin(config, topic, FETCH_WAITS)?,
            false => Self::begin(config, topic, SHORT_FETCH_WAITS)?,
        };
        if answers_ids {
            tail.identity = Some(Identity::default());
            tail.asker = Some(client(&own_settings(config.clone(), FETCH_WAITS))?);
        }
        Ok(tail)
    }

    /// Begins to read once, to an end.
    pub(crate) fn open(config: &ClientSettings, topic: &str) -> Result<Self, TailError> {
        Self::begin(config, topic, SHORT_FETCH_WAITS)
    }

    fn begin(config: &ClientSettings, topic: &str, waits: Duration) -> Result<Self, TailError> {
        let config = own_settings(config.clone(), waits);
        let all = [(PARTITION, Offset::Beginning)];
        let assigned = Assigned::open(&config, topic, all, Fetching::AtOnce, AT_ONCE);
        Ok(Self {
            assigned: assigned.map_err(TailError::Unreadable)?,
            asker: None,
            topic: topic.to_owned(),
            position: 0,
            start: None,
            identity: None,
        })
    }

    /// Takes what is there, waiting at most `wait` for it.
    pub(crate) fn read(
        &mut self,
        wait: Duration,
        mut take: impl FnMut(Tailed<'_>),
    ) -> Result<(), TailError> {
        let (position, mut went_back) = (&mut self.position, false);
        let read = self.assigned.read(wait, |message| {
            went_back |= message.offset() < *position;
            if went_back {
                return;
            }
            *position = message.offset().saturating_add(1);
            take(Tailed {
                offset: message.offset(),
                key: message.key(),
                value: message.value(),
            });
        });
        if went_back {
            return Err(TailError::Replaced(CUT));
        }
        // Compaction leaves the offsets of what it removed: the end may be behind the last record.
        // It may come together with an error.
        let ends = read.failed_fetches.iter().filter(|failed| failed.is_end);
        *position = ends.map(|end| end.offset).fold(*position, i64::max);
        match read.error {
            Some(error) if is_end(&error) => Ok(()),
            // Others pass, or show in the query for the end.
            Some(error) if is_lasting(&error) => Err(unreadable(&self.assigned.client, &error)),
            Some(error) => {
                tracing::debug!(topic = %self.topic, %error, "the control topic cannot be read just now");
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Everything before this offset was read.
    pub(crate) fn position(&self) -> i64 {
        self.position
    }

    /// The log's end as it is now. To be called from time to time: it also finds that the log is
    /// another one.
    pub(crate) fn end(&mut self, within: Duration) -> Result<i64, TailError> {
        let client = self.asker.as_ref().unwrap_or(&self.assigned.client);
        let range = client
            .fetch_watermarks(&self.topic, PARTITION, within)
            .map_err(|error| unreadable(client, &error))?;
        if range.1 < self.position {
            return Err(TailError::Replaced(CUT));
        }
        if let Some(identity) = &mut self.identity {
            let topic = &*self.topic;
            let ask = || Inquiry::send(client, &[topic], within).answer(within);
            if is_another(identity, ask)? {
                return Err(TailError::Replaced("it was re-created"));
            }
        }
        if self.start.replace(range.0).is_some_and(|it| it < range.0) {
            return Err(TailError::Replaced(CUT));
        }
        Ok(range.1)
    }
}

fn client(config: &ClientSettings) -> Result<BaseConsumer<LastError>, TailError> {
    config
        .create_with_context(LastError::default())
        .map_err(|error| TailError::Unreadable(creation_error(error).to_string()))
}

fn unreadable(client: &BaseConsumer<LastError>, error: &KafkaError) -> TailError {
    let reason = client.context().text();
    let is_vague = matches!(
        error.rdkafka_error_code(),
        Some(Code::OperationTimedOut | Code::BrokerTransportFailure | Code::AllBrokersDown)
    );
    let reason = reason.filter(|_| is_vague);
    TailError::Unreadable(reason.unwrap_or_else(|| error.to_string()))
}

const CUT: &str = "its log was cut";

/// The client's settings that an answer depends on are not the caller's. What is not committed in a
/// transaction counts: behind an open one, orders that are acknowledged would not be seen.
fn own_settings(mut config: ClientSettings, waits: Duration) -> ClientSettings {
    // The client takes a fetch that waits nearly as long as that for one without an answer.
    let timeout = config.get("socket.timeout.ms").map(str::parse);
    let timeout = timeout.and_then(Result::ok).map(Duration::from_millis);
    let longest = timeout
        .unwrap_or(Duration::MAX)
        .saturating_sub(ANSWERED_WITHIN);
    let waits = waits.min(longest.max(SHORT_FETCH_WAITS));
    config
        .set("statistics.interval.ms", "0")
        .set("isolation.level", "read_uncommitted")
        .set("fetch.wait.max.ms", waits.as_millis().to_string())
        .set("fetch.min.bytes", "1")
        .set("session.timeout.ms", "45000")
        .set("max.poll.interval.ms", "300000");
    config
}

/// Whether another log has the topic's name. A doubt is asked about at once, and while the brokers
/// do not answer, or do not agree, the end that they gave is no answer either.
fn is_another(identity: &mut Identity, mut ask: impl FnMut() -> Answer) -> Result<bool, TailError> {
    let unknown = |why: &str| Err(TailError::Unreadable(why.to_owned()));
    for _ in 0..ASKED_AT_ONCE {
        let Answer::Logs(logs) = ask() else {
            return unknown("the brokers do not answer with the topic's id");
        };
        let there = match logs.first() {
            Some((_, there)) => *there,
            // Brokers without topic ids.
            None if identity.log().is_none() => return Ok(false),
            None => return unknown("the brokers have no id of the topic"),
        };
        match identity.see(there) {
            Seen::Same | Seen::Learned => return Ok(false),
            Seen::Another => return Ok(true),
            Seen::Doubtful => {}
        }
    }
    unknown("the brokers do not agree on the topic's id")
}

#[cfg(test)]
mod tests {
    use keylane_core::LogId;

    use super::*;
    use crate::kafka::config::reader_config;

    fn log(number: u64) -> Answer {
        let log = LogId::of_topic(number, 0).unwrap();
        Answer::Logs(vec![("control".to_owned(), log)])
    }

    fn asked(identity: &mut Identity, answers: Vec<Answer>) -> Result<bool, String> {
        let mut answers = answers.into_iter();
        let found = is_another(identity, || answers.next().unwrap());
        assert_eq!(answers.next(), None, "no more was needed");
        found.map_err(|error| match error {
            TailError::Unreadable(reason) => reason,
            TailError::Replaced(reason) => reason.to_owned(),
        })
    }

    #[test]
    fn a_doubtful_id_is_asked_for_again_at_once_and_no_answer_is_none() {
        let mut identity = Identity::default();
        assert_eq!(asked(&mut identity, vec![Answer::Logs(vec![])]), Ok(false));
        assert_eq!(asked(&mut identity, vec![log(1)]), Ok(false));
        for none in [Answer::Refused, Answer::Pending, Answer::Logs(vec![])] {
            assert!(asked(&mut identity, vec![none]).is_err());
        }
        // A broker that lagged behind.
        assert_eq!(asked(&mut identity, vec![log(2), log(1)]), Ok(false));
        let disagree = vec![log(2), log(3), log(4)];
        assert!(asked(&mut identity, disagree).is_err());
        assert_eq!(asked(&mut identity, vec![log(1)]), Ok(false));
        assert_eq!(asked(&mut identity, vec![log(2), log(2)]), Ok(true));
    }

    #[test]
    fn settings_of_the_caller_do_not_decide_what_is_seen() {
        let given = [
            ("isolation.level", "read_committed"),
            ("fetch.wait.max.ms", "5000"),
            ("fetch.min.bytes", "1000000"),
            ("max.poll.interval.ms", "30000"),
        ];
        let given = given.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let given = reader_config("localhost:1", &given.into()).unwrap();
        let settings = own_settings(given.clone(), FETCH_WAITS);
        let of = |key: &str| settings.get(key).unwrap().to_owned();
        assert_eq!(of("isolation.level"), "read_uncommitted");
        assert_eq!(of("fetch.wait.max.ms"), "5000");
        assert_eq!(of("fetch.min.bytes"), "1");
        Tail::follow(&given, "control", true).expect("the client takes the settings");
    }

    #[test]
    fn a_short_time_out_of_the_caller_shortens_how_long_a_fetch_waits() {
        for (timeout, waits) in [("60000", "5000"), ("4000", "3000"), ("10", "100")] {
            let given = [("socket.timeout.ms".to_owned(), timeout.to_owned())];
            let given = reader_config("localhost:1", &given.into()).unwrap();
            let settings = own_settings(given.clone(), FETCH_WAITS);
            assert_eq!(settings.get("fetch.wait.max.ms"), Some(waits), "{timeout}");
            Tail::follow(&given, "control", true).expect("the client takes the settings");
        }
    }
}
