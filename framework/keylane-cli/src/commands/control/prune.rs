//! `keylane control prune`.

use std::time::SystemTime;

use keylane::control::{Commander, InForce};
use keylane_core::control::ControlKey;

use super::super::Report;
use super::{millis, show};
use crate::failure::Failure;
use crate::output::{Cell, Table};

const COLUMNS: &[&str] = &["key", "why", "state"];

pub(super) fn run(commander: &Commander, dry_run: bool) -> Result<Report, Failure> {
    let found = commander.read()?;
    let useless = useless(&found, millis(SystemTime::now()));
    let mut table = Table::new(COLUMNS);
    for (key, why) in &useless {
        let state = match dry_run {
            true => "would be taken out",
            false => {
                commander.write(key, None)?;
                "taken out"
            }
        };
        table.push(vec![
            Cell::text(key.to_string()),
            Cell::text(*why),
            Cell::text(state),
        ]);
    }
    let notes = match useless.is_empty() {
        true => vec![format!("{} has nothing to take out", commander.topic())],
        false => Vec::new(),
    };
    Ok(Report {
        notes,
        ..table.into()
    })
}

/// What may be taken out, and why. A member that is live after all writes its acknowledgement again.
fn useless(found: &InForce, now: i64) -> Vec<(ControlKey, &'static str)> {
    let stale = show::tally(found).stale;
    let acks = found.acks.iter().filter_map(|(name, _)| {
        let why = match found.live {
            None => "it may be of a member that is gone",
            Some(_) if stale.contains(name) => "its member is gone",
            Some(_) => return None,
        };
        Some((ControlKey::Ack(name.to_owned()), why))
    });
    let orders = found.directives.orders();
    let ended = orders.filter(|(_, order)| !order.is_in_force(now));
    acks.chain(ended.map(|(key, _)| (key, "it has ended by itself")))
        .collect()
}

#[cfg(test)]
mod tests {
    use keylane_core::control::{Ack, Acks, Content, Directives, Order};
    use keylane_core::{Offset, Position};

    use super::*;

    #[test]
    fn what_is_live_or_in_force_stays_and_where_nobody_is_known_every_acknowledgement_goes() {
        let mut acks = Acks::default();
        for name in ["live", "killed"] {
            let ack = Ack {
                revision: Position::new(1),
                member: Some(format!("id of {name}")),
                group: None,
                host: String::new(),
                at_millis: 0,
                refused: 0,
            };
            acks.apply(name, Some(ack));
        }
        let mut directives = Directives::default();
        for (key, until_millis) in [("pause", None), ("pause/a", Some(10)), ("pause/b", Some(9))] {
            let order = Order {
                until_millis,
                ..Order::default()
            };
            directives.apply(Offset::new(0), key, Content::Order(order));
        }
        let taken_out = |live: Option<&str>| {
            let found = InForce {
                directives: directives.clone(),
                acks: acks.clone(),
                live: live.map(|live| [live.to_owned()].into()),
            };
            let useless = useless(&found, 9).into_iter();
            useless.map(|(key, _)| key.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(taken_out(Some("id of live")), ["ack/killed", "pause/b"]);
        let of_all = ["ack/killed", "ack/live", "pause/b"];
        assert_eq!(taken_out(None), of_all);
    }
}
