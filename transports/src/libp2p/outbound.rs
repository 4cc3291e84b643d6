//! Restricts which addresses may be dialled: one filter between name resolution and the sockets, for all callers.
//!
//! Nodes of the DHT, peers on circuits and peers that want their addresses tested can name any address. If all of these
//! were dialled, an attacker could direct this peer at its router, its neighbours or services of its own machine. So
//! addresses of private networks are dialled only if they come from the user, whose own nodes and relays are in such a
//! network, or from the engine, which applies its own rules (`handover_core::dial`) to addresses from codes, from the
//! local network and over keyed links.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use handover_core::dial::{carried_v4, ip_of, no_machine};
use libp2p::Multiaddr;
use libp2p::core::transport::{DialOpts, ListenerId, Transport, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;

use super::config::{Libp2pConfig, PUBLIC_BOOTSTRAP, Reachable};
use super::interfaces::Reach;
use super::listen::Listen;
use super::reason::{Caused, Reason};

/// Maximum number of individually permitted addresses. The oldest are forgotten first.
const REMEMBERED: usize = 1024;

/// Addresses that may be dialled in addition to those of the public internet. Clones share state.
#[derive(Debug, Clone, Default)]
pub(crate) struct Permits(Arc<Mutex<Permitted>>);

#[derive(Debug, Default)]
struct Permitted {
    /// True if all addresses of private networks may be dialled, because this peer is not on the internet.
    all_private: bool,
    /// Private networks that contain nodes of the user.
    inside: BTreeSet<Inside>,
    /// Whether link-local and loopback addresses may be dialled.
    link: bool,
    loopback: bool,
    /// Names of the user's nodes and relays: addresses they resolve to are permitted.
    names: BTreeSet<String>,
    /// Names of the public bootstrap nodes. Behind a NAT64 with a network-specific prefix they resolve to private
    /// addresses.
    public_names: BTreeSet<String>,
    one_by_one: BTreeSet<IpAddr>,
    order: VecDeque<IpAddr>,
}

/// A private network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Inside {
    /// An IPv4 network: its address, and its prefix length in bits.
    V4(u32, u32),
    /// An IPv6 network: its first 48 bits.
    V6([u16; 3]),
}

impl Inside {
    /// The private networks that a non-public address belongs to: several if it carries several IPv4 addresses.
    fn of(ip: IpAddr) -> Vec<Self> {
        match ip.to_canonical() {
            IpAddr::V4(ip) => vec![Self::of_v4(ip)],
            IpAddr::V6(ip) => {
                let carried = carried_v4(ip).into_iter();
                let inside = carried.filter(|inner| Reach::of((*inner).into()) != Reach::Public);
                let networks: Vec<_> = inside.map(Self::of_v4).collect();
                if networks.is_empty() {
                    let [a, b, c, ..] = ip.segments();
                    vec![Self::V6([a, b, c])]
                } else {
                    networks
                }
            }
        }
    }

    /// The private block (RFC 1918, RFC 6598) that contains the address and is numbered by one organization, otherwise
    /// its /24.
    fn of_v4(ip: Ipv4Addr) -> Self {
        let bits = match ip.octets() {
            [10, ..] => 8,
            [172, second, ..] if second & 0xf0 == 16 => 12,
            [192, 168, ..] => 16,
            [100, second, ..] if second & 0xc0 == 64 => 10,
            _ => 24,
        };
        Self::V4(ip.to_bits() & (u32::MAX << (32 - bits)), bits)
    }
}

impl Permits {
    /// Permits that follow from the configuration.
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
        permitted.all_private = config.reachable == Reachable::Listening;
        if let Reachable::At(external) = &config.reachable {
            for ip in external.iter().filter_map(ip_of) {
                permitted.around(ip);
            }
        }
        if let Listen::At(listened) = &config.listen
            && listened
                .iter()
                .filter_map(reach_of)
                .any(|reach| reach == Reach::Loopback)
        {
            permitted.all_private = true;
            permitted.loopback = true;
        }
        drop(permitted);
        permits
    }

    fn lock(&self) -> MutexGuard<'_, Permitted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Permits addresses that the engine has chosen to dial.
    pub(crate) fn permit<'a>(&self, addresses: impl IntoIterator<Item = &'a Multiaddr>) {
        let mut permitted = self.lock();
        for ip in addresses.into_iter().filter_map(ip_of) {
            permitted.remember(ip);
        }
    }

    /// Notes the address that the name in an address resolved to. An attacker may control the answer, so the network
    /// around it is permitted only if the name itself belongs to a private network.
    pub(crate) fn resolved(&self, address: &Multiaddr, found: &Multiaddr) {
        let (Some(name), Some(ip)) = (name_of(address), ip_of(found)) else {
            return;
        };
        let mut permitted = self.lock();
        if permitted.names.contains(&name) {
            permitted.remember(ip);
            if is_name_inside(&name) && dialled_reach(ip) == Reach::Private {
                permitted.around(ip);
            }
        } else if permitted.public_names.contains(&name) && is_translated(ip) {
            permitted.remember(ip);
        }
    }

    /// Adds a node or relay named by the user.
    pub(crate) fn name(&self, address: &Multiaddr) {
        let mut permitted = self.lock();
        if let Some(ip) = ip_of(address) {
            permitted.around(ip);
        }
        permitted.names.extend(name_of(address));
    }

    /// True if an address may be dialled. An address that begins with a name is checked again once the name is
    /// resolved.
    pub(crate) fn may_dial(&self, address: &Multiaddr) -> bool {
        let Some(ip) = ip_of(address) else {
            return name_of(address).is_some() || is_memory(address);
        };
        if !is_one_machine(ip) {
            return false;
        }
        let permitted = self.lock();
        permitted.is_open(ip) || permitted.one_by_one.contains(&ip.to_canonical())
    }
}

