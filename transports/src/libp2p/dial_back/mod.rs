//! `AutoNAT` v1 as a client: nodes that do not speak v2 are asked to dial this peer back, as a hint
//!
//! libp2p's own behaviour always serves others, dials nodes to ask them, and confirms addresses by their answers. This
//! one asks on existing connections only and passes the answers to [`DialBacks`], which has the rules.

mod behaviour;
mod handler;
pub(crate) mod messages;

use handover_core::dial::{ip_of, is_relayed};
use handover_core::dial_back::{DialBacks, Hint, Node};
use handover_core::engine::PathKind;
use handover_core::time::Time;
use libp2p::swarm::{ConnectionId, StreamProtocol};
use libp2p::{Multiaddr, identify};
use tokio::time::Instant;

pub(crate) use self::behaviour::{Behaviour, Event};
use super::Libp2pTransport;
use super::dials::{is_quic, split};
use super::interfaces::Reach;

/// The protocol of `AutoNAT` v1.
pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/libp2p/autonat/1.0.0");

/// Nodes that speak this are asked by v2 instead.
const V2: StreamProtocol = StreamProtocol::new("/libp2p/autonat/2/dial-request");

/// How js-libp2p's agent version begins. Asked to dial a peer that it is connected to, it takes that connection for the
/// new one, closes it and does not answer (seen with its autonat 3.0.28).
const CLOSES: &str = "js-libp2p";

/// Questions to nodes, and their answers.
pub(super) struct Hints {
    dial_backs: DialBacks,
    /// Zero point of the clock of `dial_backs`.
    began: Instant,
}

impl Hints {
    pub(super) fn new(began: Instant) -> Self {
        Self {
            dial_backs: DialBacks::default(),
            began,
        }
    }

    fn time(&self, now: Instant) -> Time {
        Time::ZERO + now.saturating_duration_since(self.began)
    }

    /// True if nodes of several networks could not reach this address of this peer, and none could.
    pub(super) fn are_against(&self, address: &Multiaddr, now: Instant) -> bool {
        self.dial_backs.is_denied(address, self.time(now))
    }

    /// The answers so far, by address.
    pub(super) fn list(&self, now: Instant) -> Vec<Hint> {
        self.dial_backs.hints(self.time(now))
    }
}

impl Libp2pTransport {
    /// Asks a node that has sent its identify message to dial back, if that is useful and safe. `heard`: others can use
    /// the address that the node observed.
    pub(super) fn ask_to_dial_back(
        &mut self,
        connection: ConnectionId,
        info: &identify::Info,
        heard: bool,
    ) {
        let speaks = |protocol| info.protocols.contains(&protocol);
        if !speaks(PROTOCOL) || speaks(V2) || info.agent_version.starts_with(CLOSES) {
            return;
        }
        let Some(carrier) = self.connections.0.get(&connection) else {
            return;
        };
        let peer = carrier.peer;
        // The node may close the connection when asked, so nothing may depend on it.
        let is_needed = !carrier.links.is_empty() || self.reservations.is_at(peer);
        // On a connection dialled by the node, identify lists only some of its protocols: rust-libp2p leaves v2 out.
        if !carrier.dialled || carrier.path != PathKind::Direct || is_needed {
            return;
        }
        let Some(node) = ip_of(&carrier.remote).map(|ip| Node { peer, ip }) else {
            return;
        };
        let Some(address) = self.to_be_dialled(&split(&info.observed_addr).0, carrier.quic, heard)
        else {
            return;
        };
        let now = self.hints.time(Instant::now());
        let behaviour = self.swarm.behaviour_mut();
        if let Some(asking) = behaviour.dial_back.as_mut()
            && self.hints.dial_backs.may_ask(node, &address, now)
        {
            asking.ask(peer, connection, address.clone());
            self.hints.dial_backs.asked(node, address, now);
        }
    }

    /// Returns the address to ask a node about that sees this peer at `seen`. Nodes only dial the host that they see.
    /// If that is an address of this machine, the port is the one listened on, otherwise the one of the NAT's mapping.
    fn to_be_dialled(&self, seen: &Multiaddr, quic: bool, heard: bool) -> Option<Multiaddr> {
        if Reach::of_address(seen) != Some(Reach::Public) {
            return None;
        }
        let is_own = |own: &&Multiaddr| {
            !is_relayed(own) && ip_of(own) == ip_of(seen) && is_quic(own) == quic
        };
        let own = self.swarm.listeners().find(is_own).map(|own| split(own).0);
        own.or_else(|| heard.then(|| seen.clone()))
    }

    /// True if several nodes could not reach this address and nothing has proved that others can.
    pub(super) fn is_doubtful(&self, address: &Multiaddr, now: Instant) -> bool {
        let mut proved = self.swarm.external_addresses();
        self.hints.are_against(address, now) && !proved.any(|it| split(it).0 == *address)
    }

    pub(super) fn on_dial_back(&mut self, event: &Event) {
        let Event {
            node,
            address,
            answer,
        } = event;
        tracing::debug!(%node, %address, ?answer, "a node was asked to dial back");
        let now = Instant::now();
        let before = self.hints.are_against(address, now);
        self.hints.dial_backs.answered(*node, address, answer);
        let denied = self.hints.are_against(address, now);
        if denied != before {
            tracing::debug!(%address, denied, "nodes were asked to dial back");
            // Its order among the reported addresses changes, and whether it is announced.
            self.listening_changed = true;
        }
    }
}
