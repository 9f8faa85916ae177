//! Notices a recorder that was installed too late.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A process has one recorder at most, and series that were made before it are lost for good.
///
/// To be used on threads that no local recorder is set on.
#[derive(Debug)]
pub(super) struct LateRecorder(AtomicUsize);

impl LateRecorder {
    /// To be made before the series are.
    pub(super) fn new() -> Self {
        Self(AtomicUsize::new(present()))
    }

    /// Logs once when there is another recorder than at the beginning.
    pub(super) fn look(&self, subscription: &str) {
        if self.is_another() {
            tracing::warn!(
                subscription,
                "a metrics recorder was installed after the subscription started: metrics of the subscription are missing; \
                 install the recorder first"
            );
        }
    }

    fn is_another(&self) -> bool {
        let now = present();
        self.0.swap(now, Ordering::Relaxed) != now
    }
}

fn present() -> usize {
    ::metrics::with_recorder(|recorder| std::ptr::from_ref(recorder).addr())
}

#[cfg(test)]
mod tests {
    use metrics_util::debugging::DebuggingRecorder;

    use super::*;

    #[test]
    fn a_recorder_that_comes_after_the_beginning_is_noticed_once() {
        let recorder = LateRecorder::new();
        let late = DebuggingRecorder::new();
        ::metrics::with_local_recorder(&late, || {
            assert_eq!(
                [(); 3].map(|()| recorder.is_another()),
                [true, false, false]
            );
            let in_time = LateRecorder::new();
            assert_eq!([(); 2].map(|()| in_time.is_another()), [false; 2]);
        });
    }
}
