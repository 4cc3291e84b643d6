//! What every part of the engine works with: the time, the bounds, the links, and the way out.

use std::collections::{BTreeMap, VecDeque};

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_bytes::ByteBuf;

use super::links::Links;
use super::memory_budget::MemoryBudget;
use super::rate_limiter::RateLimiter;
use super::relays::Relays;
use super::reputation::Reputations;
use super::send_budget::SendBudget;
use super::{
    Allowance, DialId, DiskWork, DownloadId, Event, JobId, LinkId, LookUpId, Output, PathKind,
    Place, Segment, SessionId, ShareId,
};
use crate::code::{MAX_ADDRESS, MAX_ADDRESSES};
use crate::frame;
use crate::limits::Limits;
use crate::message::Message;
use crate::time::Time;
use crate::{Keypair, Multiaddr, PeerId, dial};

/// What a dial is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dialled {
    pub(super) download: DownloadId,
    /// The relay that it goes through if it goes through any, and there is no choice.
    pub(super) relay: Option<PeerId>,
}

/// Shared by shares and downloads, one at a time.
pub(super) struct Context {
    pub(super) now: Time,
    pub(super) limits: Limits,
    pub(super) identity: Keypair,
    pub(super) peer: PeerId,
    pub(super) links: Links,
    /// What may go up and come down, and when.
    pub(super) up: RateLimiter,
    pub(super) down: RateLimiter,
    /// What all downloads hold in memory.
    pub(super) memory: MemoryBudget,
    /// What all that is served holds there.
    pub(super) send_budget: SendBudget,
    /// The date, once it was told.
    pub(super) day: Option<u32>,
    /// Where this side can be reached.
    pub(super) addresses: Vec<Multiaddr>,
    /// Peers on the local network, and where they are.
    pub(super) nearby: BTreeMap<PeerId, Vec<Multiaddr>>,
    /// Who has done well before.
    pub(super) reputations: Reputations,
    /// What relays let this side carry.
    pub(super) relays: Relays,
    rng: ChaCha20Rng,
    outputs: VecDeque<Output>,
    jobs: BTreeMap<JobId, JobOwner>,
    dials: BTreeMap<DialId, Dialled>,
    lookups: BTreeMap<LookUpId, LookUpOwner>,
    next: u64,
}

/// What a disk job was for: where its end goes.
#[derive(Debug, Clone)]
pub(super) enum JobOwner {
    Share(ShareId, ShareJob),
    Download(DownloadId, DownloadJob),
}

/// Who looks something up in the DHT.
#[derive(Debug, Clone, Copy)]
pub(super) enum LookUpOwner {
    Share(ShareId),
    Download(DownloadId),
}

/// A share's disk jobs.
#[derive(Debug, Clone)]
pub(super) enum ShareJob {
    Scan,
    /// Reads for the request `id` that came on `link`.
    Serve {
        link: LinkId,
        id: u64,
    },
    /// Reads the pipe for the request `id` that came on `link`.
    Pipe {
        link: LinkId,
        id: u64,
        offset: u64,
    },
    /// Hashes whole groups of one entry, from `first` on.
    HashGroups {
        entry: u32,
        first: u64,
    },
    /// Hashes whole small files: these entries.
    HashFiles {
        entries: Vec<u32>,
    },
    Chunk {
        entry: u32,
    },
    /// Counts a wrong guess that came over this link.
    CountGuess(LinkId),
    Note,
    Forget,
}

/// A download's disk jobs.
#[derive(Debug, Clone)]
pub(super) enum DownloadJob {
    Inspect,
    Stage,
    /// Reads what an earlier run has left.
    HashStaged {
        entry: u32,
        first: u64,
    },
    Look,
    Adopt {
        entries: Vec<u32>,
    },
    Reuse {
        entry: u32,
    },
    /// Writes these ranges.
    Write {
        pieces: Vec<Segment>,
    },
    /// Reads for the request `id` that came on `link`.
    ReadBack {
        link: LinkId,
        id: u64,
    },
    /// Counts the proof that is to be sent over this link.
    CountProof(LinkId),
    ProofSucceeded,
    ProofNotSent,
    Sync,
    Journal,
    Publish {
        entries: Vec<u32>,
    },
    Finish,
    /// Discards, or closes.
    Discard,
}

