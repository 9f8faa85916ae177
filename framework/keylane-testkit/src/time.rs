//! The clock of the test's runtime.

use std::time::Instant as MachineInstant;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::Instant;

/// Lets time pass by itself wherever nothing can run.
///
/// # Panics
/// On a runtime with several threads, whose clock cannot be paused.
pub(crate) fn pause() {
    if is_paused() {
        return;
    }
    assert_eq!(
        Handle::current().runtime_flavor(),
        RuntimeFlavor::CurrentThread,
        "virtual time needs a runtime of one thread (`#[tokio::test]` as it is); or call `TestSubscription::real_time`"
    );
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
}
