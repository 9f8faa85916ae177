//! What was done to the group, and for how long it was felt.

use std::time::Duration;

use super::{Span, Trouble};
use crate::{
    clock::{Nanos, nanos},
    downstream::Outage,
    journal::{Deed, Line, Sent},
};

/// How long a broker's outage is felt after it is back.
const AFTERMATH: Duration = Duration::from_secs(10);

pub(super) fn outages(deeds: &[Line<Deed>]) -> Vec<Span> {
    let spans = deeds
        .iter()
        .enumerate()
        .filter_map(|(index, line)| match &line.what {
            Deed::Out { what } if what.starts_with("broker") => {
                Some(until_back(deeds, index, what))
            }
            _ => None,
        });
    spans.collect()
}

pub(super) fn away(deeds: &[Line<Deed>]) -> Vec<(Span, Outage)> {
    let span = |(index, line): (usize, &Line<Deed>)| {
        let Deed::Away { outage } = &line.what else {
            return None;
        };
        let healed = deeds[index..].iter().find(|line| line.what == Deed::Healed);
        Some((
            Span {
                from: line.at,
                to: healed.map_or(Nanos::MAX, |line| line.at),
            },
            *outage,
        ))
    };
    deeds.iter().enumerate().filter_map(span).collect()
}

fn until_back(deeds: &[Line<Deed>], out: usize, what: &str) -> Span {
    let back = deeds[out..]
        .iter()
        .find(|line| matches!(&line.what, Deed::Back { what: back } if back == what));
    Span {
        from: deeds[out].at,
        to: back.map_or(Nanos::MAX, |line| line.at + nanos(AFTERMATH)),
    }
}

pub(super) fn troubles(deeds: &[Line<Deed>]) -> Vec<Trouble> {
    let felt = |at: Nanos| Span {
        from: at,
        to: at + nanos(AFTERMATH),
    };
    let trouble = |(index, line): (usize, &Line<Deed>)| {
        let (span, what) = match &line.what {
            Deed::Signalled {
                signal: Sent::Kill, ..
            } => (felt(line.at), "kill"),
            Deed::Signalled {
                signal: Sent::Terminate,
                ..
            } => (felt(line.at), "leave"),
            Deed::Signalled {
                signal: Sent::Stop, ..
            }
            | Deed::Signalled {
                signal: Sent::Continue,
                ..
            } => (felt(line.at), "pause"),
            Deed::Exited { orderly: false, .. } => (felt(line.at), "death"),
            Deed::Spawned { .. } => (felt(line.at), "join"),
            Deed::Out { what } => match what.as_str() {
                "dead letters" => (until_back(deeds, index, what), "dead letters"),
                "retries" => (until_back(deeds, index, what), "retries"),
                _ => (until_back(deeds, index, what), "broker"),
            },
            Deed::LeadersMoved => (felt(line.at), "leaders"),
            Deed::Away { outage } => {
                let to = line.at + nanos(Duration::from_millis(outage.lasts_ms) + AFTERMATH);
                (Span { from: line.at, to }, "downstream")
            }
            Deed::Hung { .. } => (felt(line.at), "death"),
            Deed::Exited { .. } | Deed::Back { .. } | Deed::Healed | Deed::LoadStopped => {
                return None;
            }
        };
        Some(Trouble { span, what })
    };
    deeds.iter().enumerate().filter_map(trouble).collect()
}
