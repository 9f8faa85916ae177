//! Errors that the polling thread ends its subscription with.

use crate::status::SubscriptionError;

pub(crate) fn panicked(text: &str) -> SubscriptionError {
    SubscriptionError::Internal(format!("the polling thread panicked: {text}"))
}

/// With `auto.offset.reset=error` no position is made up, here neither.
pub(crate) fn recreated(topic: &str) -> SubscriptionError {
    SubscriptionError::OffsetReset(format!(
        "the topic {topic} was deleted and re-created, and what was committed is about the old one; \
         reset the group's offsets to where reading is to go on"
    ))
}

/// The same where nothing was committed, as it turned out after the assignment.
pub(crate) fn without_position(topic: &str, partition: i32) -> SubscriptionError {
    SubscriptionError::OffsetReset(format!(
        "nothing is committed for {topic}-{partition}, and auto.offset.reset=error makes up no position; \
         set the group's offsets to where reading is to begin"
    ))
}
