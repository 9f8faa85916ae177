//! What a group's coordinator refuses for a moment: it is asked again.

use std::{
    thread,
    time::{Duration, Instant},
};

use rdkafka::{error::KafkaError, types::RDKafkaErrorCode};

use super::client::REQUEST;

const AGAIN: Duration = Duration::from_millis(100);

/// Asks a group's coordinator, and asks again while brokers are only finding out who that is, or it
/// still loads the group. On a fresh cluster that lasts until the topic of the offsets is there.
/// Blocks.
///
/// # Errors
/// Any other error at once, and that one when it lasts for 15 s.
pub fn coordinated<T>(mut ask: impl FnMut() -> Result<T, KafkaError>) -> Result<T, KafkaError> {
    let started = Instant::now();
    loop {
        match ask() {
            Err(error) if is_passing(&error) && started.elapsed() < REQUEST => thread::sleep(AGAIN),
            result => return result,
        }
    }
}

fn is_passing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator};
    let code = error.rdkafka_error_code();
    matches!(
        code,
        Some(CoordinatorLoadInProgress | CoordinatorNotAvailable | NotCoordinator)
    )
}

#[cfg(test)]
mod tests {
    use rdkafka::{error::KafkaError, types::RDKafkaErrorCode};

    use super::coordinated;

    #[test]
    fn a_coordinator_that_is_not_ready_is_asked_again() {
        use RDKafkaErrorCode::{
            CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator,
        };
        let mut left = vec![
            CoordinatorLoadInProgress,
            CoordinatorNotAvailable,
            NotCoordinator,
        ];
        let answer = coordinated(|| {
            left.pop()
                .map_or(Ok(7), |code| Err(KafkaError::OffsetFetch(code)))
        });
        assert_eq!((answer, left.len()), (Ok(7), 0));
    }

    #[test]
    fn a_refusal_is_final() {
        let mut asked = 0;
        let answer: Result<(), _> = coordinated(|| {
            asked += 1;
            Err(KafkaError::OffsetFetch(
                RDKafkaErrorCode::GroupAuthorizationFailed,
            ))
        });
        assert!(answer.is_err());
        assert_eq!(asked, 1);
    }
}
