//! A load that does not wait: each record has a moment at which it is to be sent, whatever became
//! of those before it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
};

/// For what is on its way when the load stops.
const FLUSH: Duration = Duration::from_secs(30);

/// A thread that writes records at a fixed rate. Its records carry their number and their moment
/// ([`Sent`]).
#[derive(Debug)]
pub struct OpenLoop {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64, String>>,
}

/// The content of a record of the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its number, counted from 0.
    pub number: u64,
    /// When it was to be sent, in microseconds since the beginning that the load was started with.
    pub due_micros: u64,
}

impl Sent {
    /// Reads it from a record's value.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (number, due) = std::str::from_utf8(value).ok()?.split_once(' ')?;
        Some(Self {
            number: number.parse().ok()?,
            due_micros: due.parse().ok()?,
        })
    }
}

impl OpenLoop {
    /// Starts to write `rate` records per second to `topic`; `key_of` chooses the key by the
    /// number. The moments count from `beginning`.
    ///
    /// # Errors
    /// When the producer or its thread cannot be started.
    pub fn start(
        servers: &str,
        topic: &str,
        rate: u64,
        beginning: Instant,
        key_of: impl Fn(u64) -> String + Send + 'static,
    ) -> io::Result<Self> {
        let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
            .set("bootstrap.servers", servers)
            .set("enable.idempotence", "true")
            .set("linger.ms", "1")
            .create()
            .map_err(io::Error::other)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, topic) = (stop.clone(), topic.to_owned());
        let thread = thread::Builder::new()
            .name("open-loop".to_owned())
            .spawn(move || {
                let first = beginning.elapsed();
                let mut number = 0;
                while !stopped.load(Ordering::Relaxed) {
                    let due = first + Duration::from_nanos(number * 1_000_000_000 / rate);
                    if let Some(early) = due.checked_sub(beginning.elapsed()) {
                        thread::sleep(early);
                    }
                    let value = format!("{number} {}", due.as_micros());
                    let key = key_of(number);
                    producer
                        .send(BaseRecord::to(&topic).key(&key).payload(&value))
                        .map_err(|(error, _)| {
                            format!("record {number} could not be sent: {error}")
                        })?;
                    number += 1;
                }
                producer.flush(FLUSH).map_err(|error| error.to_string())?;
                Ok(number)
            })?;
        Ok(Self { stop, thread })
    }

    /// Ends the load; returns how many records were written. Blocks until the brokers have them.
    ///
    /// # Errors
    /// When a record was refused.
    pub fn stop(self) -> Result<u64, String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .map_err(|_| "the load's thread panicked".to_owned())?
    }
}

#[cfg(test)]
mod tests {
    use super::Sent;

    #[test]
    fn a_value_says_number_and_moment_or_nothing() {
        assert_eq!(
            Sent::parse(b"7 1200"),
            Some(Sent {
                number: 7,
                due_micros: 1_200
            })
        );
        assert_eq!(Sent::parse(b"7"), None);
    }
}
