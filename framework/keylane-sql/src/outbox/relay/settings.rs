//! The settings of a relay.

use std::time::Duration;

use keylane::producer::outbox::Connection;

/// What becomes of later rows of a key once one of its rows cannot be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsendable {
    /// They wait until the row is sent again or discarded: [`Outbox::retry`](super::super::Outbox::retry),
    /// [`Outbox::discard`](super::super::Outbox::discard). Rows without a key never wait.
    #[default]
    HoldKey,
    /// They are sent. Where the row is sent later after all, it is out of order.
    SkipRow,
}

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) connection: Connection,
    pub(super) batch: u32,
    pub(super) batch_bytes: u64,
    pub(super) lease: Duration,
    pub(super) poll_interval: Duration,
    pub(super) keep_sent: Option<Duration>,
    pub(super) unsendable: Unsendable,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connection: Connection::default(),
            batch: 500,
            batch_bytes: 8 << 20,
            lease: Duration::from_secs(15),
            poll_interval: Duration::from_secs(1),
            keep_sent: None,
            unsendable: Unsendable::default(),
        }
    }
}

impl Settings {
    /// What is out of its range, and the range.
    pub(super) fn invalid(&self) -> Option<(&'static str, String)> {
        let seconds = |setting, value: Duration, least: u64, most: u64| {
            let is_in =
                (Duration::from_millis(least)..=Duration::from_millis(most)).contains(&value);
            (!is_in).then(|| {
                let reason = format!("{value:?} is not between {least} ms and {most} ms");
                (setting, reason)
            })
        };
        if self.batch == 0 || self.batch > 10_000 {
            let reason = format!("{} is not between 1 and 10,000 rows", self.batch);
            return Some(("batch", reason));
        }
        if !(1 << 10..=256 << 20).contains(&self.batch_bytes) {
            let reason = format!("{} is not between 1 KiB and 256 MiB", self.batch_bytes);
            return Some(("batch_bytes", reason));
        }
        let keep = self.keep_sent.unwrap_or(Duration::from_secs(1));
        seconds("lease", self.lease, 1_000, 600_000)
            .or_else(|| seconds("poll_interval", self.poll_interval, 10, 600_000))
            .or_else(|| seconds("keep_sent", keep, 1_000, 400 * 86_400_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_out_of_its_range_is_named() {
        assert_eq!(Settings::default().invalid(), None);
        let with = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            settings.invalid().map(|(setting, _)| setting)
        };
        assert_eq!(with(|it| it.batch = 0), Some("batch"));
        assert_eq!(with(|it| it.batch_bytes = 0), Some("batch_bytes"));
        assert_eq!(with(|it| it.lease = Duration::ZERO), Some("lease"));
        assert_eq!(
            with(|it| it.poll_interval = Duration::MAX),
            Some("poll_interval")
        );
        assert_eq!(
            with(|it| it.keep_sent = Some(Duration::ZERO)),
            Some("keep_sent")
        );
    }
}
