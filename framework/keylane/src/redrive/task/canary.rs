//! What becomes of a canary's copies: read from the target topics, the group's commits, and the
//! dead-letter topic.

use std::collections::{BTreeMap, HashMap};

use keylane_core::commit_map::{self, CommitContent};
use keylane_core::redrive::{Outcomes, Turn};
use keylane_core::{Offset, Position};

use crate::dead_letter::REDRIVE_ID;
use crate::kafka::operator::Operator;
use crate::kafka::topics::Cluster;
use crate::kafka::{LetterRange, SeekReader, ranges_by};
use crate::record::Record;
use crate::redrive::Redrive;
use crate::redrive::connection::Connection;
use crate::redrive::copy::Target;
use crate::redrive::ops::records::TaskRecord;

/// Watches the copies of a canary. Its calls block.
pub(super) struct CanaryWatch {
    connection: Connection,
    /// The one that the copies are for.
    group: String,
    sightings: Sightings,
    /// The target topics, and last the dead-letter topic.
    topics: Vec<Watched>,
    last: Outcomes,
    /// Made by the first look.
    clients: Option<Clients>,
}

/// They are kept: each new one has to connect.
struct Clients {
    operator: Operator,
    /// It is asked for the ends of the topics.
    cluster: Cluster,
}

struct Watched {
    topic: String,
    /// By partition: the offset behind the last record that was read.
    next: BTreeMap<i32, i64>,
    reader: Option<SeekReader>,
}

/// What is committed, by topic and partition.
type Settled = BTreeMap<(usize, i32), (Position, CommitContent)>;

/// What was seen of the copies, by their `keylane-redrive-id`. Pure.
#[derive(Default)]
struct Sightings {
    copies: HashMap<String, Copy>,
}

#[derive(Clone, Debug, Default)]
struct Copy {
    was_seen: bool,
    has_failed: bool,
    /// Where it lies on target topics, the retries of it included, and is not known to be settled:
    /// topic by number, partition and offset.
    open: Vec<(usize, i32, i64)>,
}

impl Sightings {
    fn on_target(&mut self, id: &str, topic: usize, partition: i32, offset: i64) {
        if let Some(copy) = self.copies.get_mut(id) {
            copy.was_seen = true;
            copy.open.push((topic, partition, offset));
        }
    }

    fn dead(&mut self, id: &str) {
        if let Some(copy) = self.copies.get_mut(id) {
            copy.has_failed = true;
            copy.open = Vec::new();
        }
    }

    /// Everything that was written until now has to be seen before this, and the settled places be
    /// known before that: a retry or dead letter is written before its record is settled.
    ///
    /// A turn of which no copy was seen had none: its letter was gone, or passed over.
    fn outcomes(&mut self, is_settled: impl Fn(usize, i32, i64) -> bool) -> Outcomes {
        let mut outcomes = Outcomes::default();
        for copy in self.copies.values_mut().filter(|copy| copy.was_seen) {
            copy.open
                .retain(|(topic, partition, offset)| !is_settled(*topic, *partition, *offset));
            match (copy.has_failed, copy.open.is_empty()) {
                (true, _) => outcomes.failed += 1,
                (false, true) => outcomes.succeeded += 1,
                (false, false) => outcomes.open += 1,
            }
        }
        outcomes
    }
}

impl CanaryWatch {
    /// The ends of these topics: topic, partition, offset.
    pub(super) fn ends(
        connection: &Connection,
        topics: &[String],
    ) -> Result<Vec<(String, i32, i64)>, String> {
        let cluster = cluster(connection)?;
        let mut ends = Vec::new();
        for topic in topics {
            ends.extend(ends_by(&cluster, topic, connection)?);
        }
        Ok(ends)
    }

