//! The processor's side of HTTP: a client for the push gateway.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::{self, Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use tokio::sync::Semaphore;

use crate::gateway::{self, Notification};

/// Requests at the same time, which is connections with HTTP/1.1: a process has file descriptors
/// for some hundred.
const MAX_CONNECTIONS: usize = 256;
/// The client's own patience, far below keylane's attempt time-out.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// What is read of an answer's body.
const MAX_BODY_BYTES: usize = 4 * 1024;
/// The delay for a busy gateway that names none.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Sends notifications to one gateway.
pub(crate) struct PushClient {
    http: Client<HttpConnector, Full<Bytes>>,
    gateway: SocketAddr,
    uri: Uri,
    connections: Semaphore,
}

/// What the gateway said, as far as the caller can act on it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Accepted,
    Busy { retry_after: Duration },
    UnknownDevice,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum PushError {
    #[error("cannot reach the push gateway at {gateway}")]
    Transport {
        gateway: SocketAddr,
        source: legacy::Error,
    },
    #[error("the push gateway at {gateway} did not answer within {} s", REQUEST_TIMEOUT.as_secs())]
    TimedOut { gateway: SocketAddr },
    #[error("the push gateway answered {status}, which its protocol does not have")]
    Unexpected { status: StatusCode },
    #[error("cannot read the answer of the push gateway")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("cannot write the notification as an HTTP request")]
    Request(#[from] http::Error),
    #[error("cannot write the notification as JSON")]
    Json(#[from] serde_json::Error),
}

impl PushClient {
    pub(crate) fn new(gateway: SocketAddr) -> Result<Self, PushError> {
        let uri = Uri::builder()
            .scheme("http")
            .authority(gateway.to_string())
            .path_and_query(gateway::PATH)
            .build()?;
        let http = Client::builder(TokioExecutor::new()).build_http();
        Ok(Self {
            http,
            gateway,
            uri,
            connections: Semaphore::new(MAX_CONNECTIONS),
        })
    }

    /// Sends one notification. Dropping the future hangs up; the gateway may have accepted it all
    /// the same.
    pub(crate) async fn push(&self, notification: &Notification) -> Result<Answer, PushError> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.uri.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(serde_json::to_vec(notification)?))?;
        let _connection = self
            .connections
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let (status, headers) = tokio::time::timeout(REQUEST_TIMEOUT, self.exchange(request))
            .await
            .map_err(|_| PushError::TimedOut {
                gateway: self.gateway,
            })??;
        match status {
            gateway::ACCEPTED => Ok(Answer::Accepted),
            gateway::BUSY => Ok(Answer::Busy {
                retry_after: retry_after(&headers),
            }),
            gateway::UNKNOWN_DEVICE => Ok(Answer::UnknownDevice),
            status => Err(PushError::Unexpected { status }),
        }
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, HeaderMap), PushError> {
        let response = self
            .http
            .request(request)
            .await
            .map_err(|source| PushError::Transport {
                gateway: self.gateway,
                source,
            })?;
        let (head, body) = response.into_parts();
        // A connection is used again only if the body before has been read to its end.
        Limited::new(body, MAX_BODY_BYTES)
            .collect()
            .await
            .map_err(PushError::Body)?;
        Ok((head.status, head.headers))
    }
}

