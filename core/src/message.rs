//! The messages of a link, and how they are encoded: CBOR maps with one key, the message's name.
//!
//! Bulk bytes never stand inside a message; they follow it in the frame as its payload (see [`crate::frame`]).
//! Fields that a reader does not know are ignored; so a later version may add some.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use zeroize::ZeroizeOnDrop;

use crate::bounded::Bounded;
use crate::code::MAX_ADDRESSES;
use crate::engine::Segment;
use crate::limits::MAX_HEADER;
use crate::manifest::{ManifestId, SignedRoots};
use crate::merkle::Hash;

/// Segments in a request or an answer at the most, whatever [`crate::limits::Limits`] says.
pub const MAX_SEGMENTS: usize = 256;
/// Hashes in one proof at the most: six inside a group, and one for each of the 46 levels between it and 2^64 bytes.
pub const MAX_PROOF: usize = 52;
/// Bytes of a name or a reason in a message at the most.
pub const MAX_TEXT: usize = 255;
/// Ranges of parts in one [`Message::Parts`] at the most.
pub const MAX_RANGES: usize = 1024;
/// Peers in one [`Message::Peers`] at the most.
pub const MAX_PEERS: usize = 16;
/// Addresses of one of them at the most: with all that a header may hold, it stays half empty.
pub const MAX_PEER_ADDRESSES: usize = 8;

/// The first, unsealed frame of a link, from the side that dialled: which share, and the handshake's first message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knock {
    /// Version of the protocol; this is 1.
    #[serde(rename = "v")]
    pub version: u32,
    /// [`crate::handshake::name_in_knock`]: names the share to who knows its secret, in this knock alone.
    #[serde(rename = "t", with = "serde_bytes")]
    pub name: [u8; 16],
    /// First message of the Noise handshake.
    #[serde(rename = "n", with = "serde_bytes")]
    pub noise: Vec<u8>,
}

/// The first frame of a link by who has a short code, which names the share by its public number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShortKnock {
    /// Version of the protocol; this is 1.
    #[serde(rename = "v")]
    pub version: u32,
    /// The code's number.
    #[serde(rename = "c")]
    pub number: u32,
    /// The receiver's point, see [`crate::pake`].
    #[serde(rename = "p", with = "serde_bytes")]
    pub point: Vec<u8>,
}

/// The first frame of a link, whichever it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Opening {
    /// By who has the share's secret.
    Secret(Knock),
    /// By who has its short code.
    Short(ShortKnock),
}

/// What follows [`KnockReply::Point`]: the handshake's first message, keyed by what the points and the words make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// First message of the Noise handshake.
    #[serde(rename = "n", with = "serde_bytes")]
    pub noise: Vec<u8>,
}

/// The answer to a [`Knock`], a [`ShortKnock`] or a [`Proof`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KnockReply {
    /// Second message of the Noise handshake; from here on all frames are sealed.
    Noise(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The sharer's point, see [`crate::pake`]. A [`Proof`] is awaited.
    Point(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The link ends here.
    Refused(Refusal),
}

/// Why a [`Knock`] was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// No share with that tag and key is offered here (any more).
    NoSuchShare,
    /// The short code is offered here, with other words. That was one guess.
    WrongWords,
    /// Not this version of the protocol.
    Version,
    /// Too many links or receivers right now; later may do.
    Busy,
}