impl Context {
    pub(super) fn new(limits: Limits, identity: Keypair, seed: [u8; 32], now: Time) -> Self {
        Self {
            relays: Relays::new(&limits),
            now,
            limits,
            peer: identity.public().to_peer_id(),
            identity,
            links: Links::default(),
            up: RateLimiter::default(),
            down: RateLimiter::default(),
            memory: MemoryBudget::default(),
            send_budget: SendBudget::default(),
            day: None,
            addresses: Vec::new(),
            nearby: BTreeMap::new(),
            reputations: Reputations::default(),
            rng: ChaCha20Rng::from_seed(seed),
            outputs: VecDeque::new(),
            jobs: BTreeMap::new(),
            dials: BTreeMap::new(),
            lookups: BTreeMap::new(),
            next: 0,
        }
    }

    /// Thirty-two fresh random bytes.
    pub(super) fn draw(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    /// The same, as a number.
    pub(super) fn draw_number(&mut self) -> u64 {
        u64::from_le_bytes(self.draw().first_chunk().copied().unwrap_or_default())
    }

    /// The generator itself, for what draws in its own way.
    pub(super) fn rng(&mut self) -> &mut ChaCha20Rng {
        &mut self.rng
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn fresh_session(&mut self) -> SessionId {
        SessionId(self.fresh())
    }

    pub(super) fn push(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(super) fn pop(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub(super) fn event(&mut self, event: Event) {
        self.push(Output::Event(event));
    }

    /// Seals a message for a link: gives it the link's next sequence number, which it returns. A link that is gone
    /// or has no keys takes nothing.
    pub(super) fn send(&mut self, link: LinkId, message: Message) -> Option<u64> {
        self.send_with(link, message, bytes::Bytes::new())
    }

    /// As [`Context::send`], with a payload.
    pub(super) fn send_with(
        &mut self,
        link: LinkId,
        message: Message,
        payload: bytes::Bytes,
    ) -> Option<u64> {
        let seq = self.links.take_seq(link)?;
        if let Some(state) = self.links.get_mut(link)
            && state.path == PathKind::Relayed
        {
            state.passed(frame::sealed_len(&message, &payload));
        }
        self.push(Output::Send {
            link,
            seq,
            message,
            payload,
        });
        Some(seq)
    }

    /// Sends a frame on a link that has no keys yet.
    pub(super) fn send_plain(&mut self, link: LinkId, body: Vec<u8>) {
        if let Some(state) = self.links.get_mut(link) {
            state.passed(frame::plain_len(body.len()));
        }
        let bytes = body.into();
        self.push(Output::SendPlain { link, bytes });
    }

    /// Closes a link and forgets it.
    pub(super) fn close(&mut self, link: LinkId) {
        if let Some(state) = self.links.remove(link) {
            if let Some(relay) = state.relay {
                self.relays.closing(relay, state.rtt, self.now);
            }
            self.push(Output::Close { link });
        }
    }

    /// A relay carries a link that a dial led to, and states what it lets it carry.
    pub(super) fn leads_through(&mut self, link: LinkId, relay: PeerId, stated: Allowance) {
        let bytes = self.relays.learnt(relay);
        if let Some(state) = self.links.get_mut(link) {
            state.relay = Some(relay);
            state.allowance = Allowance {
                bytes: stated.bytes.or(bytes),
                ..stated
            };
        }
    }

    /// Circuits of this side through a relay: those that stand, are being opened or closed.
    pub(super) fn circuits_through(&self, relay: PeerId) -> usize {
        let dials = self.dials.values();
        let opening = dials.filter(|dialled| dialled.relay == Some(relay)).count();
        let closing = self.relays.closing_now(relay, self.now);
        self.links.through(relay) + opening + closing
    }

    /// Starts a disk job.
    pub(super) fn disk(&mut self, owner: JobOwner, work: DiskWork) {
        let job = JobId(self.fresh());
        self.jobs.insert(job, owner);
        self.push(Output::Disk { job, work });
    }

    /// Whose job ended; each ends once.
    pub(super) fn job_done(&mut self, job: JobId) -> Option<JobOwner> {
        self.jobs.remove(&job)
    }

    /// Starts a dial for a download.
    pub(super) fn dial(
        &mut self,
        download: DownloadId,
        peer: Option<PeerId>,
        addresses: Vec<Multiaddr>,
    ) -> DialId {
        let dial = DialId(self.fresh());
        let relay = dial::only_relay(&addresses);
        let dialled = Dialled { download, relay };
        self.dials.insert(dial, dialled);
        self.push(Output::Dial {
            dial,
            peer,
            addresses,
        });
        dial
    }

    /// Starts to look who is at a place.
    pub(super) fn look_up(&mut self, owner: LookUpOwner, place: Place) -> LookUpId {
        let lookup = LookUpId(self.fresh());
        self.lookups.insert(lookup, owner);
        self.push(Output::LookUp { lookup, place });
        lookup
    }

    /// Gives a look-up up.
    pub(super) fn end_look_up(&mut self, lookup: LookUpId) {
        if self.lookups.remove(&lookup).is_some() {
            self.push(Output::EndLookUp { lookup });
        }
    }

    /// Whose look-up this is, while it goes on.
    pub(super) fn looking(&self, lookup: LookUpId) -> Option<LookUpOwner> {
        self.lookups.get(&lookup).copied()
    }

    /// Whose look-up ended; each ends once.
    pub(super) fn looked_up(&mut self, lookup: LookUpId) -> Option<LookUpOwner> {
        self.lookups.remove(&lookup)
    }

    /// Tells the other side of a link where this one can be dialled without a relay, if one is between.
    pub(super) fn tell_addresses(&mut self, link: LinkId, loopback: bool) {
        let relayed = self
            .links
            .get(link)
            .is_some_and(|link| link.path == PathKind::Relayed);
        if !relayed {
            return;
        }
        let vetted = dial::vet(&self.addresses, loopback, &self.limits).dial;
        let direct = vetted.iter().filter(|address| !dial::is_relayed(address));
        let direct = direct.map(|address| ByteBuf::from(address.to_vec()));
        let addresses: Vec<_> = direct.take(MAX_ADDRESSES).collect();
        if !addresses.is_empty() {
            let addresses = addresses.into();
            self.send(link, Message::Addresses { addresses });
        }
    }

    /// Addresses that the other side of a link told, as far as they may be dialled.
    pub(super) fn vet_told(&self, addresses: &[ByteBuf], loopback: bool) -> Vec<Multiaddr> {
        let mut told = read_addresses(addresses);
        told.retain(|address| !dial::is_relayed(address));
        dial::vet(&told, loopback, &self.limits).dial
    }

    /// Where this side can be dialled, as it is told to others: only through relays if it hides.
    pub(super) fn own_addresses(&self, loopback: bool, relayed_only: bool) -> Vec<ByteBuf> {
        let vetted = dial::vet(&self.addresses, loopback, &self.limits).dial;
        let may = |address: &&Multiaddr| !relayed_only || dial::is_relayed(address);
        let told = vetted.iter().filter(may);
        told.map(|address| ByteBuf::from(address.to_vec()))
            .take(MAX_ADDRESSES)
            .collect()
    }

    /// Where somebody can be dialled by its own word, through relays too, as far as that may be passed on.
    pub(super) fn vet_peer(&self, addresses: &[ByteBuf], loopback: bool) -> Vec<Multiaddr> {
        dial::vet(&read_addresses(addresses), loopback, &self.limits).dial
    }

    /// What a dial was for that has ended; each ends once.
    pub(super) fn dial_done(&mut self, dial: DialId) -> Option<Dialled> {
        self.dials.remove(&dial)
    }
}

/// Addresses as they come in messages: what is too long or none is left out.
fn read_addresses(addresses: &[ByteBuf]) -> Vec<Multiaddr> {
    let short = addresses.iter().filter(|bytes| bytes.len() <= MAX_ADDRESS);
    let read = |bytes: &ByteBuf| Multiaddr::try_from(bytes.to_vec()).ok();
    short.filter_map(read).collect()
}
