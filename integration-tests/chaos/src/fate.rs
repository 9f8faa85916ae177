//! What happens to a record: written into its value by the producer, acted out by the members.

use std::{fmt, str::FromStr, time::Duration};

use fastrand::Rng;

/// The record has this fate at every attempt.
const ALWAYS: u32 = 1_000_000;

/// What a member does with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Works this many milliseconds and succeeds.
    Works(u32),
    /// Fails this many times, then succeeds.
    Fails(u32),
    /// Panics this many times, then succeeds.
    Panics(u32),
    /// Hangs this many times, until the attempt's time-out, then succeeds.
    Hangs(u32),
    /// Fails for good at once.
    Fatal,
    /// Is skipped.
    Skipped,
    /// Ends the process each time.
    Aborts,
}

impl Fate {
    /// Draws one; those that abort are placed by the schedule instead.
    pub fn draw(rng: &mut Rng) -> Self {
        match rng.u32(0..2_000) {
            0..30 => Self::Works(rng.u32(100..400)),
            30..60 => Self::Fails(rng.u32(1..3)),
            60..66 => Self::Fails(ALWAYS),
            66..72 => Self::Panics(1),
            72..75 => Self::Panics(ALWAYS),
            75..79 => Self::Hangs(1),
            79..80 => Self::Hangs(ALWAYS),
            80..85 => Self::Fatal,
            85..90 => Self::Skipped,
            _ => Self::Works(rng.u32(0..6)),
        }
    }

    /// Whether a dead letter may be its end.
    pub fn may_die(self) -> bool {
        matches!(
            self,
            Self::Fatal
                | Self::Aborts
                | Self::Fails(ALWAYS)
                | Self::Panics(ALWAYS)
                | Self::Hangs(ALWAYS)
        )
    }

    /// Whether an attempt comes to the point where it needs what may be away.
    pub fn needs(self) -> bool {
        matches!(self, Self::Works(_) | Self::Fails(_))
    }

    /// How long an attempt works before its end comes.
    pub fn work(self) -> Duration {
        let millis = match self {
            Self::Works(millis) => millis,
            // Neighbours are in flight when the process dies.
            Self::Aborts => 20,
            _ => 2,
        };
        Duration::from_millis(millis.into())
    }
}

/// A record's value: its number, which is its name, and its fate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value {
    /// Different for each record.
    pub id: u64,
    /// What happens to it.
    pub fate: Fate,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.id)?;
        match self.fate {
            Fate::Works(millis) => write!(f, "works {millis}"),
            Fate::Fails(times) => write!(f, "fails {times}"),
            Fate::Panics(times) => write!(f, "panics {times}"),
            Fate::Hangs(times) => write!(f, "hangs {times}"),
            Fate::Fatal => write!(f, "fatal 0"),
            Fate::Skipped => write!(f, "skipped 0"),
            Fate::Aborts => write!(f, "aborts 0"),
        }
    }
}

/// A value that this program did not write.
#[derive(Debug, thiserror::Error)]
#[error("not a value of the chaos program: {0:?}")]
pub struct NotAValue(String);

impl FromStr for Value {
    type Err = NotAValue;

    fn from_str(text: &str) -> Result<Self, NotAValue> {
        let parse = || {
            let mut words = text.split(' ');
            let (id, what, number) = (
                words.next()?.parse().ok()?,
                words.next()?,
                words.next()?.parse().ok()?,
            );
            let fate = match what {
                "works" => Fate::Works(number),
                "fails" => Fate::Fails(number),
                "panics" => Fate::Panics(number),
                "hangs" => Fate::Hangs(number),
                "fatal" => Fate::Fatal,
                "skipped" => Fate::Skipped,
                "aborts" => Fate::Aborts,
                _ => return None,
            };
            Some(Self { id, fate })
        };
        parse().ok_or_else(|| NotAValue(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::{Fate, Value};

    #[test]
    fn a_value_is_read_as_it_was_written() {
        let mut rng = Rng::with_seed(7);
        for id in 0..5_000 {
            let value = Value {
                id,
                fate: Fate::draw(&mut rng),
            };
            assert_eq!(value.to_string().parse::<Value>().unwrap(), value);
        }
        let value = Value {
            id: 1,
            fate: Fate::Aborts,
        };
        assert_eq!(value.to_string().parse::<Value>().unwrap(), value);
        assert!("1 sleeps 3".parse::<Value>().is_err() && "".parse::<Value>().is_err());
    }
}
