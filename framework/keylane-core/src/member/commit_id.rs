//! Names for commits, which come back with their answers.

/// One commit with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommitId(u64);

impl CommitId {
    /// The commit of this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number, from 1.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Numbers the commits of a member. So a stale answer is distinguished from the awaited one.
#[derive(Debug, Default)]
pub(super) struct CommitIds {
    last: u64,
}

impl CommitIds {
    pub(super) fn next(&mut self) -> CommitId {
        self.last += 1;
        CommitId(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_comes_back_as_it_went() {
        let mut ids = CommitIds::default();
        let (first, second) = (ids.next(), ids.next());
        assert_eq!((first.get(), second.get()), (1, 2));
        assert_eq!(CommitId::new(second.get()), second);
    }
}
