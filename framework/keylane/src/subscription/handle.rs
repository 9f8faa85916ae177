//! The running subscription.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keylane_core::OperatorNote;

use super::acts::bounded;
use super::dead_letters::DeadLetterAccess;
use super::error::PartitionNotAssigned;
use crate::status::{Control, HotKeys, State, SubscriptionError, SubscriptionStatus};

/// How long after its drain deadline a shutdown waits for the client to leave the group.
const CLOSE_GRACE: Duration = Duration::from_secs(10);

/// Longer ones are cut to it: `Duration::MAX` is what one writes for "as long as it takes", and no
/// clock reaches that far.
const LONGEST_SHUTDOWN: Duration = Duration::from_secs(24 * 60 * 60);

/// A running subscription: one member of a consumer group with its processor.
///
/// Dropping it, or the future of [`run`](Self::run), stops the polling thread without a drain; use
/// [`shutdown`](Self::shutdown) or [`run_until`](Self::run_until) to finish what runs.
#[derive(Debug)]
pub struct Subscription {
    handle: SubscriptionHandle,
}

/// A cheap, cloneable handle to a running subscription.
#[derive(Clone, Debug)]
pub struct SubscriptionHandle {
    pub(crate) control: Arc<Control>,
    pub(super) dead_letters: Arc<DeadLetterAccess>,
    shutdown_timeout: Duration,
}

impl Subscription {
    pub(crate) fn new(control: Arc<Control>, shutdown_timeout: Duration) -> Self {
        Self {
            handle: SubscriptionHandle {
                control,
                dead_letters: Arc::default(),
                shutdown_timeout,
            },
        }
    }

    pub(super) fn with_dead_letters(mut self, access: DeadLetterAccess) -> Self {
        self.handle.dead_letters = Arc::new(access);
        self
    }

    /// A handle to watch and steer it from elsewhere.
    ///
    /// # Examples
    /// ```
    /// use keylane::Subscription;
    ///
    /// fn watch(subscription: &Subscription) {
    ///     let handle = subscription.handle();
    ///     tokio::spawn(async move {
    ///         loop {
    ///             println!("{}: {}", handle.name(), handle.state().as_str());
    ///             tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    ///         }
    ///     });
    /// }
    /// # let _ = watch;
    /// ```
    pub fn handle(&self) -> SubscriptionHandle {
        self.handle.clone()
    }

    /// Where the subscription is in its life.
    pub fn state(&self) -> State {
        self.handle.state()
    }

    /// A snapshot of its state and partitions.
    pub fn status(&self) -> SubscriptionStatus {
        self.handle.status()
    }

    /// Waits until it has ended: by a fatal error, or by a shutdown requested through a
    /// [handle](Self::handle).
    ///
    /// # Errors
    /// The error that ended it.
    pub async fn run(self) -> Result<(), SubscriptionError> {
        self.handle.control.ended().await
    }

    /// Runs until the signal, then shuts down gracefully within
    /// [`SubscriptionConfig::shutdown_timeout`](crate::SubscriptionConfig::shutdown_timeout).
    ///
    /// Handle SIGTERM as well as Ctrl-C: supervisors send it, and process 1 of a container ignores
    /// it unless it is handled. An unhandled SIGTERM ends in a kill, and the next start finds a
    /// crash.
    ///
    /// # Examples
    /// ```
    /// use keylane::error::SubscriptionError;
    /// use keylane::Subscription;
    /// use tokio::signal::{ctrl_c, unix::{SignalKind, signal}};
    ///
    /// async fn run(subscription: Subscription) -> Result<(), SubscriptionError> {
    ///     let Ok(mut terminate) = signal(SignalKind::terminate()) else {
    ///         return subscription.run().await;
    ///     };
    ///     let stop = async { tokio::select! { _ = terminate.recv() => {} _ = ctrl_c() => {} } };
    ///     subscription.run_until(stop).await
    /// }
    /// # let _ = run;
    /// ```
    ///
    /// # Errors
    /// What ended it before the signal, or a shutdown that did not come to its end.
    pub async fn run_until<S>(
        self,
        signal: impl Future<Output = S>,
    ) -> Result<(), SubscriptionError> {
        tokio::select! {
            ended = self.handle.control.ended() => ended,
            _ = signal => self.shutdown().await,
        }
    }

    /// Starts nothing new, finishes the attempts in flight within
    /// [`SubscriptionConfig::shutdown_timeout`](crate::SubscriptionConfig::shutdown_timeout),
    /// commits and leaves the group. What has not finished by then is delivered again to the next
    /// owner.
    ///
    /// # Errors
    /// A fatal error on the way, or a client that does not close.
    pub async fn shutdown(self) -> Result<(), SubscriptionError> {
        let timeout = self.handle.shutdown_timeout;
        self.handle.shutdown_within(timeout).await
    }

    /// The same with another time-out, of a day at most.
    ///
    /// # Errors
    /// The same as of [`shutdown`](Self::shutdown).
    pub async fn shutdown_within(self, timeout: Duration) -> Result<(), SubscriptionError> {
        self.handle.shutdown_within(timeout).await
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.handle.control.request_shutdown(Instant::now());
    }
}

impl SubscriptionHandle {
    /// The name of the subscription:
    /// [`SubscriptionConfig::name`](crate::SubscriptionConfig::name), or else the group's.
    pub fn name(&self) -> &str {
        self.control.name()
    }

    /// The consumer group.
    pub fn group(&self) -> &str {
        self.control.group()
    }

    /// Where the subscription is in its life.
    pub fn state(&self) -> State {
        self.control.state()
    }

