//! Which attempts belong to which dial, and how each dial ends
//!
//! TCP addresses are tried first, QUIC addresses a little later or once TCP has failed. QUIC's handshake is shorter, so
//! it would win most races, while TCP carries bulk data faster on every kind of path that was measured (on loopback 1.4
//! against 0.6 GB/s, with 100 ms and 0.1 % of loss 15 against 1 MB/s). Circuits come last: a relay carries little, and
//! a direct path is better in every respect.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU8;
use std::time::Duration;

use handover_core::engine::DialId;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::link::OpenError;
use super::reason;
use crate::{DIAL_TIMEOUT, MAX_DIAL_ADDRESSES, MAX_DIALS};
use handover_core::dial::{is_relayed, relay_of};

/// How long QUIC waits for TCP: enough for the handshakes and negotiations of TCP and TLS at a round-trip time of 100
/// ms.
const HEAD_START: Duration = Duration::from_millis(500);

/// How long circuits wait for direct paths: enough for QUIC after TCP has not answered.
const STRAIGHT_FIRST: Duration = Duration::from_millis(1500);

/// An action for the transport.
#[derive(Debug)]
pub(crate) enum Step {
    /// Start this attempt.
    Start(Box<DialOpts>),
    /// Open the link's stream on this connection.
    Open {
        peer: PeerId,
        connection: ConnectionId,
    },
    /// The dial does not need this connection.
    Discard(ConnectionId),
    /// Report that the dial failed.
    Fail { dial: DialId, reason: String },
}

/// The dials under way.
#[derive(Debug, Default)]
pub(crate) struct Dials {
    open: BTreeMap<DialId, Dial>,
    /// Every attempt that the swarm has not answered, and every connection that a dial holds. The dial may have ended
    /// already.
    attempts: HashMap<ConnectionId, DialId>,
}

#[derive(Debug)]
struct Dial {
    peer: Option<PeerId>,
    /// Attempts that the swarm has not answered, with their addresses.
    trying: BTreeMap<ConnectionId, Vec<Multiaddr>>,
    /// The connection on which a stream is being opened.
    opening: Option<ConnectionId>,
    /// Further connections in case that fails.
    spare: Vec<(ConnectionId, PeerId)>,
    /// Addresses not tried yet, and when to try them.
    later: Vec<Multiaddr>,
    later_at: Instant,
    /// Circuits not tried yet, and when to try them.
    circuits: Vec<Circuit>,
    circuits_at: Instant,
    deadline: Instant,
    reasons: Vec<String>,
}

/// A circuit address.
#[derive(Debug)]
struct Circuit {
    address: Multiaddr,
    /// The relay, while it is still being approached.
    waits_for: Option<PeerId>,
}

impl Dials {
    /// Starts a dial. `approached`: true for a relay that is still being approached.
    pub(crate) fn begin(
        &mut self,
        id: DialId,
        peer: Option<PeerId>,
        addresses: Vec<Multiaddr>,
        approached: impl Fn(PeerId) -> bool,
        now: Instant,
    ) -> Vec<Step> {
        if let Some(refused) = self.refuse(id) {
            return refused;
        }
        let (addresses, reasons) = usable(peer, addresses);
        let (circuits, straight): (Vec<_>, Vec<_>) = addresses.into_iter().partition(is_relayed);
        let (later, first): (Vec<_>, Vec<_>) = straight.into_iter().partition(is_quic);
        let dial = Dial {
            later,
            circuits: in_turn(circuits, approached),
            reasons,
            ..Dial::new(peer, now)
        };
        self.open.insert(id, dial);
        let mut steps = Vec::new();
        self.try_addresses(id, first, &mut steps);
        self.go_on(id, &mut steps);
        steps
    }

    /// Starts a dial over an established connection.
    pub(crate) fn begin_on(
        &mut self,
        id: DialId,
        peer: PeerId,
        connection: ConnectionId,
        now: Instant,
    ) -> Vec<Step> {
        if let Some(refused) = self.refuse(id) {
            return refused;
        }
        let mut dial = Dial::new(Some(peer), now);
        dial.opening = Some(connection);
        self.open.insert(id, dial);
        self.attempts.insert(connection, id);
        vec![Step::Open { peer, connection }]
    }