    /// Watches the copies of these turns.
    pub(super) fn new(
        connection: &Connection,
        topic: &str,
        record: &TaskRecord,
        turns: &[Turn],
        redrive: &Redrive,
    ) -> Self {
        let id = |turn: &Turn| redrive.id_of(topic, turn.partition, turn.offset.get());
        let copies = turns.iter().map(|turn| (id(turn), Copy::default()));
        let watched = |topic: &str, next: BTreeMap<i32, i64>| Watched {
            topic: topic.to_owned(),
            next,
            reader: None,
        };
        let from_ends = |topic: &str| {
            let of_topic = record.target_ends.iter().filter(|end| end.0 == *topic);
            watched(topic, of_topic.map(|(_, at, end)| (*at, *end)).collect())
        };
        let mut topics: Vec<_> = record.targets.iter().map(|it| from_ends(it)).collect();
        topics.push(from_ends(topic));
        let group = match &record.target {
            Target::Topic {
                group: Some(group), ..
            } => group.clone(),
            _ => record.group.clone(),
        };
        Self {
            connection: connection.clone(),
            group,
            sightings: Sightings {
                copies: copies.collect(),
            },
            topics,
            last: Outcomes::default(),
            clients: None,
        }
    }

    /// To be called between two looks.
    pub(super) fn serve(&self) {
        let readers = self.topics.iter().filter_map(|it| it.reader.as_ref());
        readers.for_each(SeekReader::serve);
    }

    /// What is known now.
    pub(super) fn look(&mut self) -> Result<Outcomes, String> {
        let clients = match self.clients.take() {
            Some(clients) => clients,
            None => Clients::connect(&self.connection, &self.group)?,
        };
        let clients = self.clients.insert(clients);
        // In this order: see `Sightings::outcomes`.
        let settled = settled(&clients.operator, &self.topics)?;
        let (connection, sightings) = (&self.connection, &mut self.sightings);
        let dead_letters = self.topics.len().saturating_sub(1);
        for (at, watched) in self.topics.iter_mut().enumerate() {
            let ends = ends_by(&clients.cluster, &watched.topic, connection)?;
            watched.read_on(connection, &ends, |partition, record| {
                match record.headers().last_str(REDRIVE_ID) {
                    Some(id) if at == dead_letters => sightings.dead(id),
                    Some(id) => sightings.on_target(id, at, partition, record.offset()),
                    None => {}
                }
            })?;
        }
        self.last = self.sightings.outcomes(|topic, partition, offset| {
            let committed = settled.get(&(topic, partition));
            committed.is_some_and(|(position, content)| {
                let offset = Offset::new(offset);
                !position.covers(offset) || content.settled.contains(offset)
            })
        });
        Ok(self.last)
    }

    /// The last look, in words.
    pub(super) fn text(&self) -> String {
        let Outcomes {
            succeeded,
            failed,
            open,
        } = self.last;
        if self.last == Outcomes::default() {
            return "no copy of the canary was found on its topics".to_owned();
        }
        format!("of the canary {succeeded} succeeded, {failed} failed, and {open} are not settled")
    }
}

impl Clients {
    fn connect(connection: &Connection, group: &str) -> Result<Self, String> {
        let Connection {
            bootstrap_servers,
            kafka,
            patience,
        } = connection;
        let operator = Operator::connect(bootstrap_servers, kafka, group, *patience);
        Ok(Self {
            operator: operator.map_err(|error| error.to_string())?,
            cluster: cluster(connection)?,
        })
    }
}

fn cluster(connection: &Connection) -> Result<Cluster, String> {
    let mut config = connection.reader().map_err(|error| error.to_string())?;
    // Not where an open transaction begins.
    config.set("isolation.level", "read_uncommitted");
    Cluster::new(&config).map_err(|error| error.to_string())
}

/// The ends of a topic: topic, partition, offset.
fn ends_by(
    cluster: &Cluster,
    topic: &str,
    connection: &Connection,
) -> Result<Vec<(String, i32, i64)>, String> {
    let ranges = ranges_by(cluster, topic, connection.patience);
    let ranges = ranges.map_err(|error| error.to_string())?;
    let end = |it: LetterRange| (topic.to_owned(), it.partition, it.end);
    Ok(ranges.into_iter().map(end).collect())
}

