//! How many rows the next transaction has at most.

/// Fewer rows after a transaction that was refused or too slow, down to one; more with each that was
/// committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimit {
    rows: u32,
    most: u32,
    /// One was too slow: doubling would make every second one too slow.
    grows_slowly: bool,
}

impl BatchLimit {
    /// At first, and at most, so many.
    pub fn new(most: u32) -> Self {
        let most = most.max(1);
        Self {
            rows: most,
            most,
            grows_slowly: false,
        }
    }

    /// The rows of the next transaction, at least one.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// A transaction with so many rows was refused for one of them, and it is not known for which. What
    /// remains to be tried is half of it, so that the one to blame is alone after a few.
    pub fn refused(&mut self, rows: u32) {
        self.rows = (rows / 2).max(1);
    }

    /// One with so many rows took too long.
    pub fn slow(&mut self, rows: u32) {
        self.refused(rows);
        self.grows_slowly = true;
    }

    /// One was committed.
    pub fn committed(&mut self) {
        self.rows = match self.grows_slowly {
            true => self.rows.saturating_add(self.rows / 8 + 1),
            false => self.rows.saturating_mul(2),
        };
        if self.rows >= self.most {
            *self = Self::new(self.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_to_blame_among_500_is_alone_after_nine_refusals() {
        let mut limit = BatchLimit::new(500);
        let mut refusals = 0;
        while limit.rows() > 1 {
            limit.refused(limit.rows());
            refusals += 1;
        }
        assert_eq!(refusals, 8);
        limit.committed();
        assert_eq!(limit.rows(), 2);
        for _ in 0..8 {
            limit.committed();
        }
        assert_eq!(limit, BatchLimit::new(500), "it never exceeds the most");
    }

    #[test]
    fn after_a_slow_one_they_grow_by_little() {
        let mut limit = BatchLimit::new(500);
        limit.slow(500);
        assert_eq!(limit.rows(), 250);
        limit.committed();
        assert_eq!(limit.rows(), 282);
    }

    #[test]
    fn there_is_always_a_row_to_try() {
        let mut limit = BatchLimit::new(0);
        limit.slow(0);
        assert_eq!(limit.rows(), 1);
    }
}
