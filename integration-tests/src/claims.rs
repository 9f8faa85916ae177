//! What a group's commits claim to be settled: all below the committed offset, and what the
//! metadata names above it.

use std::{collections::BTreeSet, fmt};

use keylane_core::{MapError, Offset, Position, SettledMap, commit_map};

use crate::{
    journal::{Place, Produced},
    kafka::{Committed, HarnessError, Kafka},
};

/// What the commit of one partition claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The committed offset; 0 where nothing was committed.
    pub position: i64,
    /// What the metadata names above it.
    pub ahead: SettledMap,
}

/// An offset that is claimed to be settled and is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FalseClaim {
    /// The record.
    pub place: Place,
    /// What was committed for its partition.
    pub position: i64,
}

impl fmt::Display for FalseClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = if self.place.offset < self.position {
            "the offset"
        } else {
            "the metadata"
        };
        write!(
            f,
            "{} is not settled, but {by} of the commit at {} claims it",
            self.place, self.position
        )
    }
}

impl Claim {
    /// Whether it claims that `offset` is settled.
    pub fn covers(&self, offset: i64) -> bool {
        offset < self.position || self.ahead.contains(Offset::new(offset))
    }

    /// Reads what was committed for a partition of `topic`.
    ///
    /// # Errors
    /// When the metadata is not a settled-ahead map.
    pub fn of(topic: &str, committed: &Committed) -> Result<Self, MapError> {
        let position = committed.offset.unwrap_or(0);
        let ahead = commit_map::decode(Position::new(position), &committed.metadata)?;
        Ok(Self {
            topic: topic.to_owned(),
            partition: committed.partition,
            position,
            ahead: ahead.settled,
        })
    }
}

/// What `group` claims of `topic`, by partition, as the group's coordinator has it.
///
/// # Errors
/// As [`Kafka::committed`].
///
/// # Panics
/// When a commit's metadata is not a settled-ahead map.
pub async fn claims(kafka: &Kafka, group: &str, topic: &str) -> Result<Vec<Claim>, HarnessError> {
    let committed = kafka.committed(group, topic).await?;
    let claim = |committed: &Committed| match Claim::of(topic, committed) {
        Ok(claim) => claim,
        Err(error) => panic!("{group} has committed {committed:?} for {topic}: {error}"),
    };
    Ok(committed.iter().map(claim).collect())
}

/// The produced records that a claim covers although they are not settled.
///
/// Ask in this order while work goes on: read the claims, then take `settled`.
pub fn false_claims(
    claims: &[Claim],
    produced: &[Produced],
    settled: &BTreeSet<Place>,
) -> Vec<FalseClaim> {
    let unsettled: Vec<Place> = produced
        .iter()
        .map(Produced::place)
        .filter(|place| !settled.contains(place))
        .collect();
    let of = |claim: &Claim| {
        let position = claim.position;
        let own = unsettled
            .iter()
            .filter(|place| place.topic == claim.topic && place.partition == claim.partition);
        own.filter(|place| claim.covers(place.offset))
            .map(|place| FalseClaim {
                place: place.clone(),
                position,
            })
            .collect::<Vec<_>>()
    };
    claims.iter().flat_map(of).collect()
}

/// # Panics
/// Where [`false_claims`] finds something; `context` names the place.
#[track_caller]
pub fn assert_honest(
    claims: &[Claim],
    produced: &[Produced],
    settled: &BTreeSet<Place>,
    context: &impl fmt::Debug,
) {
    let wrong = false_claims(claims, produced, settled);
    assert!(
        wrong.is_empty(),
        "broken promise, {context:?}: {} false claims, such as {}",
        wrong.len(),
        wrong[0]
    );
}

/// The produced records that no claim covers: what a restart would deliver again.
pub fn unclaimed(claims: &[Claim], produced: &[Produced]) -> BTreeSet<Place> {
    let covered = |record: &Produced| {
        let own = claims
            .iter()
            .find(|claim| claim.topic == record.topic && claim.partition == record.partition);
        own.is_some_and(|claim| claim.covers(record.offset))
    };
    produced
        .iter()
        .filter(|record| !covered(record))
        .map(Produced::place)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use keylane_core::{Offset, SettledMap, SettledRange};

    use super::{Claim, false_claims, unclaimed};
    use crate::journal::{Place, Produced};

    fn produced(offsets: std::ops::Range<i64>) -> Vec<Produced> {
        let record = |offset: i64| Produced {
            topic: "t".into(),
            partition: 0,
            offset,
            key: None,
            id: offset.to_string(),
        };
        offsets.map(record).collect()
    }

    fn places(offsets: impl IntoIterator<Item = i64>) -> BTreeSet<Place> {
        offsets
            .into_iter()
            .map(|offset| Place {
                topic: "t".into(),
                partition: 0,
                offset,
            })
            .collect()
    }

    #[test]
    fn a_claim_is_the_offset_and_the_map_and_each_can_be_false() {
        let mut ahead = SettledMap::new();
        ahead.append(SettledRange {
            first: Offset::new(4),
            last: Offset::new(5),
        });
        let claims = [Claim {
            topic: "t".into(),
            partition: 0,
            position: 2,
            ahead,
        }];
        let all = produced(0..8);
        assert_eq!(false_claims(&claims, &all, &places([0, 1, 4, 5])), []);
        assert_eq!(unclaimed(&claims, &all), places([2, 3, 6, 7]));

        let found = false_claims(&claims, &all, &places([0, 4]));
        let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts[0],
            "t[0]@1 is not settled, but the offset of the commit at 2 claims it"
        );
        assert_eq!(
            texts[1],
            "t[0]@5 is not settled, but the metadata of the commit at 2 claims it"
        );
    }
}
