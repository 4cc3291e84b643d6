//! Port mappings requested from the router by PCP, NAT-PMP or `UPnP`: one for TCP and one for QUIC, for the ports
//! listened on over IPv4. The `portmapper` crate implements the protocols and the renewal.
//!
//! A router's answers are not trusted: only addresses that can belong to the public internet are passed on.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::num::NonZeroU16;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, FuturesUnordered};
use futures::{FutureExt, StreamExt};
use handover_core::dial::is_inside;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use portmapper::{Client, Config};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::Libp2pTransport;
use super::state::PortMapping;

/// Pause before a router that gave no port is asked again; doubled each time.
const AGAIN: Duration = Duration::from_secs(30);
/// Maximum length of that pause.
const AGAIN_AT_MOST: Duration = Duration::from_mins(15);
/// Timeout for giving a port back. Otherwise the router drops the mapping by itself some hours later.
const GIVING_BACK: Duration = Duration::from_secs(1);

/// The transport that a port serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Quic,
}

/// State of a port mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// No answer yet, or the router is there and has given no port.
    Asked,
    /// No router supports any of the protocols.
    NoRouter,
    /// The router forwards this address.
    Forwards(SocketAddrV4),
}

/// An external address has been added, removed or replaced.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    gone: Option<Multiaddr>,
    new: Option<Multiaddr>,
}

/// The mapped ports, and those being given back.
pub(super) struct Ports {
    asks: bool,
    held: Vec<Port>,
    giving_back: FuturesUnordered<BoxFuture<'static, ()>>,
}

/// One mapped port.
struct Port {
    kind: Kind,
    /// The port number on this machine.
    inside: NonZeroU16,
    client: Client,
    answers: BoxStream<'static, Answer>,
    last: Answer,
}

impl Ports {
    /// Requests ports only if `asks` is true.
    pub(super) fn new(asks: bool) -> Self {
        Self {
            asks,
            held: Vec::new(),
            giving_back: FuturesUnordered::new(),
        }
    }

    /// Handles a new (`new`) or removed listen address. Returns an external address that is no longer valid.
    pub(super) fn listening(&mut self, address: &Multiaddr, new: bool) -> Option<Multiaddr> {
        let (kind, port) = inside(address).filter(|_| self.asks)?;
        let mut ports = self.held.iter_mut();
        let Some(held) = ports.find(|held| held.kind == kind) else {
            if new {
                self.held.push(Port::new(kind, port, None));
            }
            return None;
        };
        // The machine may have moved to another router.
        let moved = !new || held.last == Answer::NoRouter;
        if held.inside != port || !moved {
            return None;
        }
        let gone = held.external();
        *held = Port::new(kind, port, Some(held.client.clone()));
        gone
    }

    /// Returns the next change. Also polls ports that are being given back.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Change> {
        for port in &mut self.held {
            if let Poll::Ready(Some(answer)) = port.answers.poll_next_unpin(cx) {
                let gone = port.external();
                tracing::debug!(kind = ?port.kind, ?answer, "the router was asked for a port");
                port.last = answer;
                let new = port.external();
                return Poll::Ready(Change { gone, new });
            }
        }
        match self.giving_back.poll_next_unpin(cx) {
            Poll::Ready(Some(())) => Poll::Ready(Change {
                gone: None,
                new: None,
            }),
            _ => Poll::Pending,
        }
    }

    /// Gives all ports back and requests no more.
    pub(super) fn end(&mut self) {
        self.asks = false;
        for port in self.held.drain(..) {
            if port.client.watch_external_address().borrow().is_some() {
                self.giving_back.push(give_back(port.client).boxed());
            }
        }
    }

    /// True if no port is being given back.
    pub(super) fn are_given_back(&self) -> bool {
        self.giving_back.is_empty()
    }

    /// True if the router forwards a port to this peer.
    pub(super) fn any(&self) -> bool {
        self.held.iter().any(|port| port.external().is_some())
    }

    /// True if the router forwards this address to this peer.
    pub(super) fn forward(&self, address: &Multiaddr) -> bool {
        let mut ports = self.held.iter();
        ports.any(|port| port.external().as_ref() == Some(address))
    }

    /// The overall state of the port mappings.
    pub(super) fn state(&self) -> PortMapping {
        if !self.asks {
            return PortMapping::Off;
        }
        let mapped: Vec<_> = self.held.iter().filter_map(Port::external).collect();
        let mut answers = self.held.iter().map(|port| port.last);
        if !mapped.is_empty() {
            PortMapping::Mapped(mapped)
        } else if answers.any(|answer| matches!(answer, Answer::Forwards(_))) {
            PortMapping::RouterNotPublic
        } else if !self.held.is_empty()
            && self.held.iter().all(|port| port.last == Answer::NoRouter)
        {
            PortMapping::NoRouter
        } else {
            PortMapping::Asked
        }
    }
}

