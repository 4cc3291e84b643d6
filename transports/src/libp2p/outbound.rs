//! The addresses that may be dialled, whoever asks for it: one gate in front of the sockets, behind the resolving of names.
//!
//! Nodes of the DHT, strangers on circuits and those who want their addresses tested name addresses as they like. Were
//! these dialled as they stand, anybody could have this peer knock at its router, at its neighbours and at services of
//! its own machine. So addresses of private networks are dialled only where somebody may name them: the user, whose own
//! nodes and relays are in such a network; and who deals with the engine, which holds addresses from codes, from the
//! local network and over keyed links to rules of its own (`handover_core::dial`).

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use handover_core::dial::{carried_v4, no_machine};
use libp2p::Multiaddr;
use libp2p::core::transport::{DialOpts, ListenerId, Transport, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;

use super::config::{Libp2pConfig, PUBLIC_BOOTSTRAP, Reachable};
use super::interfaces::{Reach, ip_of};
use super::listen::Listen;
use super::reason::{Caused, Reason};

/// Addresses that were permitted one by one and are remembered; the ones named first are forgotten first.
const REMEMBERED: usize = 1024;

/// Addresses that may be dialled beside those of the public internet. Copies are of the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Permits(Arc<Mutex<Permitted>>);

#[derive(Debug, Default)]
struct Permitted {
    /// Those of private networks, and of this machine.
    private: bool,
    loopback: bool,
    /// Names of the user's nodes and relays: what they stand for is permitted, and what is around it.
    names: BTreeSet<String>,
    /// Names of nodes that everybody begins with: behind a NAT64 of the network's own they stand for addresses inside.
    public_names: BTreeSet<String>,
    one_by_one: BTreeSet<IpAddr>,
    order: VecDeque<IpAddr>,
}

impl Permits {
    /// What follows from what the user has named.
    pub(crate) fn of(config: &Libp2pConfig) -> Self {
        let permits = Self::default();
        let named = config.bootstrap.iter().chain(&config.relays);
        let (public, own): (Vec<_>, Vec<_>) = named.partition(|address| is_built_in(address));
        for address in own {
            permits.name(address);
        }
        let mut permitted = permits.lock();
        permitted
            .public_names
            .extend(public.into_iter().filter_map(name_of));
        permitted.private |= config.reachable == Reachable::Listening;
        if let Reachable::At(external) = &config.reachable {
            for reach in external.iter().filter_map(reach_of) {
                permitted.around(reach);
            }
        }
        if let Listen::At(listened) = &config.listen
            && listened
                .iter()
                .filter_map(reach_of)
                .any(|reach| reach == Reach::Loopback)
        {
            permitted.around(Reach::Loopback);
        }
        drop(permitted);
        permits
    }

    fn lock(&self) -> MutexGuard<'_, Permitted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These are dialled by choice.
    pub(crate) fn permit<'a>(&self, addresses: impl IntoIterator<Item = &'a Multiaddr>) {
        let mut permitted = self.lock();
        for ip in addresses.into_iter().filter_map(ip_of) {
            permitted.remember(ip);
        }
    }

    /// A name of an address stands for another address.
    pub(crate) fn resolved(&self, address: &Multiaddr, found: &Multiaddr) {
        let (Some(name), Some(ip)) = (name_of(address), ip_of(found)) else {
            return;
        };
        let mut permitted = self.lock();
        let is_named = permitted.names.contains(&name);
        if is_named || permitted.public_names.contains(&name) {
            permitted.remember(ip);
        }
        if is_named {
            permitted.around(dialled_reach(ip));
        }
    }

    /// The user names one more node or relay.
    pub(crate) fn name(&self, address: &Multiaddr) {
        let mut permitted = self.lock();
        if let Some(reach) = reach_of(address) {
            permitted.around(reach);
        }
        permitted.names.extend(name_of(address));
    }

    /// Whether an address may be dialled; one that begins with a name is asked about when it is known what that stands
    /// for.
    pub(crate) fn may_dial(&self, address: &Multiaddr) -> bool {
        let Some(ip) = ip_of(address) else {
            return name_of(address).is_some() || is_memory(address);
        };
        if no_machine(ip.to_canonical()).is_some() {
            return false;
        }
        let permitted = self.lock();
        let in_general = match dialled_reach(ip) {
            Reach::Public => true,
            Reach::Private | Reach::Link => permitted.private,
            Reach::Loopback => permitted.loopback,
        };
        in_general || permitted.one_by_one.contains(&ip.to_canonical())
    }
}

impl Permitted {
    /// A node of the user's is so far away: what is around it may be dialled.
    fn around(&mut self, reach: Reach) {
        self.private |= reach < Reach::Public;
        self.loopback |= reach == Reach::Loopback;
    }

