//! Throwing a member out of its group, as an operator does with `kafka-consumer-groups` or a broker with one it misses.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
};

use super::{
    Kafka,
    client::{REQUEST, blocking},
    error::HarnessError,
};

const LEAVE_GROUP: i16 = 13;
const VERSION: i16 = 1;
/// The answer without its length: correlation id, throttle time, error code.
const ANSWER: usize = 10;

impl Kafka {
    /// Makes the coordinator believe that the member has left; the member learns it from its next heartbeat. The group is
    /// one of the classic protocol, and the Kafka has one node, which coordinates all groups.
    ///
    /// # Errors
    /// When the broker refuses it or does not answer within 15 s.
    pub async fn evict(&self, group: &str, member: &str) -> Result<(), HarnessError> {
        // The client library cannot do it, and the request is two strings.
        let mut request = Vec::new();
        request.extend(LEAVE_GROUP.to_be_bytes());
        request.extend(VERSION.to_be_bytes());
        request.extend(0_i32.to_be_bytes());
        for text in ["keylane-harness", group, member] {
            request.extend(i16::try_from(text.len()).unwrap_or(i16::MAX).to_be_bytes());
            request.extend(text.as_bytes());
        }
        let (address, doing) = (self.bootstrap_servers.clone(), format!("evict {member} from {group}"));
        blocking(move || exchange(&address, &request).map_err(HarnessError::io(doing))).await
    }
}

fn exchange(address: &str, request: &[u8]) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(REQUEST))?;
    stream.write_all(&u32::try_from(request.len()).unwrap_or(u32::MAX).to_be_bytes())?;
    stream.write_all(request)?;
    let mut answer = [0; 4 + ANSWER];
    stream.read_exact(&mut answer)?;
    match i16::from_be_bytes([answer[12], answer[13]]) {
        0 => Ok(()),
        code => Err(io::Error::other(format!("the broker answered with the error code {code}"))),
    }
}
