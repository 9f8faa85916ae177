//! The clock of the test's runtime.

use std::time::Instant as MachineInstant;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::Instant;

/// Lets time pass by itself wherever nothing can run.
///
/// # Panics
/// Outside of a tokio runtime, and on one with several threads, whose clock cannot be paused.
#[track_caller]
pub(crate) fn pause() {
    let Ok(runtime) = Handle::try_current() else {
        panic!("a subscription under test needs a tokio runtime: use `#[tokio::test]`");
    };
    if is_paused() {
        return;
    }
    if runtime.runtime_flavor() != RuntimeFlavor::CurrentThread {
        panic!(
            "virtual time needs a runtime of one thread (`#[tokio::test]` as it is); or call \
             `TestSubscription::real_time`"
        );
    }
    tokio::time::pause();
}

/// Whether the runtime's clock stands still while the machine's does not.
fn is_paused() -> bool {
    let (runtime, machine) = (Instant::now(), MachineInstant::now());
    while MachineInstant::now() == machine {
        std::hint::spin_loop();
    }
    Instant::now() == runtime
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_paused_clock_is_recognised_and_left_alone() {
        assert!(!is_paused());
        pause();
        assert!(is_paused());
        pause();
        tokio::time::resume();
        assert!(!is_paused());
    }

    #[tokio::test(flavor = "multi_thread")]
    #[should_panic(expected = "a runtime of one thread")]
    async fn a_runtime_of_several_threads_is_refused() {
        pause();
    }

    #[test]
    #[should_panic(expected = "use `#[tokio::test]`")]
    fn a_runtime_is_asked_for_where_there_is_none() {
        pause();
    }
}
