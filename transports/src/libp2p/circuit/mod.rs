//! Circuits through relays: the client side of circuit relay v2, at both ends of a circuit
//!
//! libp2p's own client accepts a circuit only on the connection on which it made the reservation. Relays by go-libp2p
//! and js-libp2p reserve for a *peer* and open a circuit on any connection of that peer, and this side has several
//! connections to each relay so that hole punching has candidates for every transport. So here a reservation belongs to
//! the relay: it is requested on one connection, circuits are accepted on all of them, and when the connection of the
//! request closes, the reservation is requested again on another one. (Relays by rust-libp2p drop a reservation with
//! that connection, go-libp2p with the last one, js-libp2p only when it expires.)
//!
//! The [`Transport`] dials and listens on addresses with `/p2p-circuit`, the [`Behaviour`] owns the connections to
//! relays, and the two talk over bounded channels. The protocol has no message to give a reservation back.

mod address;
mod behaviour;
mod exchange;
mod handler;
pub mod messages;
mod reservation;
#[cfg(test)]
mod tests;
mod told;
mod transport;

use std::io;
use std::time::Duration;

use futures::channel::{mpsc, oneshot};
use libp2p::core::transport::ListenerId;
use libp2p::swarm::{Stream, StreamProtocol};
use libp2p::{Multiaddr, PeerId};

use super::delimited::WireError;

pub use self::behaviour::{Behaviour, Event};
pub use self::messages::{CircuitLimit, Status};
pub use self::transport::Transport;

/// The protocol between a client and a relay.
pub const HOP: StreamProtocol = StreamProtocol::new("/libp2p/circuit/relay/0.2.0/hop");

/// The protocol between a relay and the peer that a circuit leads to.
pub const STOP: StreamProtocol = StreamProtocol::new("/libp2p/circuit/relay/0.2.0/stop");

/// Timeout for the reply to a reservation request, and for the offer on a stream that a relay has opened.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Timeout for opening a circuit: the relay has to ask the other peer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Maximum number of incoming circuits waiting for the transport, and of outgoing circuits waiting for a connection to
/// their relay. Any further circuit is refused.
const MAX_WAITING: usize = 64;

/// Maximum number of circuits offered by one relay that have no connection yet; any further offer is refused. A relay
/// that offers circuits from made-up peers leaves the other places to peers that come some other way.
const MAX_OFFERED: usize = 16;

/// Capacity of the channels between transport and behaviour, in messages.
const CHANNEL: usize = 16;

/// Why there is no circuit or no reservation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The relay refused with this status.
    #[error("{} ({})", in_words(*.0), .0.name())]
    Refused(Status),
    /// The other side is no relay.
    #[error("the other side does not relay")]
    NotSpoken,
    /// The relay did not answer in time.
    #[error("the relay did not answer: timed out")]
    Timeout,
    /// The relay's answer is malformed or missing.
    #[error("the relay's answer makes no sense: {0}")]
    Wire(#[from] WireError),
    /// There is no connection to the relay, or it was lost.
    #[error("the relay could not be reached")]
    NotReached,
    /// Too many circuits are being opened.
    #[error("resource limit: too many circuits are being opened")]
    Busy,
    /// A newer listener uses this relay.
    #[error("the relay is listened at anew")]
    Replaced,
    /// The address names no relay, no peer, or no address of the relay.
    #[error("the circuit address {0} is not supported")]
    Address(Multiaddr),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Wire(error.into())
    }
}

fn in_words(status: Status) -> &'static str {
    match status {
        Status::ReservationRefused => "the relay refused the reservation: resource limit",
        Status::ResourceLimitExceeded => "the relay has reached a resource limit",
        Status::PermissionDenied => "the relay denied permission",
        Status::ConnectionFailed => "the relay failed to connect to destination",
        Status::NoReservation => "the relay has no reservation for the destination",
        Status::Ok | Status::Unknown | Status::MalformedMessage | Status::UnexpectedMessage => {
            "the relay answered something else than was asked"
        }
    }
}

/// Creates the transport and the behaviour for the peer with this id.
pub fn new(peer: PeerId) -> (Transport, Behaviour) {
    let (to_behaviour, from_transport) = mpsc::channel(CHANNEL);
    let (to_transport, from_behaviour) = mpsc::channel(CHANNEL);
    let transport = Transport::new(to_behaviour, from_behaviour);
    let behaviour = Behaviour::new(peer, from_transport, to_transport);
    (transport, behaviour)
}

/// An order from the transport to the behaviour.
enum Order {
    /// Request a reservation at this relay.
    Listen {
        listener: ListenerId,
        relay: PeerId,
        /// The relay's address, without its peer id.
        way: Multiaddr,
    },
    /// Drop the reservation of this listener.
    Unlisten(ListenerId),
    /// Open a circuit.
    Dial(Dial),
}

/// A circuit requested by this side.
#[derive(Debug)]
struct Dial {
    relay: PeerId,
    /// The relay's address, without its peer id.
    way: Multiaddr,
    to: PeerId,
    answer: oneshot::Sender<Result<Stream, Error>>,
}

/// A message from the behaviour to the transport.
enum News {
    /// This peer is reachable at this address.
    Address(ListenerId, Multiaddr),
    /// This peer is no longer reachable at this address.
    AddressGone(ListenerId, Multiaddr),
    /// An incoming circuit.
    Incoming {
        listener: ListenerId,
        stream: Box<Stream>,
        /// The circuit's address, up to `/p2p-circuit`.
        at: Multiaddr,
        from: PeerId,
    },
    /// The reservation was refused or lost.
    Closed(ListenerId, Error),
}
