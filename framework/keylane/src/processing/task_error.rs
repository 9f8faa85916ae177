//! The error of a failed attempt, returned by the processor.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use keylane_core::Failure;

use crate::support::error_text;

/// Why an attempt failed, and what happens to the record.
///
/// Every error converts into a *retryable* one with `?`, so the retry policy decides. Boxed errors,
/// those of `anyhow` and `eyre`, and text convert too. The constructors select another action.
///
/// | made by | what happens |
/// |---|---|
/// | `?`, `.into()`, [`retryable`](Self::retryable) | retried by the policy of the subscription |
/// | [`retry_after`](Self::retry_after) | the same, with the delay chosen here (HTTP 429, 503) |
/// | [`unavailable`](Self::unavailable) | retried until it works; uses up neither attempts nor retry time |
/// | [`fatal`](Self::fatal) | no further attempt: dead-lettered (or parked, or the subscription stops, as configured) |
///
/// Leaving a record out is no error: see [`Success`](crate::Success).
///
/// What converts is `Send` and `Sync`, because attempts move between threads. A `Box<dyn Error>` is
/// neither: declare it as `Box<dyn Error + Send + Sync>`, or return its text.
///
/// # Places and classes
/// Where several keys fail at once, an outage is suspected rather than a bad record: see
/// [`Outage`](crate::config::Outage). An error counts by its *class*, the type of the error unless
/// [`of_class`](Self::of_class) names another, and by the *place* that [`at`](Self::at) names. A
/// box, an error of `anyhow`, and text hide what is in them: all boxes are one class.
///
/// # Examples
/// ```
/// use keylane::TaskError;
/// use std::time::Duration;
///
/// fn classify(status: u16, retry_after: Duration) -> Result<(), TaskError> {
///     match status {
///         200..=299 => Ok(()),
///         429 => Err(TaskError::retry_after("the gateway is busy", retry_after)),
///         400..=499 => Err(TaskError::fatal(format!("refused with {status}"))),
///         502..=504 => Err(TaskError::unavailable("the gateway is down").at("sms gateway")),
///         _ => Err(TaskError::retryable(format!("answered {status}"))),
///     }
/// }
/// # assert!(classify(500, Duration::ZERO).is_err());
/// ```
pub struct TaskError {
    kind: TaskErrorKind,
    is_timeout: bool,
    delay: Option<Duration>,
    pub(crate) cause: Cause,
    source: Box<dyn Error + Send + Sync>,
}

/// The action of a [`TaskError`].
///
/// # Examples
/// ```
/// use keylane::processing::TaskErrorKind;
/// use keylane::TaskError;
///
/// assert_eq!(TaskError::fatal("unknown device").kind(), TaskErrorKind::Fatal);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TaskErrorKind {
    /// The record is retried by the policy.
    Retryable,
    /// The record is retried, and uses up neither attempts nor time.
    Unavailable,
    /// The record is not retried.
    Fatal,
}

/// How a failure counts for outages.
#[derive(Clone, Debug)]
pub(crate) struct Cause {
    class: &'static str,
    /// Present where the user gave names. In a box, so that the error stays small without names.
    names: Option<Box<Names>>,
}

#[derive(Clone, Debug, Default)]
struct Names {
    place: Option<Cow<'static, str>>,
    class: Option<Cow<'static, str>>,
}

impl Cause {
    pub(crate) const fn of_class(class: &'static str) -> Self {
        Self { class, names: None }
    }

    pub(crate) fn class(&self) -> &str {
        self.names
            .as_ref()
            .and_then(|names| names.class.as_deref())
            .unwrap_or(self.class)
    }

    /// The same, to be kept.
    pub(crate) fn class_name(&self) -> Cow<'static, str> {
        let name = self.names.as_ref().and_then(|names| names.class.clone());
        name.unwrap_or(Cow::Borrowed(self.class))
    }

    pub(crate) fn place(&self) -> Option<&str> {
        self.names.as_ref()?.place.as_deref()
    }
}

impl TaskError {
    /// A failure that may pass: retried by the policy.
    ///
    /// # Examples
    /// ```
    /// use keylane::processing::TaskErrorKind;
    /// use keylane::TaskError;
    ///
    /// fn parse(text: &str) -> Result<u32, TaskError> {
    ///     Ok(text.parse::<u32>()?) // `?` does the same
    /// }
    /// assert_eq!(parse("x").unwrap_err().kind(), TaskErrorKind::Retryable);
    /// assert_eq!(TaskError::retryable("no answer").kind(), TaskErrorKind::Retryable);
    /// ```
    pub fn retryable<E: Into<Box<dyn Error + Send + Sync>>>(error: E) -> Self {
        Self::new(TaskErrorKind::Retryable, error)
    }

