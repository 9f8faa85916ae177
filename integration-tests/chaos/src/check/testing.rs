//! Histories in few words. Times are milliseconds; all records are of one key in partition 0, and
//! called as their offset.

use std::collections::BTreeMap;

use super::History;
use crate::{
    clock::Nanos,
    evidence::{COMMIT_GRACE_MS, Evidence, Produced, Sample, Source, Written},
    fate::{Fate, Value},
    journal::{Attempt, Deed, Line, Note, Outcome, Sent},
    load::Acknowledged,
    schedule::Schedule,
    settings::{Common, Protocol, Topics, Tuning},
};

const COMMIT_INTERVAL_MS: u64 = 500;

pub(super) const fn ms(millis: i64) -> Nanos {
    millis * 1_000_000
}

pub(super) struct Story {
    evidence: Evidence,
    deeds: Vec<Line<Deed>>,
    members: BTreeMap<String, Vec<Line<Note>>>,
}

impl Story {
    /// This many records, and nothing has happened to them.
    pub(super) fn of(records: i64) -> Self {
        let tuning = Tuning {
            concurrency: 4,
            commit_interval_ms: COMMIT_INTERVAL_MS,
            drain_timeout_ms: 1_000,
            pause_at_records: 100,
            settled_ahead: 100,
        };
        let schedule = Schedule {
            seed: 1,
            load_ms: 60_000,
            retry_topic: true,
            static_members: false,
            tuning,
            aborts_ms: vec![],
            members: vec![],
            brokers: vec![],
            retry_time_ms: None,
            outages: vec![],
            beside: vec![],
            second_group: false,
        };
        let common = Common {
            bootstrap_servers: String::new(),
            group: "g".into(),
            topics: Topics::named("t".into()),
            protocol: Protocol::Cooperative,
            session_timeout_ms: 6_000,
            retry_topic: true,
            static_members: false,
            attempt_timeout_ms: 2_000,
            retry_time_ms: None,
        };
        let mut story = Self {
            evidence: Evidence {
                schedule,
                common,
                commit_grace_ms: COMMIT_GRACE_MS,
                produced: vec![],
                acknowledged: vec![],
                refused: 0,
                retries: vec![],
                foreign_retries: vec![],
                dead_letters: vec![],
                samples: vec![],
                rebalances: vec![],
                unreadable: vec![],
                quiet_after_ms: Some(1),
                final_restart: false,
                members_failed: 0,
            },
            deeds: vec![],
            members: BTreeMap::new(),
        };
        for offset in 0..records {
            story = story.record(offset, Some("k"), Fate::Works(1));
        }
        story
    }

    pub(super) fn record(mut self, offset: i64, key: Option<&str>, fate: Fate) -> Self {
        let id = offset.cast_unsigned();
        let value = Value { id, fate }.to_string();
        self.evidence
            .produced
            .retain(|record| record.offset != offset);
        self.evidence
            .acknowledged
            .retain(|record| record.offset != offset);
        self.evidence.produced.push(Produced {
            partition: 0,
            offset,
            key: key.map(str::to_owned),
            value,
        });
        self.evidence.acknowledged.push(Acknowledged {
            id,
            partition: 0,
            offset,
            at: 0,
        });
        self
    }

    /// An attempt in the member's first epoch.
    pub(super) fn ran(self, member: &str, offset: i64, time: (i64, i64), outcome: Outcome) -> Self {
        self.attempt(member, 1, ("t", offset, 1), time, Some(outcome))
    }

    /// An attempt that has no end of its own.
    pub(super) fn began(self, member: &str, offset: i64, at: i64) -> Self {
        self.attempt(member, 1, ("t", offset, 1), (at, 0), None)
    }

    pub(super) fn attempt(
        self,
        member: &str,
        epoch: u32,
        (topic, offset, attempt): (&str, i64, u32),
        (from, to): (i64, i64),
        outcome: Option<Outcome>,
    ) -> Self {
        let id = offset.cast_unsigned();
        let key = self
            .evidence
            .produced
            .iter()
            .find(|record| record.offset == offset);
        let key = key.map_or(Some("k".into()), |record| record.key.clone());
        let attempt = Attempt {
            topic: topic.into(),
            partition: 0,
            offset,
            key,
            id,
            epoch,
            attempt,
        };
        let story = self.note(member, from, Note::Started(attempt.clone()));
        match outcome {
            Some(outcome) => story.note(member, to, Note::Ended { attempt, outcome }),
            None => story,
        }
    }

