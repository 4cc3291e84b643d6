//! State shared by all questions of one measurement.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use super::words::Door;
use super::{Ports, ProbeError};

/// Number of flows from which the port assignment is derived.
pub(super) const FLOWS: usize = 5;
/// Maximum step between two ports that counts as sequential. Other flows take ports in between.
const STEP: u16 = 3;
/// Range of local ports. Neither the kernel's ephemeral ports nor the ports of kinds that do not keep ports lie in it.
const LOCAL: std::ops::Range<u16> = 10_000..30_000;

/// One measurement.
#[derive(Debug)]
pub(super) struct Course {
    server: [IpAddr; 2],
    ports: [u16; 2],
    /// How long a packet may take to arrive.
    pub(super) patience: Duration,
    /// The host's own address.
    pub(super) local: IpAddr,
    next: AtomicU16,
}

impl Course {
    /// The endpoint that every socket contacts first.
    pub(super) const FIRST: Door = Door {
        other_address: false,
        other_port: false,
    };
    pub(super) const OTHER_PORT: Door = Door {
        other_address: false,
        other_port: true,
    };
    pub(super) const OTHER_ADDRESS: Door = Door {
        other_address: true,
        other_port: false,
    };
    pub(super) const OTHER_BOTH: Door = Door {
        other_address: true,
        other_port: true,
    };
    /// The endpoints that show what a mapping depends on.
    pub(super) const MAPPING: [Door; 3] = [Self::FIRST, Self::OTHER_PORT, Self::OTHER_ADDRESS];

    pub(super) fn new(
        server: [IpAddr; 2],
        ports: [u16; 2],
        patience: Duration,
    ) -> Result<Self, ProbeError> {
        let no_way = |error| ProbeError::NoWay(server[0], error);
        let any: IpAddr = match server[0] {
            IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        // Connecting a UDP socket sends nothing, but shows which local address would be used.
        let way = UdpSocket::bind((any, 0))?;
        way.connect((server[0], ports[0])).map_err(no_way)?;
        let some = RandomState::new().hash_one(0) % u64::from(LOCAL.end - LOCAL.start);
        Ok(Self {
            server,
            ports,
            patience,
            local: way.local_addr()?.ip(),
            next: AtomicU16::new(u16::try_from(some).unwrap_or_default()),
        })
    }

    /// Returns the address of an endpoint.
    pub(super) fn at(&self, door: Door) -> SocketAddr {
        let [first, other] = self.server;
        let [port, other_port] = self.ports;
        SocketAddr::new(
            if door.other_address { other } else { first },
            if door.other_port { other_port } else { port },
        )
    }

    /// Returns when an unanswered question is given up. Later than for a packet that need not come.
    pub(super) fn lost(&self) -> Instant {
        Instant::now() + self.patience * 4
    }

    /// Calls `bind` with a local address that was not used in this measurement yet. Fails only after many failed
    /// attempts.
    pub(super) fn fresh<T>(&self, bind: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
        let mut tried = bind(self.unused());
        for _ in 0..50 {
            if tried.is_ok() {
                break;
            }
            tried = bind(self.unused());
        }
        tried
    }

    fn unused(&self) -> SocketAddr {
        // Consecutive inner ports would look like sequential assignment by a NAT.
        let number = self.next.fetch_add(17, Ordering::Relaxed);
        let port = LOCAL.start + number % (LOCAL.end - LOCAL.start);
        SocketAddr::new(self.local, port)
    }
}

/// Returns how outer ports are derived from inner ones, from flows in the order in which they were opened. The majority
/// decides, as a port may be taken or a packet late.
pub(super) fn follow(flows: &[(u16, SocketAddr)]) -> Ports {
    let kept = flows
        .iter()
        .filter(|(inside, seen)| *inside == seen.port())
        .count();
    let steps = flows
        .windows(2)
        .filter(|pair| {
            let [(_, one), (_, next)] = pair else {
                return false;
            };
            (1..=STEP).contains(&next.port().wrapping_sub(one.port()))
        })
        .count();
    if kept * 2 > flows.len() {
        Ports::Kept
    } else if steps > 0 && (steps + 1) * 2 >= flows.len() {
        Ports::Sequential
    } else {
        Ports::Other
    }
}

/// Returns the time left until `until`. Never zero, which sockets take for no timeout.
pub(super) fn left(until: Instant) -> Duration {
    until
        .saturating_duration_since(Instant::now())
        .max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(flows: &[(u16, u16)]) -> Ports {
        let seen = |port| SocketAddr::new([11, 0, 0, 1].into(), port);
        let flows: Vec<_> = flows
            .iter()
            .map(|(inside, outside)| (*inside, seen(*outside)))
            .collect();
        follow(&flows)
    }

    #[test]
    fn most_flows_say_how_ports_follow() {
        let kept = [(1000, 1000), (1017, 1017), (1034, 50_000)];
        assert_eq!(ports(&kept), Ports::Kept);
        let late = [(9, 300), (8, 301), (7, 320), (6, 303), (5, 306)];
        assert_eq!(ports(&late), Ports::Sequential);
        let random = [(9, 300), (8, 8301), (7, 320), (6, 9303), (5, 9300)];
        assert_eq!(ports(&random), Ports::Other);
        assert_eq!(ports(&[(9, 300)]), Ports::Other);
    }
}