impl Port {
    /// Requests the port once `before` has given back its own: two clients with the same port would take it from each
    /// other.
    fn new(kind: Kind, port: NonZeroU16, before: Option<Client>) -> Self {
        let client = Client::new(Config {
            protocol: match kind {
                Kind::Tcp => portmapper::Protocol::Tcp,
                Kind::Quic => portmapper::Protocol::Udp,
            },
            ..Config::default()
        });
        let asking = Asking {
            external: client.watch_external_address(),
            client: client.clone(),
            port,
            before,
            asked: false,
            pause: AGAIN,
        };
        let answers = stream::unfold(asking, |mut asking| async {
            asking.answer().await.map(|answer| (answer, asking))
        });
        Self {
            kind,
            inside: port,
            client,
            answers: answers.boxed(),
            last: Answer::Asked,
        }
    }

    /// The public address of the port, if it is reachable.
    fn external(&self) -> Option<Multiaddr> {
        let Answer::Forwards(external) = self.last else {
            return None;
        };
        let ip = Multiaddr::from(*external.ip());
        is_global(*external.ip()).then(|| match self.kind {
            Kind::Tcp => ip.with(Protocol::Tcp(external.port())),
            Kind::Quic => ip
                .with(Protocol::Udp(external.port()))
                .with(Protocol::QuicV1),
        })
    }
}

/// The exchange with the router about one port.
struct Asking {
    client: Client,
    external: watch::Receiver<Option<SocketAddrV4>>,
    port: NonZeroU16,
    before: Option<Client>,
    asked: bool,
    pause: Duration,
}

impl Asking {
    /// Returns the next answer, or `None` if there will be no more.
    async fn answer(&mut self) -> Option<Answer> {
        if let Some(before) = self.before.take() {
            give_back(before).await;
        }
        if !std::mem::replace(&mut self.asked, true) {
            return Some(self.ask().await);
        }
        // portmapper renews a mapping it has, but tries only once to get a missing one.
        let missing = self.external.borrow().is_none();
        tokio::select! {
            changed = self.external.changed() => {
                changed.ok()?;
                let external = *self.external.borrow_and_update();
                Some(match external {
                    Some(external) => {
                        self.pause = AGAIN;
                        Answer::Forwards(external)
                    }
                    None => Answer::Asked,
                })
            }
            () = sleep(self.pause), if missing => {
                self.pause = (self.pause * 2).min(AGAIN_AT_MOST);
                Some(self.ask().await)
            }
        }
    }

    /// Probes which protocols the router supports, and requests the port with the best of them. Without the probe,
    /// portmapper would try `UPnP` only.
    async fn ask(&mut self) -> Answer {
        match self.client.probe().await {
            Ok(Ok(spoken)) if spoken.upnp || spoken.pcp || spoken.nat_pmp => {
                self.client.update_local_port(self.port);
                Answer::Asked
            }
            _ => Answer::NoRouter,
        }
    }
}

/// Ends a mapping. (Of NAT-PMP mappings, portmapper 0.20 ends only those for UDP; the others expire.)
async fn give_back(client: Client) {
    client.deactivate();
    // portmapper does not report completion, but it handles requests in order, and this one is answered.
    let _ = timeout(GIVING_BACK, client.probe()).await;
}

/// The kind and port of a listen address, if a router may be in front of it.
fn inside(address: &Multiaddr) -> Option<(Kind, NonZeroU16)> {
    let mut parts = address.iter();
    let Some(Protocol::Ip4(ip)) = parts.next() else {
        return None;
    };
    let found = match (parts.next(), parts.next()) {
        (Some(Protocol::Tcp(port)), None) => (Kind::Tcp, port),
        (Some(Protocol::Udp(port)), Some(Protocol::QuicV1)) => (Kind::Quic, port),
        _ => return None,
    };
    let port = NonZeroU16::new(found.1)?;
    (!ip.is_loopback() && !is_global(ip)).then_some((found.0, port))
}

/// True if an address can be on the public internet (the IANA registry of special-purpose IPv4 addresses).
pub(super) fn is_global(ip: Ipv4Addr) -> bool {
    let [first, ..] = ip.octets();
    let is_special = first == 0 || first >= 224 || ip.is_documentation();
    !is_special && !is_inside(ip.into())
}

impl Libp2pTransport {
    /// Applies the next change of the port mappings. Returns true if there was one.
    pub(super) fn poll_ports(&mut self, cx: &mut Context<'_>) -> bool {
        let Poll::Ready(Change { gone, new }) = self.ports.poll(cx) else {
            return false;
        };
        if gone != new {
            self.not_forwarded(gone);
            if let Some(address) = new {
                self.swarm.add_external_address(address);
                self.listening_changed = true;
            }
        }
        true
    }

