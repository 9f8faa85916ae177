//! Ticks at round values, and times as a clock shows them.

/// From 0 to `top`, with a tick each `step`.
#[derive(Debug, PartialEq)]
pub(super) struct Axis {
    pub(super) top: f64,
    step: f64,
}

impl Axis {
    /// For values up to this one: two to five steps of 1, 2 or 5 times a power of ten.
    pub(super) fn up_to(peak: f64) -> Self {
        let peak = if peak > 0.0 { peak } else { 1.0 };
        let power = 10_f64.powf((peak / 4.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
        let step = step
            .into_iter()
            .find(|step| step * 4.0 >= peak)
            .unwrap_or(10.0 * power);
        Self {
            top: (peak / step).ceil() * step,
            step,
        }
    }

    /// The axis of a number of seconds: at most six steps of whole, half or a sixth of minutes.
    pub(super) fn of_time(seconds: f64) -> Self {
        let step = [10.0, 30.0, 60.0, 120.0, 300.0]
            .into_iter()
            .find(|step| seconds / step <= 6.0);
        Self {
            top: seconds,
            step: step.unwrap_or(600.0),
        }
    }

    pub(super) fn ticks(&self) -> impl Iterator<Item = f64> {
        let (count, step) = ((self.top / self.step + 1e-6) as u32, self.step);
        (0..=count).map(move |tick| f64::from(tick) * step)
    }
}

/// Minutes and seconds.
pub(super) fn clock(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[test]
fn values_have_round_ticks_that_reach_the_highest() {
    let ticks = |peak| Axis::up_to(peak).ticks().collect::<Vec<_>>();
    assert_eq!(ticks(994.0), [0.0, 500.0, 1000.0]);
    assert_eq!(ticks(3.0), [0.0, 1.0, 2.0, 3.0]);
    assert_eq!(ticks(0.0), ticks(1.0));
    for peak in [0.04, 0.7, 1.0, 7.0, 42.0, 130.0, 9_718.0] {
        let axis = Axis::up_to(peak);
        assert!(
            axis.top >= peak && (2..=5).contains(&axis.ticks().count()),
            "{peak}: {axis:?}"
        );
    }
}

#[test]
fn times_are_of_a_clock() {
    assert_eq!(
        Axis::of_time(170.0).ticks().map(clock).collect::<Vec<_>>(),
        ["0:00", "0:30", "1:00", "1:30", "2:00", "2:30"]
    );
    assert_eq!(clock(3_605.4), "60:05");
}
