//! What layers cost an attempt: no allocation. A program of its own, because it counts them.
// An allocator can only be written with it; this one hands every call on as it came.
#![allow(unsafe_code)]
// Clippy allows it in test functions only, not in what they call.
#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use keylane::layers::{Failover, Fields, Layer, Next, Timeout, Validate};
use keylane::processing::processor_fn;
use keylane::testing::TestTask;
use keylane::{Processor, Success, Task, TaskError};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: `System` gets each call as it came, so its guarantees are this allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that ends has no count any more, and is not the one that is asked.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One as a user writes it.
struct Passes;

impl<T: Send + 'static> Layer<T> for Passes {
    async fn around(&self, task: Task<T>, next: impl Next<T>) -> Result<Success, TaskError> {
        next.run(task).await
    }
}

/// The allocations of this thread while an attempt is made.
fn allocations_of<O: Into<Success>>(processor: impl Processor<u64, O>) -> usize {
    let task = TestTask::new(7).key("B-KL 42").build();
    let before = ALLOCATIONS.get();
    let mut attempt = pin!(processor.process(task));
    let mut context = Context::from_waker(Waker::noop());
    assert!(matches!(
        attempt.as_mut().poll(&mut context),
        Poll::Ready(Ok(_))
    ));
    ALLOCATIONS.get() - before
}

async fn push(task: Task<u64>) -> Result<(), TaskError> {
    std::hint::black_box(&task);
    Ok(())
}

#[test]
fn layers_allocate_nothing_for_an_attempt() {
    // Timers of tokio belong to a runtime.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _within = runtime.enter();
    let layered = || {
        let check = |number: &u64| if *number > 0 { Ok(()) } else { Err("zero") };
        push.layered(Timeout::of(Duration::from_secs(2)))
            .layered(Failover::to(push))
            .layered(Validate::with(check))
            .layered(Fields::default())
            .layered(Passes)
    };
    allocations_of(layered()); // What is set up once, such as a thread's own values.
    assert_eq!(allocations_of(push), 0);
    assert_eq!(allocations_of(layered()), 0);

    let boxed = processor_fn(|task: Task<u64>| Box::pin(push(task)));
    assert_eq!(allocations_of(boxed), 1, "they are counted");
}

/// A future is moved into its place with every attempt.
#[test]
fn a_layer_of_a_user_makes_an_attempt_larger_by_less_than_two_tasks() {
    let task = || TestTask::new(7_u64).build();
    let plain = size_of_val(&push(task()));
    let with_layer = size_of_val(&push.layered(Passes).process(task()));
    let most = plain + 2 * size_of::<Task<u64>>();
    assert!(with_layer <= most, "{with_layer} bytes, {plain} without");
}
