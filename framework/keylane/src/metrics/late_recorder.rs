//! Notices a recorder that was installed too late.

/// A process has one recorder at most, and series that were made before it are lost for good.
///
/// To be used on one thread that no local recorder is set on.
#[derive(Debug, Default)]
pub(crate) struct LateRecorder(Option<usize>);

impl LateRecorder {
    /// Logs once when there is another recorder than at the first look.
    pub(crate) fn look(&mut self, subscription: &str) {
        if self.is_another() {
            tracing::warn!(
                subscription,
                "a metrics recorder was installed after the subscription started: metrics of the subscription are missing; \
                 install the recorder first"
            );
        }
    }

    fn is_another(&mut self) -> bool {
        let now = ::metrics::with_recorder(|recorder| std::ptr::from_ref(recorder).addr());
        self.0.replace(now).is_some_and(|before| before != now)
    }
}

#[cfg(test)]
mod tests {
    use metrics_util::debugging::DebuggingRecorder;

    use super::*;

    #[test]
    fn a_recorder_that_comes_after_the_first_look_is_noticed_once() {
        let mut recorder = LateRecorder::default();
        assert_eq!([(); 2].map(|()| recorder.is_another()), [false; 2]);
        let late = DebuggingRecorder::new();
        ::metrics::with_local_recorder(&late, || {
            assert_eq!(
                [(); 3].map(|()| recorder.is_another()),
                [true, false, false]
            );
            let mut in_time = LateRecorder::default();
            assert_eq!([(); 2].map(|()| in_time.is_another()), [false; 2]);
        });
    }
}