    fn remember(&mut self, ip: IpAddr) {
        let ip = ip.to_canonical();
        // Those of the internet need no place here.
        if dialled_reach(ip) == Reach::Public || !self.one_by_one.insert(ip) {
            return;
        }
        self.order.push_back(ip);
        if self.order.len() > REMEMBERED
            && let Some(first) = self.order.pop_front()
        {
            self.one_by_one.remove(&first);
        }
    }
}

/// The name that an address begins with.
fn name_of(address: &Multiaddr) -> Option<String> {
    match address.iter().next()? {
        Protocol::Dns(name)
        | Protocol::Dns4(name)
        | Protocol::Dns6(name)
        | Protocol::Dnsaddr(name) => Some(name.to_lowercase()),
        _ => None,
    }
}

/// It leads to nothing but this process.
fn is_memory(address: &Multiaddr) -> bool {
    matches!(address.iter().next(), Some(Protocol::Memory(_)))
}

/// The node is one of those that are built in, and not the user's.
fn is_built_in(node: &Multiaddr) -> bool {
    PUBLIC_BOOTSTRAP.contains(&node.to_string().as_str())
}

/// The end of a connection, and whether that is one of QUIC, of an address that is one IP address and one port. The
/// transports below take the last ones that an address has, whatever stands before.
pub(super) fn end_of(address: &Multiaddr) -> Option<(SocketAddr, bool)> {
    let ip = ip_of(address)?;
    let mut parts = address.iter().skip(1);
    let (port, is_quic) = match parts.next()? {
        Protocol::Tcp(port) => (port, false),
        Protocol::Udp(port) if parts.next() == Some(Protocol::QuicV1) => (port, true),
        _ => return None,
    };
    let ends = parts.all(|part| matches!(part, Protocol::P2p(_)));
    ends.then_some((SocketAddr::new(ip, port), is_quic))
}

fn reach_of(address: &Multiaddr) -> Option<Reach> {
    ip_of(address).map(dialled_reach)
}

/// From how far away an address can be reached at best. Addresses that carry one of IPv4 lead where that one does.
fn dialled_reach(ip: IpAddr) -> Reach {
    match ip.to_canonical() {
        IpAddr::V4(ip) => Reach::of(ip.into()),
        IpAddr::V6(ip) => carried_v4(ip)
            .into_iter()
            .map(|inner| Reach::of(inner.into()))
            .min()
            .unwrap_or_else(|| Reach::of(ip.into())),
    }
}

/// Connections to addresses that may be dialled.
pub(crate) struct Gated<T> {
    inner: T,
    permits: Permits,
}

impl<T> Gated<T> {
    pub(crate) fn new(inner: T, permits: Permits) -> Self {
        Self { inner, permits }
    }
}