    /// Returns the steps to take instead of starting a dial, if it can't be started.
    fn refuse(&self, id: DialId) -> Option<Vec<Step>> {
        if self.open.contains_key(&id) {
            tracing::error!(%id, "a dial with this id is under way; ignored");
            return Some(Vec::new());
        }
        let reason = "too many dials are under way".into();
        (self.open.len() >= MAX_DIALS).then(|| vec![Step::Fail { dial: id, reason }])
    }

    /// Releases the circuits that waited for this relay: its approach is complete.
    pub(crate) fn approached(&mut self, relay: PeerId, now: Instant) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut ready = Vec::new();
        for (id, dial) in &mut self.open {
            let mut waiting = dial.circuits.iter_mut();
            if waiting.any(|circuit| circuit.waits_for == Some(relay)) {
                for circuit in &mut dial.circuits {
                    circuit.waits_for.take_if(|waits_for| *waits_for == relay);
                }
                ready.push((*id, dial.circuits_at <= now));
            }
        }
        for (id, due) in ready {
            if due {
                self.try_circuits(id, &mut steps);
            }
            self.go_on(id, &mut steps);
        }
        steps
    }

    /// Handles a new connection. Returns `None` if no dial asked for it.
    pub(crate) fn established(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
    ) -> Option<Vec<Step>> {
        let id = *self.attempts.get(&connection)?;
        let Some(dial) = self.open.get_mut(&id) else {
            self.attempts.remove(&connection);
            return Some(vec![Step::Discard(connection)]);
        };
        dial.trying.remove(&connection);
        dial.spare.push((connection, peer));
        let mut steps = Vec::new();
        self.go_on(id, &mut steps);
        Some(steps)
    }

    /// Handles a failed attempt.
    pub(crate) fn failed(&mut self, connection: ConnectionId, error: &DialError) -> Vec<Step> {
        let mut steps = Vec::new();
        let Some((id, dial)) = self.leave(connection) else {
            return steps;
        };
        dial.reasons.extend(reason::of_dial(error));
        let tried = dial.trying.remove(&connection).unwrap_or_default();
        // The first address that answers ends an attempt of the swarm, even if it is the wrong peer, so try the rest.
        if let DialError::WrongPeerId { address, .. } = error {
            let (wrong, _) = split(address);
            let rest = tried.into_iter().filter(|address| *address != wrong);
            let rest: Vec<_> = rest.collect();
            if !rest.is_empty() && dial.reasons.len() <= MAX_DIAL_ADDRESSES {
                self.try_addresses(id, rest, &mut steps);
            }
        }
        self.go_on(id, &mut steps);
        steps
    }

    /// Handles a stream opened on this connection. Returns the dial that it completes, if any, and further steps.
    pub(crate) fn up(&mut self, connection: ConnectionId) -> (Option<DialId>, Vec<Step>) {
        let Some(id) = self.attempts.remove(&connection) else {
            return (None, Vec::new());
        };
        let Some(dial) = self.open.remove(&id) else {
            return (None, Vec::new());
        };
        (Some(id), self.discard(dial, Some(connection)))
    }

    /// Handles a stream that could not be opened on this connection.
    pub(crate) fn open_failed(&mut self, connection: ConnectionId, error: &OpenError) -> Vec<Step> {
        let mut steps = vec![Step::Discard(connection)];
        if let Some((id, dial)) = self.leave(connection) {
            dial.reasons.push(error.to_string());
            dial.opening = None;
            self.go_on(id, &mut steps);
        }
        steps
    }

    /// Handles a closed connection.
    pub(crate) fn closed(&mut self, connection: ConnectionId, reason: &str) -> Vec<Step> {
        let mut steps = Vec::new();
        if let Some((id, dial)) = self.leave(connection) {
            dial.spare.retain(|(spare, _)| *spare != connection);
            if dial.opening == Some(connection) {
                dial.opening = None;
                dial.reasons.push(reason.into());
            }
            self.go_on(id, &mut steps);
        }
        steps
    }

    /// True if a dial that is under way uses this connection or may use it.
    pub(crate) fn holds(&self, connection: ConnectionId) -> bool {
        self.attempts
            .get(&connection)
            .is_some_and(|id| self.open.contains_key(id))
    }

    /// Time of the next call to [`wake`](Self::wake).
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.open.values().map(Dial::next_wake).min()
    }

    /// Handles timeouts and starts the attempts that are due.
    pub(crate) fn wake(&mut self, now: Instant) -> Vec<Step> {
        let due = self.open.iter().filter(|(_, dial)| dial.next_wake() <= now);
        let due: Vec<DialId> = due.map(|(id, _)| *id).collect();
        let mut steps = Vec::new();
        for id in due {
            let Some(dial) = self.open.get_mut(&id) else {
                continue;
            };
            if dial.deadline <= now {
                dial.reasons.push("timed out".into());
                self.give_up(id, &mut steps);
                continue;
            }
            let circuits = dial.circuits_at <= now;
            if dial.later_at <= now {
                let later = std::mem::take(&mut dial.later);
                self.try_addresses(id, later, &mut steps);
            }
            if circuits {
                self.try_circuits(id, &mut steps);
            }
        }
        steps
    }

    /// Fails every dial.
    pub(crate) fn give_all_up(&mut self, reason: &str) -> Vec<Step> {
        let mut steps = Vec::new();
        while let Some(mut entry) = self.open.first_entry() {
            entry.get_mut().reasons = vec![reason.into()];
            let id = *entry.key();
            self.give_up(id, &mut steps);
        }
        steps
    }

    /// Removes the attempt and returns its dial, if that is still under way.
    fn leave(&mut self, connection: ConnectionId) -> Option<(DialId, &mut Dial)> {
        let id = self.attempts.remove(&connection)?;
        Some((id, self.open.get_mut(&id)?))
    }

    /// Starts attempts at these addresses. For a known peer they form one attempt, in which the swarm keeps the first
    /// that answers. Without a known peer, the swarm takes one address per attempt.
    fn try_addresses(&mut self, id: DialId, addresses: Vec<Multiaddr>, steps: &mut Vec<Step>) {
        let Some(dial) = self.open.get_mut(&id) else {
            return;
        };
        let groups: Vec<Vec<Multiaddr>> = match dial.peer {
            _ if addresses.is_empty() => Vec::new(),
            Some(_) => vec![addresses],
            None => addresses.into_iter().map(|address| vec![address]).collect(),
        };
        for group in groups {
            let Some(opts) = options(dial.peer, &group) else {
                continue;
            };
            self.attempts.insert(opts.connection_id(), id);
            dial.trying.insert(opts.connection_id(), group);
            steps.push(Step::Start(Box::new(opts)));
        }
    }

    /// Tries the circuits that do not wait for a relay.
    fn try_circuits(&mut self, id: DialId, steps: &mut Vec<Step>) {
        let Some(dial) = self.open.get_mut(&id) else {
            return;
        };
        let ready = |circuit: &mut Circuit| circuit.waits_for.is_none();
        let ready = dial.circuits.extract_if(.., ready);
        let ready: Vec<_> = ready.map(|circuit| circuit.address).collect();
        self.try_addresses(id, ready, steps);
    }

    /// If nothing of this dial is under way, tries what is left. If nothing is left, the dial has failed.
    fn go_on(&mut self, id: DialId, steps: &mut Vec<Step>) {
        let Some(dial) = self.open.get_mut(&id) else {
            return;
        };
        if dial.opening.is_some() {
            return;
        }
        if !dial.spare.is_empty() {
            let (connection, peer) = dial.spare.remove(0);
            dial.opening = Some(connection);
            steps.push(Step::Open { peer, connection });
        } else if dial.trying.is_empty() {
            if !dial.later.is_empty() {
                let later = std::mem::take(&mut dial.later);
                self.try_addresses(id, later, steps);
            } else if dial.circuits.is_empty() {
                self.give_up(id, steps);
            } else {
                self.try_circuits(id, steps);
            }
        }
    }

    fn give_up(&mut self, id: DialId, steps: &mut Vec<Step>) {
        if let Some(dial) = self.open.remove(&id) {
            let reason = reason::summary(&dial.reasons);
            steps.extend(self.discard(dial, None));
            steps.push(Step::Fail { dial: id, reason });
        }
    }

    /// Releases the connections of a finished dial except `keep`. Attempts under way end by themselves.
    fn discard(&mut self, dial: Dial, keep: Option<ConnectionId>) -> Vec<Step> {
        let spare = dial.spare.into_iter().map(|(connection, _)| connection);
        let mut steps = Vec::new();
        for connection in spare.chain(dial.opening) {
            self.attempts.remove(&connection);
            if Some(connection) != keep {
                steps.push(Step::Discard(connection));
            }
        }
        steps
    }
}

