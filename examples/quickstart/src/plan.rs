//! What will be enqueued, and what must become of it.

use std::collections::HashSet;

use bytes::Bytes;

use crate::event::{Movement, ParkingEvent};
use crate::trouble::{RETRIES, Trouble};

/// All events of a run, in the order in which they are enqueued.
#[derive(Debug)]
pub(crate) struct Plan {
    run: String,
    started_millis: u64,
    vehicles: Vec<String>,
    events: Vec<PlannedEvent>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlannedEvent {
    /// Index into the plan's vehicles.
    pub(crate) vehicle: usize,
    pub(crate) seq: u32,
    pub(crate) fate: Fate,
}

/// Where an event must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Accepted by the gateway.
    Notified,
    /// Dead-lettered: not an event at all.
    Undecodable,
    /// Dead-lettered: the gateway does not know the phone.
    UnknownDevice,
    /// Dead-lettered: the processor panicked at every attempt.
    AlwaysPanics,
}

impl Fate {
    /// The reason keylane must give for dead-lettering the event, if that is its fate.
    pub(crate) fn dead_letter_reason(self) -> Option<&'static str> {
        match self {
            Self::Notified => None,
            Self::Undecodable => Some("undecodable"),
            Self::UnknownDevice => Some("fatal"),
            Self::AlwaysPanics => Some("panic"),
        }
    }
}

/// What a run from beginning to end amounts to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) notified: u64,
    pub(crate) undecodable: u64,
    pub(crate) unknown_device: u64,
    pub(crate) always_panics: u64,
    /// Panics of the processor, all attempts together.
    pub(crate) panics: u64,
    /// 503s of the gateway.
    pub(crate) busy: u64,
}

impl Plan {
    /// Plans a run; `started_millis` (since the Unix epoch) names it.
    pub(crate) fn new(
        trouble: Trouble,
        vehicles: usize,
        events: usize,
        seed: u64,
        started_millis: u64,
    ) -> Self {
        let dice = crate::dice::Dice::new(seed);
        let vehicles: Vec<_> = (1..=vehicles)
            .map(|number| format!("KL-{number:04}"))
            .collect();
        let mut last_seq = vec![0_u32; vehicles.len()];
        let events = (0..events)
            .map(|index| {
                let vehicle =
                    (dice.roll("vehicle", "", [index as u64, 0]) % vehicles.len() as u64) as usize;
                last_seq[vehicle] += 1;
                let seq = last_seq[vehicle];
                PlannedEvent {
                    vehicle,
                    seq,
                    fate: fate(trouble, &vehicles[vehicle], seq),
                }
            })
            .collect();
        Self {
            run: format!("{started_millis:x}"),
            started_millis,
            vehicles,
            events,
        }
    }

    /// The name of the run, which every event and every header of it carries.
    pub(crate) fn run(&self) -> &str {
        &self.run
    }

    pub(crate) fn events(&self) -> &[PlannedEvent] {
        &self.events
    }

    /// The key of the event at `index`.
    pub(crate) fn key(&self, index: usize) -> &str {
        &self.vehicles[self.events[index].vehicle]
    }

    /// The event at `index`, before anything happens to its bytes.
    pub(crate) fn event(&self, index: usize) -> ParkingEvent {
        let PlannedEvent { vehicle, seq, fate } = self.events[index];
        let vehicle = &self.vehicles[vehicle];
        let phone = phone(vehicle);
        ParkingEvent {
            vehicle: vehicle.clone(),
            event: if seq % 2 == 1 {
                Movement::Entered
            } else {
                Movement::Left
            },
            at: self.started_millis + index as u64,
            seq,
            device: if fate == Fate::UnknownDevice {
                format!("lost-{phone}")
            } else {
                phone
            },
            run: self.run.clone(),
        }
    }

    /// The value of the record at `index`, bit for bit.
    pub(crate) fn value(&self, index: usize) -> Bytes {
        let mut json =
            serde_json::to_vec(&self.event(index)).expect("strings and numbers serialize");
        if self.events[index].fate == Fate::Undecodable {
            json.truncate(json.len() / 2);
        }
        json.into()
    }

