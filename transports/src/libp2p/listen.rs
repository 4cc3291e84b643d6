//! The addresses that a peer listens on.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

/// Maximum number of ports drawn in search of one that is free for all sockets.
const DRAWS: u32 = 16;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// On this port of every address of the machine, for both TCP and QUIC. 0 draws a port, the same for all sockets if
    /// possible.
    Port(u16),
    /// On this port if it is free, otherwise on a drawn one.
    Preferably(u16),
    /// On exactly these addresses.
    At(Vec<Multiaddr>),
    /// Nowhere: this peer only dials.
    Nowhere,
}

/// An address to listen on, and whether failing to do so is acceptable.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) address: Multiaddr,
    pub(crate) optional: bool,
}

/// Returns the addresses to bind.
///
/// libp2p binds TCP sockets with `SO_REUSEPORT`, so a second process of the same user would silently share a port with
/// the first. Ports are therefore probed without that option first.
pub(crate) fn wanted(listen: &Listen, tcp: bool, quic: bool) -> io::Result<Vec<Wanted>> {
    match listen {
        Listen::Nowhere => Ok(Vec::new()),
        Listen::At(addresses) => {
            let wanted = addresses.iter().map(|address| Wanted {
                address: address.clone(),
                optional: false,
            });
            Ok(wanted.collect())
        }
        Listen::Preferably(port) if probe(*port, tcp, quic).is_ok() => {
            Ok(everywhere(*port, tcp, quic))
        }
        Listen::Port(0) | Listen::Preferably(_) => Ok(everywhere(draw(tcp, quic)?, tcp, quic)),
        Listen::Port(port) => {
            probe(*port, tcp, quic)?;
            Ok(everywhere(*port, tcp, quic))
        }
    }
}

/// The addresses of both families. IPv6 is optional: a machine without it listens on IPv4 only.
fn everywhere(port: u16, tcp: bool, quic: bool) -> Vec<Wanted> {
    let families = [
        (Protocol::from(Ipv4Addr::UNSPECIFIED), false),
        (Protocol::from(Ipv6Addr::UNSPECIFIED), true),
    ];
    let mut wanted = Vec::new();
    for (family, optional) in families {
        let ip = Multiaddr::from(family);
        if tcp {
            wanted.push(Wanted {
                address: ip.clone().with(Protocol::Tcp(port)),
                optional,
            });
        }
        if quic {
            wanted.push(Wanted {
                address: ip.with(Protocol::Udp(port)).with(Protocol::QuicV1),
                // UDP may be blocked where TCP is not.
                optional: optional || tcp,
            });
        }
    }
    wanted
}

/// Draws a port that is free for all sockets. Returns 0, which gives each socket a port of its own, if none is found.
fn draw(tcp: bool, quic: bool) -> io::Result<u16> {
    for _ in 0..DRAWS {
        let port = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?
            .local_addr()?
            .port();
        if probe(port, tcp, quic).is_ok() {
            return Ok(port);
        }
    }
    Ok(0)
}

fn probe(port: u16, tcp: bool, quic: bool) -> io::Result<()> {
    let v4 = (Ipv4Addr::UNSPECIFIED, port);
    let v6 = (Ipv6Addr::UNSPECIFIED, port);
    if tcp {
        TcpListener::bind(v4)?;
        unless_taken(TcpListener::bind(v6).map(drop))?;
    }
    if quic {
        UdpSocket::bind(v4)?;
        unless_taken(UdpSocket::bind(v6).map(drop))?;
    }
    Ok(())
}

/// Ignores all errors except "address in use": on a machine without IPv6 a bind fails in other ways.
fn unless_taken(bound: io::Result<()>) -> io::Result<()> {
    match bound {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_sockets_share_one_number() {
        let wanted = wanted(&Listen::Port(0), true, true).unwrap();
        let ports: Vec<u16> = wanted
            .iter()
            .flat_map(|wanted| wanted.address.iter())
            .filter_map(|part| match part {
                Protocol::Tcp(port) | Protocol::Udp(port) => Some(port),
                _ => None,
            })
            .collect();
        assert_eq!(ports.len(), 4);
        assert!(ports.iter().all(|port| *port == ports[0]));
    }

    #[test]
    fn a_preferred_port_is_taken_if_it_is_free() {
        let first = |listen| wanted(&listen, true, false).unwrap().remove(0).address;
        let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let at = Multiaddr::from(Ipv4Addr::UNSPECIFIED).with(Protocol::Tcp(port));
        assert_ne!(first(Listen::Preferably(port)), at);
        drop(taken);
        assert_eq!(first(Listen::Preferably(port)), at);
    }

    #[test]
    fn a_taken_port_is_refused() {
        let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = wanted(&Listen::Port(port), true, true).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
