//! The messages of a link and their encoding: CBOR maps with one key, the message's name.
//!
//! Bulk bytes are not part of a message. They follow it in the frame, as its payload (see [`crate::frame`]). Decoders
//! ignore unknown fields, so later versions may add some.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use zeroize::ZeroizeOnDrop;

use crate::bounded::Bounded;
use crate::code::MAX_ADDRESSES;
use crate::engine::Segment;
use crate::limits::MAX_HEADER;
use crate::manifest::{ManifestId, SignedRoots};
use crate::merkle::Hash;

/// Maximum number of segments in a request or an answer, whatever [`crate::limits::Limits`] says.
pub const MAX_SEGMENTS: usize = 256;
/// Maximum number of hashes in one proof: 6 inside a group, and one for each of the 46 levels above it up to 2^64 bytes.
pub const MAX_PROOF: usize = 52;
/// Maximum length of a name in a message, in bytes.
pub const MAX_TEXT: usize = 255;
/// Maximum number of ranges of parts in one [`Message::Parts`].
pub const MAX_RANGES: usize = 1024;
/// Maximum number of peers in one [`Message::Peers`].
pub const MAX_PEERS: usize = 16;
/// Maximum number of addresses of each peer there. A message with the maximum of everything fills half of a header.
pub const MAX_PEER_ADDRESSES: usize = 8;

/// The handshake request: the first, unsealed frame of a link, from the initiator. Names the share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandshakeRequest {
    /// Version of the protocol: 1.
    #[serde(rename = "v")]
    pub version: u32,
    /// [`crate::handshake::name_in_request`]: identifies the share to peers that know its secret, in this request only.
    #[serde(rename = "t", with = "serde_bytes")]
    pub name: [u8; 16],
    /// First message of the Noise handshake.
    #[serde(rename = "n", with = "serde_bytes")]
    pub noise: Vec<u8>,
}

/// The first frame of a link by a receiver with a short code. Names the share by the code's public number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShortCodeRequest {
    /// Version of the protocol: 1.
    #[serde(rename = "v")]
    pub version: u32,
    /// The code's number.
    #[serde(rename = "c")]
    pub number: u32,
    /// The receiver's point: see [`crate::pake`].
    #[serde(rename = "p", with = "serde_bytes")]
    pub point: Vec<u8>,
}

/// The first frame of a link, of either kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Opening {
    /// From a peer with the share's secret.
    Secret(HandshakeRequest),
    /// From a receiver with a short code.
    Short(ShortCodeRequest),
}

/// The password proof that follows [`HandshakeReply::Point`]: the handshake's first message, keyed by the points and the
/// words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// First message of the Noise handshake.
    #[serde(rename = "n", with = "serde_bytes")]
    pub noise: Vec<u8>,
}

/// The handshake reply: the answer to a [`HandshakeRequest`], a [`ShortCodeRequest`] or a [`Proof`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandshakeReply {
    /// Second message of the Noise handshake. All following frames are sealed.
    Noise(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The sharer's point: see [`crate::pake`]. The receiver answers with a [`Proof`].
    Point(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The handshake failed and the link ends.
    Refused(Refusal),
}

/// Why a handshake request or a password proof was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// No share with this name and key is offered here (any more).
    NoSuchShare,
    /// The short code's words differ from those of the sharer. This counted as one guess.
    WrongWords,
    /// Unsupported version of the protocol.
    Version,
    /// The seeder has too many links, or the link is being closed. A later attempt may succeed.
    Busy,
}

