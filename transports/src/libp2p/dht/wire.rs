//! Questions to DHT nodes and their answers, as Kademlia messages of the public network
//!
//! libp2p's Kademlia serves others here. Its own queries wait ten seconds for each silent node and tell neither which
//! node named a provider nor the provider's addresses. So this side sends its questions one by one, and
//! [`walk`](super::walk) decides which node to ask.

use std::io;
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite};
use handover_core::dial::of_each_kind;
use libp2p::request_response::{self, OutboundRequestId, ProtocolSupport};
use libp2p::swarm::{ConnectionId, StreamProtocol};
use libp2p::{Multiaddr, PeerId};
use prost::Message as _;

use crate::libp2p::delimited::{read_bytes, write};

/// The behaviour that asks nodes.
pub(crate) type Behaviour = request_response::Behaviour<Wire>;

/// Timeout for an answer once the node is connected.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of questions at once on one connection.
const STREAMS: usize = 32;
/// Maximum length of an answer, in bytes: 40 peers with ten addresses each take about 20 KiB.
const MAX_MESSAGE: usize = 128 * 1024;
/// Maximum number of peers used from one answer: closer nodes and providers each.
const PEERS: usize = 20;
/// Maximum number of addresses of one peer that are read, and that are kept.
const ADDRESSES_READ: usize = 64;
const ADDRESSES: usize = 8;

/// Creates the behaviour, which asks and never answers.
pub(crate) fn behaviour() -> Behaviour {
    let config = request_response::Config::default()
        .with_request_timeout(ANSWER_TIMEOUT)
        .with_max_concurrent_streams(STREAMS);
    Behaviour::new([(super::PROTOCOL, ProtocolSupport::Outbound)], config)
}

/// Returns the question that this event ends, with its connection and answer, or without them if it failed.
pub(crate) fn ended(
    event: request_response::Event<Question, Answer>,
) -> Option<(OutboundRequestId, Option<(ConnectionId, Answer)>)> {
    match event {
        request_response::Event::Message {
            connection_id,
            message:
                request_response::Message::Response {
                    request_id,
                    response,
                },
            ..
        } => Some((request_id, Some((connection_id, response)))),
        request_response::Event::OutboundFailure {
            request_id,
            peer,
            error,
            ..
        } => {
            tracing::debug!(%peer, %error, "a node of the DHT has not answered");
            Some((request_id, None))
        }
        _ => None,
    }
}

/// A peer and its claimed addresses.
pub(crate) type PeerAt = (PeerId, Vec<Multiaddr>);

/// A question to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Question {
    /// Which nodes are closest to this key?
    Closest(Vec<u8>),
    /// Which peers are announced at this key?
    Providers(Vec<u8>),
    /// Store this record. There is no answer: the node closes the stream once it has read it.
    Keep {
        key: Vec<u8>,
        provider: PeerId,
        addresses: Vec<Multiaddr>,
    },
}

/// A node's answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Nodes closer to the key.
    pub(crate) closer: Vec<PeerAt>,
    /// Peers announced at the key.
    pub(crate) providers: Vec<PeerAt>,
}

/// The fields of a Kademlia message that are used here.
#[derive(Clone, PartialEq, prost::Message)]
struct Message {
    #[prost(enumeration = "Kind", tag = "1")]
    kind: i32,
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
    #[prost(message, repeated, tag = "8")]
    closer: Vec<Peer>,
    #[prost(message, repeated, tag = "9")]
    providers: Vec<Peer>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Peer {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    addresses: Vec<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
enum Kind {
    PutValue = 0,
    GetValue = 1,
    AddProvider = 2,
    GetProviders = 3,
    FindNode = 4,
    Ping = 5,
}

impl Question {
    fn message(self) -> Message {
        let message = |kind: Kind, key: Vec<u8>| Message {
            kind: kind.into(),
            key,
            ..Message::default()
        };
        match self {
            Self::Closest(key) => message(Kind::FindNode, key),
            Self::Providers(key) => message(Kind::GetProviders, key),
            Self::Keep {
                key,
                provider,
                addresses,
            } => {
                let provider = Peer {
                    id: provider.to_bytes(),
                    addresses: addresses.iter().map(Multiaddr::to_vec).collect(),
                };
                let mut keep = message(Kind::AddProvider, key);
                keep.providers.push(provider);
                keep
            }
        }
    }
}

impl Answer {
    /// True if this peer is among the providers, with an address.
    pub(crate) fn tells_of(&self, peer: PeerId) -> bool {
        let mut providers = self.providers.iter();
        providers.any(|(provider, addresses)| *provider == peer && !addresses.is_empty())
    }
}

impl From<Message> for Answer {
    fn from(message: Message) -> Self {
        Self {
            closer: peers(message.closer),
            providers: peers(message.providers),
        }
    }
}

/// Parses peers, leaving out what is invalid.
fn peers(peers: Vec<Peer>) -> Vec<PeerAt> {
    let read = |peer: Peer| {
        let id = PeerId::from_bytes(&peer.id).ok()?;
        let addresses = peer.addresses.into_iter();
        let addresses = addresses.filter_map(|bytes| Multiaddr::try_from(bytes).ok());
        Some((id, of_each_kind(addresses.take(ADDRESSES_READ), ADDRESSES)))
    };
    peers.into_iter().filter_map(read).take(PEERS).collect()
}

/// Writes one question and reads its answer. Each stream has its own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wire {
    /// The question has no answer.
    is_mute: bool,
}

impl request_response::Codec for Wire {
    type Protocol = StreamProtocol;
    type Request = Question;
    type Response = Answer;