/// Reads the form with seconds. The other form, a date, is rare among APIs and falls back to the
/// default.
fn retry_after(headers: &HeaderMap) -> Duration {
    let value = headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok());
    value
        .and_then(|value| value.trim().parse().ok())
        .map_or(DEFAULT_RETRY_AFTER, Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::gateway::Gateway;
    use crate::gateway::journal::{self, Journal};
    use crate::tally::Tally;
    use crate::trouble::Trouble;

    const SEED: u64 = 1;

    fn trouble() -> Trouble {
        Trouble::new(SEED)
    }

    async fn start() -> (Gateway, PushClient, Arc<Tally>) {
        let tally = Arc::new(Tally::default());
        let devices = ["phone".to_owned()].into();
        let gateway = Gateway::start("r1", devices, trouble(), tally.clone())
            .await
            .unwrap();
        let client = PushClient::new(gateway.address()).unwrap();
        (gateway, client, tally)
    }

    fn notification(device: &str, seq: u32) -> Notification {
        Notification {
            device: device.into(),
            text: "hi".into(),
            run: "r1".into(),
            vehicle: "V".into(),
            seq,
        }
    }

    fn seq_where(wanted: impl Fn(u32) -> bool) -> u32 {
        (1..100_000).find(|seq| wanted(*seq)).unwrap()
    }

    fn answers(journal: &Journal) -> Vec<(u32, Option<journal::Answer>)> {
        let log = journal.of_run("r1").remove("V").unwrap_or_default();
        log.requests
            .iter()
            .map(|request| (request.seq, request.end.map(|(_, answer)| answer)))
            .collect()
    }

    #[tokio::test]
    async fn an_accepted_notification_is_in_the_journal_and_counts_once() {
        let (gateway, client, tally) = start().await;
        let seq = seq_where(|seq| {
            !trouble().gateway_is_busy("V", seq, 0) && !trouble().gateway_is_busy("V", seq, 1)
        });
        for _ in 0..2 {
            assert_eq!(
                client.push(&notification("phone", seq)).await.unwrap(),
                Answer::Accepted
            );
        }
        assert_eq!(
            answers(gateway.journal()),
            [(seq, Some(journal::Answer::Accepted)); 2]
        );
        assert_eq!(tally.counts().done, 1);
    }

    #[tokio::test]
    async fn a_busy_gateway_says_when_to_come_back_and_then_accepts() {
        let (gateway, client, _) = start().await;
        let seq = seq_where(|seq| {
            trouble().gateway_is_busy("V", seq, 0) && !trouble().gateway_is_busy("V", seq, 1)
        });
        let busy = Answer::Busy {
            retry_after: Duration::from_secs(1),
        };
        assert_eq!(
            client.push(&notification("phone", seq)).await.unwrap(),
            busy
        );
        assert_eq!(
            client.push(&notification("phone", seq)).await.unwrap(),
            Answer::Accepted
        );
        let expected = [
            (seq, Some(journal::Answer::Busy)),
            (seq, Some(journal::Answer::Accepted)),
        ];
        assert_eq!(answers(gateway.journal()), expected);
    }

    #[tokio::test]
    async fn an_unknown_device_is_refused() {
        let (_gateway, client, tally) = start().await;
        let seq = seq_where(|seq| !trouble().gateway_is_busy("V", seq, 0));
        assert_eq!(
            client.push(&notification("lost", seq)).await.unwrap(),
            Answer::UnknownDevice
        );
        assert_eq!(tally.counts().done, 0);
    }

    #[tokio::test]
    async fn a_gateway_that_is_gone_is_an_error_that_names_it() {
        let (gateway, client, _) = start().await;
        let address = gateway.address().to_string();
        drop(gateway);
        // The port closes a moment after the drop; a request before that is answered.
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        loop {
            match client.push(&notification("phone", 1)).await {
                Err(error @ PushError::Transport { .. }) => {
                    break assert!(error.to_string().contains(&address));
                }
                other => assert!(
                    tokio::time::Instant::now() < deadline,
                    "still answers: {other:?}"
                ),
            }
        }
    }

    #[test]
    fn retry_after_reads_seconds_and_has_a_default() {
        let with = |value: &'static str| {
            HeaderMap::from_iter([(header::RETRY_AFTER, value.parse().unwrap())])
        };
        assert_eq!(retry_after(&with("7")), Duration::from_secs(7));
        assert_eq!(
            retry_after(&with("Wed, 21 Oct 2026 07:28:00 GMT")),
            DEFAULT_RETRY_AFTER
        );
        assert_eq!(retry_after(&HeaderMap::new()), DEFAULT_RETRY_AFTER);
    }
}
