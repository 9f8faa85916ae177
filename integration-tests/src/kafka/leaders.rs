//! Moving the leaders of partitions, as an operator does after a restart of brokers.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use super::{
    Kafka,
    client::{REQUEST, blocking},
    error::HarnessError,
    topics::PartitionState,
};

const ELECT_LEADERS: (i16, i16) = (43, 1);
const ALTER_PARTITION_REASSIGNMENTS: (i16, i16) = (45, 0);
const CONNECT: Duration = Duration::from_secs(1);
/// What a broker may take to carry one of these out.
const TIMEOUT_MILLIS: i32 = 10_000;

impl Kafka {
    /// Turns the replicas of every partition of `topic` by `by` places, and has the new first one
    /// lead. The data stays where it is. Where that replica is down, the leader stays too.
    ///
    /// # Errors
    /// When no broker answers, or the one that does refuses.
    pub async fn move_leaders(&self, topic: &str, by: usize) -> Result<(), HarnessError> {
        let mut partitions = self.partitions(topic).await?;
        for partition in &mut partitions {
            let places = partition.replicas.len().max(1);
            partition.replicas.rotate_left(by % places);
        }
        let (servers, topic) = (self.bootstrap_servers.clone(), topic.to_owned());
        blocking(move || {
            let failed = || HarnessError::io(format!("move the leaders of {topic}"));
            // The client library has neither request.
            let reassignment = exchange(
                &servers,
                ALTER_PARTITION_REASSIGNMENTS,
                &reassignment(&topic, &partitions),
            );
            // Behind the correlation id, its header has a byte of tags more.
            accepted(reassignment.map_err(failed())?.get(9..11)).map_err(failed())?;
            let election = exchange(&servers, ELECT_LEADERS, &election(&topic, &partitions));
            accepted(election.map_err(failed())?.get(8..10)).map_err(failed())
        })
        .await
    }
}

/// A version with compact strings and arrays: lengths are one more, as a variable-length number,
/// and tags may follow.
fn reassignment(topic: &str, partitions: &[PartitionState]) -> Vec<u8> {
    // The header's tags.
    let mut body = vec![0];
    body.extend(TIMEOUT_MILLIS.to_be_bytes());
    compact(&mut body, 1);
    compact(&mut body, topic.len());
    body.extend(topic.as_bytes());
    compact(&mut body, partitions.len());
    for partition in partitions {
        body.extend(partition.partition.to_be_bytes());
        compact(&mut body, partition.replicas.len());
        for replica in &partition.replicas {
            body.extend(replica.to_be_bytes());
        }
        body.push(0);
    }
    body.extend([0, 0]);
    body
}

fn election(topic: &str, partitions: &[PartitionState]) -> Vec<u8> {
    // 0: of the preferred leaders.
    let mut body = vec![0];
    body.extend(1_i32.to_be_bytes());
    body.extend(i16::try_from(topic.len()).unwrap_or(i16::MAX).to_be_bytes());
    body.extend(topic.as_bytes());
    body.extend(
        i32::try_from(partitions.len())
            .unwrap_or(i32::MAX)
            .to_be_bytes(),
    );
    for partition in partitions {
        body.extend(partition.partition.to_be_bytes());
    }
    body.extend(TIMEOUT_MILLIS.to_be_bytes());
    body
}

fn compact(body: &mut Vec<u8>, length: usize) {
    let mut rest = length + 1;
    while rest >= 0x80 {
        body.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    body.push(rest as u8);
}

/// Asks the first broker that answers; it passes such requests on to the controller.
fn exchange(servers: &str, (key, version): (i16, i16), body: &[u8]) -> io::Result<Vec<u8>> {
    let mut request = Vec::new();
    request.extend(key.to_be_bytes());
    request.extend(version.to_be_bytes());
    request.extend(0_i32.to_be_bytes());
    let name = "keylane-harness";
    request.extend((name.len() as i16).to_be_bytes());
    request.extend(name.as_bytes());
    request.extend(body);
    let mut last = io::Error::other("no broker");
    for server in servers.split(',') {
        match ask(server, &request) {
            Ok(answer) => return Ok(answer),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn ask(server: &str, request: &[u8]) -> io::Result<Vec<u8>> {
    let address: SocketAddr = server.parse().map_err(io::Error::other)?;
    let mut stream = TcpStream::connect_timeout(&address, CONNECT)?;
    stream.set_read_timeout(Some(REQUEST))?;
    stream.write_all(
        &u32::try_from(request.len())
            .unwrap_or(u32::MAX)
            .to_be_bytes(),
    )?;
    stream.write_all(request)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut answer = Vec::new();
    stream
        .take(u32::from_be_bytes(length).into())
        .read_to_end(&mut answer)?;
    Ok(answer)
}

fn accepted(code: Option<&[u8]>) -> io::Result<()> {
    match code {
        Some(&[0, 0]) => Ok(()),
        Some(&[high, low]) => {
            let code = i16::from_be_bytes([high, low]);
            Err(io::Error::other(format!(
                "the broker answered with the error code {code}"
            )))
        }
        _ => Err(io::Error::other("the broker's answer is too short")),
    }
}
