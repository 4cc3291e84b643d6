//! State that all parts of the engine share: time, limits, links, budgets, pending jobs and the output queue.

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

/// Purpose of a dial.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dialled {
    pub(super) download: DownloadId,
    /// The relay, if all addresses of the dial lead through the same one.
    pub(super) relay: Option<PeerId>,
}

/// Shared by all shares and downloads, which borrow it one at a time.
pub(super) struct Context {
    pub(super) now: Time,
    pub(super) limits: Limits,
    pub(super) identity: Keypair,
    pub(super) peer: PeerId,
    pub(super) links: Links,
    /// Rate limits for sending and receiving.
    pub(super) up: RateLimiter,
    pub(super) down: RateLimiter,
    /// Memory budget of all downloads together.
    pub(super) memory: MemoryBudget,
    /// Memory budget of all shares and seeding downloads together.
    pub(super) send_budget: SendBudget,
    /// The current date in days since 1970 (UTC), once the driver has reported it.
    pub(super) day: Option<u32>,
    /// This peer's own addresses.
    pub(super) addresses: Vec<Multiaddr>,
    /// Neighbours and their addresses.
    pub(super) nearby: BTreeMap<PeerId, Vec<Multiaddr>>,
    /// Reputation of each peer, which orders dials.
    pub(super) reputations: Reputations,
    /// Limits and use of each relay.
    pub(super) relays: Relays,
    rng: ChaCha20Rng,
    outputs: VecDeque<Output>,
    jobs: BTreeMap<JobId, JobOwner>,
    dials: BTreeMap<DialId, Dialled>,
    lookups: BTreeMap<LookUpId, LookUpOwner>,
    next: u64,
}

/// Owner of a disk job, which receives its result.
#[derive(Debug, Clone)]
pub(super) enum JobOwner {
    Share(ShareId, ShareJob),
    Download(DownloadId, DownloadJob),
}

/// Owner of a DHT lookup.
#[derive(Debug, Clone, Copy)]
pub(super) enum LookUpOwner {
    Share(ShareId),
    Download(DownloadId),
}

/// Disk jobs of a share.
#[derive(Debug, Clone)]
pub(super) enum ShareJob {
    Scan,
    /// Reads the bytes for request `id` on `link`.
    Serve {
        link: LinkId,
        id: u64,
    },
    /// Reads from the pipe at `offset` for request `id` on `link`.
    Pipe {
        link: LinkId,
        id: u64,
        offset: u64,
    },
    /// Hashes whole groups of one entry, starting with group `first`.
    HashGroups {
        entry: u32,
        first: u64,
    },
    /// Hashes these small files completely.
    HashFiles {
        entries: Vec<u32>,
    },
    Chunk {
        entry: u32,
    },
    /// Counts a wrong guess at the short code's words that was made on this link.
    CountGuess(LinkId),
    Note,
    Forget,
}

/// Disk jobs of a download.
#[derive(Debug, Clone)]
pub(super) enum DownloadJob {
    Inspect,
    Stage,
    /// Hashes groups that an earlier run has staged, starting with group `first`.
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
    /// Writes these segments.
    Write {
        pieces: Vec<Segment>,
    },
    /// Reads the bytes for request `id` on `link`.
    ReadBack {
        link: LinkId,
        id: u64,
    },
    /// Counts the password proof that is about to be sent on this link.
    CountProof(LinkId),
    ProofSucceeded,
    ProofNotSent,
    Sync,
    Journal,
    Publish {
        entries: Vec<u32>,
    },
    Finish,
    /// Discards or closes the download.
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