    /// A failure with its own delay instead of the policy's back-off.
    ///
    /// The attempt counts as any other. A delay is at least 10 ms and at most one day.
    ///
    /// # Examples
    /// ```
    /// use keylane::TaskError;
    /// use std::time::Duration;
    ///
    /// let error = TaskError::retry_after("the gateway is busy", Duration::from_secs(30));
    /// assert_eq!(error.delay(), Some(Duration::from_secs(30)));
    /// ```
    pub fn retry_after<E: Into<Box<dyn Error + Send + Sync>>>(error: E, delay: Duration) -> Self {
        Self::retryable(error).with_delay(delay)
    }

    /// Something the work needs is away, and the record is not at fault.
    ///
    /// The attempt uses up neither the retries nor the retry time of the record, and no number of
    /// them gives it up. The record waits in place, by its own back-off
    /// ([`Retry::backoff`](crate::Retry::backoff)), and its key waits with it. **A record that
    /// fails like this for ever holds its key for ever**: the state, the log and the metrics show
    /// it.
    ///
    /// Name what is away with [`at`](Self::at).
    ///
    /// # Examples
    /// ```
    /// use keylane::TaskError;
    ///
    /// let error = TaskError::unavailable("connection refused").at("sms gateway");
    /// assert_eq!(error.place(), Some("sms gateway"));
    /// ```
    pub fn unavailable<E: Into<Box<dyn Error + Send + Sync>>>(error: E) -> Self {
        Self::new(TaskErrorKind::Unavailable, error)
    }

    /// A failure that no retry will mend.
    pub fn fatal<E: Into<Box<dyn Error + Send + Sync>>>(error: E) -> Self {
        Self::new(TaskErrorKind::Fatal, error)
    }

    fn new<E: Into<Box<dyn Error + Send + Sync>>>(kind: TaskErrorKind, error: E) -> Self {
        let cause = Cause::of_class(std::any::type_name::<E>());
        Self {
            kind,
            is_timeout: false,
            delay: None,
            cause,
            source: error.into(),
        }
    }

    /// Waits this long before the next attempt, instead of the policy's back-off. A delay is at
    /// least 10 ms and at most one day. Has no effect on an error that is not retried.
    #[must_use]
    pub fn with_delay(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// Names the place that failed, for example `"sms gateway"`.
    ///
    /// When several keys fail at one place and none of them succeeds, that is an outage of this
    /// place, also while others succeed. Errors that are the record's own need no place, because a
    /// success does not name one. A name is cut after 64 bytes. A subscription distinguishes 64
    /// places at most; those named later count as one. Name services, not hosts, users or requests.
    #[must_use]
    pub fn at(mut self, place: impl Into<Cow<'static, str>>) -> Self {
        self.cause.names.get_or_insert_default().place = Some(cut(place.into()));
        self
    }

    /// Names the class of the error: what has failed in the same way. Without it the type of the
    /// error is its class.
    ///
    /// Worth it where one type stands for many faults, such as text. A name is cut after 64 bytes.
    ///
    /// # Examples
    /// ```
    /// use keylane::TaskError;
    ///
    /// let error = TaskError::retryable("status 500").of_class("push: 5xx");
    /// assert_eq!(error.class(), "push: 5xx");
    /// ```
    #[must_use]
    pub fn of_class(mut self, class: impl Into<Cow<'static, str>>) -> Self {
        self.cause.names.get_or_insert_default().class = Some(cut(class.into()));
        self
    }

    /// The action that the error selects.
    pub fn kind(&self) -> TaskErrorKind {
        self.kind
    }

    /// Whether it is made by [`fatal`](Self::fatal).
    pub fn is_fatal(&self) -> bool {
        self.kind == TaskErrorKind::Fatal
    }

    /// Whether it is made by [`unavailable`](Self::unavailable).
    pub fn is_unavailable(&self) -> bool {
        self.kind == TaskErrorKind::Unavailable
    }

    /// Whether it is that of a layer [`Timeout`](crate::layers::Timeout). A processor's own
    /// time-outs are whatever errors it makes of them.
    pub fn is_timeout(&self) -> bool {
        self.is_timeout
    }

    /// The same as the error of a time-out.
    pub(crate) fn timed_out(mut self) -> Self {
        self.is_timeout = true;
        self.of_class(Failure::TimedOut.reason().as_str())
    }

    /// The same where another attempt at the work has failed before it, whose text it then shows.
    pub(crate) fn after(mut self, first: &TaskError) -> Self {
        self.source = Box::new(Second {
            first: first.chain(),
            error: self.source,
        });
        self
    }

    /// The delay it sets, if it sets one.
    pub fn delay(&self) -> Option<Duration> {
        self.delay
    }

    /// The place that failed, if it is named.
    pub fn place(&self) -> Option<&str> {
        self.cause.place()
    }

    /// The class of the error: as named, or else the type it was made from.
    pub fn class(&self) -> &str {
        self.cause.class()
    }

    /// The error with its causes, outermost first, separated by `: `; bounded, see [`error_text`].
    pub(crate) fn chain(&self) -> String {
        error_text::chain(&*self.source)
    }
}

/// The error of a fail-over.
#[derive(Debug, thiserror::Error)]
#[error("{first}; then the fail-over failed")]
struct Second {
    first: String,
    #[source]
    error: Box<dyn Error + Send + Sync>,
}

/// The longest name of a place or class.
const MAX_NAME_BYTES: usize = 64;

fn cut(mut name: Cow<'static, str>) -> Cow<'static, str> {
    let mut end = name.len().min(MAX_NAME_BYTES);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    match &mut name {
        Cow::Borrowed(text) => *text = &text[..end],
        Cow::Owned(text) => text.truncate(end),
    }
    name
}

// `TaskError` does not implement `Error`: this blanket needs that, and `?` is what users write.
impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for TaskError {
    fn from(error: E) -> Self {
        Self::retryable(error)
    }
}

/// The error without its causes; a text beyond 4 KiB is cut.
impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&error_text::text(&self.source))
    }
}

