//! Which dead letters are meant. Pure.

use std::ops::Range;
use std::time::SystemTime;

use regex_lite::{Regex, RegexBuilder};

use super::{Fingerprint, StoredLetter};
use crate::support::error_text;

/// A filter has no more terms.
const MOST_TERMS: usize = 32;
/// A term is no longer.
const LONGEST_TERM_BYTES: usize = 1024;
/// A regular expression takes no more memory. It is matched in linear time.
const REGEX_LIMIT_BYTES: usize = 256 * 1024;

/// A filter of dead letters: all its terms have to hold.
///
/// | term | holds for a letter |
/// |---|---|
/// | `reason=exhausted` | that was given up for this reason |
/// | `class=gateway::Busy` | whose last error had this class |
/// | `error~time.?out` | in whose last error's text the regular expression is found |
/// | `fingerprint=83a1…` | that fails alike: [`Fingerprint::id`] or its text |
/// | `group=notifier` | that this consumer group gave up |
/// | `key=B-KL 42` | whose record has this key; `key=` is the empty one |
/// | `header:tenant=a` | whose record has this header with this value; the last of its name counts |
/// | `partition=3` | in this partition of the dead-letter topic |
/// | `offset=100..200` | at 100 or behind it, and before 200, there |
/// | `time=2026-11-21T04:00:00Z..2026-11-21T05:00:00Z` | whose record was given up at the first time or later, and before the second |
///
/// Either end of a range may be missing. A term about something that a letter does not say does not
/// hold. Without a term every letter is meant.
///
/// # Examples
/// ```
/// use keylane::dead_letter::Filter;
///
/// let filter = Filter::parse(["reason=exhausted", "error~time.?out", "time=2026-11-21T04:00:00Z.."])?;
/// assert_eq!(filter.to_string(), "reason=exhausted error~time.?out time=2026-11-21T04:00:00Z..");
///
/// let error = Filter::parse(["offset=200..100"]).unwrap_err();
/// assert_eq!(error.to_string(), "the filter term \"offset=200..100\" is wrong: 200 is not before 100");
/// # Ok::<(), keylane::dead_letter::FilterError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Filter {
    terms: Vec<(String, Term)>,
}

#[derive(Clone, Debug)]
enum Term {
    Reason(String),
    Class(String),
    Error(Regex),
    Fingerprint(String),
    Group(String),
    Key(Vec<u8>),
    Header(String, Vec<u8>),
    Partition(i32),
    Offset(Bounds<i64>),
    Time(Bounds<SystemTime>),
}

/// From the first to before the second; `None` is no bound.
#[derive(Clone, Debug)]
struct Bounds<T>(Range<Option<T>>);

/// A filter that cannot be used. It names the term and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// A term is wrong.
    #[error("the filter term {term} is wrong: {reason}")]
    Term {
        /// The term, in quotes, cut where it is long.
        term: String,
        /// What is wrong, and what is right.
        reason: String,
    },
    /// There are too many terms.
    #[error("a filter has at most {MOST_TERMS} terms")]
    TooManyTerms,
}

impl Filter {
    /// Reads its terms. A term is read whole, spaces and commas included.
    ///
    /// # Errors
    /// [`FilterError`] where a term is none of the table, or its value cannot be read.
    pub fn parse<T: AsRef<str>>(terms: impl IntoIterator<Item = T>) -> Result<Self, FilterError> {
        let mut filter = Self::default();
        for text in terms {
            let text = text.as_ref();
            if filter.terms.len() == MOST_TERMS {
                return Err(FilterError::TooManyTerms);
            }
            let term = term(text).map_err(|reason| FilterError::Term {
                term: error_text::text(format_args!("{text:?}")),
                reason,
            })?;
            filter.terms.push((text.to_owned(), term));
        }
        Ok(filter)
    }

    /// The same, with ages in the place of times: `time=90m..` is the last 90 minutes. A filter has
    /// absolute times: what it means does not change while time passes.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    ///
    /// # Examples
    /// ```
    /// use std::time::{Duration, SystemTime};
    /// use keylane::dead_letter::Filter;
    ///
    /// let two_o_clock = SystemTime::UNIX_EPOCH + Duration::from_secs(7_200);
    /// let filter = Filter::parse_at(two_o_clock, ["time=90m.."])?;
    /// assert_eq!(filter.to_string(), "time=1970-01-01T00:30:00.000Z..");
    /// # Ok::<(), keylane::dead_letter::FilterError>(())
    /// ```
    pub fn parse_at<T: AsRef<str>>(
        now: SystemTime,
        terms: impl IntoIterator<Item = T>,
    ) -> Result<Self, FilterError> {
        Self::parse(terms.into_iter().map(|term| with_times(term.as_ref(), now)))
    }

    /// Whether this letter is meant.
    pub fn matches(&self, letter: &StoredLetter) -> bool {
        self.terms.iter().all(|(_, term)| term.holds(letter))
    }
}

/// Its terms as they were written, with a space between them.
impl std::fmt::Display for Filter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, (text, _)) in self.terms.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            write!(formatter, "{space}{text}")?;
        }
        Ok(())
    }
}