impl Dial {
    fn new(peer: Option<PeerId>, now: Instant) -> Self {
        Self {
            peer,
            trying: BTreeMap::new(),
            opening: None,
            spare: Vec::new(),
            later: Vec::new(),
            later_at: now + HEAD_START,
            circuits: Vec::new(),
            circuits_at: now + STRAIGHT_FIRST,
            deadline: now + DIAL_TIMEOUT,
            reasons: Vec::new(),
        }
    }

    fn next_wake(&self) -> Instant {
        let later = (!self.later.is_empty()).then_some(self.later_at);
        let ready = |circuit: &Circuit| circuit.waits_for.is_none();
        let circuits = self.circuits.iter().any(ready).then_some(self.circuits_at);
        let first = later.into_iter().chain(circuits).min();
        first.map_or(self.deadline, |first| first.min(self.deadline))
    }
}

/// Keeps one circuit per relay that is being approached: the relay will be connected by whichever address answers.
fn in_turn(circuits: Vec<Multiaddr>, approached: impl Fn(PeerId) -> bool) -> Vec<Circuit> {
    let mut ways: Vec<Circuit> = Vec::new();
    for address in circuits {
        let waits_for = relay_of(&address).filter(|relay| approached(*relay));
        let known = |way: &Circuit| way.waits_for == waits_for;
        if waits_for.is_none() || !ways.iter().any(known) {
            ways.push(Circuit { address, waits_for });
        }
    }
    ways
}

