//! TCP in segments that get through every router on the way.
//!
//! Somewhere on a path the packets may have to be smaller than at both ends, and the message of the router that says so
//! may be dropped by the next firewall. A connection then stands, and hangs with its first full segment. TCP has a cure
//! for that, which is an administrator's to switch on and is off by default; but a program may ask for small segments,
//! and the other side keeps to what it is told. So what leads through routers is dialled with segments that fit into
//! the smallest packets that the internet has: 1,280 bytes (RFC 8200). On Ethernet that costs 1.1 % of the line.

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

/// The largest packet that every path carries, with its headers.
const SMALLEST_MTU: u32 = 1280;
/// The headers of TCP and IP.
const HEADERS_V4: u32 = 40;
const HEADERS_V6: u32 = 60;

/// TCP that dials what is behind routers in small segments.
pub(crate) struct SmallSegments {
    inner: tcp::tokio::Transport,
    /// The addresses that are listened on, to dial from.
    listening: Vec<SocketAddr>,
}

impl SmallSegments {
    pub(crate) fn new(inner: tcp::tokio::Transport) -> Self {
        Self {
            inner,
            listening: Vec::new(),
        }
    }

    /// Where to dial from so that it is the listening port, as libp2p chooses it.
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

/// Connects, from the listening port if it is given and can be had.
async fn connect(
    remote: SocketAddr,
    local: Option<SocketAddr>,
) -> io::Result<tcp::tokio::TcpStream> {
    let connected = match local {
        None => socket(remote, None)?.connect(remote).await,
        Some(_) => match socket(remote, local)?.connect(remote).await {
            // From there a connection to this address stands already.
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

/// Routers lead there, as far as is known: it is neither this machine nor in a network that this machine is in.
fn is_routed(own: io::Result<Vec<OwnAddress>>, remote: IpAddr) -> bool {
    match own {
        Ok(own) => !own
            .iter()
            .any(|address| address.shares_network_with(remote)),
        Err(_) => true,
    }
}

/// The end of a connection, if it is one of TCP that can be dialled.
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
