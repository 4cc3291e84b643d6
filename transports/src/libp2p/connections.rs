//! The established connections: their peers, paths and links

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use handover_core::engine::{LinkId, PathKind};
use libp2p::core::ConnectedPoint;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::circuit::CircuitLimit;
use super::dials::{is_quic, split};
use super::link::Fate;
use handover_core::dial::relay_of;

/// How long a relayed connection without a link is kept. Hole punching would keep it for ever, and it takes a place at
/// the relay.
const RELAYED_IDLE: Duration = Duration::from_secs(30);

/// A connection.
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts that do not depend on each other"
)]
pub(super) struct Carrier {
    pub(super) peer: PeerId,
    pub(super) path: PathKind,
    /// The remote address without the peer id.
    pub(super) remote: Multiaddr,
    /// The relay, if the connection is relayed.
    pub(super) relay: Option<PeerId>,
    /// The relay's limit. `None`: no limit, or not relayed.
    pub(super) limit: Option<CircuitLimit>,
    /// True if this side dialled.
    pub(super) dialled: bool,
    /// True once the other side has sent its identify message.
    pub(super) identified: bool,
    /// QUIC: closing it loses data that has not arrived.
    pub(super) quic: bool,
    pub(super) links: Vec<Carried>,
    /// Set once there is no link any more: when to close the connection.
    pub(super) lingers_until: Option<Instant>,
    /// True if it was reported as a better path to its peer.
    offered: bool,
    /// Start of the time without a link.
    unused_since: Option<Instant>,
}

/// A link on a connection.
pub(super) struct Carried {
    pub(super) link: LinkId,
    pub(super) fate: Arc<Fate>,
}

impl Carrier {
    /// `path`: the kind of path to the remote address if no relay is in between. `limit`: the relay's limit if one is.
    pub(super) fn new(
        peer: PeerId,
        endpoint: &ConnectedPoint,
        path: PathKind,
        limit: Option<CircuitLimit>,
    ) -> Self {
        let relayed = endpoint.is_relayed();
        let remote = match endpoint {
            // Of a peer that came through a relay, only the relay's address is visible.
            ConnectedPoint::Listener { local_addr, .. } if relayed => local_addr,
            _ => endpoint.get_remote_address(),
        };
        Self {
            peer,
            path: if relayed { PathKind::Relayed } else { path },
            remote: split(remote).0,
            relay: relay_of(remote),
            limit,
            dialled: endpoint.is_dialer(),
            identified: false,
            quic: is_quic(remote) && !relayed,
            links: Vec::new(),
            lingers_until: None,
            offered: false,
            unused_since: None,
        }
    }

    /// Adds a link.
    pub(super) fn carry(&mut self, link: LinkId, fate: Arc<Fate>) {
        self.is_used();
        self.lingers_until = None;
        self.offered = false;
        self.links.push(Carried { link, fate });
    }

    /// Removes links that were dropped. Returns true if any is left.
    pub(super) fn is_used(&mut self) -> bool {
        self.links.retain(|carried| !carried.fate.is_dropped());
        !self.links.is_empty()
    }

    /// True if it leads through a relay.
    pub(super) fn is_relayed(&self) -> bool {
        self.path == PathKind::Relayed
    }

    /// True if it carries this link.
    pub(super) fn holds(&self, link: LinkId) -> bool {
        self.links.iter().any(|carried| carried.link == link)
    }

    /// True if written data may still be in flight.
    pub(super) fn may_lose(&self) -> bool {
        let closed = |carried: &Carried| carried.fate.is_closed();
        self.lingers_until.is_some() || (self.quic && self.links.iter().any(closed))
    }

    /// True if it may soon carry a link, because it was reported as a better path.
    pub(super) fn is_offered(&self) -> bool {
        self.offered
    }

    /// Order of preference among connections to one peer. TCP comes before QUIC, for the reason given in `dials`.
    fn rank(&self) -> (PathKind, bool) {
        (self.path, self.quic)
    }
}

/// All connections.
#[derive(Default)]
pub(super) struct Connections(pub(super) BTreeMap<ConnectionId, Carrier>);

impl Connections {
    /// Returns the best connection to this peer among those that `may` be used.
    pub(super) fn best(
        &self,
        peer: PeerId,
        may: impl Fn(ConnectionId, &Carrier) -> bool,
    ) -> Option<ConnectionId> {
        let usable = self
            .0
            .iter()
            .filter(|(id, carrier)| carrier.peer == peer && may(**id, carrier));
        usable
            .min_by_key(|(_, carrier)| carrier.rank())
            .map(|(id, _)| *id)
    }

