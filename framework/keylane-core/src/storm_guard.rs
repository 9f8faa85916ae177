//! An outage is not poison: dead letters have to be earned by successes.

/// Lets only so many records go to the dead-letter topic as successes have paid for.
///
/// When a database is down every record fails, and each would use up its retries and be dead-lettered although nothing
/// is wrong with it. The guard is a bucket of tokens: it starts full, every success adds one up to the burst, and the
/// dead letter of a record that ran out of retries (or panicked, or timed out) takes one. With none left the record
/// goes on waiting in place. A record that is itself at fault, fatal or undecodable, needs no token.
///
/// One guard per subscription, shared by the owners of all its partitions.
#[derive(Clone, Debug)]
pub struct StormGuard {
    burst: u32,
    tokens: u32,
    refused: u64,
    /// Nothing was earned since the last refusal.
    refusing: bool,
}

/// How many dead letters in a row need no success between them, by default.
pub const DEFAULT_BURST: u32 = 20;

impl Default for StormGuard {
    fn default() -> Self {
        Self::new(DEFAULT_BURST)
    }
}

impl StormGuard {
    /// A full bucket of `burst` tokens; a burst of 0 counts as 1, since a guard that never lets a record go would hold
    /// its lane for ever.
    pub const fn new(burst: u32) -> Self {
        let burst = if burst == 0 { 1 } else { burst };
        Self { burst, tokens: burst, refused: 0, refusing: false }
    }

    /// Puts in a token for each success, up to the burst.
    pub fn earn(&mut self, successes: u64) {
        self.refusing &= successes == 0;
        let room = self.burst - self.tokens;
        self.tokens += u32::try_from(successes).map_or(room, |successes| successes.min(room));
    }

    /// Takes a token; `false` where there is none, which is counted.
    pub fn try_spend(&mut self) -> bool {
        if self.tokens == 0 {
            self.refused = self.refused.saturating_add(1);
            self.refusing = true;
            return false;
        }
        self.tokens -= 1;
        true
    }

    /// How often a dead letter was refused.
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// Whether a dead letter was refused, and there was no success since. A bucket that is empty has refused nobody yet.
    pub const fn is_closed(&self) -> bool {
        self.refusing
    }

    /// How many dead letters would be let through now.
    pub const fn tokens(&self) -> u32 {
        self.tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_the_burst_each_dead_letter_costs_a_success() {
        let mut guard = StormGuard::new(2);
        assert!(guard.try_spend() && !guard.is_closed() && guard.try_spend());
        assert!(!guard.is_closed(), "nothing was refused yet");
        assert!(!guard.try_spend());
        assert!(guard.is_closed());
        assert_eq!(guard.refused(), 1);
        guard.earn(1);
        assert!(!guard.is_closed());
        assert!(guard.try_spend());
        assert!(!guard.try_spend());
        assert_eq!(guard.refused(), 2);
    }

    #[test]
    fn successes_fill_the_bucket_no_higher_than_the_burst() {
        let mut guard = StormGuard::new(3);
        guard.earn(u64::MAX);
        assert_eq!(guard.tokens(), 3);
        guard.try_spend();
        guard.earn(u64::MAX);
        assert_eq!(guard.tokens(), 3);
    }

    #[test]
    fn a_burst_of_zero_still_lets_one_through() {
        assert!(StormGuard::new(0).try_spend());
    }
}