/// What the group has settled of the target topics.
fn settled(operator: &Operator, topics: &[Watched]) -> Result<Settled, String> {
    let (_, targets) = topics.split_last().ok_or("no topic is watched")?;
    let mut places = Vec::new();
    for (at, target) in targets.iter().enumerate() {
        let partitions = target.next.keys();
        places.extend(partitions.map(|it| (at, (target.topic.clone(), *it))));
    }
    let asked: Vec<_> = places.iter().map(|(_, place)| place.clone()).collect();
    let answers = operator.committed(&asked);
    let answers = answers.map_err(|error| error.to_string())?;
    let mut settled = BTreeMap::new();
    for ((at, (_, partition)), answer) in places.into_iter().zip(answers) {
        if answer.is_refused {
            return Err(format!(
                "the commits of the group for {} cannot be read; allow this client DESCRIBE on the group",
                answer.topic
            ));
        }
        if let Some(committed) = answer.committed {
            let content = commit_map::decode(committed.position, &committed.metadata);
            let content = content.unwrap_or_default();
            settled.insert((at, partition), (committed.position, content));
        }
    }
    Ok(settled)
}

impl Watched {
    /// Reads to these ends.
    fn read_on(
        &mut self,
        connection: &Connection,
        ends: &[(String, i32, i64)],
        mut take: impl FnMut(i32, Record),
    ) -> Result<(), String> {
        if self.next.len() != ends.len() {
            // There are more now.
            self.reader = None;
        }
        for (_, partition, _) in ends {
            self.next.entry(*partition).or_insert(0);
        }
        for (_, partition, end) in ends {
            let next = self.next.entry(*partition).or_insert(0);
            if end <= next {
                continue;
            }
            let reader = match &mut self.reader {
                Some(reader) => reader,
                none => {
                    let mut config = connection.reader().map_err(|error| error.to_string())?;
                    config.set("isolation.level", "read_committed");
                    let all = (0..).take(ends.len());
                    none.insert(SeekReader::open(&config, &self.topic, all)?)
                }
            };
            reader.seek(*partition, *next)?;
            reader.read_until(*end, connection.patience, |record| take(*partition, record))?;
            *next = reader.place().map_or(*end, |(_, next)| next);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_letters_are_watched_from_the_end_of_the_topic_whatever_ranges_were_read() {
        use crate::kafka::LetterRange;
        let mut record = TaskRecord::new("dead", "billing", Target::RetryTopic, 3);
        record.ranges = vec![LetterRange::new(0, 5, 8), LetterRange::new(0, 2, 3)];
        record.targets = vec!["retry".to_owned()];
        let ends = [("retry", 0, 7), ("dead", 0, 40), ("dead", 1, 9)];
        let ends = ends.map(|(topic, partition, end)| (topic.to_owned(), partition, end));
        record.target_ends = ends.into();
        let connection = Connection::default();
        let watch = CanaryWatch::new(&connection, "dead", &record, &[], &Redrive::default());
        let next: Vec<_> = watch.topics.into_iter().map(|it| it.next).collect();
        assert_eq!(next, [[(0, 7)].into(), [(0, 40), (1, 9)].into()]);
    }

    #[test]
    fn a_copy_succeeds_when_all_of_it_is_settled_and_fails_as_a_dead_letter() {
        let copies = ["gone", "done", "retried", "dead", "waiting"];
        let copies = copies.map(|id| (id.to_owned(), Copy::default()));
        let mut sightings = Sightings {
            copies: copies.into_iter().collect(),
        };
        for (offset, id) in (0..).zip(["done", "retried", "dead", "waiting", "foreign", "retried"])
        {
            sightings.on_target(id, 0, 0, offset);
        }
        sightings.dead("dead");
        sightings.dead("foreign");
        let outcomes = |succeeded, failed, open| Outcomes {
            succeeded,
            failed,
            open,
        };
        let until = |end| move |_, _, offset| offset < end;
        assert_eq!(sightings.outcomes(until(0)), outcomes(0, 1, 3));
        assert_eq!(
            sightings.outcomes(until(3)),
            outcomes(1, 1, 2),
            "a retry is open"
        );
        assert_eq!(sightings.outcomes(until(6)), outcomes(3, 1, 0));
    }
}
