//! A scripted peer that shares: does everything a sharer must, except for one twist.

use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use handover_core::chunk::{ENCODED, encode};
use handover_core::code::Ticket;
use handover_core::engine::{LinkId, Segment};
use handover_core::frame::{Frame, plain};
use handover_core::handshake;
use handover_core::limits::{GROUP, Limits, MAX_PAYLOAD, MAX_SEALED_FRAME};
use handover_core::manifest::{MAX_ROOTS, ManifestId, ManifestParts, SignedManifest, SignedRoots};
use handover_core::merkle::{GroupTree, Hash, file_root, group_proof, hash_group};
use handover_core::message::{
    self, Announced, Failure, HandshakeReply, Message, Opening, Refusal, Served,
};
use handover_core::secret::{ShareCodeLabel, ShareSecret};
use handover_core::{Keypair, Multiaddr};
use handover_transports::memory::HostId;

use super::Say;
use super::forge::Forged;
use crate::World;
use crate::disk::{SourceKind, cut};
use crate::tree::Tree;

/// A shared file, hashed on first use.
#[derive(Debug)]
struct Shared {
    bytes: Bytes,
    tree: OnceLock<GroupTree>,
}

impl Shared {
    fn new(bytes: Bytes) -> Self {
        Self {
            bytes,
            tree: OnceLock::new(),
        }
    }

    fn tree(&self) -> &GroupTree {
        self.tree.get_or_init(|| {
            let mut tree = GroupTree::new(self.bytes.len() as u64);
            for (index, group) in (0..).zip(self.bytes.chunks(GROUP as usize)) {
                tree.insert(index, hash_group(group));
            }
            tree
        })
    }
}

/// What a scripted peer shares.
#[derive(Debug, Clone)]
pub struct Sharing {
    /// The ticket for receivers.
    pub ticket: Ticket,
    /// The manifest.
    pub manifest: SignedManifest,
    /// The scripted peer's identity.
    pub keys: Keypair,
    files: Arc<Vec<Shared>>,
    /// The manifest that it sends instead, if it is forged.
    pub(super) forged: Option<Forged>,
}

impl Sharing {
    /// Signs roots.
    pub fn sign(&self, roots: &[(u32, Hash)]) -> SignedRoots {
        SignedRoots::sign(&self.manifest.id(), roots, &self.keys).expect("a few roots")
    }

    /// The encoded manifest that it sends.
    pub(super) fn encoded(&self) -> &Bytes {
        let forged = self.forged.as_ref();
        forged.map_or(self.manifest.encoded(), |forged| &forged.encoded)
    }

    /// The id of the manifest that it announces.
    fn id(&self) -> ManifestId {
        let forged = self.forged.as_ref();
        forged.map_or(self.manifest.id(), |forged| forged.id)
    }

    /// A file's root.
    pub fn root(&self, entry: u32) -> Hash {
        let file = &self.files[entry as usize];
        if file.bytes.is_empty() {
            return file_root(&file.bytes);
        }
        file.tree().root().expect("all of it is hashed")
    }

    fn has(&self, entry: u32) -> bool {
        self.files.len() > entry as usize
    }

    /// One segment with its whole proof.
    fn serve(&self, segment: &Segment) -> (Bytes, Served) {
        let Some(file) = self.files.get(segment.entry as usize) else {
            return (Bytes::new(), Served::Failed(Failure::Gone));
        };
        let (tree, file) = (file.tree(), &file.bytes);
        let start = usize::try_from(segment.offset).expect("an offset in memory");
        let group = segment.offset / u64::from(GROUP);
        let from = start - start % GROUP as usize;
        let whole = file.slice(from..(from + GROUP as usize).min(file.len()));
        let within = u32::try_from(start - from).expect("less than a group");
        let mut proof = group_proof(&whole, within, segment.len);
        proof.extend(tree.proof(group).expect("all of it is hashed"));
        let served = Served::Bytes {
            len: segment.len,
            proof: Some(proof.into()),
        };
        (file.slice(start..start + segment.len as usize), served)
    }
}

