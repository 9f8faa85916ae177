//! The push gateway, played: it is ill while a file is there.

use std::path::PathBuf;
use std::time::Duration;

use crate::events::ParkingEvent;

/// The vehicle that the ill gateway keeps locked.
pub const LOCKED: &str = "B-KL 42";
/// The vehicles whose devices the ill gateway does not know.
pub const UNKNOWN: [&str; 2] = ["B-KL 7", "B-KL 8"];

/// What notifications are pushed to.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// While this file is there, the gateway runs on an old backup of its data.
    pub old_backup: PathBuf,
}

/// Why the gateway did not take a notification.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// Another one has the vehicle's entry: a retry may help.
    #[non_exhaustive]
    Locked {
        /// Of which vehicle.
        vehicle: String,
    },
    /// There is no such device, and no retry will find it.
    #[non_exhaustive]
    Unknown {
        /// Of which vehicle.
        vehicle: String,
    },
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Locked { vehicle } => write!(f, "423: the entry of {vehicle} is locked"),
            Self::Unknown { vehicle } => write!(f, "404: no device of {vehicle} is registered"),
        }
    }
}

impl std::error::Error for Refusal {}

impl Gateway {
    /// Pushes a notification.
    ///
    /// # Errors
    /// Where the gateway is ill, and the vehicle is one of those that this concerns.
    pub async fn push(&self, event: &ParkingEvent) -> Result<(), Refusal> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let vehicle = event.vehicle.clone();
        match &*event.vehicle {
            _ if !self.old_backup.exists() => Ok(()),
            LOCKED => Err(Refusal::Locked { vehicle }),
            other if UNKNOWN.contains(&other) => Err(Refusal::Unknown { vehicle }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_some_vehicles_are_refused_and_only_while_the_old_backup_is_there() {
        let directory = std::env::temp_dir().join(format!("operators-day-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let gateway = Gateway {
            old_backup: directory.join("old-backup"),
        };
        let push = async |vehicle: &str| {
            let vehicle = vehicle.to_owned();
            gateway.push(&ParkingEvent { vehicle, number: 1 }).await
        };
        std::fs::write(&gateway.old_backup, "").unwrap();
        for (vehicle, refused) in [(LOCKED, true), (UNKNOWN[0], true), ("B-KL 1", false)] {
            assert_eq!(push(vehicle).await.is_err(), refused, "{vehicle}");
        }
        std::fs::remove_file(&gateway.old_backup).unwrap();
        for vehicle in [LOCKED, UNKNOWN[0], UNKNOWN[1]] {
            assert_eq!(push(vehicle).await, Ok(()), "{vehicle}");
        }
        std::fs::remove_dir(&directory).unwrap();
    }
}
