//! Where a reset moves to.

use std::time::SystemTime;

use keylane::operator::Operator;
use keylane_core::{LogRange, Position};

use super::super::moment::{A_MOMENT, moment};
use crate::arguments::TargetArguments;
use crate::failure::Failure;

/// Where each partition moves to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Earliest,
    Latest,
    Offset(i64),
    Shift(i64),
    /// Milliseconds since 1970.
    Time(i64),
}

impl Target {
    pub(super) fn of(arguments: &TargetArguments, now: SystemTime) -> Result<Self, Failure> {
        Ok(match arguments {
            TargetArguments {
                to_time: Some(time),
                ..
            } => Self::Time(millis(time, now)?),
            TargetArguments {
                to_offset: Some(offset),
                ..
            } => Self::Offset(*offset),
            TargetArguments {
                shift: Some(shift), ..
            } => Self::Shift(*shift),
            arguments if arguments.to_earliest => Self::Earliest,
            _ => Self::Latest,
        })
    }

    /// What has to be looked up: the first offset at or after the time, by the order of
    /// `partitions`; `None` where no record is as late.
    pub(super) fn look_up(
        self,
        operator: &Operator,
        topic: &str,
        partitions: &[i32],
    ) -> Result<Vec<Option<Position>>, Failure> {
        Ok(match self {
            Self::Time(millis) => operator.offsets_at(topic, partitions, millis)?,
            _ => vec![None; partitions.len()],
        })
    }

    /// The new position of a partition. `Err` has the reason why there is none.
    pub(super) fn position(
        self,
        committed: Option<Position>,
        range: LogRange,
        found: Option<Position>,
    ) -> Result<Position, String> {
        let (first, end) = (range.first, range.end);
        match self {
            Self::Earliest => Ok(first),
            Self::Latest => Ok(end),
            Self::Time(_) => Ok(found.unwrap_or(end).clamp(first, end)),
            Self::Shift(by) => match committed {
                Some(committed) => {
                    let to = Position::new(committed.get().saturating_add(by));
                    Ok(to.clamp(first, end))
                }
                None => Err("nothing is committed for this log that could be shifted".to_owned()),
            },
            Self::Offset(offset) => {
                let to = Position::new(offset);
                match (first..=end).contains(&to) {
                    true => Ok(to),
                    false => Err(format!(
                        "{offset} is not in the log, which has {first} to {end}"
                    )),
                }
            }
        }
    }
}

fn millis(time: &str, now: SystemTime) -> Result<i64, Failure> {
    let since_epoch =
        moment(time, now).and_then(|then| then.duration_since(SystemTime::UNIX_EPOCH).ok());
    let millis = since_epoch.and_then(|it| i64::try_from(it.as_millis()).ok());
    millis.ok_or_else(|| Failure::Usage(format!("--to-time: give {A_MOMENT}")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RANGE: LogRange = LogRange {
        first: Position::new(10),
        end: Position::new(50),
    };

    fn position(target: Target, committed: Option<i64>, found: Option<i64>) -> Option<i64> {
        let [committed, found] = [committed, found].map(|it| it.map(Position::new));
        let position = target.position(committed, RANGE, found);
        position.ok().map(Position::get)
    }

    #[test]
    fn a_target_lies_in_the_log() {
        use Target::{Earliest, Latest, Offset, Shift, Time};
        assert_eq!(position(Earliest, None, None), Some(10));
        assert_eq!(position(Latest, None, None), Some(50));
        assert_eq!(position(Offset(10), None, None), Some(10));
        assert_eq!(position(Offset(50), None, None), Some(50));
        assert_eq!(position(Offset(9), None, None), None);
        assert_eq!(position(Offset(51), None, None), None);
        assert_eq!(position(Shift(-5), Some(30), None), Some(25));
        assert_eq!(position(Shift(-100), Some(30), None), Some(10));
        assert_eq!(position(Shift(i64::MAX), Some(30), None), Some(50));
        assert_eq!(position(Shift(-5), None, None), None);
        assert_eq!(position(Time(1), Some(30), Some(20)), Some(20));
        assert_eq!(
            position(Time(1), Some(30), None),
            Some(50),
            "no record is as late"
        );
    }

    #[test]
    fn a_time_is_a_date_or_how_long_ago() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(10_000);
        assert_eq!(millis("90m", now).unwrap(), (10_000 - 5_400) * 1_000);
        assert_eq!(millis("1970-01-01T00:01:00Z", now).unwrap(), 60_000);
        for wrong in ["yesterday", "1969-01-01T00:00:00Z", "3h 80m 1d", ""] {
            assert!(millis(wrong, now).is_err(), "{wrong}");
        }
    }
}
