//! Circuits through relays: the client's part of circuit relay v2, at both ends of a circuit.
//!
//! libp2p's own client takes a circuit only on the connection on which the reservation was made. Relays by go-libp2p
//! and js-libp2p reserve for a *peer* and open a circuit on whichever connection of that peer they like, and this side
//! has several to each relay so that hole punching has candidates for each transport. So here a reservation is with the
//! relay: it is asked for on one connection, circuits are taken on every one, and when the connection goes on which it
//! was made it is asked for again on another (relays by rust-libp2p forget it with that connection, those by go-libp2p
//! with the last one, those by js-libp2p not before it expires).
//!
//! The [`Transport`] dials and listens at addresses with `/p2p-circuit` in them, the [`Behaviour`] has the connections
//! to relays, and both speak over channels of bounded length. The protocol has no message that gives a reservation
//! back.

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

/// What a client speaks with a relay.
pub const HOP: StreamProtocol = StreamProtocol::new("/libp2p/circuit/relay/0.2.0/hop");

/// What a relay speaks with the peer at which a circuit ends.
pub const STOP: StreamProtocol = StreamProtocol::new("/libp2p/circuit/relay/0.2.0/stop");

/// How long a relay may take for a reservation, and to say which circuit a stream of its own is for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a relay may take to open a circuit: it has to ask the other side.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Circuits that wait to be taken, or for their relay to be connected; one more is refused.
const MAX_WAITING: usize = 64;

/// Circuits that one relay has offered and that no connection stands on yet; one more is refused. A relay that offers
/// circuits from nobody takes no more places than this from those who are about to connect some other way.
const MAX_OFFERED: usize = 16;

/// Messages between the transport and the behaviour before the sender waits.
const CHANNEL: usize = 16;

/// Why there is no circuit or no reservation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The relay says so.
    #[error("{} ({})", in_words(*.0), .0.name())]
    Refused(Status),
    /// It is no relay.
    #[error("the other side does not relay")]
    NotSpoken,
    /// It did not answer in time.
    #[error("the relay did not answer: timed out")]
    Timeout,
    /// It said something that makes no sense, or nothing.
    #[error("the relay's answer makes no sense: {0}")]
    Wire(#[from] WireError),
    /// There is no connection to it, or it was lost.
    #[error("the relay could not be reached")]
    NotReached,
    /// Too many circuits are being opened.
    #[error("resource limit: too many circuits are being opened")]
    Busy,
    /// Another listener has taken its place.
    #[error("the relay is listened at anew")]
    Replaced,
    /// The address does not say which relay, which peer, or how to get there.
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

/// The two halves, for the peer of this identity.
pub fn new(peer: PeerId) -> (Transport, Behaviour) {
    let (to_behaviour, from_transport) = mpsc::channel(CHANNEL);
    let (to_transport, from_behaviour) = mpsc::channel(CHANNEL);
    let transport = Transport::new(to_behaviour, from_behaviour);
    let behaviour = Behaviour::new(peer, from_transport, to_transport);
    (transport, behaviour)
}

/// From the transport to the behaviour.
enum Order {
    /// Be reachable through this relay.
    Listen {
        listener: ListenerId,
        relay: PeerId,
        /// Where it is, without its identity.
        way: Multiaddr,
    },
    /// Don't any more.
    Unlisten(ListenerId),
    /// Open a circuit.
    Dial(Dial),
}

/// A circuit that this side asks for.
#[derive(Debug)]
struct Dial {
    relay: PeerId,
    /// Where it is, without its identity.
    way: Multiaddr,
    to: PeerId,
    answer: oneshot::Sender<Result<Stream, Error>>,
}

/// From the behaviour to the transport.
enum News {
    /// This peer is reachable at this address.
    Address(ListenerId, Multiaddr),
    /// Or not any more.
    AddressGone(ListenerId, Multiaddr),
    /// A circuit comes in.
    Incoming {
        listener: ListenerId,
        stream: Box<Stream>,
        /// The circuit's address, up to `/p2p-circuit`.
        at: Multiaddr,
        from: PeerId,
    },
    /// The relay does not make this peer reachable, or not any longer.
    Closed(ListenerId, Error),
}