/// The messages of a keyed link.
// The comment of each variant describes its fields.
#[allow(missing_docs)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    // From the receiver.
    /// First message of the receiver on each link.
    Hello {
        /// Random number of a download, which tells several links of one download from several downloads of one peer.
        session: u64,
        /// The receiver's name for itself, at most [`MAX_TEXT`] bytes.
        name: String,
    },
    /// Requests bytes of the encoded, signed manifest from `offset`, as many as fit one frame.
    GetManifest { offset: u64 },
    /// Requests ranges: one range inside a group, or several whole files that together fit a group. Each request is
    /// answered once, by [`Message::Data`], in any order.
    Request {
        /// Increases with each request on a link.
        id: u64,
        segments: Bounded<Segment, MAX_SEGMENTS>,
    },
    /// Cancels these requests. Those not yet read from disk are answered without bytes.
    Forget { ids: Bounded<u64, MAX_SEGMENTS> },
    /// Requests the root of an entry that was served without one. Answered by [`Message::Roots`] or
    /// [`Message::Failed`].
    GetRoot { entry: u32 },
    /// Requests the roots of all files among `count` entries from `first`: known roots at once, the others as soon as
    /// they are known. Answered by one or more [`Message::Roots`].
    GetRoots { first: u32, count: u32 },
    /// Requests the chunks of a file ([`crate::chunk`]), from the chunk with number `first`. Answered by
    /// [`Message::Chunks`].
    GetChunks { entry: u32, first: u32 },
    /// Progress of the receiver: bytes it has, and bytes it wants in total. Only for the sharer's display.
    Have { done: u64, total: u64 },
    /// The receiver is finished with the share and requests nothing more.
    Leave { outcome: Leave },
    /// The receiver serves what it has, at these addresses, which may be passed on to other receivers of the share. Sent
    /// again when they change.
    Seeds {
        #[serde(rename = "a")]
        addresses: Bounded<ByteBuf, MAX_ADDRESSES>,
    },

    // From the sharer.
    /// First message of the sharer on a link that was opened with a short code: the share's secret, with which the
    /// receiver can open further links without the code.
    Secret {
        #[serde(rename = "k")]
        secret: SecretBytes,
    },
    /// First message of the sharer on each link, or the second after [`Message::Secret`]. Sent again once the manifest is
    /// complete.
    Welcome {
        /// The manifest to come; `None` while files are still being listed.
        manifest: Option<Announced>,
    },
    /// Payload: bytes of the encoded, signed manifest from `offset`. `total` is its length.
    Manifest { offset: u64, total: u64 },
    /// Answers a request. Payload: the bytes of each served segment, in order.
    Data {
        id: u64,
        segments: Bounded<Served, MAX_SEGMENTS>,
        /// Signed roots of entries in this answer that were not sent on this link before.
        roots: Option<SignedRoots>,
    },
    /// Answers [`Message::GetRoot`] and [`Message::GetRoots`].
    Roots(SignedRoots),
    /// Answers [`Message::GetChunks`]. Payload: chunks from number `first`, as many as fit. `total` is the file's number
    /// of chunks; 0 means that there is no list for it.
    Chunks { entry: u32, first: u32, total: u32 },
    /// An entry cannot be served (any more).
    Failed { entry: u32, reason: Failure },
    /// The sharer's rate limit: requests should ask for at most `piece` bytes, and none is answered while it is `paused`.
    /// Repeated while requests wait, so that the sharer is not taken for stalled.
    Pace { piece: u32, paused: bool },
    /// The share is no longer offered.
    Withdrawn,

    // From a seeder; `Peers` also from the sharer.
    /// First message of a seeder on each link, instead of [`Message::Welcome`]: the sharer's manifest that it has.
    Seeder { manifest: Announced },
    /// Parts that a seeder has in addition to those it listed before: ranges of first part and number of parts, in
    /// ascending order and not adjacent.
    Parts {
        #[serde(rename = "r")]
        ranges: Bounded<(u64, u64), MAX_RANGES>,
    },
    /// Other seeders, and the addresses that they claim.
    Peers {
        #[serde(rename = "p")]
        peers: Bounded<PeerAt, MAX_PEERS>,
    },

    // From either.
    /// Addresses without a relay that the sender claims for itself. Sent on relayed links once they are keyed, and again
    /// when the addresses change.
    Addresses {
        #[serde(rename = "a")]
        addresses: Bounded<ByteBuf, MAX_ADDRESSES>,
    },
    /// The sender offers pairing, so that the next transfer needs no code: one half of a secret ([`crate::pair`]). The
    /// receiver sends it first; a sharer that agrees answers.
    Remember {
        #[serde(rename = "h")]
        half: SecretBytes,
    },
    /// Checks that the link is alive. Answered by [`Message::Pong`] with the same number.
    Ping { nonce: u64 },
    /// Answers [`Message::Ping`].
    Pong { nonce: u64 },
}

