//! TCP with segments that fit through every router on the way.
//!
//! A link in the middle of a path may have a smaller MTU than both ends, and a firewall may drop the router's message
//! that says so. A connection is then established, but hangs at its first full segment. TCP has a remedy (path MTU
//! probing), but it is set by the administrator and off by default. A program can ask for small segments, however, and
//! the other side respects that. So everything behind routers is dialled with segments that fit into the smallest
//! packet that the internet must carry: 1,280 bytes (RFC 8200). On Ethernet this costs 1.1 % of the bandwidth.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use libp2p::core::transport::{
    DialOpts, ListenerId, PortUse, Transport, TransportError, TransportEvent,
};
use libp2p::{Multiaddr, tcp};
use socket2::SockRef;
use tokio::net::TcpSocket;

use super::interfaces::{OwnAddress, own_addresses};
use super::outbound::end_of;

/// The largest packet that every path carries, in bytes, with its headers.
const SMALLEST_MTU: u32 = 1280;
/// Size of the TCP and IP headers, in bytes.
const HEADERS_V4: u32 = 40;
const HEADERS_V6: u32 = 60;

/// A TCP transport that dials addresses behind routers with small segments.
pub(crate) struct SmallSegments {
    inner: tcp::tokio::Transport,
    /// Listen addresses, whose ports are used for dialling.
    listening: Vec<SocketAddr>,
}

impl SmallSegments {
    pub(crate) fn new(inner: tcp::tokio::Transport) -> Self {
        Self {
            inner,
            listening: Vec::new(),
        }
    }

    /// The local address to dial from so that the listening port is reused, chosen as libp2p does.
    fn port_for(&self, remote: IpAddr) -> Option<SocketAddr> {
        let alike = |ip: IpAddr| {
            ip.is_ipv4() == remote.is_ipv4() && ip.is_loopback() == remote.is_loopback()
        };
        let local = self.listening.iter().find(|local| alike(local.ip()))?;
        let any: IpAddr = match remote {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        Some(SocketAddr::new(any, local.port()))
    }
}

impl Transport for SmallSegments {
    type Output = tcp::tokio::TcpStream;
    type Error = io::Error;
    type ListenerUpgrade = <tcp::tokio::Transport as Transport>::ListenerUpgrade;
    type Dial = BoxFuture<'static, io::Result<tcp::tokio::TcpStream>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<Self::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        let routed = |remote: &SocketAddr| is_routed(own_addresses(), remote.ip());
        let Some(remote) = remote(&address).filter(routed) else {
            return self.inner.dial(address, options);
        };
        let local = (options.port_use == PortUse::Reuse)
            .then(|| self.port_for(remote.ip()))
            .flatten();
        Ok(connect(remote, local).boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        let polled = Pin::new(&mut self.inner).poll(cx);
        match &polled {
            Poll::Ready(TransportEvent::NewAddress { listen_addr, .. }) => {
                self.listening.extend(remote(listen_addr));
            }
            Poll::Ready(TransportEvent::AddressExpired { listen_addr, .. }) => {
                let gone = remote(listen_addr);
                self.listening.retain(|local| Some(*local) != gone);
            }
            _ => {}
        }
        polled
    }
}

/// Connects, from the listening port if one is given and available.
async fn connect(
    remote: SocketAddr,
    local: Option<SocketAddr>,
) -> io::Result<tcp::tokio::TcpStream> {
    let connected = match local {
        None => socket(remote, None)?.connect(remote).await,
        Some(_) => match socket(remote, local)?.connect(remote).await {
            // A connection from that port to this address already exists.
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                socket(remote, None)?.connect(remote).await
            }
            connected => connected,
        },
    };
    connected.map(tcp::tokio::TcpStream)
}

fn socket(remote: SocketAddr, local: Option<SocketAddr>) -> io::Result<TcpSocket> {
    let (socket, headers) = match remote {
        SocketAddr::V4(_) => (TcpSocket::new_v4()?, HEADERS_V4),
        SocketAddr::V6(_) => (TcpSocket::new_v6()?, HEADERS_V6),
    };
    socket.set_nodelay(true)?;
    #[cfg(unix)]
    if let Err(error) = SockRef::from(&socket).set_tcp_mss(SMALLEST_MTU - headers) {
        tracing::debug!(%error, "segments are as large as they come");
    }
    if let Some(local) = local {
        if local.is_ipv6() {
            SockRef::from(&socket).set_only_v6(true)?;
        }
        socket.set_reuseaddr(true)?;
        #[cfg(unix)]
        socket.set_reuseport(true)?;
        socket.bind(local)?;
    }
    Ok(socket)
}

/// True if the address seems to be behind a router: neither on this machine nor in a network that this machine is in.
fn is_routed(own: io::Result<Vec<OwnAddress>>, remote: IpAddr) -> bool {
    match own {
        Ok(own) => !own
            .iter()
            .any(|address| address.shares_network_with(remote)),
        Err(_) => true,
    }
}

/// The remote socket address, if the address is a TCP one that can be dialled.
fn remote(address: &Multiaddr) -> Option<SocketAddr> {
    let (end, is_quic) = end_of(address)?;
    let is_there = end.port() != 0 && !end.ip().is_unspecified();
    (!is_quic && is_there).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::super::interfaces::Reach;
    use super::*;

    #[test]
    fn what_is_dialled_by_the_library_is_left_to_it() {
        let of = |address: &str| remote(&address.parse().unwrap());
        assert_eq!(of("/ip4/1.1.1.1/tcp/1"), "1.1.1.1:1".parse().ok());
        assert_eq!(of("/ip6/2606::1/tcp/1"), "[2606::1]:1".parse().ok());
        for other in [
            "/ip4/1.1.1.1/tcp/0",
            "/ip4/0.0.0.0/tcp/1",
            "/ip4/1.1.1.1/tcp/1/ws",
            "/ip4/1.1.1.1/udp/1/quic-v1",
            "/dns4/example.org/tcp/1",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[tokio::test]
    async fn a_path_through_routers_gets_small_segments() {
        for (remote, small) in [("192.0.2.1:1", 1240), ("[2001:db8::1]:1", 1220)] {
            let socket = socket(remote.parse().unwrap(), None).unwrap();
            assert_eq!(SockRef::from(&socket).tcp_mss().unwrap(), small, "{remote}");
        }
    }

    #[test]
    fn only_what_is_behind_routers_is_dialled_in_small_segments() {
        let own = || {
            let ip = IpAddr::from([10, 1, 2, 3]);
            Ok(vec![OwnAddress {
                ip,
                reach: Reach::of(ip),
                running: true,
                point_to_point: false,
                prefix: 24,
            }])
        };
        assert!(!is_routed(own(), "10.1.2.200".parse().unwrap()));
        assert!(is_routed(own(), "10.1.3.1".parse().unwrap()));
        let unknown = || Err(io::Error::other("no list"));
        assert!(is_routed(unknown(), "10.1.2.200".parse().unwrap()));
        assert!(!is_routed(own_addresses(), "127.0.0.1".parse().unwrap()));
    }
}