/// What goes over a link once it has keys.
// Each variant's sentence tells of its fields.
#[allow(missing_docs)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    // From the receiver.
    /// First message of the receiver on each link.
    Hello {
        /// Drawn at random for each download, so that several links of one are told from several of one peer.
        session: u64,
        /// What the receiver calls itself, [`MAX_TEXT`] bytes at the most.
        name: String,
    },
    /// Asks for bytes of the encoded, signed manifest: as many from `offset` on as fit one frame.
    GetManifest { offset: u64 },
    /// Asks for ranges: one range inside a group, or several whole files that together fit a group. Each request is answered once, by [`Message::Data`],
    /// in any order.
    Request {
        /// Counts up on each link.
        id: u64,
        segments: Bounded<Segment, MAX_SEGMENTS>,
    },
    /// The bytes of these requests are not wanted any more; those not yet read are answered without bytes.
    Forget { ids: Bounded<u64, MAX_SEGMENTS> },
    /// Asks for the root of an entry that was served without one. Answered by [`Message::Roots`] or
    /// [`Message::Failed`].
    GetRoot { entry: u32 },
    /// Asks for the roots of all files among `count` entries from `first` on: those that are known now, and the others
    /// as soon as they are. Answered by [`Message::Roots`], in as many parts as it takes.
    GetRoots { first: u32, count: u32 },
    /// Asks how a file is cut into chunks ([`crate::chunk`]), from the chunk with the number `first` on. Answered by
    /// [`Message::Chunks`].
    GetChunks { entry: u32, first: u32 },
    /// How far the receiver is: bytes it holds, bytes it wants in all. For the sharer's screen only.
    Have { done: u64, total: u64 },
    /// The receiver has ended with the share; nothing more is asked for.
    Leave { outcome: Leave },
    /// The receiver serves what it has, and this is where it can be dialled: others who fetch the share may be told. Again,
    /// when that changes.
    Seeds {
        #[serde(rename = "a")]
        addresses: Bounded<ByteBuf, MAX_ADDRESSES>,
    },

    // From the sharer.
    /// Before anything else on a link that was opened with a short code: the share's secret, so that the receiver can
    /// come back without the code.
    Secret {
        #[serde(rename = "k")]
        secret: SecretBytes,
    },
    /// First message of the sharer on each link.
    Welcome {
        /// The manifest that follows; `None` while files are still being listed.
        manifest: Option<Announced>,
    },
    /// Payload: bytes of the encoded, signed manifest from `offset` on.
    Manifest { offset: u64, total: u64 },
    /// Answers a request. Payload: the bytes of each served segment, in order.
    Data {
        id: u64,
        segments: Bounded<Served, MAX_SEGMENTS>,
        /// Roots of entries in this answer that were not sent on this link before, signed.
        roots: Option<SignedRoots>,
    },
    /// Answers [`Message::GetRoot`] and [`Message::GetRoots`].
    Roots(SignedRoots),
    /// Answers [`Message::GetChunks`]. Payload: chunks from number `first` on, as many as fit. `total` is how many the file
    /// has; with 0 there is no list of it to be had.
    Chunks { entry: u32, first: u32, total: u32 },
    /// An entry can't be served (any more).
    Failed { entry: u32, reason: Failure },
    /// How the sharer holds back: requests should ask for `piece` bytes at the most, and while it is `paused` none is
    /// answered. Said again while requests wait, so that it is not taken for one that has stopped.
    Pace { piece: u32, paused: bool },
    /// The share is withdrawn.
    Withdrawn,

    // From whoever serves.
    /// First message on a link by who is not the sharer, and serves what it has of the share: the sharer's manifest.
    Seeder { manifest: Announced },
    /// What a seeder has beside what it said before: runs of parts, each by its first one and how many they are. They
    /// rise and don't touch.
    Parts {
        #[serde(rename = "r")]
        ranges: Bounded<(u64, u64), MAX_RANGES>,
    },
    /// Who else serves, and where they can be dialled by their own word.
    Peers {
        #[serde(rename = "p")]
        peers: Bounded<PeerAt, MAX_PEERS>,
    },

    // From either.
    /// Where the sender of this can be dialled without a relay, by its own word. Said on links through a relay, whose
    /// other end is known by then, and again when it changes.
    Addresses {
        #[serde(rename = "a")]
        addresses: Bounded<ByteBuf, MAX_ADDRESSES>,
    },
    /// The sender of this would remember the other side, so that the next transfer needs no code: one half of a secret
    /// ([`crate::pair`]). The receiver says it first; a sharer that would too answers.
    Remember {
        #[serde(rename = "h")]
        half: SecretBytes,
    },
    /// Is the link alive? Answered by [`Message::Pong`] with the same number.
    Ping { nonce: u64 },
    /// It is.
    Pong { nonce: u64 },
}

