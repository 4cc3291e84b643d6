//! The wire messages of circuit relay v2 and their meaning
//!
//! All of them come from an untrusted relay. Fields that are missing, unknown or too long are an error or ignored.

use std::time::Duration;

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use prost::Message;

use handover_core::dial::is_relayed;

/// Maximum number of relay addresses used from one reply.
pub const MAX_ADDRESSES: usize = 16;

/// A message between a client and a relay.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct HopMessage {
    /// See [`HopKind`].
    #[prost(enumeration = "HopKind", optional, tag = "1")]
    pub kind: Option<i32>,
    /// The target, in a request for a circuit.
    #[prost(message, optional, tag = "2")]
    pub peer: Option<Peer>,
    /// In the reply to a reservation request.
    #[prost(message, optional, tag = "3")]
    pub reservation: Option<Reservation>,
    /// The limit of one circuit. `None`: no limit.
    #[prost(message, optional, tag = "4")]
    pub limit: Option<Limit>,
    /// See [`Status`].
    #[prost(enumeration = "Status", optional, tag = "5")]
    pub status: Option<i32>,
}

/// A message between a relay and the peer that a circuit leads to.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct StopMessage {
    /// See [`StopKind`].
    #[prost(enumeration = "StopKind", optional, tag = "1")]
    pub kind: Option<i32>,
    /// The peer that opens the circuit.
    #[prost(message, optional, tag = "2")]
    pub peer: Option<Peer>,
    /// The circuit's limit. `None`: no limit.
    #[prost(message, optional, tag = "3")]
    pub limit: Option<Limit>,
    /// See [`Status`].
    #[prost(enumeration = "Status", optional, tag = "4")]
    pub status: Option<i32>,
}

/// A peer.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Peer {
    /// Its peer id.
    #[prost(bytes = "vec", optional, tag = "1")]
    pub id: Option<Vec<u8>>,
    /// Its addresses. Unused.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub addrs: Vec<Vec<u8>>,
}

/// A reservation.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Reservation {
    /// Expiry, in seconds since 1970 by the relay's clock.
    #[prost(uint64, optional, tag = "1")]
    pub expire: Option<u64>,
    /// The relay's addresses.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub addrs: Vec<Vec<u8>>,
    /// The relay's signed voucher. Unused.
    #[prost(bytes = "vec", optional, tag = "3")]
    pub voucher: Option<Vec<u8>>,
}

/// The limit of one circuit.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Limit {
    /// In seconds. 0: no limit.
    #[prost(uint32, optional, tag = "1")]
    pub duration: Option<u32>,
    /// In bytes for each direction. 0: no limit.
    #[prost(uint64, optional, tag = "2")]
    pub data: Option<u64>,
}

/// The kinds of a [`HopMessage`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum HopKind {
    /// Request for a reservation.
    Reserve = 0,
    /// Request for a circuit.
    Connect = 1,
    /// The relay's reply.
    Status = 2,
}

/// The kinds of a [`StopMessage`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum StopKind {
    /// The relay offers a circuit.
    Connect = 0,
    /// The peer accepts or refuses it.
    Status = 1,
}

/// The status in a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Status {
    /// Missing, or a number that is not listed below.
    Unknown = 0,
    /// Success.
    Ok = 100,
    /// The relay refuses the reservation for reasons of its own.
    ReservationRefused = 200,
    /// The relay has reached a resource limit.
    ResourceLimitExceeded = 201,
    /// The relay does not serve this peer.
    PermissionDenied = 202,
    /// The other peer can't be reached or does not accept the circuit.
    ConnectionFailed = 203,
    /// The other peer has no reservation.
    NoReservation = 204,
    /// The request is malformed.
    MalformedMessage = 400,
    /// The request is not of a kind that is answered here.
    UnexpectedMessage = 401,
}

impl Status {
    /// The name in the specification.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Ok => "OK",
            Self::ReservationRefused => "RESERVATION_REFUSED",
            Self::ResourceLimitExceeded => "RESOURCE_LIMIT_EXCEEDED",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ConnectionFailed => "CONNECTION_FAILED",
            Self::NoReservation => "NO_RESERVATION",
            Self::MalformedMessage => "MALFORMED_MESSAGE",
            Self::UnexpectedMessage => "UNEXPECTED_MESSAGE",
        }
    }
}

