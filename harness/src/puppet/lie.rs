//! Lies of a malicious sharer.

use bytes::{Bytes, BytesMut};
use handover_core::chunk;
use handover_core::engine::LinkId;
use handover_core::merkle::Hash;
use handover_core::message::{Announced, Failure, Message, Served};
use handover_transports::memory::HostId;
use serde::{Deserialize, Serialize};

use super::forge::{self, EVIL};
use super::{Say, Sharing};
use crate::World;
use crate::ledger::{Fault, happened};

/// The weight of a lie that exceeds any limit of bad leaves.
const ENOUGH: u32 = 1000;

/// A kind of lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lie {
    /// Changes a byte of an answer.
    BadLeaf,
    /// Changes a hash of a proof.
    BadProof,
    /// Changes bytes, and omits proof and root: only the whole file reveals it.
    Unproved,
    /// Sends a signed, but wrong root.
    WrongRoot,
    /// Sends two roots for one file.
    TwoRoots,
    /// Declares more bytes than the answer has.
    ShortPayload,
    /// Sends an answer without a request.
    Unasked,
    /// Sends an answer twice.
    Twice,
    /// Says that it has forgotten a request, although nobody told it to.
    Forgets,
    /// Answers pings, but no request.
    SlowLoris,
    /// Drops the link.
    EarlyEnd,
    /// Drops the link in the middle of a frame.
    CutFrame,
    /// Announces a frame of four gigabytes.
    HugeFrame,
    /// Sends bytes that are not a frame.
    Garbage,
    /// Announces a manifest of unbounded length.
    HugeManifest,
    /// Sends another manifest than announced.
    OtherManifest,
    /// Sends a manifest without a valid signature.
    Unsigned,
    /// Sends a manifest with paths that lead out of the folder: this list of [`EVIL`].
    EvilPaths(u8),
    /// Says that existing files are gone.
    FalseFailure,
    /// Says repeatedly that the first file has failed.
    FailsLate,
    /// Sends endless pings.
    Flood,
    /// Sends a message that only receivers send.
    OtherRole,
    /// Withdraws the share mid-transfer.
    Withdraws,
    /// Lists a file's chunks in the wrong order.
    BadChunks,
}

impl Lie {
    /// All kinds that need nothing but a receiver.
    pub const DRAWN: &'static [Self] = &[
        Self::BadLeaf,
        Self::BadProof,
        Self::Unproved,
        Self::WrongRoot,
        Self::TwoRoots,
        Self::ShortPayload,
        Self::Unasked,
        Self::Twice,
        Self::Forgets,
        Self::SlowLoris,
        Self::EarlyEnd,
        Self::CutFrame,
        Self::HugeFrame,
        Self::Garbage,
        Self::HugeManifest,
        Self::OtherManifest,
        Self::Unsigned,
        Self::EvilPaths(0),
        Self::FalseFailure,
        Self::FailsLate,
        Self::Flood,
        Self::OtherRole,
        Self::Withdraws,
    ];

    /// True if the manifest itself is forged, so that its offer must never be shown to a user.
    pub fn forges(self) -> bool {
        matches!(self, Self::Unsigned | Self::EvilPaths(_))
    }
}

impl World {
    /// Makes a sharing scripted peer lie in each suitable message, after `truths` truthful ones.
    pub fn puppet_lies(&mut self, puppet: HostId, lie: Lie, truths: u32) {
        self.liars += 1;
        let sharing = self.forge_manifest(puppet, lie);
        let mut told = 0;
        self.twist(puppet, move |message, payload| {
            told += 1;
            if told <= truths {
                return vec![Say::Sealed(message, payload)];
            }
            match twist(lie, &sharing, message, payload) {
                Twisted::Truth(message, payload) => vec![Say::Sealed(message, payload)],
                Twisted::Lie(said) => {
                    happened(Fault::Lie);
                    said
                }
            }
        });
    }