/// A share's secret on its way. It is not shown, and wiped when it is dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ZeroizeOnDrop)]
#[serde(transparent)]
pub struct SecretBytes(#[serde(with = "serde_bytes")] pub [u8; 32]);

impl std::fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretBytes(..)")
    }
}

/// Somebody who serves, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerAt {
    /// The bytes of its peer id.
    #[serde(rename = "i")]
    pub peer: ByteBuf,
    /// Where it can be dialled.
    #[serde(rename = "a")]
    pub addresses: Bounded<ByteBuf, MAX_PEER_ADDRESSES>,
}

/// A manifest before it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announced {
    /// Bytes of the encoded, signed manifest.
    #[serde(rename = "l")]
    pub len: u64,
    /// Which manifest it is: a sharer that was started again over other files has another.
    #[serde(rename = "i")]
    pub id: ManifestId,
}

/// One segment of an answer.
// Each variant's sentence tells of its fields.
#[allow(missing_docs)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Served {
    /// Its bytes are in the payload. `len` is what was asked for, or less at the end of a stream.
    #[serde(rename = "b")]
    Bytes {
        #[serde(rename = "l")]
        len: u32,
        /// Siblings from the range up to the root; `None` while the entry has no root yet. See [`crate::merkle`].
        #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
        proof: Option<Bounded<Hash, MAX_PROOF>>,
    },
    /// The stream ended before this offset, or right behind the bytes: its whole size.
    #[serde(rename = "z")]
    End {
        #[serde(rename = "l")]
        len: u32,
        #[serde(rename = "s")]
        size: u64,
    },
    /// It can't be served.
    #[serde(rename = "f")]
    Failed(Failure),
    /// It was forgotten before it was read.
    #[serde(rename = "x")]
    Forgotten,
    /// A seeder does not have it (any more). Others may.
    #[serde(rename = "m")]
    Missing,
}

/// Why an entry can't be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// It changed since the share was made.
    Changed,
    /// It is gone.
    Gone,
    /// It can't be read.
    Unreadable,
    /// A stream is served to one receiver, once, and this part of it has passed.
    Passed,
}

/// How a receiver leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leave {
    /// It has all it wanted.
    Completed,
    /// It said no to the offer.
    Declined,
    /// It gave up.
    Cancelled,
}

/// Encodes a message of a frame, or a knock or its reply.
///
/// # Panics
/// If the encoding is over [`MAX_HEADER`] bytes: our own messages are bounded so that it never is.
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

/// Bytes that [`encode`] makes of a message, whoever sent it and however long it is.
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
    // Counting does not fail; what did would count for nothing.
    ciborium::into_writer(message, &mut count).map_or(0, |()| count.0)
}

/// Decodes what [`encode`] made. Trailing bytes are an error, and so is nesting deeper than any message nests.
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

/// Why bytes of a peer are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not the CBOR of a message.
    #[error("malformed message: {0}")]
    Malformed(String),
    /// A message with something behind it.
    #[error("{0} bytes behind a message")]
    Trailing(usize),
    /// Over [`MAX_HEADER`].
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

    /// One of each kind of message, with each shape that its parts can have.
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
        let knock = Knock {
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
        .map(KnockReply::Refused);
        let mut lines = vec![
            HEXLOWER.encode(&encode(&knock)),
            HEXLOWER.encode(&encode(&KnockReply::Noise(vec![4; 48]))),
        ];
        lines.extend(refusals.iter().map(|reply| HEXLOWER.encode(&encode(reply))));
        let short = ShortKnock {
            version: 1,
            number: 4_827_193,
            point: vec![5; 33],
        };
        let proof = Proof { noise: vec![4; 48] };
        lines.push(HEXLOWER.encode(&encode(&short)));
        lines.push(HEXLOWER.encode(&encode(&KnockReply::Point(vec![6; 33]))));
        lines.push(HEXLOWER.encode(&encode(&proof)));
        insta::assert_snapshot!(lines.join("\n"));
        // Either is told by its fields.
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
            let _ = decode::<KnockReply>(&bytes);
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