/// The limit of one circuit. The relay resets the circuit when either value is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitLimit {
    /// In bytes, for each direction by the specification; some relays count both together. `None`: no limit.
    pub bytes: Option<u64>,
    /// Counted from the opening of the circuit. `None`: no limit.
    pub duration: Option<Duration>,
}

impl CircuitLimit {
    /// Returns `None` if nothing is limited.
    pub fn of(told: Option<Limit>) -> Option<Self> {
        let told = told?;
        let this = Self {
            bytes: told.data.filter(|bytes| *bytes > 0),
            duration: told
                .duration
                .filter(|seconds| *seconds > 0)
                .map(|seconds| Duration::from_secs(seconds.into())),
        };
        (this.bytes.is_some() || this.duration.is_some()).then_some(this)
    }
}

impl HopMessage {
    /// Creates a request for a reservation.
    pub fn reserve() -> Self {
        Self {
            kind: Some(HopKind::Reserve.into()),
            ..Self::default()
        }
    }

    /// Creates a request for a circuit to this peer.
    pub fn connect(to: PeerId) -> Self {
        Self {
            kind: Some(HopKind::Connect.into()),
            peer: Some(Peer::of(to)),
            ..Self::default()
        }
    }

    /// Returns the status if this is a reply.
    pub fn answer(&self) -> Option<Status> {
        let is_answer = self.kind == Some(HopKind::Status.into());
        is_answer.then(|| status(self.status))
    }
}

impl StopMessage {
    /// Creates a reply to a relay.
    pub fn answering(status: Status) -> Self {
        Self {
            kind: Some(StopKind::Status.into()),
            status: Some(status.into()),
            ..Self::default()
        }
    }

    /// Returns the peer that opens the offered circuit, or `None` if this is no offer.
    pub fn source(&self) -> Option<PeerId> {
        let offers = self.kind == Some(StopKind::Connect.into());
        self.peer.as_ref().filter(|_| offers)?.identity()
    }
}

fn status(number: Option<i32>) -> Status {
    let known = number.and_then(|number| Status::try_from(number).ok());
    known.unwrap_or(Status::Unknown)
}

impl Peer {
    /// Creates a peer without addresses.
    pub fn of(peer: PeerId) -> Self {
        Self {
            id: Some(peer.to_bytes()),
            addrs: Vec::new(),
        }
    }

    /// Returns the peer id if it is valid.
    pub fn identity(&self) -> Option<PeerId> {
        PeerId::from_bytes(self.id.as_deref()?).ok()
    }
}