    fn forge_manifest(&mut self, puppet: HostId, lie: Lie) -> Sharing {
        let puppet = self.puppet_mut(puppet);
        let sharer = puppet.sharer.as_mut().expect("only sharers lie");
        let sharing = sharer.sharing_mut();
        sharing.forged = match lie {
            Lie::EvilPaths(which) => {
                let paths = EVIL[usize::from(which) % EVIL.len()];
                Some(forge::manifest_of(paths, &sharing.keys))
            }
            Lie::Unsigned => Some(forge::unsigned(&["unsigned"], &sharing.keys)),
            _ => None,
        };
        let sharing = sharing.clone();
        if lie.forges() {
            happened(Fault::Lie);
            self.forged.insert(sharing.ticket.secret.tag());
        }
        sharing
    }

    /// Registers the next sealed frame on a scripted peer's link as a detectable lie.
    pub(super) fn lie(&mut self, link: LinkId, weight: u32) {
        let across = LinkId(link.0 ^ 1);
        let number = self.puppet_link(link).next_seq + 1;
        self.lies.insert((across, number), weight);
    }
}

/// A message after an attempt to change it.
enum Twisted {
    /// The lie does not fit the message.
    Truth(Message, Bytes),
    Lie(Vec<Say>),
}

fn twist(lie: Lie, sharing: &Sharing, message: Message, payload: Bytes) -> Twisted {
    match (lie, message) {
        (Lie::HugeManifest, Message::Welcome { .. }) => {
            let id = sharing.manifest.id();
            let manifest = Some(Announced { len: u64::MAX, id });
            lie_of([Message::Welcome { manifest }])
        }
        (Lie::OtherManifest, Message::Manifest { offset, total }) => {
            let other = vec![7; payload.len()];
            let part = Message::Manifest { offset, total };
            Twisted::Lie(vec![Say::Sealed(part, other.into())])
        }
        (Lie::Flood, Message::Manifest { .. }) => {
            lie_of((0..2000).map(|nonce| Message::Ping { nonce }))
        }
        (
            Lie::BadChunks,
            Message::Chunks {
                entry,
                first,
                total,
            },
        ) => {
            let mut chunks = chunk::decode(&payload).expect("chunks of our own");
            chunks.reverse();
            let list = Message::Chunks {
                entry,
                first,
                total,
            };
            Twisted::Lie(vec![Say::Sealed(list, chunk::encode(&chunks).into())])
        }
        (Lie::OtherRole, Message::Manifest { .. }) => lie_of([Message::GetManifest { offset: 0 }]),
        (
            lie,
            Message::Data {
                id,
                segments,
                roots,
            },
        ) if !payload.is_empty() => {
            let data = Data {
                id,
                served: segments.into_inner(),
                roots,
                payload,
            };
            twist_data(lie, sharing, data)
        }
        (_, message) => Twisted::Truth(message, payload),
    }
}

fn lie_of(messages: impl IntoIterator<Item = Message>) -> Twisted {
    let said = messages.into_iter();
    Twisted::Lie(
        said.map(|message| Say::Sealed(message, Bytes::new()))
            .collect(),
    )
}

/// An answer, split into its fields.
struct Data {
    id: u64,
    served: Vec<Served>,
    roots: Option<handover_core::manifest::SignedRoots>,
    payload: Bytes,
}

impl Data {
    fn message(self) -> (Message, Bytes) {
        let data = Message::Data {
            id: self.id,
            segments: self.served.into(),
            roots: self.roots,
        };
        (data, self.payload)
    }

    fn truth(self) -> Twisted {
        let (message, payload) = self.message();
        Twisted::Truth(message, payload)
    }

    /// Sends the answer, followed by these.
    fn with(self, more: Vec<Say>) -> Twisted {
        let (message, payload) = self.message();
        let mut said = vec![Say::Sealed(message, payload)];
        said.extend(more);
        Twisted::Lie(said)
    }

    /// Sends the answer as a detectable lie.
    fn lie(self, weight: u32) -> Twisted {
        let (message, payload) = self.message();
        Twisted::Lie(vec![Say::Lie(message, payload, weight)])
    }