    /// The phones that are registered at the gateway.
    pub(crate) fn registered_devices(&self) -> HashSet<String> {
        self.vehicles.iter().map(|vehicle| phone(vehicle)).collect()
    }

    /// What the first `enqueued` events of the plan amount to when all of them are processed.
    pub(crate) fn totals(&self, trouble: Trouble, enqueued: usize) -> Totals {
        let mut totals = Totals::default();
        for PlannedEvent { vehicle, seq, fate } in self.events.iter().take(enqueued).copied() {
            let vehicle = &self.vehicles[vehicle];
            match fate {
                Fate::Notified => totals.notified += 1,
                Fate::Undecodable => totals.undecodable += 1,
                Fate::UnknownDevice => totals.unknown_device += 1,
                Fate::AlwaysPanics => totals.always_panics += 1,
            }
            match fate {
                Fate::Undecodable => {}
                Fate::AlwaysPanics => totals.panics += 1 + u64::from(RETRIES),
                Fate::Notified | Fate::UnknownDevice => {
                    totals.panics += u64::from(trouble.panics_once(vehicle, seq));
                    totals.busy += (0..)
                        .take_while(|nth| trouble.gateway_is_busy(vehicle, seq, *nth))
                        .count() as u64;
                }
            }
        }
        totals
    }
}

/// In the order in which an event passes them: decoding, the processor, the gateway.
fn fate(trouble: Trouble, vehicle: &str, seq: u32) -> Fate {
    if trouble.is_cut_short(vehicle, seq) {
        Fate::Undecodable
    } else if trouble.always_panics(vehicle, seq) {
        Fate::AlwaysPanics
    } else if trouble.device_is_unknown(vehicle, seq) {
        Fate::UnknownDevice
    } else {
        Fate::Notified
    }
}

fn phone(vehicle: &str) -> String {
    format!("phone-{vehicle}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(seed: u64) -> Plan {
        Plan::new(Trouble::new(seed), 100, 5_000, seed, 1_700_000_000_000)
    }

    #[test]
    fn the_same_seed_makes_the_same_plan_and_another_seed_another() {
        assert_eq!(plan(1).events(), plan(1).events());
        assert_ne!(plan(1).events(), plan(2).events());
    }

    #[test]
    fn every_vehicle_counts_its_events_from_one_without_a_gap() {
        let plan = plan(1);
        for vehicle in 0..plan.vehicles.len() {
            let own: Vec<_> = plan
                .events()
                .iter()
                .filter(|event| event.vehicle == vehicle)
                .map(|e| e.seq)
                .collect();
            assert_eq!(own, (1..=own.len() as u32).collect::<Vec<_>>());
        }
    }

    #[test]
    fn every_kind_of_trouble_is_in_the_plan_and_the_totals_add_up() {
        let totals = plan(1).totals(Trouble::new(1), usize::MAX);
        let Totals {
            notified,
            undecodable,
            unknown_device,
            always_panics,
            panics,
            busy,
        } = totals;
        assert_eq!(
            notified + undecodable + unknown_device + always_panics,
            5_000
        );
        for count in [notified, undecodable, unknown_device, always_panics, busy] {
            assert!(count > 0, "{totals:?}");
        }
        assert!(panics > always_panics * 6, "{totals:?}");
    }

    #[test]
    fn only_what_is_planned_as_undecodable_cannot_be_decoded() {
        let plan = plan(1);
        for (index, planned) in plan.events().iter().enumerate() {
            let decoded = serde_json::from_slice::<ParkingEvent>(&plan.value(index));
            assert_eq!(
                decoded.is_err(),
                planned.fate == Fate::Undecodable,
                "event {index}"
            );
        }
    }

    #[test]
    fn only_what_is_planned_as_unknown_names_a_device_that_is_not_registered() {
        let plan = plan(1);
        let registered = plan.registered_devices();
        for (index, planned) in plan.events().iter().enumerate() {
            let known = registered.contains(&plan.event(index).device);
            assert_eq!(!known, planned.fate == Fate::UnknownDevice, "event {index}");
        }
    }
}
