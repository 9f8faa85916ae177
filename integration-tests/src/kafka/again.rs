//! Repeats requests that brokers refuse for a moment.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use rdkafka::{error::KafkaError, types::RDKafkaErrorCode};

const INTERVAL: Duration = Duration::from_millis(100);
/// Long: a busy machine elects leaders and loads groups slowly.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Sends a request to a broker, and repeats it while the refusal is one that passes: there is no
/// coordinator, leader or controller yet, or a connection was lost. Blocks.
///
/// # Errors
/// Any other error at once, and that one when it lasts for a minute.
pub fn again<T>(ask: impl FnMut() -> Result<T, KafkaError>) -> Result<T, KafkaError> {
    again_if(is_passing, ask)
}

/// The same for requests that the client library does not make.
pub(super) fn request_again<T>(ask: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    again_if(is_passing_request, ask)
}

/// The same for requests whose answers are awaited.
pub(super) async fn again_async<T>(
    mut ask: impl AsyncFnMut() -> Result<T, KafkaError>,
) -> Result<T, KafkaError> {
    let started = Instant::now();
    loop {
        match ask().await {
            Err(error) if is_passing(&error) && started.elapsed() < PATIENCE => {
                tokio::time::sleep(INTERVAL).await;
            }
            result => return result,
        }
    }
}

fn again_if<T, E>(passes: fn(&E) -> bool, mut ask: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let started = Instant::now();
    loop {
        match ask() {
            Err(error) if passes(&error) && started.elapsed() < PATIENCE => {
                thread::sleep(INTERVAL);
            }
            result => return result,
        }
    }
}

pub(super) fn is_passing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{
        AllBrokersDown, BrokerNotAvailable, BrokerTransportFailure, CoordinatorLoadInProgress,
        CoordinatorNotAvailable, InvalidReplicationFactor, KafkaStorageError, LeaderNotAvailable,
        NetworkException, NotController, NotCoordinator, NotLeaderForPartition, OffsetNotAvailable,
        OperationTimedOut, ReplicaNotAvailable, RequestTimedOut, WaitingForCoordinator,
    };
    let code = match error {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    };
    matches!(
        code,
        Some(
            // The client connects again by itself.
            AllBrokersDown | BrokerTransportFailure | NetworkException | OperationTimedOut
            | RequestTimedOut
            // Brokers find out who coordinates a group, and load it. On a fresh cluster that lasts
            // until the topic of the offsets is there.
            | CoordinatorLoadInProgress | CoordinatorNotAvailable | NotCoordinator
            | WaitingForCoordinator
            // They elect.
            | BrokerNotAvailable | KafkaStorageError | LeaderNotAvailable | NotController
            | NotLeaderForPartition | OffsetNotAvailable | ReplicaNotAvailable
            // A busy broker misses its heartbeats, and the controller counts without it.
            | InvalidReplicationFactor
        )
    )
}

/// A broker that refuses, by its number.
#[derive(Debug, thiserror::Error)]
#[error("the broker answered with the error code {0}")]
pub(super) struct Refusal(pub(super) i16);

fn is_passing_request(error: &io::Error) -> bool {
    let refusal = error.get_ref().and_then(|inner| inner.downcast_ref());
    refusal.is_some_and(|Refusal(code)| {
        [
            RDKafkaErrorCode::RequestTimedOut,
            RDKafkaErrorCode::CoordinatorLoadInProgress,
            RDKafkaErrorCode::CoordinatorNotAvailable,
            RDKafkaErrorCode::NotCoordinator,
            RDKafkaErrorCode::NotController,
        ]
        .iter()
        .any(|passing| *passing as i32 == i32::from(*code))
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use rdkafka::{error::KafkaError, types::RDKafkaErrorCode};

    use super::{Refusal, again, again_async, request_again};

    #[test]
    fn a_broker_that_is_not_ready_is_asked_again() {
        use RDKafkaErrorCode::{
            BrokerTransportFailure, CoordinatorLoadInProgress, CoordinatorNotAvailable,
            NotCoordinator, NotLeaderForPartition,
        };
        let mut left = vec![
            BrokerTransportFailure,
            CoordinatorLoadInProgress,
            CoordinatorNotAvailable,
            NotCoordinator,
            NotLeaderForPartition,
        ];
        let answer = again(|| {
            left.pop()
                .map_or(Ok(7), |code| Err(KafkaError::OffsetFetch(code)))
        });
        assert_eq!((answer, left.len()), (Ok(7), 0));
    }

    #[tokio::test]
    async fn a_controller_that_is_not_ready_is_asked_again() {
        use RDKafkaErrorCode::{InvalidReplicationFactor, NotController};
        let mut left = vec![InvalidReplicationFactor, NotController];
        let answer = again_async(async || {
            left.pop()
                .map_or(Ok(7), |code| Err(KafkaError::AdminOp(code)))
        })
        .await;
        assert_eq!((answer, left.len()), (Ok(7), 0));

        let mut codes = vec![41, 16];
        let answer = request_again(|| {
            codes
                .pop()
                .map_or(Ok(7), |code| Err(io::Error::other(Refusal(code))))
        });
        assert_eq!(answer.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_refusal_is_final() {
        let mut asked = 0;
        let answer: Result<(), _> = again(|| {
            asked += 1;
            Err(KafkaError::OffsetFetch(
                RDKafkaErrorCode::GroupAuthorizationFailed,
            ))
        });
        assert!(answer.is_err());
        let answer: Result<(), _> = again_async(async || {
            asked += 1;
            Err(KafkaError::AdminOp(RDKafkaErrorCode::TopicAlreadyExists))
        })
        .await;
        assert!(answer.is_err());
        let answer: io::Result<()> = request_again(|| {
            asked += 1;
            Err(io::Error::other(Refusal(25)))
        });
        assert!(answer.is_err());
        assert_eq!(asked, 3);
    }
}
