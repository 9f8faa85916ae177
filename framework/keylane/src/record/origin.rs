//! Where a record was first read.

use std::fmt;
use std::sync::Arc;

use keylane_core::LogId;

/// Where a record was first read, for a task that came through the retry topic.
///
/// # Examples
/// An id for a call that has to be made once:
///
/// ```
/// use keylane::testing::TestTask;
///
/// let origin = TestTask::new(()).at("parking-events", 3, 4711).build().origin();
/// let id = format!("{}-{}-{}", origin.topic, origin.partition, origin.offset);
/// assert_eq!(id, "parking-events-3-4711");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Origin {
    /// The origin topic.
    pub topic: Arc<str>,
    /// The partition there.
    pub partition: i32,
    /// The offset there.
    pub offset: i64,
    /// Which of the logs that the partition has had: its offsets begin again where the topic is
    /// re-created, and where the log was cut they are given out again.
    pub log: OriginLog,
}

/// Which log an offset is about. With it, topic, partition and offset name one record for good.
///
/// # What it cannot tell apart
/// Where a part is `None`, two records of one place that differ in it alone. Brokers before Kafka
/// 2.8 and keylane's embedded broker have no topic ids. A task that Decaton, another program or an
/// older keylane put on the retry topic does not say from which log it came.
///
/// # Examples
/// ```
/// use keylane::testing::TestTask;
///
/// let origin = TestTask::new(()).log(0x0123_4567_89ab_cdef, 3).build().origin();
/// assert_eq!(origin.log.to_string(), "0123456789abcdef/3");
/// assert_eq!(TestTask::new(()).build().origin().log.to_string(), "-/-");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct OriginLog {
    /// 64 bits of the topic's id: both halves of it, by exclusive or. `None` where it is not known.
    pub topic_id: Option<u64>,
    /// The leader epoch under which the record was written. `None` where it is not known.
    pub leader_epoch: Option<i32>,
}

impl OriginLog {
    pub(crate) fn new(log: Option<LogId>, leader_epoch: Option<i32>) -> Self {
        Self {
            topic_id: log.map(|log| u64::from_le_bytes(log.to_bytes())),
            leader_epoch,
        }
    }

    /// Reads the form of the header; what is damaged is unknown.
    pub(crate) fn read(text: &str) -> Self {
        let Some((topic_id, leader_epoch)) = text.split_once('/') else {
            return Self::default();
        };
        let is_id = topic_id.len() == 16 && topic_id.bytes().all(|it| it.is_ascii_hexdigit());
        let epoch: Option<i32> = leader_epoch.parse().ok();
        Self {
            topic_id: u64::from_str_radix(topic_id, 16).ok().filter(|_| is_id),
            leader_epoch: epoch.filter(|epoch| *epoch >= 0),
        }
    }

    /// Whether there is nothing to write.
    pub(crate) fn is_unknown(self) -> bool {
        self == Self::default()
    }
}

/// The topic's id in 16 hexadecimal digits, `/`, and the leader epoch; `-` for what is not known.
impl fmt::Display for OriginLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.topic_id {
            Some(id) => write!(f, "{id:016x}/")?,
            None => f.write_str("-/")?,
        }
        match self.leader_epoch {
            Some(epoch) => write!(f, "{epoch}"),
            None => f.write_str("-"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_as_it_was_written_and_what_is_damaged_is_unknown() {
        for topic_id in [None, Some(0), Some(u64::MAX)] {
            for leader_epoch in [None, Some(0), Some(i32::MAX)] {
                let log = OriginLog {
                    topic_id,
                    leader_epoch,
                };
                assert_eq!(OriginLog::read(&log.to_string()), log);
            }
        }
        for text in [
            "",
            "/",
            "-",
            "+123456789abcdef/-1",
            "0123/x",
            "-/+-1",
            "0/1/2",
        ] {
            assert!(OriginLog::read(text).is_unknown(), "{text:?}");
        }
    }
}