impl Permitted {
    /// True if the address may be dialled whoever named it.
    fn is_open(&self, ip: IpAddr) -> bool {
        let is_inside = |network: &Inside| self.inside.contains(network);
        match dialled_reach(ip) {
            Reach::Public => true,
            Reach::Private => self.all_private || Inside::of(ip).iter().all(is_inside),
            Reach::Link => self.link,
            Reach::Loopback => self.loopback,
        }
    }

    /// Permits the network around a node of the user.
    fn around(&mut self, ip: IpAddr) {
        match dialled_reach(ip) {
            Reach::Public => {}
            Reach::Private => self.inside.extend(Inside::of(ip)),
            Reach::Link => self.link = true,
            Reach::Loopback => {
                self.loopback = true;
                self.all_private = true;
            }
        }
    }

    fn remember(&mut self, ip: IpAddr) {
        let ip = ip.to_canonical();
        // Public addresses need no permit.
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

/// True if an address, and any IPv4 address it carries, belongs to a single machine: it is not unspecified, multicast
/// or broadcast.
fn is_one_machine(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let carried = match ip {
        IpAddr::V4(_) => Vec::new(),
        IpAddr::V6(ip) => carried_v4(ip),
    };
    let mut all = carried.into_iter().map(IpAddr::V4).chain([ip]);
    all.all(|ip| no_machine(ip).is_none())
}

/// True if the address may be a NAT64 translation: an IPv6-only network may use a private prefix of its own for
/// addresses outside.
fn is_translated(ip: IpAddr) -> bool {
    ip.to_canonical().is_ipv6() && dialled_reach(ip) == Reach::Private
}

/// True if only private networks define such a name: it has no dot, or is under a domain that does not exist on the
/// internet (RFC 6762, appendix G; RFC 8375; ICANN's `internal`).
fn is_name_inside(name: &str) -> bool {
    const OWN: &[&str] = &[
        "corp",
        "home",
        "home.arpa",
        "internal",
        "intranet",
        "lan",
        "local",
        "private",
    ];
    let name = name.trim_end_matches('.');
    let is_below = |domain: &&str| {
        let parent = name.strip_suffix(*domain);
        parent.is_some_and(|parent| parent.ends_with('.'))
    };
    !name.contains('.') || OWN.iter().any(is_below)
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

/// True for in-process addresses.
fn is_memory(address: &Multiaddr) -> bool {
    matches!(address.iter().next(), Some(Protocol::Memory(_)))
}

/// True if the node is a built-in one and not the user's.
fn is_built_in(node: &Multiaddr) -> bool {
    PUBLIC_BOOTSTRAP.contains(&node.to_string().as_str())
}

/// The remote socket address, and whether it is QUIC, of an address with exactly one IP address and one port. The
/// transports below use the last ones in an address, whatever precedes them.
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

/// The widest scope from which an address can be reached. An address that carries an IPv4 address has the scope of that
/// one.
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

/// A transport that dials only permitted addresses.
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
        "/ip6/64:ff9b::224.0.0.1/tcp/1",
    ];

    /// Regression: `AutoNAT`'s server, Kademlia and hole punching dialled any address that a remote peer named.
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

    /// libp2p's TCP transport parses an address from its end.
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

    /// Regression: one node in one private network permitted all of them, and the metadata services of clouds.
    #[test]
    fn whose_own_nodes_are_in_a_private_network_is_told_addresses_there_and_nowhere_else() {
        let inside = permits(&["/ip4/10.1.2.3/tcp/4001"]);
        let (there, elsewhere): (Vec<&str>, Vec<&str>) = INSIDE
            .iter()
            .copied()
            .partition(|address| address.contains("10."));
        assert!(there.iter().all(|address| inside.may_dial(&at(address))));
        let mut others = elsewhere.into_iter().chain(OWN.iter().copied());
        assert!(!others.any(|address| inside.may_dial(&at(address))));
        let here = permits(&["/ip4/127.0.0.1/tcp/4001"]);
        assert!(OWN.iter().all(|address| here.may_dial(&at(address))));
        let mut others = NOBODY.iter().chain(&["/ip4/169.254.169.254/tcp/80"]);
        assert!(!others.any(|address| here.may_dial(&at(address))));
    }

    /// An attacker's name server can return any address, and a different one each time.
    #[test]
    fn a_name_leads_into_a_private_network_only_if_the_user_has_named_it() {
        let permits = permits(&["/dns4/Nas.lan/tcp/4001", "/dns4/relay.example/tcp/4001"]);
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

    /// Regression: one answer of a name server permitted this machine and all networks around it to everyone.
    #[test]
    fn a_name_of_the_internet_leads_inside_and_nothing_around_it_does() {
        let permits = permits(&["/dns4/relay.example/tcp/4001", PUBLIC_BOOTSTRAP[0]]);
        let name = at("/dns4/relay.example/tcp/4001");
        for (found, around) in [
            ("/ip4/127.0.0.1/tcp/4001", "/ip6/::1/tcp/22"),
            ("/ip4/10.0.0.1/tcp/4001", "/ip4/10.0.0.2/tcp/22"),
        ] {
            permits.resolved(&name, &at(found));
            assert!(permits.may_dial(&at(found)), "{found}");
            assert!(!permits.may_dial(&at(around)), "{around}");
        }
        let inside = at("/ip4/192.168.1.1/tcp/4001");
        permits.resolved(&at(PUBLIC_BOOTSTRAP[0]), &inside);
        assert!(!permits.may_dial(&inside), "nobody here has named it");
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
