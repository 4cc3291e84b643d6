//! The IP addresses of this machine
//!
//! libp2p's listeners on all interfaces report what the kernel calls the address of an interface. On a point-to-point
//! interface (`PPPoE`, many VPNs, a phone's uplink), that is the address of the other end, so a peer would report its
//! provider's router as itself. Here the addresses come from `getifaddrs`, which distinguishes both ends, and libp2p's
//! events only show that something has changed.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use handover_core::dial::ip_of;
use libp2p::Multiaddr;
use libp2p::core::transport::{DialOpts, ListenerId, Transport, TransportError, TransportEvent};
use tokio::time::Sleep;

use super::ports::is_global;

/// Interval between checks without an event: there is none when a cable is plugged in.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How far away a peer can be and still reach an address, at best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// This machine.
    Loopback,
    /// The same link-layer network.
    Link,
    /// A private network, including that of a carrier.
    Private,
    /// The internet, if no NAT or firewall prevents it.
    Public,
}

impl Reach {
    /// The reach of an IP address.
    pub fn of(ip: IpAddr) -> Self {
        match ip {
            _ if ip.is_loopback() => Self::Loopback,
            IpAddr::V4(ip) if ip.is_link_local() => Self::Link,
            IpAddr::V6(ip) if ip.is_unicast_link_local() => Self::Link,
            IpAddr::V4(ip) if is_global(ip) => Self::Public,
            IpAddr::V6(ip) if is_global_v6(ip.segments()) => Self::Public,
            _ => Self::Private,
        }
    }

    /// The reach of an address, if it begins with an IP address.
    pub fn of_address(address: &Multiaddr) -> Option<Self> {
        ip_of(address).map(Self::of)
    }
}

/// True if an IPv6 address can be one of the public internet: `2000::/3`, except for documentation, and for Teredo and
/// 6to4, which only embed IPv4 addresses that are listed themselves.
fn is_global_v6(segments: [u16; 8]) -> bool {
    let [a, b, ..] = segments;
    let documentation = (a, b) == (0x2001, 0xdb8) || (a == 0x3fff && b < 0x1000);
    let tunnel = (a, b) == (0x2001, 0) || a == 0x2002;
    a & 0xe000 == 0x2000 && !documentation && !tunnel
}

/// An IP address of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnAddress {
    /// The address.
    pub ip: IpAddr,
    /// How far away a peer can be and still reach it, at best.
    pub reach: Reach,
    /// The interface is running. No other machine can reach the address of one that is not, such as a container bridge
    /// while no container runs.
    pub running: bool,
    /// The interface connects to a single other machine.
    pub point_to_point: bool,
    /// Length of the network prefix, in bits.
    pub prefix: u8,
}

impl OwnAddress {
    /// True if there is no router between this machine and that address.
    pub fn shares_network_with(&self, other: IpAddr) -> bool {
        let prefix = u32::from(self.prefix);
        match (self.ip, other) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differing = own.to_bits() ^ other.to_bits();
                prefix > 0 && differing.leading_zeros() >= prefix.min(32)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differing = own.to_bits() ^ other.to_bits();
                prefix > 0 && differing.leading_zeros() >= prefix.min(128)
            }
            _ => false,
        }
    }
}

/// Lists the addresses of this machine, in the order of its interfaces.
pub fn own_addresses() -> io::Result<Vec<OwnAddress>> {
    let interfaces = if_addrs::get_if_addrs()?;
    let own = interfaces.into_iter().map(|interface| OwnAddress {
        ip: interface.ip(),
        reach: Reach::of(interface.ip()),
        running: interface.is_oper_up(),
        point_to_point: interface.is_p2p(),
        prefix: match &interface.addr {
            if_addrs::IfAddr::V4(addr) => addr.prefixlen,
            if_addrs::IfAddr::V6(addr) => addr.prefixlen,
        },
    });
    Ok(own.collect())
}

/// Puts the addresses with the farthest reach first: there is a limit on their number, and container bridges have many.
pub(crate) fn farthest_first(addresses: &mut [&Multiaddr]) {
    addresses.sort_by_key(|address| Reverse(Reach::of_address(address)));
}

type List = Box<dyn FnMut() -> io::Result<Vec<OwnAddress>> + Send>;

/// A transport whose listeners on all interfaces report the addresses of this machine.
pub(crate) struct OnOwnAddresses<T: Transport> {
    inner: T,
    list: List,
    everywhere: HashMap<ListenerId, Everywhere>,
    events: VecDeque<TransportEvent<T::ListenerUpgrade, T::Error>>,
    look_again: Option<Pin<Box<Sleep>>>,
}