    /// Returns a better path to this peer than those of its links, if it was not reported before, and marks it as
    /// reported.
    pub(super) fn offer(
        &mut self,
        peer: PeerId,
        taken: impl Fn(ConnectionId) -> bool,
    ) -> Option<PathKind> {
        let of_peer = |carrier: &&mut Carrier| carrier.peer == peer;
        let linked: Option<PathKind> = self
            .0
            .values_mut()
            .filter(of_peer)
            .filter_map(|carrier| carrier.is_used().then_some(carrier.path))
            .min();
        let linked = linked?;
        let told = self
            .0
            .values()
            .filter(|carrier| carrier.peer == peer && carrier.is_offered());
        let known = told.map(|carrier| carrier.path).fold(linked, PathKind::min);
        let id = self.best(peer, |id, carrier| {
            carrier.links.is_empty() && carrier.path < known && !taken(id)
        })?;
        let carrier = self.0.get_mut(&id)?;
        carrier.offered = true;
        Some(carrier.path)
    }

    /// Number of connections through this relay.
    pub(super) fn through(&self, relay: PeerId) -> usize {
        let by = |carrier: &&Carrier| carrier.relay == Some(relay);
        self.0.values().filter(by).count()
    }

    /// Relayed connections that have had no link for [`RELAYED_IDLE`].
    pub(super) fn stale(&mut self, now: Instant) -> Vec<ConnectionId> {
        let mut stale = Vec::new();
        for (id, carrier) in &mut self.0 {
            if carrier.is_used() || !carrier.is_relayed() {
                carrier.unused_since = None;
                continue;
            }
            let since = *carrier.unused_since.get_or_insert(now);
            if since + RELAYED_IDLE <= now {
                stale.push(*id);
            }
        }
        stale
    }

    /// True if [`stale`](Self::stale) may ever return a connection.
    pub(super) fn any_relayed(&self) -> bool {
        self.0.values().any(Carrier::is_relayed)
    }
}

#[cfg(test)]
mod tests {
    use libp2p::core::Endpoint;
    use libp2p::core::transport::PortUse;

    use super::*;

    fn carrier(peer: PeerId, path: PathKind, quic: bool) -> Carrier {
        let way = if quic {
            "/ip4/192.0.2.1/udp/1/quic-v1"
        } else {
            "/ip4/192.0.2.1/tcp/1"
        };
        let address = match path {
            PathKind::Relayed => format!("{way}/p2p/{}/p2p-circuit", PeerId::random()),
            _ => way.to_owned(),
        };
        let endpoint = ConnectedPoint::Dialer {
            address: address.parse().unwrap(),
            role_override: Endpoint::Dialer,
            port_use: PortUse::Reuse,
        };
        Carrier::new(peer, &endpoint, path, None)
    }

    fn linked(mut carrier: Carrier, link: u64) -> Carrier {
        carrier.carry(LinkId(link), Arc::default());
        carrier
    }

    fn id(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    #[test]
    fn a_better_way_is_told_once_and_only_where_a_link_stands() {
        let peer = PeerId::random();
        let mut all = Connections::default();
        let relayed = carrier(peer, PathKind::Relayed, false);
        all.0.insert(id(1), relayed);
        all.0.insert(id(2), carrier(peer, PathKind::Direct, true));
        assert_eq!(all.offer(peer, |_| false), None, "no link");
        let relayed = all.0.remove(&id(1)).unwrap();
        all.0.insert(id(1), linked(relayed, 1));
        assert_eq!(
            all.offer(peer, |taken| taken == id(2)),
            None,
            "a dial has it"
        );
        assert_eq!(all.offer(peer, |_| false), Some(PathKind::Direct));
        assert_eq!(all.offer(peer, |_| false), None, "told before");
        all.0.insert(id(3), carrier(peer, PathKind::Direct, false));
        assert_eq!(all.offer(peer, |_| false), None, "no better");
        all.0.insert(id(4), carrier(peer, PathKind::Lan, false));
        assert_eq!(all.offer(peer, |_| false), Some(PathKind::Lan));
    }

    #[test]
    fn the_best_way_is_straight_and_tcp() {
        let peer = PeerId::random();
        let mut all = Connections::default();
        for (number, (path, quic)) in [
            (PathKind::Relayed, false),
            (PathKind::Direct, true),
            (PathKind::Direct, false),
        ]
        .into_iter()
        .enumerate()
        {
            all.0.insert(id(number), carrier(peer, path, quic));
        }
        all.0
            .insert(id(9), carrier(PeerId::random(), PathKind::Lan, false));
        assert_eq!(all.best(peer, |_, _| true), Some(id(2)));
        assert_eq!(all.best(peer, |id, _| id != self::id(2)), Some(id(1)));
        assert_eq!(all.best(PeerId::random(), |_, _| true), None);
    }

    #[test]
    fn only_relayed_connections_without_a_link_go_stale() {
        let peer = PeerId::random();
        let now = Instant::now();
        let mut all = Connections::default();
        all.0.insert(id(1), carrier(peer, PathKind::Relayed, false));
        all.0
            .insert(id(2), linked(carrier(peer, PathKind::Relayed, false), 1));
        all.0.insert(id(3), carrier(peer, PathKind::Direct, false));
        assert!(all.stale(now).is_empty());
        assert_eq!(all.stale(now + RELAYED_IDLE), [id(1)]);
    }
}
