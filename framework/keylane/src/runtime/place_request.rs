//! An owner's turn among the partitions that wait for a place.

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::status::{Place, Places};

/// An owner that could start something but for a place keeps one request in the queue. It drops the
/// request, and a place that it cannot use, as soon as it could start nothing: so no place is kept
/// from the others. While only a trial keeps it from starting, and none of
/// its attempts runs, it keeps both.
#[derive(Default)]
pub(super) struct PlaceRequest {
    waiting: Option<BoxFuture<'static, Place>>,
    granted: Option<Place>,
}

impl PlaceRequest {
    /// A place, if it is this owner's turn; else it waits from now on.
    pub(super) fn take(&mut self, places: &Places) -> Option<Place> {
        let place = match (self.granted.take(), &mut self.waiting) {
            (Some(granted), _) => Some(granted),
            // The request stays where it is in the queue.
            (None, Some(waiting)) => waiting.now_or_never(),
            (None, None) => places.try_take(),
        };
        if place.is_some() {
            self.waiting = None;
        } else if self.waiting.is_none() {
            self.waiting = Some(places.take().boxed());
        }
        place
    }

    /// Whether it is in the queue.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Whether it is in the queue, or has a place that nothing has started in.
    pub(super) fn is_made(&self) -> bool {
        self.waiting.is_some() || self.granted.is_some()
    }

    /// Waits until a place is there to be taken; for ever where none is requested. Cancel-safe.
    pub(super) async fn granted(&mut self) {
        let Some(waiting) = &mut self.waiting else {
            return std::future::pending().await;
        };
        self.granted = Some(waiting.await);
        self.waiting = None;
    }

    /// Nothing could start.
    pub(super) fn let_go(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn places_are_given_in_turn_and_one_that_is_not_used_goes_to_the_next() {
        let places = Places::new(1);
        let mut owners: [_; 3] = std::array::from_fn(|_| PlaceRequest::default());
        let [first, second, third] = &mut owners;
        let running = first.take(&places).unwrap();
        for owner in [&mut *second, third] {
            assert!(owner.take(&places).is_none() && owner.is_waiting());
            assert!(owner.granted().now_or_never().is_none());
        }
        drop(running);
        assert!(first.take(&places).is_none(), "the others are first");
        assert!(third.granted().now_or_never().is_none());
        second.granted().await;
        assert_eq!(places.in_flight().attempts, 1);
        second.let_go();
        third.granted().await;
        drop(third.take(&places).unwrap());
        assert!(!third.is_waiting() && first.take(&places).is_some());
        first.let_go();
        assert_eq!(places.in_flight().attempts, 0);
    }

    #[tokio::test]
    async fn an_owner_that_ends_leaves_the_queue_with_the_place_that_it_was_given() {
        let places = Places::new(1);
        let (mut gone, mut next) = (PlaceRequest::default(), PlaceRequest::default());
        let running = places.try_take();
        for owner in [&mut gone, &mut next] {
            assert!(owner.take(&places).is_none());
            assert!(owner.granted().now_or_never().is_none());
        }
        drop(running);
        drop(gone);
        assert!(next.take(&places).is_some());
    }
}
