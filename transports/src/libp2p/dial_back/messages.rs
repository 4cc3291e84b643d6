//! The wire messages of `AutoNAT` v1 and the meaning of an answer. Like those of circuit relays, each is a
//! length-prefixed protobuf of at most 4 KiB from an untrusted node.

use handover_core::dial_back::Answer;
use libp2p::{Multiaddr, PeerId};

use crate::libp2p::dials::split;

/// A question or an answer.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Message {
    /// See [`Kind`].
    #[prost(enumeration = "Kind", optional, tag = "1")]
    pub(crate) kind: Option<i32>,
    /// The question.
    #[prost(message, optional, tag = "2")]
    pub(crate) dial: Option<Dial>,
    /// The answer.
    #[prost(message, optional, tag = "3")]
    pub(crate) response: Option<Response>,
}

/// The peer to dial.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Dial {
    /// The peer that asks.
    #[prost(message, optional, tag = "1")]
    pub(crate) peer: Option<Peer>,
}

/// A peer and its addresses.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Peer {
    /// Its peer id.
    #[prost(bytes = "vec", optional, tag = "1")]
    pub(crate) id: Option<Vec<u8>>,
    /// Its addresses.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(crate) addrs: Vec<Vec<u8>>,
}

/// An answer.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Response {
    /// See [`Status`].
    #[prost(enumeration = "Status", optional, tag = "1")]
    pub(crate) status: Option<i32>,
    /// Text for humans. Unused.
    #[prost(string, optional, tag = "2")]
    pub(crate) text: Option<String>,
    /// The address that the node could reach.
    #[prost(bytes = "vec", optional, tag = "3")]
    pub(crate) addr: Option<Vec<u8>>,
}

/// The kinds of a [`Message`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Kind {
    /// A question.
    Dial = 0,
    /// An answer.
    Response = 1,
}

/// The outcome of a dial-back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Status {
    /// The node reached the peer.
    Ok = 0,
    /// The node tried and could not reach the peer.
    DialError = 100,
    /// The node did not try.
    DialRefused = 101,
    /// The node rejects the question as malformed.
    BadRequest = 200,
    /// An internal error of the node.
    InternalError = 300,
}

impl Message {
    /// Asks to dial this peer at a single address. Given several, a node would not say which ones failed.
    pub(crate) fn asking(peer: PeerId, address: &Multiaddr) -> Self {
        let peer = Peer {
            id: Some(peer.to_bytes()),
            addrs: vec![address.to_vec()],
        };
        Self {
            kind: Some(Kind::Dial.into()),
            dial: Some(Dial { peer: Some(peer) }),
            response: None,
        }
    }

    /// Returns the meaning of this message as an answer.
    pub(crate) fn answer(self) -> Answer {
        let is_answer = self.kind == Some(Kind::Response.into());
        let Some(response) = self.response.filter(|_| is_answer) else {
            return Answer::Nothing;
        };
        let status = response.status.and_then(|it| Status::try_from(it).ok());
        match status {
            Some(Status::Ok) => response.addr.map_or(Answer::Nothing, reached),
            Some(Status::DialError) => Answer::NotReached,
            _ => Answer::Nothing,
        }
    }
}

fn reached(address: Vec<u8>) -> Answer {
    match Multiaddr::try_from(address) {
        Ok(address) => Answer::Reached(split(&address).0),
        Err(_) => Answer::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use libp2p::multiaddr::Protocol;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    fn at() -> Multiaddr {
        "/ip4/11.0.0.1/tcp/1".parse().unwrap()
    }

    fn answered(status: i32, address: Option<Vec<u8>>) -> Answer {
        let message = Message {
            kind: Some(Kind::Response.into()),
            dial: None,
            response: Some(Response {
                status: Some(status),
                text: None,
                addr: address,
            }),
        };
        message.answer()
    }

    #[test]
    fn only_a_node_that_tried_says_anything() {
        let named = at().with(Protocol::P2p(PeerId::random()));
        for address in [at(), named] {
            assert_eq!(answered(0, Some(address.to_vec())), Answer::Reached(at()));
        }
        assert_eq!(answered(100, Some(at().to_vec())), Answer::NotReached);
        assert_eq!(answered(100, None), Answer::NotReached);
        for (status, address) in [
            (0, None),
            (0, Some(vec![255; 8])),
            (101, None),
            (200, None),
            (300, None),
            (-7, None),
        ] {
            assert_eq!(answered(status, address), Answer::Nothing, "{status}");
        }
        assert_eq!(Message::default().answer(), Answer::Nothing);
        let question = Message::asking(PeerId::random(), &at());
        assert_eq!(question.answer(), Answer::Nothing);
    }

    #[test]
    fn a_question_is_what_the_protocol_says() {
        let peer = PeerId::random();
        let address = at();
        let (id, address_bytes) = (peer.to_bytes(), address.to_vec());
        let mut named = vec![0x0a, u8::try_from(id.len()).unwrap()];
        named.extend(&id);
        named.extend([0x12, u8::try_from(address_bytes.len()).unwrap()]);
        named.extend(&address_bytes);
        let length = u8::try_from(named.len()).unwrap();
        let mut wanted = vec![0x08, 0, 0x12, length + 2, 0x0a, length];
        wanted.extend(named);
        assert_eq!(Message::asking(peer, &address).encode_to_vec(), wanted);
    }

    proptest! {
        #[test]
        fn whatever_a_node_sends_is_an_answer_or_none(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            if let Ok(message) = Message::decode(bytes.as_slice()) {
                message.answer();
            }
        }
    }
}