    pub(super) fn note(mut self, member: &str, at: i64, note: Note) -> Self {
        let up = Note::Up {
            commit_interval_ms: COMMIT_INTERVAL_MS,
        };
        let notes = self
            .members
            .entry(member.into())
            .or_insert_with(|| vec![Line { at: 0, what: up }]);
        notes.push(Line {
            at: ms(at),
            what: note,
        });
        self
    }

    pub(super) fn deed(mut self, at: i64, what: Deed) -> Self {
        self.deeds.push(Line { at: ms(at), what });
        self
    }

    pub(super) fn signal(self, member: &str, at: i64, signal: Sent) -> Self {
        self.deed(
            at,
            Deed::Signalled {
                member: member.into(),
                signal,
            },
        )
    }

    /// `kill -9`.
    pub(super) fn kill(self, member: &str, at: i64) -> Self {
        let gone = Deed::Exited {
            member: member.into(),
            orderly: false,
            status: "signal 9".into(),
        };
        self.signal(member, at, Sent::Kill).deed(at + 5, gone)
    }

    pub(super) fn committed(mut self, at: i64, position: i64, ahead: &[(i64, i64)]) -> Self {
        let sample = Sample {
            at: ms(at),
            source: Source::Origin,
            partition: 0,
            position,
            ahead: ahead.to_vec(),
        };
        self.evidence.samples.push(sample);
        self
    }

    /// In a partition that appears nowhere else.
    pub(super) fn committed_elsewhere(mut self, at: i64, position: i64) -> Self {
        let sample = Sample {
            at: ms(at),
            source: Source::Origin,
            partition: 1,
            position,
            ahead: vec![],
        };
        self.evidence.samples.push(sample);
        self
    }

    pub(super) fn protocol(mut self, protocol: Protocol) -> Self {
        self.evidence.common.protocol = protocol;
        self
    }

    pub(super) fn commit_grace(mut self, millis: u64) -> Self {
        self.evidence.commit_grace_ms = millis;
        self
    }

    pub(super) fn rebalance(mut self, from: i64, to: i64) -> Self {
        self.evidence.rebalances.push((ms(from), ms(to)));
        self
    }

    pub(super) fn dead_letter(mut self, offset: i64, at: i64, reason: &str) -> Self {
        self.evidence
            .dead_letters
            .push(written(offset, 0, at, reason, 0));
        self
    }

    /// The copy of a record that lies at `place` in the retry topic.
    pub(super) fn retry(mut self, offset: i64, place: i64, at: i64, round: u32) -> Self {
        self.evidence
            .retries
            .push(written(offset, place, at, "exhausted", round));
        self
    }

    /// A record of another group in the retry topic.
    pub(super) fn foreign_retry(mut self, place: i64) -> Self {
        self.evidence.foreign_retries.push((0, place));
        self
    }

    /// Records are retried by time.
    pub(super) fn retry_time(mut self, millis: u64) -> Self {
        self.evidence.common.retry_time_ms = Some(millis);
        self
    }

    pub(super) fn history(self) -> History {
        History::new(self.evidence, &self.deeds, &self.members)
    }
}

fn written(id: i64, offset: i64, at: i64, reason: &str, round: u32) -> Written {
    Written {
        partition: 0,
        offset,
        at: ms(at),
        id: id.cast_unsigned(),
        reason: reason.into(),
        round,
        group: "g".into(),
    }
}

/// Three records, done in order by one member, and committed.
pub(super) fn calm() -> Story {
    let story = Story::of(3);
    (0..3)
        .fold(story, |story, offset| {
            story.ran(
                "a",
                offset,
                (offset * 100, offset * 100 + 50),
                Outcome::Done,
            )
        })
        .committed(1_000, 3, &[])
}