    async fn read_request<T>(&mut self, _: &StreamProtocol, _: &mut T) -> io::Result<Question>
    where
        T: AsyncRead + Unpin + Send,
    {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Answer>
    where
        T: AsyncRead + Unpin + Send,
    {
        if self.is_mute {
            io.take(1).read_to_end(&mut Vec::new()).await?;
            return Ok(Answer::default());
        }
        let bytes = read_bytes(io, MAX_MESSAGE).await?;
        Ok(Message::decode(&bytes[..])?.into())
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        question: Question,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        self.is_mute = matches!(question, Question::Keep { .. });
        write(io, &question.message()).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        _: &mut T,
        _: Answer,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use futures::io::Cursor;
    use libp2p::request_response::Codec;

    use super::*;

    fn answer_of(bytes: Vec<u8>) -> io::Result<Answer> {
        let mut bytes = Cursor::new(bytes);
        block_on(Wire::default().read_response(&super::super::PROTOCOL, &mut bytes))
    }

    fn named(id: Vec<u8>, addresses: usize) -> Peer {
        let address = |port: usize| format!("/ip4/192.0.2.1/tcp/{port}").parse::<Multiaddr>();
        let addresses = (1..=addresses).map(|port| address(port).unwrap().to_vec());
        Peer {
            id,
            addresses: addresses.collect(),
        }
    }

    #[test]
    fn a_record_has_no_answer_but_the_end_of_its_stream() {
        let provider = PeerId::random();
        let question = Question::Keep {
            key: vec![7; 34],
            provider,
            addresses: vec!["/ip4/192.0.2.1/tcp/1".parse().unwrap()],
        };
        let mut wire = Wire::default();
        let mut written = Cursor::new(Vec::new());
        block_on(wire.write_request(&super::super::PROTOCOL, &mut written, question)).unwrap();
        written.set_position(0);
        let bytes = block_on(read_bytes(&mut written, MAX_MESSAGE)).unwrap();
        let message = Message::decode(&bytes[..]).unwrap();
        let at = vec!["/ip4/192.0.2.1/tcp/1".parse().unwrap()];
        assert_eq!(
            (message.kind(), &message.key[..]),
            (Kind::AddProvider, &[7; 34][..])
        );
        assert_eq!(peers(message.providers), [(provider, at)]);
        let mut ended = Cursor::new(Vec::new());
        let answer = block_on(wire.read_response(&super::super::PROTOCOL, &mut ended));
        assert_eq!(answer.unwrap(), Answer::default());
    }

    #[test]
    fn what_a_node_names_is_bounded_and_rubbish_in_it_is_left_out() {
        let good = PeerId::random();
        let mut message = Message {
            closer: vec![named(vec![1, 2, 3], 1)],
            ..Message::default()
        };
        message.closer.push(named(good.to_bytes(), 100));
        message.closer[1].addresses.insert(0, vec![0xff; 9]);
        message.providers = (0..100)
            .map(|_| named(PeerId::random().to_bytes(), 0))
            .collect();
        let answer = answer_of(message.encode_length_delimited_to_vec()).unwrap();
        assert_eq!((answer.closer.len(), answer.providers.len()), (1, PEERS));
        assert_eq!(answer.closer[0].0, good);
        assert_eq!(answer.closer[0].1.len(), ADDRESSES);
    }

    #[test]
    fn an_answer_that_is_too_long_cut_off_or_none_is_an_error() {
        assert!(answer_of(vec![0xff, 0xff, 0xff, 0xff, 0x7f]).is_err());
        assert!(answer_of(vec![0xff; 64]).is_err());
        assert!(answer_of(vec![9, 1]).is_err());
        assert!(answer_of(Vec::new()).is_err());
        assert_eq!(answer_of(vec![0]).unwrap(), Answer::default());
    }
}