impl Term {
    fn holds(&self, stored: &StoredLetter) -> bool {
        let letter = stored.letter();
        let is = |said: &Option<String>, wanted: &str| said.as_deref() == Some(wanted);
        match self {
            Self::Reason(reason) => is(&letter.reason, reason),
            Self::Class(class) => is(&letter.error_class, class),
            Self::Error(regex) => letter.error.as_deref().is_some_and(|it| regex.is_match(it)),
            Self::Fingerprint(wanted) => {
                let own = Fingerprint::of(letter);
                own.text() == wanted || own.id() == *wanted
            }
            Self::Group(group) => is(&letter.group, group),
            Self::Key(key) => stored.key() == Some(key),
            Self::Header(name, value) => {
                stored.headers().last(name).is_some_and(|it| *it == *value)
            }
            Self::Partition(partition) => stored.partition() == *partition,
            Self::Offset(bounds) => bounds.contain(&stored.offset()),
            Self::Time(bounds) => stored.given_up_at().is_some_and(|at| bounds.contain(&at)),
        }
    }
}

impl<T: PartialOrd> Bounds<T> {
    fn contain(&self, value: &T) -> bool {
        let Range { start, end } = &self.0;
        start.as_ref().is_none_or(|start| value >= start)
            && end.as_ref().is_none_or(|end| value < end)
    }
}

const TERMS: &str = "reason=…, class=…, error~REGEX, fingerprint=…, group=…, key=…, header:NAME=…, partition=N, \
     offset=A..B or time=A..B";

fn term(text: &str) -> Result<Term, String> {
    if text.len() > LONGEST_TERM_BYTES {
        return Err(format!("it is longer than {LONGEST_TERM_BYTES} bytes"));
    }
    let at = text.find(['=', '~']);
    let (name, rest) = text.split_at(at.ok_or_else(|| format!("write {TERMS}"))?);
    let (operator, value) = rest.split_at(1);
    if operator == "~" {
        return match name {
            "error" => Ok(Term::Error(regex(value)?)),
            _ => Err("only error can be matched by ~; write = for all others".to_owned()),
        };
    }
    let owned = || value.to_owned();
    if let Some(header) = name.strip_prefix("header:") {
        return Ok(Term::Header(header.to_owned(), owned().into_bytes()));
    }
    match name {
        "reason" => Ok(Term::Reason(owned())),
        "class" => Ok(Term::Class(owned())),
        "error" => Err("the error's text is matched by a regular expression: error~…".to_owned()),
        "fingerprint" => Ok(Term::Fingerprint(owned())),
        "group" => Ok(Term::Group(owned())),
        "key" => Ok(Term::Key(owned().into_bytes())),
        "partition" => Ok(Term::Partition(number(value)?)),
        "offset" => Ok(Term::Offset(bounds(value, number)?)),
        "time" => Ok(Term::Time(bounds(value, time)?)),
        _ => Err(format!("there is no such term; write {TERMS}")),
    }
}

fn regex(value: &str) -> Result<Regex, String> {
    let mut builder = RegexBuilder::new(value);
    builder.size_limit(REGEX_LIMIT_BYTES);
    builder
        .build()
        .map_err(|error| format!("no regular expression: {error}"))
}

fn number<N: std::str::FromStr + PartialOrd + Default>(text: &str) -> Result<N, String> {
    let number: Option<N> = text.parse().ok();
    number
        .filter(|number| *number >= N::default())
        .ok_or_else(|| format!("{text:?} is no number from 0 on"))
}

/// `time=90m..` with the time that was 90 minutes ago. Anything else stays as it is.
fn with_times(term: &str, now: SystemTime) -> String {
    let range = term
        .strip_prefix("time=")
        .and_then(|range| range.split_once(".."));
    let Some((from, to)) = range else {
        return term.to_owned();
    };
    let end = |text: &str| {
        let age = humantime::parse_duration(text).ok();
        let at = age.and_then(|age| now.checked_sub(age));
        at.map_or_else(
            || text.to_owned(),
            |at| humantime::format_rfc3339_millis(at).to_string(),
        )
    };
    format!("time={}..{}", end(from), end(to))
}

fn time(text: &str) -> Result<SystemTime, String> {
    humantime::parse_rfc3339_weak(text)
        .map_err(|_| format!("{text:?} is no time in UTC, such as 2026-11-21T04:00:00Z"))
}

fn bounds<T: PartialOrd>(
    text: &str,
    read: fn(&str) -> Result<T, String>,
) -> Result<Bounds<T>, String> {
    let (first, second) = text
        .split_once("..")
        .ok_or("it needs two ends, A..B, of which one may be missing")?;
    let end = |text: &str| (!text.is_empty()).then(|| read(text)).transpose();
    let (start, until) = (end(first)?, end(second)?);
    if let (Some(a), Some(b)) = (&start, &until)
        && a >= b
    {
        return Err(format!("{first} is not before {second}"));
    }
    Ok(Bounds(start..until))
}

#[cfg(test)]
mod tests;
