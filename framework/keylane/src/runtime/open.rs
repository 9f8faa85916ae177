//! Opening an owner.

use std::sync::Arc;

use super::attempts::attempt;
use super::epoch::{self, EpochStart};
use super::guarded::{self, guarded};
use super::owner::Owner;
use super::shared::{OwnersWork, Runtime, Work};
use crate::{Decode, Processor, Success};

/// Spawns the owner of one partition for one epoch.
pub(crate) fn open<T, O, D, P>(
    tokio: &tokio::runtime::Handle,
    runtime: Arc<Runtime>,
    work: Arc<Work<D, P>>,
    mut start: EpochStart,
) where
    T: Send + 'static,
    O: Into<Success> + 'static,
    D: Decode<T>,
    P: Processor<T, O>,
{
    let predecessors = std::mem::take(&mut start.predecessors);
    let (control, place) = (
        runtime.control.clone(),
        (start.topic.clone(), start.partition),
    );
    if !predecessors.is_empty() {
        let wait = epoch::wait(predecessors, place.0.clone(), place.1, start.inbox.clone());
        guarded::spawn(tokio, control.clone(), place.clone(), wait);
    }
    // In a box: a future that takes it by value would have room for it twice.
    let mut owner = Box::new(Owner::new(runtime, start));
    let work = Arc::new(OwnersWork(work));
    let begin = move |call| attempt::<T, O, D, P>(work.clone(), call);
    tokio.spawn(async move {
        // The owner is dropped after the error is reported: an owner that ends without an order is
        // an error of its own.
        guarded(
            &control,
            || format!("the owner of {}-{}", place.0, place.1),
            owner.run(begin),
        )
        .await;
    });
}
