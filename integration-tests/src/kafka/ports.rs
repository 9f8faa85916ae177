//! Ports for servers that have to be free again when a killed one comes back.

use std::{
    io,
    net::{Ipv4Addr, TcpListener},
    sync::{
        OnceLock,
        atomic::{AtomicU16, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

/// Below the range from which the system gives ports to outgoing connections (from 32,768 on Linux,
/// from 49,152 elsewhere): otherwise some client's connection may sit on a broker's port while that
/// broker is down.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// `count` different ports of 127.0.0.1 that are free at this moment.
///
/// Another process may still take one before the server does; the caller starts again with others
/// then.
///
/// # Errors
/// When there are fewer.
pub fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    static START: OnceLock<u16> = OnceLock::new();
    // Once: two calls at a time must not come to the same ports.
    let start = *START.get_or_init(start);
    let mut ports = Vec::with_capacity(count);
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + ((u32::from(start) + u32::from(step)) % u32::from(COUNT)) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            ports.push(port);
        }
        if ports.len() == count {
            return Ok(ports);
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AddrInUse,
        format!("no {count} free ports from {FIRST} on"),
    ))
}

/// Test processes that run side by side begin at different places, so they seldom meet.
fn start() -> u16 {
    let nanos = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.subsec_nanos());
    (std::process::id()
        .wrapping_mul(2_654_435_761)
        .wrapping_add(nanos / 1_000)
        % u32::from(COUNT)) as u16
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        net::{Ipv4Addr, TcpListener},
    };

    use super::{COUNT, FIRST, free_ports};

    #[test]
    fn ports_are_different_free_and_outside_the_ephemeral_range() {
        let ports = free_ports(6).unwrap();
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), 6);
        for port in ports {
            assert!((FIRST..FIRST + COUNT).contains(&port));
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        }
    }
}
