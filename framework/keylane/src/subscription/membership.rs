//! A `start` that waits until the member has joined its group.

use std::time::Duration;

use super::error::StartError;
use super::handle::Subscription;
use crate::status::{Control, Trouble, TroubleKind};

/// Returns the subscription when it has joined. Otherwise the member has left the group, or could
/// not within some seconds; the same follows when the future is dropped.
pub(super) async fn wait(
    subscription: Subscription,
    within: Duration,
) -> Result<Subscription, StartError> {
    let control = subscription.handle().control;
    let is_decided =
        |control: &Control| control.has_joined() || control.has_ended() || is_refused(control);
    // Whether the time was up is seen below: it may have joined just then.
    let _ = tokio::time::timeout(within, control.until(is_decided)).await;
    if control.has_ended() {
        control.ended().await.map_err(StartError::Ended)?;
    } else if control.has_joined() {
        return Ok(subscription);
    }
    let error = StartError::NotJoined {
        group: control.group().to_owned(),
        reason: reason(control.troubles.lasting(), within),
    };
    // Its own failure, if it has one, is in the log. What counts is why it is asked to end.
    let _ = subscription.shutdown_within(Duration::ZERO).await;
    Err(error)
}

fn is_refused(control: &Control) -> bool {
    control.troubles.has(TroubleKind::GroupProtocol)
}

/// A refusal is the reason whatever else is wrong.
fn reason(mut troubles: Vec<Trouble>, within: Duration) -> String {
    troubles.sort_by_key(|trouble| trouble.kind != TroubleKind::GroupProtocol);
    match troubles.first() {
        Some(trouble) if trouble.kind == TroubleKind::GroupProtocol => trouble.message.clone(),
        Some(trouble) => format!("not within {within:?}: {}", trouble.message),
        None => format!(
            "not within {within:?}: the coordinator has given no assignment, and reports no error; it waits until each \
             member has joined again, for up to that member's max.poll.interval.ms: raise wait_for_membership, or find \
             the member that does not"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::status::{SubscriptionError, TroublePlace};

    /// A member whose polling thread ends as soon as it is asked to.
    fn member() -> (Arc<Control>, Subscription) {
        let control = Arc::new(Control::new(Duration::ZERO).of_group("parking-notifier"));
        let thread = control.clone();
        tokio::spawn(async move {
            while thread.shutdown_deadline().is_none() && !thread.must_end() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            thread.set_ended();
        });
        (control.clone(), Subscription::new(control, Duration::ZERO))
    }

    const LONG: Duration = Duration::from_secs(3600);
    const SHORT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn the_first_assignment_ends_the_wait() {
        let (control, subscription) = member();
        let waiting = tokio::spawn(wait(subscription, LONG));
        tokio::task::yield_now().await;
        control.set_assigned(true);
        let subscription = waiting.await.unwrap().unwrap();
        assert!(control.shutdown_deadline().is_none());
        drop(subscription);
    }

    #[tokio::test]
    async fn a_refusal_ends_it_at_once_and_the_member_has_ended() {
        let (control, subscription) = member();
        let waiting = tokio::spawn(wait(subscription, LONG));
        tokio::task::yield_now().await;
        let cluster = TroublePlace::Cluster;
        let troubles = &control.troubles;
        troubles.note(TroubleKind::Connection, cluster, "connection refused");
        let group = TroublePlace::Group;
        troubles.note(TroubleKind::GroupProtocol, group, "set the assignor");
        control.wake();
        let error = waiting.await.unwrap().unwrap_err();
        assert_eq!(
            error.to_string(),
            "did not join consumer group `parking-notifier`: set the assignor"
        );
        assert!(control.has_ended());
    }

    #[tokio::test]
    async fn the_time_out_states_what_is_missing() {
        let (control, subscription) = member();
        let error = wait(subscription, SHORT).await.unwrap_err().to_string();
        assert!(error.contains("max.poll.interval.ms"), "{error}");
        assert!(control.has_ended());
        let (control, subscription) = member();
        let cluster = TroublePlace::Cluster;
        let troubles = &control.troubles;
        troubles.note(TroubleKind::Connection, cluster, "connection refused");
        let error = wait(subscription, SHORT).await.unwrap_err().to_string();
        assert!(
            error.contains("not within 20ms: connection refused"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn what_ends_the_subscription_ends_the_wait() {
        let (control, subscription) = member();
        let waiting = tokio::spawn(wait(subscription, LONG));
        tokio::task::yield_now().await;
        control.fail(SubscriptionError::Fatal("fenced".to_owned()));
        let error = waiting.await.unwrap().unwrap_err();
        assert!(
            matches!(&error, StartError::Ended(SubscriptionError::Fatal(it)) if it == "fenced"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_wait_that_is_dropped_ends_the_member() {
        let (control, subscription) = member();
        let waiting = tokio::time::timeout(SHORT, wait(subscription, LONG));
        assert!(waiting.await.is_err());
        assert!(control.ended().await.is_ok());
    }
}
