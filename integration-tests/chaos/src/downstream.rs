//! What the processors wait for, and when it is away: a file that every attempt reads, so that all
//! members agree at every moment, also one that has just started.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use fastrand::Rng;
use keylane::TaskError;
use serde::{Deserialize, Serialize};

/// Whose records it is away for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    /// All of them.
    All,
    /// Those of every other key.
    HalfTheKeys,
    /// Those of every fourth key, which need a place that the errors name.
    OnePlace,
}

/// How attempts fail meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failing {
    /// With an error that is retried by the policy.
    Retryable,
    /// With `TaskError::unavailable`.
    Unavailable,
}

/// An outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outage {
    /// Whose records fail.
    pub whose: Whose,
    /// How.
    pub failing: Failing,
    /// How long it lasts.
    pub lasts_ms: u64,
}

impl Outage {
    /// Draws one.
    pub fn draw(rng: &mut Rng) -> Self {
        let whose = match rng.u32(0..100) {
            0..35 => Whose::All,
            35..70 => Whose::HalfTheKeys,
            _ => Whose::OnePlace,
        };
        let failing = if rng.u32(0..100) < 30 {
            Failing::Unavailable
        } else {
            Failing::Retryable
        };
        Self {
            whose,
            failing,
            lasts_ms: rng.u64(2_000..6_000),
        }
    }

    fn meets(self, key: Option<&str>, id: u64) -> bool {
        let number = key.map_or(id, spread);
        match self.whose {
            Whose::All => true,
            Whose::HalfTheKeys => number.is_multiple_of(2),
            Whose::OnePlace => number % 4 == 1,
        }
    }

    fn error(self) -> TaskError {
        let words = "what the record needs is away";
        let error = match self.failing {
            Failing::Retryable => TaskError::retryable(words),
            Failing::Unavailable => TaskError::unavailable(words),
        };
        // The records' own failures have the same type.
        let error = error.of_class("away");
        if self.whose == Whose::OnePlace {
            error.at("the place")
        } else {
            error
        }
    }
}

/// FNV-1a: the same in each process and version.
fn spread(key: &str) -> u64 {
    key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Where it is written what is away.
#[derive(Debug, Clone)]
pub struct Downstream(PathBuf);

impl Downstream {
    /// The one of a run.
    pub fn of(directory: &Path) -> Self {
        Self(directory.join("downstream.json"))
    }

    /// The one whose file this is.
    pub fn at(file: PathBuf) -> Self {
        Self(file)
    }

    /// Its file.
    pub fn file(&self) -> &Path {
        &self.0
    }

    /// Sets what is away from now on, if anything.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn set(&self, outage: Option<Outage>) -> io::Result<()> {
        // Written as a whole: a reader gets the one or the other.
        let new = self.0.with_extension("new");
        fs::write(&new, serde_json::to_vec(&outage)?)?;
        fs::rename(new, &self.0)
    }

    /// How an attempt at a record fails now, if it does.
    pub fn check(&self, key: Option<&str>, id: u64) -> Option<(Failing, TaskError)> {
        let text = fs::read(&self.0).ok()?;
        let outage: Option<Outage> = serde_json::from_slice(&text).ok()?;
        let met = outage.filter(|outage| outage.meets(key, id))?;
        Some((met.failing, met.error()))
    }
}

#[cfg(test)]
mod tests {
    use keylane::processing::TaskErrorKind;

    use super::{Downstream, Failing, Outage, Whose};

    #[test]
    fn what_is_away_is_away_for_the_keys_that_it_says() {
        let directory = tempfile::tempdir().unwrap();
        let downstream = Downstream::of(directory.path());
        let away = || {
            (0..400)
                .filter(|id| downstream.check(Some(&format!("key-{id}")), *id).is_some())
                .count()
        };
        assert_eq!(away(), 0);
        let set = |whose, failing| {
            downstream
                .set(Some(Outage {
                    whose,
                    failing,
                    lasts_ms: 1,
                }))
                .unwrap()
        };
        set(Whose::All, Failing::Retryable);
        assert_eq!(away(), 400);
        set(Whose::HalfTheKeys, Failing::Retryable);
        assert!((150..250).contains(&away()), "{}", away());
        let error = (0..400)
            .find_map(|id| downstream.check(None, id))
            .unwrap()
            .1;
        assert_eq!(
            (error.kind(), error.class(), error.place()),
            (TaskErrorKind::Retryable, "away", None)
        );
        set(Whose::OnePlace, Failing::Unavailable);
        assert!((60..140).contains(&away()), "{}", away());
        let error = (0..400)
            .find_map(|id| downstream.check(None, id))
            .unwrap()
            .1;
        assert_eq!(
            (error.kind(), error.place()),
            (TaskErrorKind::Unavailable, Some("the place"))
        );
        downstream.set(None).unwrap();
        assert_eq!(away(), 0);
    }
}
