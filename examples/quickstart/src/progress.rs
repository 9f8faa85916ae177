//! Watches the run, prints its progress, and detects its end.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::report::{Ended, grouped};
use crate::tally::{Counts, Tally};

const REDRAW: Duration = Duration::from_millis(100);
/// Without a terminal every line stays, so there are fewer.
const PLAIN_LINE: Duration = Duration::from_secs(2);
const BAR: usize = 24;

/// Returns when every enqueued event has its result, when it is stopped, or when nothing has
/// changed for `patience`.
pub(crate) async fn watch(
    tally: &Tally,
    planned: u64,
    all_enqueued: impl Fn() -> bool,
    stop: &CancellationToken,
    patience: Duration,
) -> Ended {
    let mut screen = Screen::new();
    let began = Instant::now();
    let mut moved = (began, Counts::default());
    let mut ticks = tokio::time::interval(REDRAW);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => {}
        }
        // Read before the counts, so that those are final.
        let all_enqueued = all_enqueued();
        let counts = tally.counts();
        if counts != moved.1 {
            moved = (Instant::now(), counts);
        }
        let ended = if all_enqueued && counts.settled() >= counts.enqueued {
            Some(Ended::AllDone)
        } else if stop.is_cancelled() {
            Some(Ended::Interrupted)
        } else if moved.0.elapsed() >= patience {
            Some(Ended::Stalled { after: patience })
        } else {
            None
        };
        screen.show(
            &Line {
                counts,
                planned,
                elapsed: began.elapsed(),
            },
            ended.is_some(),
        );
        if let Some(ended) = ended {
            return ended;
        }
    }
}

/// Standard error: standard output is for the report.
struct Screen {
    terminal: bool,
    next_line: Instant,
}

impl Screen {
    fn new() -> Self {
        Self {
            terminal: io::stderr().is_terminal(),
            next_line: Instant::now(),
        }
    }

    /// A progress line that cannot be written is no reason to stop, so failures to write are left
    /// alone.
    fn show(&mut self, line: &Line, last: bool) {
        let mut stderr = io::stderr().lock();
        if self.terminal {
            let end = if last { "\n" } else { "" };
            let _ = write!(stderr, "\r\x1b[2K{line}{end}").and_then(|()| stderr.flush());
        } else if last || Instant::now() >= self.next_line {
            self.next_line = Instant::now() + PLAIN_LINE;
            let _ = writeln!(stderr, "{line}");
        }
    }
}

struct Line {
    counts: Counts,
    planned: u64,
    elapsed: Duration,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts {
            enqueued,
            done,
            dead_lettered,
            leftovers,
        } = self.counts;
        let share = self.counts.settled().min(self.planned) as f64 / self.planned.max(1) as f64;
        // Rounded down: a full bar and 100 % mean all of them.
        let filled = (share * BAR as f64) as usize;
        write!(
            f,
            "[{}{}] {:3} %",
            "#".repeat(filled),
            ".".repeat(BAR - filled),
            (share * 100.0) as u32
        )?;
        write!(
            f,
            "  enqueued {}  done {}",
            grouped(enqueued),
            grouped(done)
        )?;
        if leftovers > 0 {
            write!(f, "  of earlier runs {}", grouped(leftovers))?;
        }
        write!(
            f,
            "  dead {}  {:.1} s",
            grouped(dead_lettered),
            self.elapsed.as_secs_f64()
        )
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn line(done: u64, dead_lettered: u64) -> String {
        let counts = Counts {
            enqueued: 20_000,
            done,
            dead_lettered,
            leftovers: 0,
        };
        Line {
            counts,
            planned: 20_000,
            elapsed: Duration::from_millis(3_210),
        }
        .to_string()
    }

    #[test]
    fn the_bar_is_full_only_when_all_is_done() {
        assert_eq!(
            line(0, 0),
            "[........................]   0 %  enqueued 20,000  done 0  dead 0  3.2 s"
        );
        assert!(line(19_900, 99).starts_with("[#######################.]  99 %"));
        assert!(line(19_900, 100).starts_with("[########################] 100 %"));
        assert!(line(19_900, 100).len() < 80);
    }

    #[tokio::test]
    async fn it_is_over_when_all_enqueued_events_have_their_result() {
        let tally = Tally::default();
        tally.count_enqueued(2);
        tally.count_done();
        tally.count_dead_lettered();
        assert_eq!(
            watch(&tally, 2, || true, &CancellationToken::new(), PATIENCE).await,
            Ended::AllDone
        );
    }

    #[tokio::test]
    async fn it_is_interrupted_by_the_token() {
        let (tally, stop) = (Tally::default(), CancellationToken::new());
        tally.count_enqueued(1);
        let watching = watch(&tally, 2, || false, &stop, PATIENCE);
        let (ended, ()) = tokio::join!(watching, async {
            ready(()).await;
            stop.cancel();
        });
        assert_eq!(ended, Ended::Interrupted);
    }

    #[tokio::test]
    async fn it_gives_up_when_nothing_moves() {
        let tally = Tally::default();
        tally.count_enqueued(1);
        let ended = watch(
            &tally,
            2,
            || true,
            &CancellationToken::new(),
            Duration::ZERO,
        )
        .await;
        assert_eq!(
            ended,
            Ended::Stalled {
                after: Duration::ZERO
            }
        );
    }
}
