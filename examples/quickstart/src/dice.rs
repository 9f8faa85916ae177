//! Chance that can be repeated: a roll depends on the seed and on what it is rolled for, never on
//! time or on order.

/// Dice that fall the same way in every run with the same seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dice {
    seed: u64,
}

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// A number that looks random, for this question about this subject.
    pub(crate) fn roll(self, question: &str, subject: &str, numbers: [u64; 2]) -> u64 {
        let texts = [question.as_bytes(), &[0xff], subject.as_bytes()].concat();
        let hash = texts.iter().fold(mix(self.seed), |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME)
        });
        numbers
            .into_iter()
            .fold(mix(hash), |hash, number| mix(hash ^ number))
    }

    /// Whether the question comes up yes, which it does once in `one_in` times on average.
    pub(crate) fn once_in(
        self,
        one_in: u64,
        question: &str,
        subject: &str,
        numbers: [u64; 2],
    ) -> bool {
        self.roll(question, subject, numbers).is_multiple_of(one_in)
    }
}

const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// The step of splitmix64: neighbouring numbers come out far apart.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_question_gets_the_same_answer_and_any_change_gets_another() {
        let roll =
            |seed, question, subject, numbers| Dice::new(seed).roll(question, subject, numbers);
        let first = roll(1, "rain", "monday", [1, 2]);
        assert_eq!(first, roll(1, "rain", "monday", [1, 2]));
        for other in [
            roll(2, "rain", "monday", [1, 2]),
            roll(1, "snow", "monday", [1, 2]),
            roll(1, "rain", "sunday", [1, 2]),
            roll(1, "rain", "monday", [2, 1]),
            roll(1, "rainm", "onday", [1, 2]),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn once_in_ten_comes_up_about_once_in_ten_times() {
        let dice = Dice::new(7);
        let hits = (0..10_000)
            .filter(|n| dice.once_in(10, "rain", "monday", [*n, 0]))
            .count();
        assert!((900..1_100).contains(&hits), "{hits} of 10,000");
    }
}
