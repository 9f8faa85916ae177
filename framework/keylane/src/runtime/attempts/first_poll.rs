//! The place where a new attempt gets its first poll, without an allocation or a task.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// A reusable, pinned place for one future.
///
/// A future that is ready at its first poll is dropped in place and the memory serves the next one.
/// One that is pending is moved out, box and all, to a task of its own, which polls it again with
/// its own waker.
pub(crate) struct FirstPoll<F> {
    /// Made when it is needed: the owner of a quiet partition has none.
    place: Option<Pin<Box<Option<F>>>>,
}

/// A future that was pending at its first poll.
pub(crate) struct Pending<F>(Pin<Box<Option<F>>>);

impl<F: Future> FirstPoll<F> {
    pub(crate) fn new() -> Self {
        Self { place: None }
    }

    /// Polls the future once; gives it back if it is pending.
    pub(crate) fn poll(&mut self, future: F) -> Result<F::Output, Pending<F>> {
        let mut place = self.place.take().unwrap_or_else(|| Box::pin(None));
        place.set(Some(future));
        // This poll needs no waker: a pending future is polled again by its own task.
        let mut context = Context::from_waker(Waker::noop());
        match place
            .as_mut()
            .as_pin_mut()
            .map(|future| future.poll(&mut context))
        {
            Some(Poll::Ready(output)) => {
                place.set(None);
                self.place = Some(place);
                Ok(output)
            }
            _ => Err(Pending(place)),
        }
    }
}

impl<F> Pending<F> {
    /// A future that was not polled yet.
    pub(crate) fn fresh(future: F) -> Self {
        Self(Box::pin(Some(future)))
    }
}

impl<F: Future> Future for Pending<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        match self.0.as_mut().as_pin_mut() {
            Some(future) => future.poll(context),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ready_futures_end_in_place_and_pending_ones_go_on_elsewhere() {
        let mut place = FirstPoll::new();
        let future = |pending: bool| async move {
            if pending {
                tokio::task::yield_now().await;
            }
            pending
        };
        assert!(matches!(place.poll(future(false)), Ok(false)));
        let Err(pending) = place.poll(future(true)) else {
            panic!("a pending future cannot be ready")
        };
        assert!(matches!(place.poll(future(false)), Ok(false)));
        assert!(tokio::spawn(pending).await.unwrap());
    }
}