impl Reservation {
    /// Returns the relay's addresses without its peer id. Leaves out what is no address, what names another peer, and
    /// addresses through a relay.
    pub fn ways(&self, relay: PeerId) -> Vec<Multiaddr> {
        let mut ways: Vec<Multiaddr> = Vec::new();
        for bytes in &self.addrs {
            let Ok(mut address) = Multiaddr::try_from(bytes.clone()) else {
                continue;
            };
            if let Some(Protocol::P2p(peer)) = address.iter().last() {
                if peer != relay {
                    continue;
                }
                address.pop();
            }
            if !address.is_empty() && !is_relayed(&address) && !ways.contains(&address) {
                ways.push(address);
            }
            if ways.len() >= MAX_ADDRESSES {
                break;
            }
        }
        ways
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;
    use crate::libp2p::delimited::{MAX_MESSAGE, WireError, read, write};

    fn read_all<M: Message + Default>(mut bytes: &[u8]) -> (Result<M, WireError>, usize) {
        let before = bytes.len();
        let read = read(&mut bytes)
            .now_or_never()
            .expect("nothing to wait for");
        (read, before - bytes.len())
    }

    fn any_message() -> impl Strategy<Value = HopMessage> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..60);
        let peer = proptest::option::of((proptest::option::of(bytes()), Just(Vec::new())));
        let reservation = proptest::option::of((
            any::<Option<u64>>(),
            proptest::collection::vec(bytes(), 0..20),
            proptest::option::of(bytes()),
        ));
        let limit = any::<Option<(Option<u32>, Option<u64>)>>();
        let numbers = (any::<Option<i32>>(), any::<Option<i32>>());
        (numbers, peer, reservation, limit).prop_map(|((kind, status), peer, promise, limit)| {
            HopMessage {
                kind,
                status,
                peer: peer.map(|(id, addrs)| Peer { id, addrs }),
                reservation: promise.map(|(expire, addrs, voucher)| Reservation {
                    expire,
                    addrs,
                    voucher,
                }),
                limit: limit.map(|(duration, data)| Limit { duration, data }),
            }
        })
    }

    proptest! {
        #[test]
        fn whatever_a_relay_sends_is_a_message_or_an_error(
            bytes in proptest::collection::vec(any::<u8>(), 0..6000),
        ) {
            let (hop, taken) = read_all::<HopMessage>(&bytes);
            prop_assert!(taken <= MAX_MESSAGE + 2);
            if let Ok(hop) = hop {
                hop.answer();
                CircuitLimit::of(hop.limit);
            }
            if let (Ok(stop), _) = read_all::<StopMessage>(&bytes) {
                stop.source();
            }
        }

        #[test]
        fn what_is_written_is_read_and_what_follows_is_left(
            message in any_message(),
            after in proptest::collection::vec(any::<u8>(), 0..9),
        ) {
            let mut bytes = Vec::new();
            write(&mut bytes, &message).now_or_never().expect("there is room").unwrap();
            let length = bytes.len();
            bytes.extend(after);
            let (read, taken) = read_all::<HopMessage>(&bytes);
            prop_assert_eq!((read.unwrap(), taken), (message.clone(), length));
            for cut in 0..length {
                prop_assert!(read_all::<HopMessage>(&bytes[..cut]).0.is_err());
            }
            let relay = PeerId::random();
            let ways = message.reservation.unwrap_or_default().ways(relay);
            prop_assert!(ways.len() <= MAX_ADDRESSES);
            prop_assert!(!ways.iter().any(is_relayed));
        }
    }

    #[test]
    fn a_message_that_says_it_is_too_long_is_not_waited_for() {
        for length in [&[0x81, 0x20][..], &[0xff, 0xff], &[0xff; 10]] {
            let (read, taken) = read_all::<HopMessage>(length);
            assert!(matches!(read, Err(WireError::TooLong)), "{length:?}");
            assert_eq!(taken, 2);
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let mut bytes = Vec::new();
        let asks = HopMessage::reserve();
        let written = write(&mut bytes, &asks).now_or_never();
        written.expect("there is room").unwrap();
        assert_eq!(bytes, [2, 0x08, 0]);
        let answer = [7, 0x08, 2, 0x22, 0, 0x28, 201, 1];
        let (read, _) = read_all::<HopMessage>(&answer);
        assert_eq!(read.unwrap().answer(), Some(Status::ResourceLimitExceeded));
        let (read, _) = read_all::<HopMessage>(&[2, 0x28, 100]);
        assert_eq!(read.unwrap().answer(), None, "a message of no kind");
    }

    #[test]
    fn of_the_ways_to_a_relay_only_its_own_direct_ones_are_taken() {
        let (relay, other) = (PeerId::random(), PeerId::random());
        let way: Multiaddr = "/ip4/192.0.2.1/tcp/1".parse().unwrap();
        let named = |peer| way.clone().with(Protocol::P2p(peer));
        let reservation = |addresses: Vec<Multiaddr>| Reservation {
            addrs: addresses.iter().map(Multiaddr::to_vec).collect(),
            ..Reservation::default()
        };
        let circuit = named(other).with(Protocol::P2pCircuit);
        let told = reservation(vec![named(relay), way.clone(), named(other), circuit]);
        assert_eq!(told.ways(relay), [way]);
        let port = |port| format!("/ip4/192.0.2.1/tcp/{port}").parse().unwrap();
        let many = reservation((1..100).map(port).collect());
        assert_eq!(many.ways(relay).len(), MAX_ADDRESSES);
    }

    #[test]
    fn nothing_limited_is_no_limit() {
        let limit = |duration, data| CircuitLimit::of(Some(Limit { duration, data }));
        assert_eq!(CircuitLimit::of(None), None);
        assert_eq!(limit(None, Some(0)), None);
        assert_eq!(limit(Some(0), Some(0)), None);
        let some = limit(Some(120), None).unwrap();
        assert_eq!(
            (some.bytes, some.duration),
            (None, Some(Duration::from_mins(2)))
        );
    }
}
