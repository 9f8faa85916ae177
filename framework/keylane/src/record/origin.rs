//! Where a record was first read.

use std::sync::Arc;

/// Where a record was first read, for a task that came through the retry topic.
///
/// # Examples
/// An id for a call that has to be made once:
///
/// ```
/// use keylane::testing::TestTask;
///
/// let origin = TestTask::new(()).at("parking-events", 3, 4711).build().origin();
/// let id = format!("{}-{}-{}", origin.topic, origin.partition, origin.offset);
/// assert_eq!(id, "parking-events-3-4711");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Origin {
    /// The origin topic.
    pub topic: Arc<str>,
    /// The partition there.
    pub partition: i32,
    /// The offset there.
    pub offset: i64,
}