    /// Removes an external address that the router no longer forwards.
    pub(super) fn not_forwarded(&mut self, address: Option<Multiaddr>) {
        if let Some(address) = address {
            self.swarm.remove_external_address(&address);
            self.listening_changed = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(kind: Kind, answers: Vec<Answer>) -> Port {
        let mut port = Port::new(kind, NonZeroU16::new(4001).unwrap(), None);
        port.answers = stream::iter(answers).chain(stream::pending()).boxed();
        port
    }

    fn forwards(address: &str) -> Answer {
        Answer::Forwards(address.parse().unwrap())
    }

    fn addresses(addresses: &[&str]) -> Vec<Multiaddr> {
        let parsed = addresses.iter().map(|address| address.parse().unwrap());
        parsed.collect()
    }

    /// Polls until nothing is ready and returns the addresses added and removed.
    fn changes(ports: &mut Ports) -> (Vec<Multiaddr>, Vec<Multiaddr>) {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let (mut came, mut went) = (Vec::new(), Vec::new());
        while let Poll::Ready(Change { gone, new }) = ports.poll(&mut cx) {
            came.extend(new);
            went.extend(gone);
        }
        (came, went)
    }

    #[tokio::test]
    async fn addresses_come_change_and_go_with_what_the_router_says() {
        let mut ports = Ports::new(true);
        assert_eq!(ports.state(), PortMapping::Asked);
        let answers = vec![Answer::Asked, forwards("8.8.8.8:4001")];
        ports.held.push(port(Kind::Tcp, answers));
        let answers = vec![forwards("8.8.8.8:4001"), forwards("8.8.4.4:5001")];
        ports.held.push(port(Kind::Quic, answers));
        let tcp = "/ip4/8.8.8.8/tcp/4001";
        let (old, new) = (
            "/ip4/8.8.8.8/udp/4001/quic-v1",
            "/ip4/8.8.4.4/udp/5001/quic-v1",
        );
        let (came, went) = changes(&mut ports);
        assert_eq!(
            (came, went),
            (addresses(&[tcp, old, new]), addresses(&[old]))
        );
        let both = addresses(&[tcp, new]);
        assert_eq!(ports.state(), PortMapping::Mapped(both.clone()));
        assert!(ports.any() && ports.forward(&both[1]));
        for port in &mut ports.held {
            port.answers = stream::iter([Answer::Asked]).boxed();
        }
        assert_eq!(changes(&mut ports), (Vec::new(), both));
        assert_eq!(ports.state(), PortMapping::Asked);
        assert!(!ports.any());
    }

    #[tokio::test]
    async fn a_router_that_is_not_public_itself_makes_nothing_reachable() {
        let mut ports = Ports::new(true);
        let answers = vec![forwards("100.64.3.1:4001")];
        ports.held.push(port(Kind::Tcp, answers));
        ports.held.push(port(Kind::Quic, vec![Answer::NoRouter]));
        assert_eq!(changes(&mut ports), (Vec::new(), Vec::new()));
        assert_eq!(ports.state(), PortMapping::RouterNotPublic);
        assert!(!ports.any());
        ports.held[0].answers = stream::iter([Answer::NoRouter]).boxed();
        changes(&mut ports);
        assert_eq!(ports.state(), PortMapping::NoRouter);
    }

    #[tokio::test]
    async fn a_machine_that_moves_counts_on_its_address_no_more() {
        let mut ports = Ports::new(true);
        let listening: Multiaddr = "/ip4/192.168.1.2/tcp/4001".parse().unwrap();
        assert_eq!(ports.listening(&listening, true), None);
        ports.held[0] = port(Kind::Tcp, vec![forwards("8.8.8.8:4001")]);
        changes(&mut ports);
        assert_eq!(ports.listening(&listening, true), None);
        let gone = ports.listening(&listening, false);
        assert_eq!(gone, addresses(&["/ip4/8.8.8.8/tcp/4001"]).pop());
        assert_eq!(ports.state(), PortMapping::Asked);
    }

    #[tokio::test]
    async fn nothing_is_asked_for_unless_it_is_wanted() {
        let listening: Multiaddr = "/ip4/192.168.1.2/tcp/4001".parse().unwrap();
        let mut ports = Ports::new(false);
        assert_eq!(ports.listening(&listening, true), None);
        assert!(ports.held.is_empty());
        assert_eq!(ports.state(), PortMapping::Off);
        let mut ports = Ports::new(true);
        ports.listening(&listening, true);
        ports.end();
        assert!(ports.held.is_empty() && ports.are_given_back());
    }

    #[test]
    fn only_ports_behind_a_router_are_asked_for() {
        let of = |address: &str| inside(&address.parse().unwrap()).map(|found| found.0);
        assert_eq!(of("/ip4/192.168.1.2/tcp/4001"), Some(Kind::Tcp));
        assert_eq!(of("/ip4/10.0.0.2/udp/4001/quic-v1"), Some(Kind::Quic));
        for other in [
            "/ip4/127.0.0.1/tcp/4001",
            "/ip4/8.8.8.8/tcp/4001",
            "/ip4/10.0.0.2/tcp/4001/ws",
            "/ip6/fe80::1/tcp/4001",
            "/ip4/10.0.0.2/tcp/0",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn special_addresses_are_not_global() {
        for special in [
            "0.1.2.3",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.1.1",
            "172.16.0.1",
            "192.0.0.1",
            "192.0.2.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
        ] {
            assert!(!is_global(special.parse().unwrap()), "{special}");
        }
        for global in [
            "1.1.1.1",
            "11.1.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "198.20.0.1",
        ] {
            assert!(is_global(global.parse().unwrap()), "{global}");
        }
    }
}