/// A listener on all interfaces.
#[derive(Debug)]
struct Everywhere {
    ipv4: bool,
    /// The part after the IP address, once the port is known.
    rest: Option<Multiaddr>,
    /// Addresses that were reported, in that order.
    told: Vec<IpAddr>,
}

/// An address was added or removed.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    New(Multiaddr),
    Gone(Multiaddr),
}

impl Everywhere {
    /// Returns the changes to report for these addresses of the machine. An interface is not reported until it is
    /// running. When it stops, its address stays reported until it is removed: nothing is gained by reporting it again
    /// for every container that starts.
    fn update(&mut self, own: &[OwnAddress]) -> Vec<Change> {
        let Some(rest) = &self.rest else {
            return Vec::new();
        };
        let with = |ip: IpAddr| std::iter::once(ip.into()).chain(rest).collect();
        let has = |ip: &IpAddr| own.iter().any(|address| address.ip == *ip);
        let gone = self.told.extract_if(.., |ip| !has(ip));
        let mut changes: Vec<_> = gone.map(|ip| Change::Gone(with(ip))).collect();
        for address in own {
            let of_family = address.ip.is_ipv4() == self.ipv4;
            if of_family && address.running && !self.told.contains(&address.ip) {
                self.told.push(address.ip);
                changes.push(Change::New(with(address.ip)));
            }
        }
        changes
    }
}

impl<T: Transport> OnOwnAddresses<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self::listed_by(inner, Box::new(own_addresses))
    }

    fn listed_by(inner: T, list: List) -> Self {
        Self {
            inner,
            list,
            everywhere: HashMap::new(),
            events: VecDeque::new(),
            look_again: None,
        }
    }

    /// Reports what has changed. Returns false if the addresses can't be listed.
    fn look(&mut self) -> bool {
        self.look_again = Some(Box::pin(tokio::time::sleep(LOOK_AGAIN)));
        let own = match (self.list)() {
            Ok(own) => own,
            Err(error) => {
                tracing::debug!(%error, "the addresses of this machine can't be listed");
                return false;
            }
        };
        for (id, listener) in &mut self.everywhere {
            let listener_id = *id;
            let events = listener
                .update(&own)
                .into_iter()
                .map(|change| match change {
                    Change::New(listen_addr) => TransportEvent::NewAddress {
                        listener_id,
                        listen_addr,
                    },
                    Change::Gone(listen_addr) => TransportEvent::AddressExpired {
                        listener_id,
                        listen_addr,
                    },
                });
            self.events.extend(events);
        }
        true
    }

    /// Handles an event of libp2p. For a listener on all interfaces, reports the machine's addresses instead of
    /// libp2p's. Returns the event if it is to be passed on: if it is about anything else, or the addresses can't be
    /// listed.
    fn told(
        &mut self,
        event: TransportEvent<T::ListenerUpgrade, T::Error>,
    ) -> Option<TransportEvent<T::ListenerUpgrade, T::Error>> {
        let (id, address, new) = match &event {
            TransportEvent::NewAddress {
                listener_id,
                listen_addr,
            } => (listener_id, listen_addr, true),
            TransportEvent::AddressExpired {
                listener_id,
                listen_addr,
            } => (listener_id, listen_addr, false),
            TransportEvent::ListenerClosed { listener_id, .. } => {
                self.everywhere.remove(listener_id);
                return Some(event);
            }
            _ => return Some(event),
        };
        let Some(listener) = self.everywhere.get_mut(id) else {
            return Some(event);
        };
        listener.rest = Some(address.iter().skip(1).collect());
        let (id, ip) = (*id, ip_of(address));
        if self.look() {
            return None;
        }
        // An address that may be that of the other end is better than none.
        if let Some(listener) = self.everywhere.get_mut(&id) {
            listener.told.retain(|told| Some(*told) != ip);
            listener.told.extend(ip.filter(|_| new));
        }
        Some(event)
    }
}

