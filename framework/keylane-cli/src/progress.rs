//! How far a long run is.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::Progress;

const TEMPLATE: &str = "{msg} [{bar:30}] {human_pos}/{human_len}, {per_sec}, {eta} left";

/// A bar on the standard error, which is gone when this is dropped.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    pub(crate) fn new(progress: Progress, doing: &str, total: u64) -> Self {
        let target = match progress {
            Progress::Hidden => ProgressDrawTarget::hidden(),
            Progress::Shown => ProgressDrawTarget::stderr(),
        };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        // A template that cannot be read would be a bar of another look.
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(doing.to_owned());
        Self(bar)
    }

    pub(crate) fn say(&self, doing: &'static str) {
        self.0.set_message(doing);
    }

    pub(crate) fn set(&self, done: u64) {
        self.0.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_can_be_read() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
    }
}