/// A secret, or half of one, in a message. It is wiped on drop, and `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ZeroizeOnDrop)]
#[serde(transparent)]
pub struct SecretBytes(#[serde(with = "serde_bytes")] pub [u8; 32]);

impl std::fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretBytes(..)")
    }
}

/// A seeder and its addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerAt {
    /// The bytes of the seeder's peer id.
    #[serde(rename = "i")]
    pub peer: ByteBuf,
    /// Its addresses.
    #[serde(rename = "a")]
    pub addresses: Bounded<ByteBuf, MAX_PEER_ADDRESSES>,
}

/// A manifest that is announced before it is transferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announced {
    /// Length of the encoded, signed manifest, in bytes.
    #[serde(rename = "l")]
    pub len: u64,
    /// Its id. A sharer that was restarted with other files has another one.
    #[serde(rename = "i")]
    pub id: ManifestId,
}

/// One segment of an answer.
// The comment of each variant describes its fields.
#[allow(missing_docs)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Served {
    /// The bytes are in the payload. `len` is the requested length.
    #[serde(rename = "b")]
    Bytes {
        #[serde(rename = "l")]
        len: u32,
        /// Siblings from the range up to the root; `None` while the root is not known. See [`crate::merkle`].
        #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
        proof: Option<Bounded<Hash, MAX_PROOF>>,
    },
    /// The stream ends with these bytes, or ended at or before this offset (`len` is 0). `size` is its whole length.
    #[serde(rename = "z")]
    End {
        #[serde(rename = "l")]
        len: u32,
        #[serde(rename = "s")]
        size: u64,
    },
    /// The entry cannot be served.
    #[serde(rename = "f")]
    Failed(Failure),
    /// The request was cancelled before it was read.
    #[serde(rename = "x")]
    Forgotten,
    /// The seeder does not have it (any more). Others may.
    #[serde(rename = "m")]
    Missing,
}

/// Why an entry cannot be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// It changed after the share was created.
    Changed,
    /// It no longer exists.
    Gone,
    /// It cannot be read.
    Unreadable,
    /// A stream is served once, to one receiver, and this part of it has passed.
    Passed,
}

/// Why a receiver leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leave {
    /// It has everything it wanted.
    Completed,
    /// It declined the offer.
    Declined,
    /// It was cancelled.
    Cancelled,
}

/// Encodes a message, or one of the handshake.
///
/// # Panics
/// If the encoding is over [`MAX_HEADER`] bytes. Our own messages are bounded so that this never happens.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(message, &mut bytes).expect("writing CBOR to memory does not fail");
    assert!(
        bytes.len() <= MAX_HEADER as usize,
        "a message of {} bytes",
        bytes.len()
    );
    bytes
}

/// Returns the length of [`encode`]'s result in bytes, for messages from any peer and of any length.
pub(crate) fn encoded_len<T: Serialize>(message: &T) -> u64 {
    struct Count(u64);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.saturating_add(bytes.len() as u64);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Counting does not fail. If it did, the message would count as zero.
    ciborium::into_writer(message, &mut count).map_or(0, |()| count.0)
}

/// Decodes what [`encode`] wrote. Trailing bytes are an error, and so is nesting deeper than any message nests.
pub fn decode<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, DecodeError> {
    if bytes.len() > MAX_HEADER as usize {
        return Err(DecodeError::TooLong(bytes.len()));
    }
    let mut rest = bytes;
    let message = ciborium::de::from_reader_with_recursion_limit(&mut rest, 16)
        .map_err(|error| DecodeError::Malformed(error.to_string()))?;
    if rest.is_empty() {
        Ok(message)
    } else {
        Err(DecodeError::Trailing(rest.len()))
    }
}

