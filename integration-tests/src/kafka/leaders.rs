//! Moving the leaders of partitions, as an operator does after a restart of brokers.

use std::io;

use super::{
    Kafka,
    again::request_again,
    client::blocking,
    error::HarnessError,
    request::{Request, no_error_at},
    topics::PartitionState,
};

const ELECT_LEADERS: i16 = 43;
const ALTER_PARTITION_REASSIGNMENTS: i16 = 45;
/// Behind the throttle time; in a flexible answer, behind the header's tags too.
const ERROR_AT: usize = 4;
/// What a broker may take to carry one of these out.
const TIMEOUT_MILLIS: i32 = 10_000;

impl Kafka {
    /// Turns the replicas of every partition of the topic `of` by `by` places, and has the new first one
    /// lead. The data stays where it is. Where that replica is down, the leader stays too.
    ///
    /// # Errors
    /// When no broker answers, or the one that does refuses.
    pub async fn move_leaders(&self, of: &str, by: usize) -> Result<(), HarnessError> {
        let mut partitions = self.partitions(of).await?;
        for partition in &mut partitions {
            let places = partition.replicas.len().max(1);
            partition.replicas.rotate_left(by % places);
        }
        let (addresses, topic) = (self.addresses(), of.to_owned());
        // The client library has neither request.
        let turn = move || {
            let reassignment = reassignment(&topic, &partitions);
            request_again(|| no_error_at(&any(&addresses, &reassignment)?, ERROR_AT + 1))?;
            let election = election(&topic, &partitions);
            request_again(|| no_error_at(&any(&addresses, &election)?, ERROR_AT))
        };
        let doing = format!("move the leaders of {of}");
        blocking(move || turn().map_err(HarnessError::io(doing))).await
    }
}

fn reassignment(topic: &str, partitions: &[PartitionState]) -> Request {
    let mut request = Request::flexible(ALTER_PARTITION_REASSIGNMENTS, 0)
        .int32(TIMEOUT_MILLIS)
        .compact_length(1)
        .compact(topic.as_bytes())
        .compact_length(partitions.len());
    for partition in partitions {
        request = request
            .int32(partition.partition)
            .compact_length(partition.replicas.len());
        for replica in &partition.replicas {
            request = request.int32(*replica);
        }
        request = request.no_tags();
    }
    request.no_tags().no_tags()
}

fn election(topic: &str, partitions: &[PartitionState]) -> Request {
    // 0: of the preferred leaders.
    let mut request = Request::new(ELECT_LEADERS, 1).int8(0).int32(1).text(topic);
    request = request.int32(i32::try_from(partitions.len()).unwrap_or(i32::MAX));
    for partition in partitions {
        request = request.int32(partition.partition);
    }
    request.int32(TIMEOUT_MILLIS)
}

/// Sends it to the first broker that answers, which passes such requests on to the controller.
fn any(addresses: &[String], request: &Request) -> io::Result<Vec<u8>> {
    let mut last = io::Error::other("no broker");
    for address in addresses {
        match request.exchange(address) {
            Ok(answer) => return Ok(answer),
            Err(error) => last = error,
        }
    }
    Err(last)
}