impl fmt::Debug for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskError")
            .field("kind", &self.kind)
            .field("delay", &self.delay)
            .field("class", &self.class())
            .field("place", &self.place())
            .field("source", &self.source)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_error_becomes_retryable() {
        let error: TaskError = std::io::Error::other("down").into();
        assert_eq!(error.kind(), TaskErrorKind::Retryable);
        assert_eq!(error.to_string(), "down");
    }

    #[test]
    fn boxes_text_and_what_converts_into_a_box_become_retryable_with_their_causes() {
        type Boxed = Box<dyn Error + Send + Sync>;
        /// As `anyhow::Error`: no `Error` itself, but it converts into a box.
        struct Report(Boxed);
        impl From<Report> for Boxed {
            fn from(report: Report) -> Self {
                report.0
            }
        }
        fn boxed() -> Result<(), Boxed> {
            Err(std::io::Error::other("in a box").into())
        }
        fn report() -> Result<(), Report> {
            Err(Report("reported".into()))
        }
        fn fails(how: &str) -> Result<(), TaskError> {
            match how {
                "in a box" => boxed()?,
                "reported" => report()?,
                "owned" => return Err(how.to_owned().into()),
                _ => Err("borrowed")?,
            }
            Ok(())
        }
        for how in ["in a box", "reported", "owned", "borrowed"] {
            let error = fails(how).unwrap_err();
            assert_eq!(error.kind(), TaskErrorKind::Retryable);
            assert_eq!(error.chain(), how);
        }
    }

    #[test]
    fn an_error_is_of_the_class_of_its_type_unless_it_is_named() {
        let by_type: TaskError = std::io::Error::other("down").into();
        assert_eq!(by_type.class(), "std::io::error::Error");
        assert_ne!(TaskError::retryable("down").class(), by_type.class());
        let named = TaskError::unavailable("down")
            .of_class("refused")
            .at("x".repeat(63) + "ä")
            .with_delay(Duration::MAX);
        assert_eq!(
            (named.class(), named.place()),
            ("refused", Some(&*"x".repeat(63)))
        );
        assert_eq!(
            (named.kind(), named.delay()),
            (TaskErrorKind::Unavailable, Some(Duration::MAX))
        );
    }

    #[test]
    fn the_chain_names_every_source() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::io::Error);
        let error: TaskError = Outer(std::io::Error::other("inner")).into();
        assert_eq!(error.chain(), "outer: inner");
    }
}
