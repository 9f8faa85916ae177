//! Everything that goes wrong on purpose, in one place.
//!
//! All of it depends on the seed alone. So the [plan](mod@crate::plan) has the number of each event
//! in advance, and the report is compared with it.

use std::time::Duration;

use crate::dice::Dice;

/// Retries in place after the first attempt. An ordinary event needs fewer (see the test below), so
/// only an event that can never succeed is dead-lettered.
pub(crate) const RETRIES: u32 = 5;

/// The gateway turns away the first requests for a notification at most; it does not keep saying
/// no.
const BUSY_AT_MOST: u64 = 2;

/// Decides what goes wrong with which event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trouble {
    dice: Dice,
}

impl Trouble {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            dice: Dice::new(seed),
        }
    }

    /// The barrier's line broke: the record ends in the middle of its JSON.
    pub(crate) fn is_cut_short(self, vehicle: &str, seq: u32) -> bool {
        self.dice
            .once_in(200, "cut short", vehicle, [seq.into(), 0])
    }

    /// The phone was never registered with the gateway.
    pub(crate) fn device_is_unknown(self, vehicle: &str, seq: u32) -> bool {
        self.dice
            .once_in(200, "unknown device", vehicle, [seq.into(), 0])
    }

    /// The processor has a bug that this event triggers at every attempt.
    pub(crate) fn always_panics(self, vehicle: &str, seq: u32) -> bool {
        self.dice
            .once_in(1_000, "always panics", vehicle, [seq.into(), 0])
    }

    /// The processor has a bug that this event triggers at this attempt.
    pub(crate) fn panics(self, vehicle: &str, seq: u32, attempt: u32) -> bool {
        self.always_panics(vehicle, seq) || (attempt == 1 && self.panics_once(vehicle, seq))
    }

    pub(crate) fn panics_once(self, vehicle: &str, seq: u32) -> bool {
        self.dice
            .once_in(100, "panics once", vehicle, [seq.into(), 0])
    }

    /// The gateway answers 503 to this request, the `nth` for the same notification, counted from
    /// 0.
    pub(crate) fn gateway_is_busy(self, vehicle: &str, seq: u32, nth: u64) -> bool {
        nth < BUSY_AT_MOST && self.dice.once_in(50, "busy", vehicle, [seq.into(), nth])
    }

    /// How long the gateway takes for this request.
    pub(crate) fn gateway_delay(self, vehicle: &str, seq: u32, nth: u64) -> Duration {
        Duration::from_millis(3 + self.dice.roll("delay", vehicle, [seq.into(), nth]) % 30)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_event_never_runs_out_of_retries() {
        for seed in 0..200 {
            let trouble = Trouble::new(seed);
            for seq in (1..500).filter(|seq| !trouble.always_panics("KL-0001", *seq)) {
                let panics = (1..=RETRIES)
                    .filter(|attempt| trouble.panics("KL-0001", seq, *attempt))
                    .count();
                let busy = (0..100)
                    .filter(|nth| trouble.gateway_is_busy("KL-0001", seq, *nth))
                    .count();
                assert!(panics + busy < RETRIES as usize, "seed {seed}, event {seq}");
            }
        }
    }
}
