//! Limits of circuits, which relays state before there is a connection on the circuit

use std::collections::{HashMap, VecDeque};

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;

use super::messages::CircuitLimit;

/// Maximum number of circuits without a connection. The oldest are forgotten first.
const OPENING: usize = 64;

/// A circuit on which no connection is established yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opening {
    pub(super) relay: PeerId,
    pub(super) peer: PeerId,
    /// True if this side dialled it.
    pub(super) dialled: bool,
}

/// The limits of circuits.
#[derive(Debug, Default)]
pub(super) struct Limits {
    opening: VecDeque<(Opening, Option<CircuitLimit>)>,
    /// Limits of established connections.
    standing: HashMap<ConnectionId, CircuitLimit>,
}

impl Limits {
    /// Records the limit that the relay stated for this circuit.
    pub(super) fn told(&mut self, circuit: Opening, limit: Option<CircuitLimit>) {
        if self.opening.len() >= OPENING {
            self.opening.pop_front();
        }
        self.opening.push_back((circuit, limit));
    }

    /// Assigns the limit to a connection established on such a circuit. Several circuits between the same peers through
    /// the same relay can't be told apart; their connections are assumed to come up in the order in which the limits
    /// were stated.
    pub(super) fn established(&mut self, connection: ConnectionId, circuit: Opening) {
        let mut opening = self.opening.iter();
        let found = opening.position(|(opening, _)| *opening == circuit);
        let told = found.and_then(|at| self.opening.remove(at));
        if let Some((_, Some(limit))) = told {
            self.standing.insert(connection, limit);
        }
    }

    /// Forgets a circuit on which no connection could be established.
    pub(super) fn failed(&mut self, circuit: Opening) {
        let mut opening = self.opening.iter();
        if let Some(at) = opening.position(|(opening, _)| *opening == circuit) {
            self.opening.remove(at);
        }
    }

    /// Forgets the circuits offered by this relay.
    pub(super) fn forget(&mut self, relay: PeerId) {
        self.opening
            .retain(|(opening, _)| opening.relay != relay || opening.dialled);
    }

    /// Returns the number of circuits offered by this relay that have no connection yet.
    pub(super) fn offered_by(&self, relay: PeerId) -> usize {
        let offered = |opening: &Opening| opening.relay == relay && !opening.dialled;
        let opening = self.opening.iter();
        opening.filter(|(opening, _)| offered(opening)).count()
    }

    /// Forgets a closed connection.
    pub(super) fn closed(&mut self, connection: ConnectionId) {
        self.standing.remove(&connection);
    }

    /// Returns the limit of the circuit under this connection. `None`: no limit, or not relayed.
    pub(super) fn of(&self, connection: ConnectionId) -> Option<CircuitLimit> {
        self.standing.get(&connection).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(bytes: u64) -> CircuitLimit {
        CircuitLimit {
            bytes: Some(bytes),
            duration: None,
        }
    }

    fn id(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    #[test]
    fn each_connection_has_the_limit_that_was_told_for_its_circuit() {
        let (relay, peer) = (PeerId::random(), PeerId::random());
        let out = Opening {
            relay,
            peer,
            dialled: true,
        };
        let back = Opening {
            dialled: false,
            ..out
        };
        let mut limits = Limits::default();
        limits.told(out, Some(limit(1)));
        limits.told(back, Some(limit(2)));
        limits.told(out, None);
        limits.established(id(1), back);
        limits.established(id(2), out);
        limits.established(id(3), out);
        assert_eq!(
            [1, 2, 3].map(|it| limits.of(id(it))),
            [Some(limit(2)), Some(limit(1)), None]
        );
        limits.closed(id(1));
        assert_eq!(limits.of(id(1)), None);
    }

    #[test]
    fn an_offer_counts_until_something_comes_of_it() {
        let (relay, peer) = (PeerId::random(), PeerId::random());
        let offer = Opening {
            relay,
            peer,
            dialled: false,
        };
        let ours = Opening {
            dialled: true,
            ..offer
        };
        let mut limits = Limits::default();
        for _ in 0..3 {
            limits.told(offer, None);
        }
        limits.told(ours, Some(limit(1)));
        assert_eq!(limits.offered_by(relay), 3);
        limits.failed(offer);
        limits.established(id(1), offer);
        assert_eq!(limits.offered_by(relay), 1);
        assert_eq!(limits.offered_by(PeerId::random()), 0);
        limits.forget(relay);
        assert_eq!(limits.offered_by(relay), 0);
        limits.established(id(2), ours);
        assert_eq!(
            limits.of(id(2)),
            Some(limit(1)),
            "this side's own is not forgotten"
        );
    }

    #[test]
    fn circuits_that_never_come_to_stand_are_forgotten() {
        let mut limits = Limits::default();
        for _ in 0..OPENING * 2 {
            let (relay, peer) = (PeerId::random(), PeerId::random());
            let dialled = false;
            limits.told(
                Opening {
                    relay,
                    peer,
                    dialled,
                },
                Some(limit(1)),
            );
        }
        assert_eq!(limits.opening.len(), OPENING);
    }
}