/// The sharing state of a scripted peer.
pub(super) struct Sharer {
    sharing: Sharing,
}

impl Sharer {
    pub(super) fn sharing_mut(&mut self) -> &mut Sharing {
        &mut self.sharing
    }

    /// An honest sharer's answer to a message; `told` are the entries whose roots have been sent on the link.
    fn answer(&self, message: Message, told: &mut Vec<u32>) -> Option<(Message, Bytes)> {
        let encoded = self.sharing.encoded();
        match message {
            Message::GetManifest { offset } => {
                let start = usize::try_from(offset).expect("an offset in memory");
                let end = (start + GROUP as usize).min(encoded.len());
                let total = encoded.len() as u64;
                let part = Message::Manifest { offset, total };
                Some((part, encoded.slice(start..end)))
            }
            Message::Request { id, segments } => {
                let mut payload = BytesMut::new();
                let mut served = Vec::new();
                let mut roots = Vec::new();
                for segment in segments.iter() {
                    let (bytes, outcome) = self.sharing.serve(segment);
                    payload.extend_from_slice(&bytes);
                    served.push(outcome);
                    if !told.contains(&segment.entry) && self.sharing.has(segment.entry) {
                        told.push(segment.entry);
                        roots.push((segment.entry, self.sharing.root(segment.entry)));
                    }
                }
                let roots = (!roots.is_empty()).then(|| self.sharing.sign(&roots));
                let segments = served.into();
                let data = Message::Data {
                    id,
                    segments,
                    roots,
                };
                Some((data, payload.freeze()))
            }
            Message::GetRoot { entry } if self.sharing.has(entry) => {
                let roots = self.sharing.sign(&[(entry, self.sharing.root(entry))]);
                Some((Message::Roots(roots), Bytes::new()))
            }
            Message::GetRoots { first, count } => {
                let entries = (first..first.saturating_add(count)).take(MAX_ROOTS);
                let known = entries.filter(|entry| self.sharing.has(*entry));
                let roots: Vec<_> = known
                    .map(|entry| (entry, self.sharing.root(entry)))
                    .collect();
                Some((Message::Roots(self.sharing.sign(&roots)), Bytes::new()))
            }
            Message::GetChunks { entry, first } if self.sharing.has(entry) => {
                let chunks = cut(&self.sharing.files[entry as usize].bytes);
                let rest = chunks.get(first as usize..).unwrap_or_default();
                let most = rest.len().min(MAX_PAYLOAD as usize / ENCODED);
                let list = Message::Chunks {
                    entry,
                    first,
                    total: u32::try_from(chunks.len()).expect("a file in memory"),
                };
                Some((list, encode(&rest[..most]).into()))
            }
            Message::Ping { nonce } => Some((Message::Pong { nonce }, Bytes::new())),
            _ => None,
        }
    }
}

impl World {
    /// Makes a scripted peer share a tree, honestly until it gets a [twist](World::twist).
    pub fn puppet_shares(&mut self, puppet: HostId, tree: Tree) -> Sharing {
        let keys = self.puppet(puppet).keys.clone();
        let signer = keys.clone();
        self.puppet_shares_signed_by(puppet, tree, &signer)
    }

    /// Makes a scripted peer share a tree with a manifest signed by this key.
    pub fn puppet_shares_signed_by(
        &mut self,
        puppet: HostId,
        tree: Tree,
        signer: &Keypair,
    ) -> Sharing {
        let parts = ManifestParts {
            name: "a puppet's share".into(),
            entries: tree.entries(),
            ..ManifestParts::default()
        };
        let limits = Limits::default();
        let manifest = SignedManifest::sign(parts, signer, &limits).expect("a good manifest");
        let secret = ShareSecret::from_bytes(self.draw());
        let keys = self.puppet(puppet).keys.clone();
        let files = tree.iter().map(|(path, _)| tree.bytes(path).cloned());
        let address: Multiaddr = Self::address(puppet);
        let sharing = Sharing {
            ticket: Ticket {
                peer: keys.public().to_peer_id(),
                addresses: vec![address],
                share_code: ShareCodeLabel::of(&secret),
                secret,
            },
            manifest,
            keys,
            forged: None,
            files: Arc::new(
                files
                    .map(|bytes| Shared::new(bytes.unwrap_or_default()))
                    .collect(),
            ),
        };
        let secret = &sharing.ticket.secret;
        self.keep_secret(secret);
        self.add_version(secret.tag(), SourceKind::Tree(tree));
        self.puppet_mut(puppet).sharer = Some(Sharer {
            sharing: sharing.clone(),
        });
        sharing
    }

