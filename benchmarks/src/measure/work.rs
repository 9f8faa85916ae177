//! What is done for a record. The same record gets the same work in every arm and every round.

use std::hint::black_box;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The work of a scenario.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Work {
    Nothing,
    /// Each record waits.
    Wait {
        micros: u64,
    },
    /// Each record waits 0 to this many whole milliseconds.
    RandomWait {
        max_millis: u64,
    },
    /// Each record computes.
    Compute {
        iterations: u64,
    },
    /// Each record waits, those of key 0 much longer.
    StuckKey {
        stuck_micros: u64,
        micros: u64,
    },
    /// Each record waits, one in this many much longer.
    SomeSlow {
        one_in: u64,
        slow_micros: u64,
        micros: u64,
    },
    /// The first attempt of one record in this many fails.
    SomeFail {
        one_in: u64,
    },
    /// Each record waits until all of them are there.
    Hold,
}

/// The work of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Nothing,
    Wait(Duration),
    Compute(u64),
    Fail,
    Hold,
}

impl Work {
    pub(crate) fn step(self, partition: i32, offset: i64, key: Option<u64>, attempt: u32) -> Step {
        let wait = |micros| match micros {
            0 => Step::Nothing,
            micros => Step::Wait(Duration::from_micros(micros)),
        };
        let dice = || scatter((partition as u64) << 48 ^ offset as u64);
        match self {
            Self::Nothing => Step::Nothing,
            Self::Wait { micros } => wait(micros),
            Self::RandomWait { max_millis } => wait(dice() % (max_millis + 1) * 1_000),
            Self::Compute { iterations } => Step::Compute(iterations),
            Self::StuckKey { stuck_micros, .. } if key == Some(0) => wait(stuck_micros),
            Self::StuckKey { micros, .. } => wait(micros),
            Self::SomeSlow {
                one_in,
                slow_micros,
                ..
            } if dice() % one_in == 0 => wait(slow_micros),
            Self::SomeSlow { micros, .. } => wait(micros),
            Self::SomeFail { one_in } if attempt == 1 && dice() % one_in == 0 => Step::Fail,
            Self::SomeFail { .. } => Step::Nothing,
            Self::Hold => Step::Hold,
        }
    }

    /// Whether the run ends without the records of this key.
    pub(crate) fn is_stuck(self, key: Option<u64>) -> bool {
        matches!(self, Self::StuckKey { .. }) && key == Some(0)
    }
}

/// Computes this many steps, each of which needs the result of the one before.
pub(crate) fn compute(iterations: u64) {
    let mut value = 0x9E37_79B9_7F4A_7C15_u64;
    for _ in 0..iterations {
        value ^= value << 13;
        value ^= value >> 7;
        value ^= value << 17;
    }
    black_box(value);
}

/// A good mix of a number's bits (splitmix64).
pub(crate) fn scatter(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_a_hundred_fails_and_only_once() {
        let work = Work::SomeFail { one_in: 100 };
        let failed = |attempt| {
            (0..100_000)
                .filter(|&offset| work.step(3, offset, None, attempt) == Step::Fail)
                .count()
        };
        assert!((900..1_100).contains(&failed(1)), "{}", failed(1));
        assert_eq!(failed(2), 0);
    }

    #[test]
    fn random_waits_reach_both_ends() {
        let work = Work::RandomWait { max_millis: 5 };
        let steps: Vec<Step> = (0..1_000)
            .map(|offset| work.step(0, offset, None, 1))
            .collect();
        assert!(steps.contains(&Step::Nothing));
        assert!(steps.contains(&Step::Wait(Duration::from_millis(5))));
    }
}