impl<T: Transport + Unpin> Transport for OnOwnAddresses<T>
where
    T::ListenerUpgrade: Unpin,
    T::Error: Unpin,
{
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<Self::Error>> {
        let ip = ip_of(&address);
        self.inner.listen_on(id, address)?;
        if let Some(ip) = ip.filter(IpAddr::is_unspecified) {
            let everywhere = Everywhere {
                ipv4: ip.is_ipv4(),
                rest: None,
                told: Vec::new(),
            };
            self.everywhere.insert(id, everywhere);
        }
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.everywhere.remove(&id);
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        self.inner.dial(address, options)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            if let Poll::Ready(event) = Pin::new(&mut self.inner).poll(cx) {
                match self.told(event) {
                    Some(event) => return Poll::Ready(event),
                    None => continue,
                }
            }
            let due = |timer: &mut Pin<Box<Sleep>>| timer.poll_unpin(cx).is_ready();
            if !self.everywhere.is_empty() && self.look_again.as_mut().is_some_and(due) {
                self.look();
                continue;
            }
            return Poll::Pending;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures::future::{Pending, poll_fn};

    use super::*;

    /// Listeners that emit the events they are given.
    #[derive(Default)]
    struct Telling(VecDeque<TransportEvent<Pending<Result<(), io::Error>>, io::Error>>);

    impl Transport for Telling {
        type Output = ();
        type Error = io::Error;
        type ListenerUpgrade = Pending<Result<(), io::Error>>;
        type Dial = Pending<Result<(), io::Error>>;

        fn listen_on(
            &mut self,
            _: ListenerId,
            _: Multiaddr,
        ) -> Result<(), TransportError<io::Error>> {
            Ok(())
        }

        fn remove_listener(&mut self, _: ListenerId) -> bool {
            true
        }

        fn dial(
            &mut self,
            _: Multiaddr,
            _: DialOpts,
        ) -> Result<Self::Dial, TransportError<io::Error>> {
            Ok(futures::future::pending())
        }

        fn poll(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
            self.0.pop_front().map_or(Poll::Pending, Poll::Ready)
        }
    }

    fn own(ip: &str, running: bool) -> OwnAddress {
        let ip = ip.parse().unwrap();
        OwnAddress {
            ip,
            reach: Reach::of(ip),
            running,
            point_to_point: false,
            prefix: 24,
        }
    }

    fn at(address: &str) -> Multiaddr {
        address.parse().unwrap()
    }

    /// The addresses of this machine, or `None` if they can't be listed.
    type Has = Arc<Mutex<Option<Vec<OwnAddress>>>>;

    /// A listener, and a handle to set the addresses of this machine.
    fn listening(everywhere: &str) -> (OnOwnAddresses<Telling>, ListenerId, Has) {
        let has = Arc::new(Mutex::new(None));
        let listed = Arc::clone(&has);
        let list = move || {
            let own: Option<Vec<OwnAddress>> = listed.lock().unwrap().clone();
            own.ok_or_else(|| io::Error::other("none"))
        };
        let mut transport = OnOwnAddresses::listed_by(Telling::default(), Box::new(list));
        let id = ListenerId::next();
        transport.listen_on(id, at(everywhere)).unwrap();
        (transport, id, has)
    }

    fn tell(transport: &mut OnOwnAddresses<Telling>, id: ListenerId, address: &str) {
        transport.inner.0.push_back(TransportEvent::NewAddress {
            listener_id: id,
            listen_addr: at(address),
        });
    }

    /// The changes that are reported immediately.
    fn changes(transport: &mut OnOwnAddresses<Telling>) -> Vec<Change> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut changes = Vec::new();
        while let Poll::Ready(event) = Pin::new(&mut *transport).poll(&mut cx) {
            changes.push(change(event));
        }
        changes
    }

    fn change<U, E>(event: TransportEvent<U, E>) -> Change {
        match event {
            TransportEvent::NewAddress { listen_addr, .. } => Change::New(listen_addr),
            TransportEvent::AddressExpired { listen_addr, .. } => Change::Gone(listen_addr),
            _ => panic!("neither new nor gone"),
        }
    }

    #[tokio::test]
    async fn the_other_end_of_a_cable_is_not_told_as_an_own_address() {
        let (mut transport, id, has) = listening("/ip4/0.0.0.0/tcp/0");
        *has.lock().unwrap() = Some(vec![own("10.98.0.1", true), own("fd00::1", true)]);
        tell(&mut transport, id, "/ip4/10.98.0.2/tcp/4001");
        assert_eq!(
            changes(&mut transport),
            [Change::New(at("/ip4/10.98.0.1/tcp/4001"))]
        );
    }

    #[tokio::test]
    async fn an_idle_interface_is_told_of_when_it_comes_to_be_used_and_until_it_goes() {
        let (mut transport, id, has) = listening("/ip4/0.0.0.0/udp/0/quic-v1");
        let used = own("192.168.1.2", true);
        *has.lock().unwrap() = Some(vec![used, own("172.17.0.1", false)]);
        tell(&mut transport, id, "/ip4/172.17.0.1/udp/4001/quic-v1");
        let of_used = at("/ip4/192.168.1.2/udp/4001/quic-v1");
        assert_eq!(changes(&mut transport), [Change::New(of_used)]);

        let docker = || at("/ip4/172.17.0.1/udp/4001/quic-v1");
        for (running, expected) in [
            (true, vec![Change::New(docker())]),
            (false, Vec::new()),
            (true, Vec::new()),
        ] {
            *has.lock().unwrap() = Some(vec![used, own("172.17.0.1", running)]);
            transport.look();
            assert_eq!(changes(&mut transport), expected);
        }
        *has.lock().unwrap() = Some(vec![used]);
        transport.look();
        assert_eq!(changes(&mut transport), [Change::Gone(docker())]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_libp2p_does_not_tell_of_is_noticed() {
        let (mut transport, id, has) = listening("/ip6/::/tcp/0");
        *has.lock().unwrap() = Some(vec![own("::1", true)]);
        tell(&mut transport, id, "/ip6/::1/tcp/4001");
        changes(&mut transport);
        *has.lock().unwrap() = Some(vec![own("::1", true), own("fd00::1", true)]);
        let event = poll_fn(|cx| Pin::new(&mut transport).poll(cx)).await;
        assert_eq!(change(event), Change::New(at("/ip6/fd00::1/tcp/4001")));
    }

    #[tokio::test]
    async fn where_addresses_can_not_be_listed_libp2p_is_believed() {
        let (mut transport, id, has) = listening("/ip4/0.0.0.0/tcp/0");
        tell(&mut transport, id, "/ip4/10.0.0.7/tcp/4001");
        let (told, real) = (at("/ip4/10.0.0.7/tcp/4001"), at("/ip4/10.0.0.8/tcp/4001"));
        assert_eq!(changes(&mut transport), [Change::New(told.clone())]);
        *has.lock().unwrap() = Some(vec![own("10.0.0.8", true)]);
        transport.look();
        assert_eq!(
            changes(&mut transport),
            [Change::Gone(told), Change::New(real)]
        );
    }

    #[tokio::test]
    async fn a_listener_on_one_address_tells_that_address() {
        let (mut transport, id, has) = listening("/ip4/10.0.0.1/tcp/4001");
        *has.lock().unwrap() = Some(vec![own("10.0.0.8", true)]);
        tell(&mut transport, id, "/ip4/10.0.0.1/tcp/4001");
        assert_eq!(
            changes(&mut transport),
            [Change::New(at("/ip4/10.0.0.1/tcp/4001"))]
        );
    }

    #[test]
    fn what_the_internet_reaches_is_told_before_bridges_for_containers() {
        let (bridge, public) = (at("/ip4/172.17.0.1/tcp/1"), at("/ip4/1.1.1.1/tcp/1"));
        let (v6, own) = (at("/ip6/2606::1/tcp/1"), at("/ip4/127.0.0.1/tcp/1"));
        let mut addresses = [&own, &bridge, &public, &v6];
        farthest_first(&mut addresses);
        assert_eq!(addresses, [&public, &v6, &bridge, &own]);
    }

    #[test]
    fn a_network_is_as_large_as_its_prefix_says() {
        let shares = |own: &str, prefix, other: &str| {
            let own = OwnAddress {
                prefix,
                ..self::own(own, true)
            };
            own.shares_network_with(other.parse().unwrap())
        };
        assert!(shares("10.1.2.3", 24, "10.1.2.200"));
        assert!(!shares("10.1.2.3", 24, "10.1.3.3"));
        assert!(shares("10.98.0.1", 32, "10.98.0.1"));
        assert!(!shares("10.98.0.1", 32, "10.98.0.2"));
        assert!(!shares("10.1.2.3", 0, "1.1.1.1"));
        assert!(shares("fd00::1", 64, "fd00::2"));
        assert!(!shares("fd00::1", 64, "fd00:0:0:1::1"));
        assert!(!shares("::1", 128, "127.0.0.1"));
    }

    #[test]
    fn addresses_are_told_apart_by_their_reach() {
        for (ip, reach) in [
            ("127.0.0.1", Reach::Loopback),
            ("::1", Reach::Loopback),
            ("169.254.1.1", Reach::Link),
            ("fe80::1", Reach::Link),
            ("10.0.0.1", Reach::Private),
            ("100.64.0.1", Reach::Private),
            ("fd00::1", Reach::Private),
            ("2001:db8::1", Reach::Private),
            ("2002:a00:1::1", Reach::Private),
            ("1.1.1.1", Reach::Public),
            ("2606:4700::1", Reach::Public),
        ] {
            assert_eq!(Reach::of(ip.parse().unwrap()), reach, "{ip}");
        }
    }
}
