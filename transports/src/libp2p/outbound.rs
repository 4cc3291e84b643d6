//! The addresses that may be dialled, whoever asks for it: one gate in front of the sockets, behind the resolving of names.
//!
//! Nodes of the DHT, strangers on circuits and those who want their addresses tested name addresses as they like. Were
//! these dialled as they stand, anybody could have this peer knock at its router, at its neighbours and at services of
//! its own machine. So addresses of private networks are dialled only where somebody may name them: the user, whose own
//! nodes and relays are in such a network; and who deals with the engine, which holds addresses from codes, from the
//! local network and over keyed links to rules of its own (`handover_core::dial`).

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

/// Addresses that were permitted one by one and are remembered; the ones named first are forgotten first.
const REMEMBERED: usize = 1024;

/// Addresses that may be dialled beside those of the public internet. Copies are of the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Permits(Arc<Mutex<Permitted>>);

#[derive(Debug, Default)]
struct Permitted {
    /// Every address of private networks: there is no other network than these.
    all_private: bool,
    /// Private networks in which the user's own nodes are.
    inside: BTreeSet<Inside>,
    /// Addresses that hold on one cable only, and those of this machine.
    link: bool,
    loopback: bool,
    /// Names of the user's nodes and relays: what they stand for is permitted.
    names: BTreeSet<String>,
    /// Names of nodes that everybody begins with: behind a NAT64 of the network's own they stand for addresses inside.
    public_names: BTreeSet<String>,
    one_by_one: BTreeSet<IpAddr>,
    order: VecDeque<IpAddr>,
}

/// A network that is not of the public internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Inside {
    /// So many first bits of an address of IPv4.
    V4(u32, u32),
    /// The first 48 bits of one of IPv6.
    V6([u16; 3]),
}

impl Inside {
    /// Those that an address leads to that is not public: several where it carries addresses of IPv4.
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

    /// A private block that one organization numbers (RFC 1918, RFC 6598), or else the /24 around.
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

    /// These are dialled by choice.
    pub(crate) fn permit<'a>(&self, addresses: impl IntoIterator<Item = &'a Multiaddr>) {
        let mut permitted = self.lock();
        for ip in addresses.into_iter().filter_map(ip_of) {
            permitted.remember(ip);
        }
    }

    /// A name of an address stands for another address. Whoever answers for a name may be a stranger: what is around is
    /// permitted only if the name itself says that it is one of a private network.
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

    /// The user names one more node or relay.
    pub(crate) fn name(&self, address: &Multiaddr) {
        let mut permitted = self.lock();
        if let Some(ip) = ip_of(address) {
            permitted.around(ip);
        }
        permitted.names.extend(name_of(address));
    }

    /// Whether an address may be dialled; one that begins with a name is asked about when it is known what that stands
    /// for.
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
    /// Whoever names an address may name this one.
    fn is_open(&self, ip: IpAddr) -> bool {
        let is_inside = |network: &Inside| self.inside.contains(network);
        match dialled_reach(ip) {
            Reach::Public => true,
            Reach::Private => self.all_private || Inside::of(ip).iter().all(is_inside),
            Reach::Link => self.link,
            Reach::Loopback => self.loopback,
        }
    }

    /// A node of the user's is there: what is around it may be dialled.
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

/// An address, and whatever it carries, is that of one machine: not nobody's, and not that of many.
fn is_one_machine(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let carried = match ip {
        IpAddr::V4(_) => Vec::new(),
        IpAddr::V6(ip) => carried_v4(ip),
    };
    let mut all = carried.into_iter().map(IpAddr::V4).chain([ip]);
    all.all(|ip| no_machine(ip).is_none())
}

/// A network that has only IPv6 may have a prefix of its own for what is outside of it.
fn is_translated(ip: IpAddr) -> bool {
    ip.to_canonical().is_ipv6() && dialled_reach(ip) == Reach::Private
}

/// The name is one of those that only networks of one's own give: without a dot, or under a domain that the internet has
/// not (RFC 6762, appendix G; RFC 8375; ICANN's `internal`).
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

    /// One node in one private network opened all of them, and the metadata services of clouds.
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

    /// A stranger's name server answers with whatever it likes, and each time with something else.
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

    /// One answer of a name server opened this machine and all networks around it to everybody.
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