/// Why bytes from a peer are not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not the CBOR of a message.
    #[error("malformed message: {0}")]
    Malformed(String),
    /// A message is followed by other bytes.
    #[error("{0} bytes behind a message")]
    Trailing(usize),
    /// Longer than [`MAX_HEADER`].
    #[error("a message of {0} bytes")]
    TooLong(usize),
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use libp2p_identity::Keypair;
    use proptest::prelude::*;

    use super::*;
    use crate::manifest::{ManifestParts, SignedManifest};

    fn keys() -> Keypair {
        Keypair::ed25519_from_bytes([7; 32]).unwrap()
    }

    fn signed() -> SignedManifest {
        let limits = crate::limits::Limits::default();
        SignedManifest::sign(ManifestParts::default(), &keys(), &limits).unwrap()
    }

    fn roots() -> SignedRoots {
        SignedRoots::sign(&signed().id(), &[(3, Hash([5; 32]))], &keys()).unwrap()
    }

    fn segment() -> Segment {
        Segment {
            entry: 1,
            offset: 1 << 18,
            len: 16384,
        }
    }

    /// Returns each kind of message, in each shape that its parts can have.
    #[expect(clippy::too_many_lines, reason = "a list")]
    fn samples() -> Vec<Message> {
        let proof: Bounded<Hash, MAX_PROOF> = vec![Hash([1; 32]), Hash([2; 32])].into();
        let served = vec![
            Served::Bytes {
                len: 16384,
                proof: Some(proof),
            },
            Served::Bytes {
                len: 5,
                proof: None,
            },
            Served::End {
                len: 5,
                size: 262_149,
            },
            Served::Failed(Failure::Changed),
            Served::Failed(Failure::Gone),
            Served::Failed(Failure::Unreadable),
            Served::Failed(Failure::Passed),
            Served::Forgotten,
            Served::Missing,
        ];
        let mut samples = vec![
            Message::Hello {
                session: 9,
                name: "laptop".into(),
            },
            Message::GetManifest { offset: 0 },
            Message::Request {
                id: 7,
                segments: vec![segment()].into(),
            },
            Message::Forget {
                ids: vec![1, 2].into(),
            },
            Message::GetRoot { entry: 1 },
            Message::GetRoots {
                first: 0,
                count: 300,
            },
            Message::GetChunks { entry: 1, first: 0 },
            Message::Have { done: 1, total: 2 },
        ];
        let leaves = [Leave::Completed, Leave::Declined, Leave::Cancelled];
        samples.extend(leaves.map(|outcome| Message::Leave { outcome }));
        samples.extend([
            Message::Secret {
                secret: SecretBytes([6; 32]),
            },
            Message::Welcome { manifest: None },
            Message::Welcome {
                manifest: Some(Announced {
                    len: 512,
                    id: signed().id(),
                }),
            },
            Message::Manifest {
                offset: 0,
                total: 512,
            },
            Message::Data {
                id: 7,
                segments: served.into(),
                roots: Some(roots()),
            },
            Message::Roots(roots()),
            Message::Chunks {
                entry: 1,
                first: 0,
                total: 2,
            },
            Message::Failed {
                entry: 1,
                reason: Failure::Gone,
            },
            Message::Pace {
                piece: 16384,
                paused: false,
            },
            Message::Pace {
                piece: 262_144,
                paused: true,
            },
            Message::Withdrawn,
            Message::Remember {
                half: SecretBytes([6; 32]),
            },
            Message::Seeds {
                addresses: vec![ByteBuf::from(vec![4, 10, 0, 0, 1, 6, 1, 1])].into(),
            },
            Message::Seeder {
                manifest: Announced {
                    len: 512,
                    id: signed().id(),
                },
            },
            Message::Parts {
                ranges: vec![(0, 3), (7, 1)].into(),
            },
            Message::Peers {
                peers: vec![PeerAt {
                    peer: ByteBuf::from(vec![0, 1, 7]),
                    addresses: vec![ByteBuf::from(vec![4, 10, 0, 0, 1, 6, 1, 1])].into(),
                }]
                .into(),
            },
            Message::Ping { nonce: u64::MAX },
            Message::Pong { nonce: u64::MAX },
        ]);
        samples
    }

    #[test]
    fn every_message_on_the_wire() {
        let lines: Vec<_> = samples()
            .iter()
            .map(|message| format!("{message:?}\n  {}", HEXLOWER.encode(&encode(message))))
            .collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn knocks_and_replies_on_the_wire() {
        let knock = HandshakeRequest {
            version: 1,
            name: [3; 16],
            noise: vec![4; 48],
        };
        let refusals = [
            Refusal::NoSuchShare,
            Refusal::Version,
            Refusal::Busy,
            Refusal::WrongWords,
        ]
        .map(HandshakeReply::Refused);
        let mut lines = vec![
            HEXLOWER.encode(&encode(&knock)),
            HEXLOWER.encode(&encode(&HandshakeReply::Noise(vec![4; 48]))),
        ];
        lines.extend(refusals.iter().map(|reply| HEXLOWER.encode(&encode(reply))));
        let short = ShortCodeRequest {
            version: 1,
            number: 4_827_193,
            point: vec![5; 33],
        };
        let proof = Proof { noise: vec![4; 48] };
        lines.push(HEXLOWER.encode(&encode(&short)));
        lines.push(HEXLOWER.encode(&encode(&HandshakeReply::Point(vec![6; 33]))));
        lines.push(HEXLOWER.encode(&encode(&proof)));
        insta::assert_snapshot!(lines.join("\n"));
        // The kind is recognised by its fields.
        assert_eq!(decode(&encode(&knock)), Ok(Opening::Secret(knock)));
        assert_eq!(decode(&encode(&short)), Ok(Opening::Short(short)));
        assert!(decode::<Opening>(&encode(&proof)).is_err());
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for message in samples() {
            assert_eq!(decode::<Message>(&encode(&message)), Ok(message));
        }
    }

    #[test]
    fn a_field_of_a_later_version_is_ignored() {
        // {"get_root": {"entry": 1, "later": [true]}}
        let bytes = HEXLOWER
            .decode(b"a1686765745f726f6f74a265656e74727901656c6174657281f5")
            .unwrap();
        assert_eq!(decode::<Message>(&bytes), Ok(Message::GetRoot { entry: 1 }));
    }

    /// Row 14.
    #[test]
    fn a_list_at_its_bound_is_read_and_one_over_it_is_not() {
        let ids = |count: u64| {
            let mut bytes = Vec::new();
            let ids: Vec<u64> = (0..count).collect();
            ciborium::into_writer(
                &std::collections::BTreeMap::from([(
                    "forget",
                    std::collections::BTreeMap::from([("ids", ids)]),
                )]),
                &mut bytes,
            )
            .unwrap();
            decode::<Message>(&bytes)
        };
        assert!(ids(MAX_SEGMENTS as u64).is_ok());
        assert!(matches!(
            ids(MAX_SEGMENTS as u64 + 1),
            Err(DecodeError::Malformed(_))
        ));
    }

    #[test]
    fn a_message_with_something_behind_it_is_refused() {
        let mut bytes = encode(&Message::Withdrawn);
        bytes.push(0);
        assert_eq!(decode::<Message>(&bytes), Err(DecodeError::Trailing(1)));
    }

    /// Row 18.
    #[test]
    fn nesting_is_refused_before_it_costs_the_stack() {
        let bytes = vec![0x81; MAX_HEADER as usize];
        assert!(matches!(
            decode::<Message>(&bytes),
            Err(DecodeError::Malformed(_))
        ));
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = decode::<Message>(&bytes);
            let _ = decode::<Opening>(&bytes);
            let _ = decode::<Proof>(&bytes);
            let _ = decode::<HandshakeReply>(&bytes);
        }

        #[test]
        fn a_flipped_message_is_read_or_refused(at in any::<prop::sample::Index>(), bit in 0..8u8, which in any::<prop::sample::Index>()) {
            let samples = samples();
            let mut bytes = encode(which.get(&samples));
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            if let Ok(message) = decode::<Message>(&bytes) {
                prop_assert_eq!(decode::<Message>(&encode(&message)), Ok(message));
            }
        }
    }
}
