//! How often a record is retried in place.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How often a record is retried in place.
///
/// # Examples
/// ```
/// use keylane::config::InPlace;
/// use keylane::Retry;
///
/// assert_eq!(Retry::in_place(3).in_place, InPlace::Times(3));
/// assert_eq!(Retry::forever().in_place, InPlace::Forever);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InPlace {
    /// At most this many times after the first attempt of each delivery.
    Times(u32),
    /// Until it succeeds.
    Forever,
}

impl Serialize for InPlace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Times(times) => serializer.serialize_u32(*times),
            Self::Forever => serializer.serialize_str("forever"),
        }
    }
}

impl<'de> Deserialize<'de> for InPlace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Times(u32),
            Word(String),
        }
        match Either::deserialize(deserializer)
            .map_err(|_| D::Error::custom("in_place takes a number or \"forever\""))?
        {
            Either::Times(times) => Ok(Self::Times(times)),
            Either::Word(word) if word == "forever" => Ok(Self::Forever),
            Either::Word(word) => Err(D::Error::custom(format!(
                "in_place takes a number or \"forever\", not {word:?}"
            ))),
        }
    }
}