    /// Gives a scripted peer everything that somebody shares, including the signed roots. It answers like a sharer,
    /// until a [twist](World::twist) makes it answer like a seeder.
    pub fn puppet_has(&mut self, puppet: HostId, sharing: &Sharing) {
        let sharing = sharing.clone();
        self.puppet_mut(puppet).sharer = Some(Sharer { sharing });
    }

    /// Passes everything that a sharing scripted peer would honestly send through this function.
    pub fn twist(
        &mut self,
        puppet: HostId,
        twist: impl FnMut(Message, Bytes) -> Vec<Say> + 'static,
    ) {
        self.puppet_mut(puppet).twist = Some(Box::new(twist));
    }

    pub(super) fn answer_knock(&mut self, place: HostId, link: LinkId, body: &[u8]) {
        let knock = match message::decode(body) {
            Ok(Opening::Secret(knock)) => knock,
            Ok(Opening::Short(knock)) => return self.guess_words(place, link, &knock),
            // The password proof that follows. It could be checked against one guess at the words; a guess is wrong.
            Err(_) => return self.answer_proof(place, link),
        };
        let (seed, local) = (self.draw(), self.peer(place));
        let puppet = self.puppet(place);
        let Some(sharer) = &puppet.sharer else {
            return;
        };
        let secret = sharer.sharing.ticket.secret.clone();
        let total = sharer.sharing.encoded().len() as u64;
        let id = sharer.sharing.id();
        let (psk, peer) = (secret.psk(), puppet.links[&link].peer);
        let answered = handshake::respond(&psk, &secret.tag(), &local, &peer, &knock.noise, seed);
        // Seeders also contact neighbours that have other shares.
        let Ok((noise, keys)) = answered else {
            let refused = HandshakeReply::Refused(Refusal::NoSuchShare);
            return self.say_raw(link, plain(&message::encode(&refused)));
        };
        self.say_raw(link, plain(&message::encode(&HandshakeReply::Noise(noise))));
        let end = self.ends.get_mut(&link).expect("it stands");
        end.wire.key(keys, MAX_SEALED_FRAME, &mut self.nonces);
        let manifest = Some(Announced { len: total, id });
        self.say_twisted(place, link, Message::Welcome { manifest }, Bytes::new());
    }

    pub(super) fn puppet_hears(&mut self, place: HostId, link: LinkId, frame: Frame) {
        let puppet = self.puppet_mut(place);
        let state = puppet.links.get_mut(&link).expect("a link that stands");
        state.frames.push(frame.clone());
        if puppet.attacker.is_some() {
            return self.attacker_hears(place, link, &frame.message);
        }
        let answer = puppet
            .sharer
            .as_ref()
            .and_then(|sharer| sharer.answer(frame.message, &mut state.told));
        if let Some((message, payload)) = answer {
            self.say_twisted(place, link, message, payload);
        }
    }

    fn say_twisted(&mut self, place: HostId, link: LinkId, message: Message, payload: Bytes) {
        let said = match &mut self.puppet_mut(place).twist {
            Some(twist) => twist(message, payload),
            None => vec![Say::Sealed(message, payload)],
        };
        for say in said {
            match say {
                Say::Sealed(message, payload) => {
                    self.say_with(link, &message, &payload);
                }
                Say::Raw(bytes) => self.say_raw(link, bytes),
                Say::Lie(message, payload, weight) => {
                    self.lie(link, weight);
                    self.say_with(link, &message, &payload);
                }
                Say::HangUp => self.give_up(link),
            }
        }
    }
}