/// Returns the usable ones of these addresses without duplicates, and the reason why others are not.
fn usable(peer: Option<PeerId>, addresses: Vec<Multiaddr>) -> (Vec<Multiaddr>, Vec<String>) {
    let (mut usable, mut reasons) = (Vec::new(), Vec::new());
    for address in addresses {
        let (plain, named) = split(&address);
        if named.is_some() && peer.is_some() && named != peer {
            reasons.push("an address names another peer".to_owned());
            continue;
        }
        let address = if peer.is_some() { plain } else { address };
        if !usable.contains(&address) && usable.len() < MAX_DIAL_ADDRESSES {
            usable.push(address);
        }
    }
    reasons.truncate(1);
    (usable, reasons)
}

/// Splits off the peer id at the end of an address.
pub(crate) fn split(address: &Multiaddr) -> (Multiaddr, Option<PeerId>) {
    let mut plain = address.clone();
    match plain.pop() {
        Some(Protocol::P2p(peer)) => (plain, Some(peer)),
        _ => (address.clone(), None),
    }
}

/// True if the connection, or the one to its relay, runs over QUIC.
pub(crate) fn is_quic(address: &Multiaddr) -> bool {
    address
        .iter()
        .any(|part| matches!(part, Protocol::Quic | Protocol::QuicV1))
}

