//! A consumer in one file, with its test in virtual time: `cargo run -p minimal -- HOST:PORT`.

use keylane::{DeadLetter, Json, Subscription, Task, TaskError};
use tokio::signal::{ctrl_c, unix};

#[derive(serde::Serialize, serde::Deserialize)]
struct ParkingEvent {
    vehicle: String,
    place: Option<u32>,
}

/// Events of one vehicle come in order; different vehicles do not wait for each other.
async fn notify(task: Task<ParkingEvent>) -> Result<(), TaskError> {
    let ParkingEvent { vehicle, place } = task.payload();
    if vehicle.is_empty() {
        return Err(TaskError::fatal("an event without a vehicle"));
    }
    // In place of your HTTP call. With `?`, any error is retried: for 15 minutes unless set.
    let place = u8::try_from(place.unwrap_or(0))?;
    println!("{vehicle} is at place {place}");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().init();
    let subscription = Subscription::builder("parking-notifier", "parking-events")
        .bootstrap_servers(std::env::args().nth(1).unwrap_or("localhost:9092".into()))
        .dead_letter(DeadLetter::topic("parking-events-dlq"))
        .start(Json, notify)
        .await?;
    let mut terminate = unix::signal(unix::SignalKind::terminate())?;
    let end = async {
        tokio::select! { _ = terminate.recv() => {} _ = ctrl_c() => {} }
    };
    Ok(subscription.run_until(end).await?)
}

#[cfg(test)]
mod tests {
    use keylane::NewTask;
    use keylane_testkit::{Outcome, TestSubscription};

    use super::*;

    #[tokio::test]
    async fn an_event_is_done_or_refused_or_retried() {
        let outcome = async |vehicle: &str, place| {
            let (vehicle, place) = (vehicle.to_owned(), Some(place));
            let task = NewTask::json(&ParkingEvent { vehicle, place }).unwrap();
            TestSubscription::new(Json, notify).run(task).await
        };
        assert_eq!(outcome("B-KL 42", 7).await, Outcome::Done { attempts: 1 });
        let refused = outcome("", 7).await;
        assert_eq!(refused, Outcome::DeadLettered { attempts: 1 });
        let retried = outcome("B-KL 42", 700).await;
        assert!(matches!(retried, Outcome::DeadLettered { attempts: 50.. }));
    }
}
