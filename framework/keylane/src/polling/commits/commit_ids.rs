//! Names for commits, which come back with their answers.

#[derive(Default)]
pub(crate) struct CommitIds {
    latest: u64,
}

impl CommitIds {
    pub(crate) fn next(&mut self) -> u64 {
        self.latest += 1;
        self.latest
    }
}
