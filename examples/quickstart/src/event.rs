//! What is on the topic: a vehicle passed the barrier.

use serde::{Deserialize, Serialize};

/// A vehicle entered or left the car park.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ParkingEvent {
    /// The number plate, which is also the record's key: events of one vehicle stay in order.
    pub(crate) vehicle: String,
    pub(crate) event: Movement,
    /// Milliseconds since the Unix epoch.
    pub(crate) at: u64,
    /// Counts the events of this vehicle from 1, so that a gap or a swap can be seen at the far
    /// end.
    pub(crate) seq: u32,
    /// The phone to notify.
    pub(crate) device: String,
    /// The run of this example that wrote the event. A topic on a real cluster may still hold those
    /// of an earlier run.
    pub(crate) run: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Movement {
    Entered,
    Left,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_reads_as_plain_json() {
        let event = ParkingEvent {
            vehicle: "KL-0001".into(),
            event: Movement::Entered,
            at: 1_700_000_000_000,
            seq: 1,
            device: "phone-KL-0001".into(),
            run: "r1".into(),
        };
        let json = r#"{"vehicle":"KL-0001","event":"entered","at":1700000000000,"seq":1,"device":"phone-KL-0001","run":"r1"}"#;
        assert_eq!(serde_json::to_string(&event).unwrap(), json);
        assert_eq!(serde_json::from_str::<ParkingEvent>(json).unwrap(), event);
    }
}
