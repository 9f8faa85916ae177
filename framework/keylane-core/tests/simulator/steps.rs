//! Worlds that go step by step, and settle at the end.

use crate::violation::Checked;

pub(crate) trait Steps: Sized {
    fn step(&mut self) -> Checked<()>;

    /// What is under way comes to its end, and everything has to be as promised.
    fn settle(&mut self) -> Checked<()>;

    /// The whole run of a seed.
    fn run(mut self, seed: u64, steps: u32) -> Checked<()> {
        for step in 0..steps {
            self.step()
                .map_err(|broken| format!("seed {seed}, step {step}: {broken}"))?;
        }
        self.settle()
            .map_err(|broken| format!("seed {seed}, at the end: {broken}"))
    }
}

/// One of the first runs notices that the shell is at fault, and says so in these words.
pub(crate) fn caught(runs: u64, words: &str, run: impl Fn(u64) -> Checked<()>) {
    let mut others = Vec::new();
    for broken in (0..runs).filter_map(|seed| run(seed).err()) {
        if broken.contains(words) {
            return;
        }
        others.push(broken);
    }
    panic!("it is not noticed as {words} in {runs} runs, only as {others:?}");
}