    /// A snapshot of its state and partitions.
    pub fn status(&self) -> SubscriptionStatus {
        self.control.status()
    }

    /// The keys with the most records, the most time in attempts, the longest waits. Some seconds
    /// old.
    ///
    /// # Examples
    /// ```no_run
    /// # fn show(subscription: keylane::Subscription) {
    /// for key in subscription.handle().hot_keys().by_waiting.iter().take(5) {
    ///     println!("{}-{} key {}: {:?} of waiting", key.topic, key.partition, key.key_hash, key.amount);
    /// }
    /// # }
    /// ```
    pub fn hot_keys(&self) -> HotKeys {
        self.control.hot_keys()
    }

    /// Fetches nothing more and starts no attempt until [`resume`](Self::resume); attempts in
    /// flight finish. The member keeps polling and keeps its partitions. The pause is this member's
    /// own, and does not survive a restart; one by the [control
    /// topic](crate::config::ControlTopic) does, and reaches every member. Both have to end.
    ///
    /// Takes effect within some tens of milliseconds, or as soon as an attempt that blocks its
    /// thread ends.
    /// [`PartitionStatus::paused_by_user`](crate::status::PartitionStatus::paused_by_user) shows it
    /// within a second.
    pub fn pause(&self) {
        self.control.set_paused(true);
    }

    /// Ends a [`pause`](Self::pause).
    pub fn resume(&self) {
        self.control.set_paused(false);
    }

    /// Fetches nothing more of one partition and starts none of its attempts until
    /// [`resume_partition`](Self::resume_partition); attempts in flight finish. The others go on.
    ///
    /// Forgotten when this member gives the partition up, in a rebalance or at its end; one by the
    /// [control topic](crate::config::ControlTopic) is not. Takes
    /// effect within some tens of milliseconds.
    ///
    /// # Examples
    /// ```
    /// use keylane::error::PartitionNotAssigned;
    /// use keylane::SubscriptionHandle;
    ///
    /// fn pause_blocked(handle: &SubscriptionHandle) -> Result<(), PartitionNotAssigned> {
    ///     for partition in handle.status().partitions {
    ///         if partition.blocked_for.is_some() {
    ///             handle.pause_partition(&partition.topic, partition.partition)?;
    ///         }
    ///     }
    ///     Ok(())
    /// }
    /// # let _ = pause_blocked;
    /// ```
    ///
    /// # Errors
    /// The partition is not this member's.
    pub fn pause_partition(&self, topic: &str, partition: i32) -> Result<(), PartitionNotAssigned> {
        self.set_partition_paused(topic, partition, true)
    }

    /// Ends a [`pause_partition`](Self::pause_partition). Where the whole subscription is
    /// [paused](Self::pause) it stays so.
    ///
    /// # Errors
    /// The partition is not this member's.
    pub fn resume_partition(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<(), PartitionNotAssigned> {
        self.set_partition_paused(topic, partition, false)
    }

    fn set_partition_paused(
        &self,
        topic: &str,
        partition: i32,
        paused: bool,
    ) -> Result<(), PartitionNotAssigned> {
        match self.control.set_partition_paused(topic, partition, paused) {
            true => Ok(()),
            false => Err(PartitionNotAssigned {
                topic: topic.to_owned(),
                partition,
            }),
        }
    }

    /// Ends the waiting for the end of the present [outages](crate::config::Outage), in this
    /// member. Held records are treated as exhausted at their next failure, and so are those whose
    /// retries end later in the same outages. Later outages hold records again. The log has who
    /// ordered it, and why.
    ///
    /// **This dead-letters good records too**, if the failures are not their fault.
    ///
    /// # Examples
    /// ```
    /// use keylane::SubscriptionHandle;
    /// use keylane::subscription::OperatorNote;
    ///
    /// fn give_up(handle: &SubscriptionHandle) {
    ///     if handle.dry_run().release_held() > 0 {
    ///         let note = OperatorNote::new("ann", "INC-7: the records are at fault, not the gateway");
    ///         handle.release_held(note);
    ///     }
    /// }
    /// # let _ = give_up;
    /// ```
    pub fn release_held(&self, note: OperatorNote) {
        let (subscription, held) = (self.name(), self.dry_run().release_held());
        self.control.outages.release();
        let OperatorNote { by, why } = bounded(&note);
        tracing::info!(
            subscription, act = "release_held", %by, %why, held, "an operator's order"
        );
    }

    /// Requests the shutdown that [`Subscription::shutdown`] makes, and does not wait for it:
    /// [`Subscription::run`] and [`run_until`](Subscription::run_until) return at its end.
    pub fn request_shutdown(&self) {
        self.control
            .request_shutdown(Instant::now() + self.shutdown_timeout.min(LONGEST_SHUTDOWN));
    }

    /// See [`Subscription::shutdown_within`].
    ///
    /// # Errors
    /// The same as of [`Subscription::shutdown`].
    pub async fn shutdown_within(&self, timeout: Duration) -> Result<(), SubscriptionError> {
        let timeout = timeout.min(LONGEST_SHUTDOWN);
        self.control.request_shutdown(Instant::now() + timeout);
        match tokio::time::timeout(timeout + CLOSE_GRACE, self.control.ended()).await {
            Ok(ended) => ended,
            Err(_) => Err(SubscriptionError::CloseTimedOut(timeout + CLOSE_GRACE)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_shutdown_may_take_as_long_as_it_takes() {
        let control = Arc::new(Control::new(Duration::ZERO));
        control.set_ended();
        let handle = Subscription::new(control, Duration::ZERO).handle();
        assert!(handle.shutdown_within(Duration::MAX).await.is_ok());
    }
}
