//! The end of a subscription: drain, commit, leave the group.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use super::drain::{Drain, END_GRACE, drain};
use crate::polling::commits::LastCommit;
use crate::polling::failures::panicked;
use crate::polling::thread::PollLoop;
use crate::status::{State, SubscriptionError};
use crate::support::panics;

/// How long at least the broker's word on the last commit is waited for, where the drain leaves
/// less time.
const COMMIT_PATIENCE: Duration = Duration::from_secs(5);
/// And at most: by then another broker has taken the place of a coordinator that is away.
const LONGEST_COMMIT_PATIENCE: Duration = Duration::from_secs(60);

/// How long closing the client may take: longer than a session without an answer from the brokers,
/// by Kafka's defaults.
const CLOSE_PATIENCE: Duration = Duration::from_secs(60);

impl PollLoop {
    /// Drains for a shutdown; `true` when it is time to close.
    ///
    /// A consumer that closes in the middle of a rebalance, or while the coordinator moves, can
    /// lose its final commit, and the next owner would repeat what was settled since the one
    /// before. So the final commit is made, and waited for, while the loop still takes part in
    /// rebalances.
    pub(crate) fn is_ready_to_close(&mut self, deadline: Instant) -> bool {
        if !self.draining {
            self.draining = true;
            self.show_state();
            self.order_drain(deadline);
            self.assignment.update_pauses(&self.client, true);
        }
        if drain(self.assignment.partitions.iter(), deadline) == Drain::Runs {
            return false;
        }
        self.store_last_points(self.handover.is_some());
        let (client, partitions) = (&self.client, &mut self.assignment.partitions);
        let last_commit = self.last_commit.get_or_insert_with(LastCommit::new);
        if self.handover.is_none()
            && self
                .commits
                .is_last_over(last_commit, client, partitions, |_| true)
        {
            return true;
        }
        let since = last_commit.since();
        let gave_up = Instant::now()
            >= deadline.clamp(since + COMMIT_PATIENCE, since + LONGEST_COMMIT_PATIENCE);
        if gave_up {
            tracing::warn!(
                "the coordinator does not answer the last commit of a shutdown; records may be repeated"
            );
        }
        gave_up
    }

    /// `suspended`: the client does not commit by itself at present.
    fn store_last_points(&mut self, suspended: bool) {
        self.commits.store_last(
            &self.client,
            &mut self.assignment.partitions,
            suspended,
            |_| true,
        );
    }

    /// Nothing new starts on any partition; owners end by themselves when what runs has finished.
    /// Their marks are taken back at once: a supervisor that asks a process to end and then kills
    /// it is the most ordinary of deployments.
    pub(crate) fn order_drain(&mut self, deadline: Instant) {
        for partition in &self.assignment.partitions {
            partition.inbox.order(|orders| orders.shutdown = true);
            partition.inbox.drain(deadline);
        }
    }

    /// Commits what is settled and leaves the group.
    pub(crate) fn close(mut self) {
        // Also after a panic: what owners have reported is true, whatever happened here.
        if let Err(text) = panics::caught(|| self.give_back()) {
            self.control.fail(panicked(&text));
        }
        for partition in &self.assignment.partitions {
            self.control
                .remove_partition(&partition.topic, partition.partition);
        }
        let state = if self.control.has_failed() {
            State::Failed
        } else {
            State::Stopped
        };
        self.control
            .given_up
            .report_all_left_out(self.control.name());
        let (control, metrics) = (self.control.clone(), self.metrics.clone());
        let state = match self.let_go() {
            Ok(()) => state,
            Err(error) => {
                control.fail(error);
                State::Failed
            }
        };
        control.set_state(state);
        metrics.set_state(state.metric());
    }

    /// Lets go of everything, and of the client, which polls until the group is left: some hundred milliseconds, unless the brokers are away.
    fn let_go(self) -> Result<(), SubscriptionError> {
        #[cfg(test)]
        let topic = self.settings.topics.first().cloned().unwrap_or_default();
        ends_within(CLOSE_PATIENCE, move || {
            #[cfg(test)]
            panics::planted::step("close", &topic);
            drop(self);
        })
    }

    /// Ends all owners, stores their last words, and answers a revoke that is unanswered.
    fn give_back(&mut self) {
        for partition in &self.assignment.partitions {
            partition.inbox.end();
        }
        let grace = Instant::now() + END_GRACE;
        while self.assignment.partitions.iter().any(|p| !p.has_ended()) && Instant::now() < grace {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.store_last_points(false);
        if let Some(handover) = self.handover.take() {
            handover.finish(&self.client, &mut self.assignment, &mut self.commits);
        }
    }
}

fn close_panicked(text: &str) -> SubscriptionError {
    SubscriptionError::Internal(format!(
        "the thread that closes the client panicked: {text}"
    ))
}

/// Closes on a thread of its own, so that the subscription ends also where the client does not:
/// then that thread stays, with the client's threads and connections, until the process ends.
fn ends_within(
    patience: Duration,
    closing: impl FnOnce() + Send + 'static,
) -> Result<(), SubscriptionError> {
    let (done, is_done) = sync_channel(1);
    let closing = move || {
        // Its receiver is gone where this took too long.
        let _ = done.send(panics::caught(closing));
    };
    let thread = std::thread::Builder::new()
        .name("keylane-close".to_owned())
        .spawn(closing);
    if let Err(error) = thread {
        // The closure was dropped, and the loop with it.
        tracing::debug!(%error, "no thread to close the client on; it was closed by the polling thread");
        return Ok(());
    }
    match is_done.recv_timeout(patience) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(text)) => Err(close_panicked(&text)),
        Err(RecvTimeoutError::Disconnected) => Err(close_panicked("(no message)")),
        Err(RecvTimeoutError::Timeout) => Err(SubscriptionError::CloseTimedOut(patience)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_client_that_does_not_close_keeps_no_subscription_from_its_end() {
        const LONG: Duration = Duration::from_secs(60);
        let (let_go, is_let_go) = channel::<()>();
        let (ended, has_ended) = channel();
        let patience = Duration::from_millis(10);
        let result = ends_within(patience, move || {
            let _ = is_let_go.recv();
            let _ = ended.send(());
        });
        assert!(
            matches!(result, Err(SubscriptionError::CloseTimedOut(waited)) if waited == patience),
            "{result:?}"
        );
        drop(let_go);
        assert_eq!(has_ended.recv_timeout(LONG), Ok(()), "its thread went on");
        assert!(ends_within(LONG, || {}).is_ok());
        let panicked = ends_within(LONG, || panic!("boom"))
            .unwrap_err()
            .to_string();
        assert!(
            panicked.ends_with("the thread that closes the client panicked: boom"),
            "{panicked}"
        );
    }
}
