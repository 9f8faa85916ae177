//! How far behind the log's end each partition is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keylane_core::{Behind, Position, Rest, WithheldNews};

use crate::polling::partitions::Assigned;

/// Looks whether an open transaction keeps records from being read.
pub(super) fn look_for_withheld(
    assigned: &mut Assigned,
    all_settled: bool,
    end: Option<i64>,
) -> Option<Behind> {
    let rest = assigned.expected().zip(end).filter(|_| all_settled);
    let rest = rest.map(|(next, end)| Rest {
        next: Position::new(next),
        end: Position::new(end),
    });
    let now = assigned.now();
    let (topic, partition) = (&assigned.topic, assigned.partition);
    match assigned.withheld.look(rest, now) {
        Some(WithheldNews::Begun(behind)) => tracing::warn!(
            %topic, partition, last_stable_offset = behind.last_stable.get(), end = behind.end.get(),
            lasting = ?behind.lasting,
            "records cannot be read: a transaction is open in front of them; they come when its producer ends it"
        ),
        Some(WithheldNews::Ended) => {
            tracing::info!(%topic, partition, "no transaction keeps records from being read now");
        }
        None => {}
    }
    assigned.withheld.behind(now)
}

/// What lies between the watermark and the log's end.
///
/// The end may lie below: the log was cut, or the end is from before what was read last. All that
/// is known to be there is settled then, so it is no lag, and no figure of before may stay.
pub(super) fn lag_records(end: Option<i64>, watermark: Option<Position>) -> Option<u64> {
    let watermark = watermark.map(Position::get)?;
    let (end, watermark) = (u64::try_from(end?).ok()?, u64::try_from(watermark).ok()?);
    Some(end.saturating_sub(watermark))
}

/// The age of the oldest unsettled record; nothing behind is no lag.
pub(super) fn lag_age(
    lag: Option<u64>,
    oldest_timestamp_millis: Option<i64>,
    all_settled: bool,
    behind: Option<Behind>,
) -> Option<Duration> {
    if let Some(behind) = behind {
        return Some(behind.lasting);
    }
    // With everything settled and nothing held back, the offsets up to the end are on their way
    // here, or no records: the marker at the end of a transaction counts as an offset.
    if lag == Some(0) || all_settled {
        return Some(Duration::ZERO);
    }
    oldest_timestamp_millis.and_then(age)
}

/// The same of what nothing but time holds up. What is not read, for a pause or an open
/// transaction, is no such thing: where what is held up fills the partition, all that is behind
/// waits for it.
pub(super) fn workable_age(
    lag_age: Option<Duration>,
    oldest_timestamp_millis: Option<i64>,
    not_read: bool,
) -> Option<Duration> {
    let lag_age = lag_age?;
    match oldest_timestamp_millis.and_then(age) {
        Some(age) => Some(age.min(lag_age)),
        None if not_read => Some(lag_age),
        None => Some(Duration::ZERO),
    }
}

fn age(timestamp_millis: i64) -> Option<Duration> {
    let now = i64::try_from(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()?
            .as_millis(),
    )
    .ok()?;
    Some(Duration::from_millis(
        u64::try_from(now.saturating_sub(timestamp_millis)).unwrap_or(0),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(position: i64) -> Option<Position> {
        Some(Position::new(position))
    }

    /// A log was cut below the watermark, or its end is known from before.
    #[test]
    fn an_end_below_the_watermark_is_no_lag() {
        assert_eq!(lag_records(Some(7), at(5)), Some(2));
        assert_eq!(lag_records(Some(5), at(5)), Some(0));
        assert_eq!(lag_records(Some(5), at(500)), Some(0));
        assert_eq!(lag_records(Some(0), at(i64::MAX)), Some(0));
        assert_eq!(lag_records(Some(i64::MAX), at(0)), Some(i64::MAX as u64));
        for (end, watermark) in [(None, at(5)), (Some(5), None), (Some(-1), at(5))] {
            assert_eq!(lag_records(end, watermark), None, "not known");
        }
        assert_eq!(lag_age(Some(0), None, false, None), Some(Duration::ZERO));
    }

    #[test]
    fn what_an_open_transaction_withholds_is_lag_in_seconds() {
        let (last_stable, end, lasting) = (
            Position::new(5),
            Position::new(1_010),
            Duration::from_secs(25),
        );
        let behind = Some(Behind {
            last_stable,
            end,
            lasting,
        });
        assert_eq!(lag_age(Some(1_005), None, true, behind), Some(lasting));
        assert_eq!(
            lag_age(Some(1), None, true, None),
            Some(Duration::ZERO),
            "a marker"
        );
        assert_eq!(workable_age(Some(lasting), None, true), Some(lasting));
    }

    #[test]
    fn what_is_held_up_is_no_workable_lag_unless_reading_waits_for_it() {
        let long_ago = Some(1_000_000_000_000);
        let (hour, none) = (Some(Duration::from_secs(3600)), None);
        assert_eq!(workable_age(hour, none, false), Some(Duration::ZERO));
        assert_eq!(workable_age(hour, none, true), hour);
        // A record of the year 2001 runs; it is not older than the lag.
        assert_eq!(workable_age(hour, long_ago, false), hour);
        assert_eq!(
            workable_age(Some(Duration::ZERO), long_ago, true),
            Some(Duration::ZERO)
        );
        assert_eq!(workable_age(None, long_ago, false), None);
    }
}