    fn flip(&mut self) {
        let mut bytes = BytesMut::from(&self.payload[..]);
        bytes[0] ^= 1;
        self.payload = bytes.freeze();
    }

    fn proofs(&mut self) -> impl Iterator<Item = &mut Option<Proof>> {
        self.served.iter_mut().filter_map(|served| match served {
            Served::Bytes { proof, .. } => Some(proof),
            _ => None,
        })
    }
}

type Proof = handover_core::bounded::Bounded<Hash, { handover_core::message::MAX_PROOF }>;

fn twist_data(lie: Lie, sharing: &Sharing, mut data: Data) -> Twisted {
    match lie {
        Lie::BadLeaf => {
            data.flip();
            data.lie(1)
        }
        Lie::BadProof => {
            let Some(proof) = data.proofs().find_map(Option::as_mut) else {
                return data.truth();
            };
            let mut hashes = proof.clone().into_inner();
            let Some(first) = hashes.first_mut() else {
                return data.truth();
            };
            first.0[0] ^= 1;
            *proof = hashes.into();
            data.lie(1)
        }
        Lie::Unproved => {
            data.flip();
            data.roots = None;
            data.proofs().for_each(|proof| *proof = None);
            data.with(Vec::new())
        }
        Lie::WrongRoot => {
            data.roots = Some(sharing.sign(&[(first_file(sharing), Hash([9; 32]))]));
            data.with(Vec::new())
        }
        Lie::TwoRoots => {
            let other = sharing.sign(&[(first_file(sharing), Hash([8; 32]))]);
            data.with(vec![Say::Sealed(Message::Roots(other), Bytes::new())])
        }
        Lie::ShortPayload => {
            if let Some(Served::Bytes { len, .. }) = data.served.first_mut() {
                *len = len.saturating_add(1);
            }
            data.with(Vec::new())
        }
        Lie::Unasked => {
            data.id += 1_000_000;
            data.lie(ENOUGH)
        }
        Lie::Twice => {
            let (message, payload) = data.message();
            Twisted::Lie(vec![
                Say::Sealed(message.clone(), payload.clone()),
                Say::Lie(message, payload, ENOUGH),
            ])
        }
        Lie::Forgets => {
            data.served.fill(Served::Forgotten);
            data.payload = Bytes::new();
            data.lie(ENOUGH)
        }
        Lie::FalseFailure => {
            data.served.fill(Served::Failed(Failure::Gone));
            data.payload = Bytes::new();
            data.with(Vec::new())
        }
        other => twist_link(other, data, first_file(sharing)),
    }
}

/// Lies about the link instead of the answer.
fn twist_link(lie: Lie, data: Data, first: u32) -> Twisted {
    let raw = |bytes: &'static [u8]| Say::Raw(Bytes::from_static(bytes));
    match lie {
        Lie::SlowLoris => Twisted::Lie(Vec::new()),
        Lie::EarlyEnd => Twisted::Lie(vec![Say::HangUp]),
        Lie::CutFrame => Twisted::Lie(vec![raw(&[0, 0, 16, 0, 1, 2, 3]), Say::HangUp]),
        Lie::HugeFrame => Twisted::Lie(vec![raw(&[0xff; 4])]),
        // A length of 40, followed by unsealed bytes.
        Lie::Garbage => Twisted::Lie(vec![raw(&[0, 0, 0, 40]), raw(&[0x5a; 40])]),
        // By the third answer the first file may be complete.
        Lie::FailsLate if data.id % 4 >= 2 => {
            let failed = Message::Failed {
                entry: first,
                reason: Failure::Gone,
            };
            data.with(vec![Say::Sealed(failed, Bytes::new())])
        }
        Lie::Withdraws => data.with(vec![Say::Sealed(Message::Withdrawn, Bytes::new())]),
        _ => data.truth(),
    }
}

/// The first entry that is not empty.
fn first_file(sharing: &Sharing) -> u32 {
    let entries = sharing.manifest.manifest().entries();
    let at = entries.iter().position(|entry| entry.size() > Some(0));
    u32::try_from(at.unwrap_or_default()).unwrap_or_default()
}