    /// Returns 32 random bytes.
    pub(super) fn draw(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    /// Returns a random number.
    pub(super) fn draw_number(&mut self) -> u64 {
        u64::from_le_bytes(self.draw().first_chunk().copied().unwrap_or_default())
    }

    /// The generator itself, for callers with their own way of sampling.
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

    /// Queues a message to be sealed and sent on a link. Returns the link's next sequence number, which the frame gets.
    /// Does nothing if the link is gone or not keyed.
    pub(super) fn send(&mut self, link: LinkId, message: Message) -> Option<u64> {
        self.send_with(link, message, bytes::Bytes::new())
    }

    /// Like [`Context::send`], with a payload.
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

    /// Sends an unsealed frame on a link that is not keyed yet.
    pub(super) fn send_plain(&mut self, link: LinkId, body: Vec<u8>) {
        if let Some(state) = self.links.get_mut(link) {
            state.passed(frame::plain_len(body.len()));
        }
        let bytes = body.into();
        self.push(Output::SendPlain { link, bytes });
    }

    /// Closes and removes a link.
    pub(super) fn close(&mut self, link: LinkId) {
        if let Some(state) = self.links.remove(link) {
            if let Some(relay) = state.relay {
                self.relays.closing(relay, state.rtt, self.now);
            }
            self.push(Output::Close { link });
        }
    }

    /// Notes the relay of a link that we dialled, and the limits that the relay states for it.
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

    /// Number of this side's circuits through a relay, including those being opened or closed.
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

    /// Returns the owner of a disk job that has ended, and removes the job. Each job ends exactly once.
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

    /// Starts a DHT lookup of a rendezvous point.
    pub(super) fn look_up(&mut self, owner: LookUpOwner, place: Place) -> LookUpId {
        let lookup = LookUpId(self.fresh());
        self.lookups.insert(lookup, owner);
        self.push(Output::LookUp { lookup, place });
        lookup
    }

    /// Cancels a lookup.
    pub(super) fn end_look_up(&mut self, lookup: LookUpId) {
        if self.lookups.remove(&lookup).is_some() {
            self.push(Output::EndLookUp { lookup });
        }
    }

    /// Returns the owner of a running lookup.
    pub(super) fn looking(&self, lookup: LookUpId) -> Option<LookUpOwner> {
        self.lookups.get(&lookup).copied()
    }

    /// Returns the owner of a lookup that has ended, and removes the lookup. Each lookup ends exactly once.
    pub(super) fn looked_up(&mut self, lookup: LookUpId) -> Option<LookUpOwner> {
        self.lookups.remove(&lookup)
    }

    /// Sends this side's direct addresses over a link, if that link is relayed.
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

    /// Parses direct addresses received over a link, and keeps those that may be dialled.
    pub(super) fn vet_told(&self, addresses: &[ByteBuf], loopback: bool) -> Vec<Multiaddr> {
        let mut told = read_addresses(addresses);
        told.retain(|address| !dial::is_relayed(address));
        dial::vet(&told, loopback, &self.limits).dial
    }

    /// This side's addresses to send to others. With `relayed_only`, only relayed ones.
    pub(super) fn own_addresses(&self, loopback: bool, relayed_only: bool) -> Vec<ByteBuf> {
        let vetted = dial::vet(&self.addresses, loopback, &self.limits).dial;
        let may = |address: &&Multiaddr| !relayed_only || dial::is_relayed(address);
        let told = vetted.iter().filter(may);
        told.map(|address| ByteBuf::from(address.to_vec()))
            .take(MAX_ADDRESSES)
            .collect()
    }

    /// Parses a peer's addresses, direct and relayed, and keeps those that may be dialled or passed on.
    pub(super) fn vet_peer(&self, addresses: &[ByteBuf], loopback: bool) -> Vec<Multiaddr> {
        dial::vet(&read_addresses(addresses), loopback, &self.limits).dial
    }

    /// Returns the purpose of a dial that has ended, and removes the dial. Each dial ends exactly once.
    pub(super) fn dial_done(&mut self, dial: DialId) -> Option<Dialled> {
        self.dials.remove(&dial)
    }
}

/// Parses addresses from a message. Skips those that are too long or malformed.
fn read_addresses(addresses: &[ByteBuf]) -> Vec<Multiaddr> {
    let short = addresses.iter().filter(|bytes| bytes.len() <= MAX_ADDRESS);
    let read = |bytes: &ByteBuf| Multiaddr::try_from(bytes.to_vec()).ok();
    short.filter_map(read).collect()
}