/// Options for the swarm's attempt at these addresses.
pub(crate) fn options(peer: Option<PeerId>, addresses: &[Multiaddr]) -> Option<DialOpts> {
    // Two TCP connections to one address can't share the listening port. QUIC uses one socket for everything anyway.
    let new_port = !addresses.iter().any(is_quic);
    if let Some(peer) = peer {
        let at_once = u8::try_from(addresses.len()).unwrap_or(u8::MAX);
        let opts = DialOpts::peer_id(peer)
            .condition(PeerCondition::Always)
            .addresses(addresses.to_vec())
            .override_dial_concurrency_factor(NonZeroU8::new(at_once)?);
        let opts = if new_port {
            opts.allocate_new_port()
        } else {
            opts
        };
        Some(opts.build())
    } else {
        let opts = DialOpts::unknown_peer_id().address(addresses.first()?.clone());
        let opts = if new_port {
            opts.allocate_new_port()
        } else {
            opts
        };
        Some(opts.build())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: DialId = DialId(1);

    fn direct() -> Multiaddr {
        "/ip4/192.0.2.1/tcp/1".parse().unwrap()
    }

    fn circuit(relay: PeerId, kind: &str) -> Multiaddr {
        format!("/ip4/192.0.2.2/{kind}/p2p/{relay}/p2p-circuit")
            .parse()
            .unwrap()
    }

    /// The attempts among the steps.
    fn started(steps: &[Step]) -> Vec<ConnectionId> {
        let attempt = |step: &Step| match step {
            Step::Start(opts) => Some(opts.connection_id()),
            _ => None,
        };
        steps.iter().filter_map(attempt).collect()
    }

    #[test]
    fn a_way_through_a_relay_waits_for_what_is_straight() {
        let (peer, relay, now) = (PeerId::random(), PeerId::random(), Instant::now());
        let addresses = vec![circuit(relay, "tcp/1"), direct()];
        let mut dials = Dials::default();
        let steps = dials.begin(ID, Some(peer), addresses.clone(), |_| false, now);
        let straight = started(&steps);
        assert_eq!(straight.len(), 1);
        assert_eq!(dials.next_wake(), Some(now + STRAIGHT_FIRST));
        assert_eq!(started(&dials.wake(now + STRAIGHT_FIRST)).len(), 1);

        let mut dials = Dials::default();
        let steps = dials.begin(ID, Some(peer), addresses, |_| false, now);
        let steps = dials.failed(started(&steps)[0], &DialError::Aborted);
        assert_eq!(started(&steps).len(), 1, "not longer than that is tried");
    }

    #[test]
    fn a_relay_that_is_got_to_know_is_waited_for_and_used_once() {
        let (peer, relay, now) = (PeerId::random(), PeerId::random(), Instant::now());
        let addresses = vec![circuit(relay, "tcp/1"), circuit(relay, "udp/1/quic-v1")];
        let mut dials = Dials::default();
        let steps = dials.begin(ID, Some(peer), addresses, |_| true, now);
        assert!(started(&steps).is_empty());
        assert!(started(&dials.approached(PeerId::random(), now)).is_empty());
        let steps = dials.approached(relay, now);
        assert_eq!(started(&steps).len(), 1);
        assert_eq!(dials.open[&ID].trying.values().flatten().count(), 1);
    }

    #[test]
    fn a_dial_whose_relays_never_answer_fails_in_time() {
        let (peer, relay, now) = (PeerId::random(), PeerId::random(), Instant::now());
        let mut dials = Dials::default();
        dials.begin(ID, Some(peer), vec![circuit(relay, "tcp/1")], |_| true, now);
        assert_eq!(dials.next_wake(), Some(now + DIAL_TIMEOUT));
        let steps = dials.wake(now + DIAL_TIMEOUT);
        assert!(matches!(steps[..], [Step::Fail { dial: ID, .. }]));
    }

    #[test]
    fn a_dial_over_a_connection_that_goes_fails() {
        let (peer, now) = (PeerId::random(), Instant::now());
        let connection = ConnectionId::new_unchecked(7);
        let mut dials = Dials::default();
        let steps = dials.begin_on(ID, peer, connection, now);
        assert!(matches!(steps[..], [Step::Open { .. }]));
        assert!(dials.holds(connection));
        let steps = dials.closed(connection, "it is gone");
        assert!(
            matches!(&steps[..], [Step::Fail { reason, .. }] if reason == "it is gone"),
            "{steps:?}"
        );
        assert!(!dials.holds(connection));
    }
}
