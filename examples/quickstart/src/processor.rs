//! The part you would write: one event in, one notification out.

use keylane::{Processor, Task, TaskError};

use crate::bug::Bug;
use crate::event::{Movement, ParkingEvent};
use crate::gateway::Notification;
use crate::push::{Answer, PushClient};

/// Notifies drivers that their vehicle entered or left the car park.
pub(crate) struct Notifier {
    pub(crate) gateway: PushClient,
    pub(crate) bug: Bug,
}

impl Processor<ParkingEvent> for Notifier {
    async fn process(&self, task: Task<ParkingEvent>) -> Result<(), TaskError> {
        let event = task.payload();
        // Panics now and then, as code does. keylane treats that as a failed attempt of this one
        // task.
        self.bug.strike(event, task.attempt());

        // `?` makes any error a retryable one: the gateway may be back in a moment.
        match self.gateway.push(&notification(event)).await? {
            Answer::Accepted => Ok(()),
            // The gateway sets the delay. Later events of this vehicle wait, all others go on.
            Answer::Busy { retry_after } => {
                Err(TaskError::retry_after("the gateway is busy", retry_after))
            }
            // No retry will help: to the dead-letter topic at once.
            Answer::UnknownDevice => Err(TaskError::fatal(format!(
                "no device {} is registered",
                event.device
            ))),
        }
    }
}

fn notification(event: &ParkingEvent) -> Notification {
    let happened = match event.event {
        Movement::Entered => "entered",
        Movement::Left => "left",
    };
    Notification {
        device: event.device.clone(),
        text: format!("{} {happened} the car park", event.vehicle),
        run: event.run.clone(),
        vehicle: event.vehicle.clone(),
        seq: event.seq,
    }
}
