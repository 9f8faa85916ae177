//! From what was seen at the two far ends, the gateway and the dead-letter topic, to the facts of
//! the report.

use std::collections::{BTreeMap, HashMap};

use crate::dead_letters::DeadLetter;
use crate::enqueue::{Place, Written};
use crate::gateway::journal::{Answer, VehicleLog};
use crate::gateway::order::{self, Standing, Violation};
use crate::names::Names;
use crate::plan::{Fate, Plan};
use crate::trouble::RETRIES;

/// What became of the enqueued events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Acknowledged by the broker.
    pub(crate) enqueued: u64,
    /// Not acknowledged, with the first one's error.
    pub(crate) unacknowledged: Option<(u64, String)>,
    /// Acknowledged, and accepted by the gateway.
    pub(crate) done: u64,
    /// Of the acknowledged ones: on the dead-letter topic, by the reason keylane gave.
    pub(crate) dead_lettered: BTreeMap<String, u64>,
    /// Vehicles in the gateway's journal.
    pub(crate) vehicles: u64,
    pub(crate) requests: Requests,
    /// Acceptances beyond the first of an event.
    pub(crate) duplicates: u64,
    pub(crate) violations: Vec<Violation>,
    /// Dead letters that are not what they should be.
    pub(crate) faults: Vec<String>,
}

/// What the gateway answered, request by request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requests {
    pub(crate) accepted: u64,
    pub(crate) busy: u64,
    pub(crate) unknown_device: u64,
    pub(crate) abandoned: u64,
}

/// Compares everything with the plan and with the broker's acknowledgements.
pub(crate) fn audit(
    names: &Names,
    plan: &Plan,
    written: &Written,
    gateway: &HashMap<String, VehicleLog>,
    dead_letters: &BTreeMap<usize, DeadLetter>,
) -> Outcome {
    let mut outcome = Outcome::default();
    let mut standings: HashMap<&str, Vec<Standing>> = HashMap::new();
    for (index, answer) in written.answers.iter().enumerate() {
        let dead_letter = dead_letters.get(&index);
        let standing = match (answer, dead_letter) {
            (Ok(_), Some(_)) => Standing::DeadLettered,
            (Ok(_), None) => Standing::Enqueued,
            (Err(_), _) => Standing::Uncertain,
        };
        standings.entry(plan.key(index)).or_default().push(standing);
        match answer {
            Ok(place) => {
                outcome.enqueued += 1;
                if let Some(dead_letter) = dead_letter {
                    *outcome
                        .dead_lettered
                        .entry(reason(dead_letter).to_owned())
                        .or_default() += 1;
                    let faults = faults(names, plan, index, place, dead_letter);
                    outcome.faults.extend(
                        faults
                            .into_iter()
                            .map(|fault| format!("dead letter of event {index}: {fault}")),
                    );
                }
            }
            Err(error) => {
                outcome
                    .unacknowledged
                    .get_or_insert_with(|| (0, error.clone()))
                    .0 += 1
            }
        }
    }
    outcome.faults.extend(
        dead_letters
            .range(written.answers.len()..)
            .map(|(index, _)| format!("dead letter of event {index}: it was never enqueued")),
    );

    // Sorted, so that the same violations are always listed in the same order.
    let mut vehicles: Vec<_> = gateway.iter().collect();
    vehicles.sort_by_key(|(vehicle, _)| *vehicle);
    for (vehicle, log) in vehicles {
        let standings = standings
            .get(vehicle.as_str())
            .map(Vec::as_slice)
            .unwrap_or_default();
        let verdict = order::judge(vehicle, &log.requests, standings);
        let is_done = |seq: &&u32| standings.get(**seq as usize - 1) == Some(&Standing::Enqueued);
        outcome.done += verdict.accepted.iter().filter(is_done).count() as u64;
        outcome.vehicles += 1;
        outcome.duplicates += verdict.duplicates;
        outcome.violations.extend(verdict.violations);
        outcome.requests.add(log);
    }
    outcome
}

impl Requests {
    fn add(&mut self, log: &VehicleLog) {
        for (_, answer) in log.requests.iter().filter_map(|request| request.end) {
            *match answer {
                Answer::Accepted => &mut self.accepted,
                Answer::Busy => &mut self.busy,
                Answer::UnknownDevice => &mut self.unknown_device,
                Answer::Abandoned => &mut self.abandoned,
            } += 1;
        }
    }

    pub(crate) fn total(self) -> u64 {
        self.accepted + self.busy + self.unknown_device + self.abandoned
    }
}

fn reason(dead_letter: &DeadLetter) -> &str {
    dead_letter
        .headers
        .last_str("keylane-reason")
        .unwrap_or("(no reason)")
}

/// What is wrong with a dead letter, held against the record as it was enqueued.
fn faults(
    names: &Names,
    plan: &Plan,
    index: usize,
    place: &Place,
    dead_letter: &DeadLetter,
) -> Vec<String> {
    let fate = plan.events()[index].fate;
    let mut faults = Vec::new();
    let mut expect = |what: &str, is: Option<&str>, should: &str| {
        if is != Some(should) {
            faults.push(format!(
                "{what} should be {should:?} and is {}",
                is.map_or("missing".into(), |is| format!("{is:?}"))
            ));
        }
    };
    let header = |name| dead_letter.headers.last_str(name);
    expect(
        "the reason",
        header("keylane-reason"),
        fate.dead_letter_reason()
            .unwrap_or("none: it can be processed"),
    );
    expect(
        "the origin's topic",
        header("keylane-origin-topic"),
        &names.events,
    );
    expect(
        "the origin's partition",
        header("keylane-origin-partition"),
        &place.partition.to_string(),
    );
    if place.offset >= 0 {
        expect(
            "the origin's offset",
            header("keylane-origin-offset"),
            &place.offset.to_string(),
        );
    }
    expect("the group", header("keylane-group"), &names.group);
    if fate == Fate::AlwaysPanics {
        expect(
            "the number of attempts",
            header("keylane-attempts"),
            &(1 + RETRIES).to_string(),
        );
    }
    expect(
        "the key",
        dead_letter
            .key
            .as_deref()
            .and_then(|key| std::str::from_utf8(key).ok()),
        plan.key(index),
    );

    let explanatory = [
        "keylane-error",
        "keylane-attempts",
        "keylane-first-failure",
        "keylane-last-failure",
    ];
    for name in explanatory
        .into_iter()
        .filter(|name| header(name).is_none_or(str::is_empty))
    {
        faults.push(format!("the header {name} is missing"));
    }
    if dead_letter.value != plan.value(index) {
        faults.push("the value is not the one that was enqueued".to_owned());
    }
    faults
}

#[cfg(test)]
mod tests;