impl<T> Transport for Gated<T>
where
    T: Transport<Error = Caused> + Unpin,
{
    type Output = T::Output;
    type Error = Caused;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

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
        if end_of(&address).is_none() {
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        if !self.permits.may_dial(&address) {
            tracing::debug!(%address, "a stranger has named an address of a private network; it is not dialled");
            return Err(TransportError::Other(Reason::Forbidden.into()));
        }
        self.inner.dial(address, options)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use libp2p::identity::Keypair;

    use super::*;

    fn at(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    fn permits(bootstrap: &[&str]) -> Permits {
        let mut config = Libp2pConfig::new(Keypair::generate_ed25519());
        config.bootstrap = bootstrap.iter().map(|text| at(text)).collect();
        Permits::of(&config)
    }

    const INSIDE: &[&str] = &[
        "/ip4/10.0.0.1/tcp/22",
        "/ip4/192.168.1.1/tcp/80",
        "/ip4/172.16.0.1/tcp/80",
        "/ip4/100.64.0.1/tcp/80",
        "/ip4/169.254.169.254/tcp/80",
        "/ip6/fe80::1/tcp/80",
        "/ip6/fd00::1/tcp/80",
        "/ip6/::ffff:192.168.1.1/tcp/80",
        "/ip6/64:ff9b::192.168.1.1/tcp/80",
        "/ip6/64:ff9b:1::10.1.1.1/tcp/80",
        "/ip6/2002:c0a8:101::1/tcp/80",
        "/ip6/2001:0:808:808:0:0:3f57:fefe/tcp/80",
        "/ip4/192.168.1.1/udp/1/quic-v1",
    ];
    const OWN: &[&str] = &[
        "/ip4/127.0.0.1/tcp/22",
        "/ip6/::1/tcp/22",
        "/ip6/::ffff:127.0.0.1/tcp/22",
    ];
    const OUTSIDE: &[&str] = &[
        "/ip4/8.8.8.8/tcp/1",
        "/ip6/2a00:1450::1/tcp/1",
        "/ip6/64:ff9b::8.8.8.8/tcp/1",
        "/ip6/64:ff9b:1::8.8.8.8/tcp/80",
        "/ip6/2002:808:808::1/tcp/1",
    ];
    const NOBODY: &[&str] = &[
        "/ip4/0.0.0.0/tcp/22",
        "/ip4/0.1.2.3/tcp/1",
        "/ip6/::/tcp/22",
        "/ip4/224.0.0.1/tcp/1",
        "/ip4/255.255.255.255/tcp/1",
        "/ip6/ff02::1/tcp/1",
    ];

    /// `AutoNAT`'s server, Kademlia and hole punching dialled whatever a stranger named.
    #[test]
    fn strangers_name_no_addresses_of_private_networks() {
        let permits = permits(&[PUBLIC_BOOTSTRAP[0], "/ip4/8.8.4.4/tcp/4001"]);
        for address in INSIDE.iter().chain(OWN).chain(NOBODY) {
            assert!(!permits.may_dial(&at(address)), "{address}");
        }
        for address in OUTSIDE {
            assert!(permits.may_dial(&at(address)), "{address}");
        }
        permits.permit(&[at("/ip4/192.168.1.1/tcp/4001"), at("/ip4/0.0.0.0/tcp/1")]);
        assert!(permits.may_dial(&at("/ip4/192.168.1.1/tcp/5000")));
        assert!(!permits.may_dial(&at("/ip4/192.168.1.2/tcp/4001")));
        assert!(!permits.may_dial(&at("/ip4/0.0.0.0/tcp/1")));
    }

    /// libp2p's TCP takes an address from its end.
    #[test]
    fn what_stands_before_an_address_does_not_hide_it() {
        for plain in INSIDE.iter().chain(OUTSIDE) {
            assert!(end_of(&at(plain)).is_some(), "{plain}");
        }
        for odd in [
            "/ip4/8.8.8.8/tcp/1/ip4/192.168.1.1/tcp/22",
            "/tcp/1/ip4/127.0.0.1/tcp/22",
            "/memory/1/ip4/169.254.169.254/tcp/80",
            "/ip4/8.8.8.8/tcp/1/dns4/evil.example/tcp/22",
            "/ip4/8.8.8.8/udp/1/quic-v1/ip4/127.0.0.1/tcp/22",
            "/ip4/8.8.8.8",
        ] {
            assert!(end_of(&at(odd)).is_none(), "{odd}");
        }
        let permits = permits(&[]);
        assert!(!permits.may_dial(&at("/tcp/1/ip4/127.0.0.1/tcp/22")));
    }

    #[test]
    fn whose_own_nodes_are_in_a_private_network_is_told_addresses_there() {
        let inside = permits(&["/ip4/10.1.2.3/tcp/4001"]);
        assert!(INSIDE.iter().all(|address| inside.may_dial(&at(address))));
        assert!(!OWN.iter().any(|address| inside.may_dial(&at(address))));
        let here = permits(&["/ip4/127.0.0.1/tcp/4001"]);
        assert!(OWN.iter().all(|address| here.may_dial(&at(address))));
        assert!(!NOBODY.iter().any(|address| here.may_dial(&at(address))));
    }

    /// A stranger's name server answers with whatever it likes, and each time with something else.
    #[test]
    fn a_name_leads_into_a_private_network_only_if_the_user_has_named_it() {
        let permits = permits(&["/dns4/Nas.lan/tcp/4001"]);
        let inside = at("/ip4/192.168.1.9/tcp/4001");
        permits.resolved(&at("/dns4/evil.example/tcp/4001"), &inside);
        assert!(!permits.may_dial(&inside));
        permits.resolved(&at("/dns4/nas.lan/tcp/4001"), &inside);
        assert!(permits.may_dial(&inside));
        assert!(
            permits.may_dial(&at("/ip4/192.168.1.10/tcp/4001")),
            "around it too"
        );
    }

    #[test]
    fn nodes_that_everybody_begins_with_are_reached_behind_a_nat64_of_the_network_s_own() {
        let permits = permits(&[PUBLIC_BOOTSTRAP[0]]);
        let inside = at("/ip6/fd00:64::808:808/tcp/4001");
        permits.resolved(&at(PUBLIC_BOOTSTRAP[0]), &inside);
        assert!(permits.may_dial(&inside));
        assert!(!permits.may_dial(&at("/ip6/fd00:64::808:809/tcp/4001")));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let permits = permits(&[]);
        for number in 0..2 * u32::try_from(REMEMBERED).unwrap() {
            let ip = Ipv4Addr::from_bits(0x0a00_0000 + number);
            permits.permit(&[at(&format!("/ip4/{ip}/tcp/1"))]);
        }
        let permitted = permits.lock();
        assert_eq!(
            (permitted.one_by_one.len(), permitted.order.len()),
            (REMEMBERED, REMEMBERED)
        );
    }
}
