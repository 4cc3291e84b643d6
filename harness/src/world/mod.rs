//! The world: hosts and scripted peers, the links between them, and one clock.

mod between;
mod dht;
mod host;
mod links;
mod narrate;
mod paced;
mod proofs;
mod reach;
mod relays;
mod run;
mod trouble;
mod watch;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use handover_core::code::Ticket;
use handover_core::engine::{
    AcceptTerms, Command, DownloadId, DownloadOutcome, Event, FetchKey, FetchOptions, FetchSource,
    LinkId, OnConflict, ShareId, ShareLabel, ShareOptions, Short, SinkKind,
};
use handover_core::limits::Limits;
use handover_core::secret::ShareSecret;
use handover_core::time::Time;
use handover_core::{Keypair, Multiaddr, PeerId};
use handover_transports::memory::HostId;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::disk::{Disk, Leftover, Model, Source, SourceKind};
use crate::ledger::Fault;
use crate::limits::small_limits;
use crate::network::Network;
use crate::puppet::Puppet;
use crate::trace::Trace;
use crate::tree::Tree;
use crate::wire::Nonces;
use dht::Dht;
pub use dht::DhtMood;
use host::Host;
pub use links::Route;
use links::{Coming, Doom, End};
pub(crate) use narrate::Listener;
use reach::Reach;
pub use reach::{Depends, Nat, Relay, relay_peer};
use run::Task;

/// Answer to an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Accept it.
    Accept(AcceptTerms),
    /// Decline it.
    Decline,
    /// Do nothing: the scenario answers.
    Wait,
}

impl Default for Answer {
    fn default() -> Self {
        Self::Accept(AcceptTerms {
            select: None,
            on_conflict: OnConflict::Rename,
            executables: true,
        })
    }
}

/// Parameters of a download.
#[derive(Debug, Clone)]
pub struct Fetch {
    /// Destination.
    pub sink: SinkKind,
    /// Contents of the folder before the download.
    pub existing: Tree,
    /// Data that earlier downloads left there.
    pub leftover: Leftover,
    /// Answer to the offer.
    pub answer: Answer,
    /// Options for the engine.
    pub options: FetchOptions,
}

impl Default for Fetch {
    /// Into an empty folder, accepting everything.
    fn default() -> Self {
        Self {
            sink: SinkKind::Folder,
            existing: Tree::new(),
            leftover: Leftover::default(),
            answer: Answer::default(),
            options: FetchOptions::default(),
        }
    }
}

impl Fetch {
    /// Into a pipe.
    pub fn to_pipe() -> Self {
        Self {
            sink: SinkKind::Pipe,
            ..Self::default()
        }
    }

    /// With this answer to the offer.
    pub fn answered(answer: Answer) -> Self {
        Self {
            answer,
            ..Self::default()
        }
    }
}

/// Parameters of a share.
#[derive(Debug, Clone)]
pub struct Offering {
    kind: SourceKind,
    /// The secret, or `None` for a random one.
    pub secret: Option<ShareSecret>,
    /// Options for the engine.
    pub options: ShareOptions,
}

impl Offering {
    /// Shares files and folders.
    pub fn tree(tree: Tree) -> Self {
        Self::of(SourceKind::Tree(tree))
    }

    /// Shares bytes read from a pipe.
    pub fn pipe(bytes: impl Into<bytes::Bytes>) -> Self {
        Self::of(SourceKind::Pipe(bytes.into()))
    }

    /// Sets the secret.
    #[must_use]
    pub fn with_secret(mut self, secret: ShareSecret) -> Self {
        self.secret = Some(secret);
        self
    }

    /// Sets the maximum number of receivers.
    #[must_use]
    pub fn with_uses(mut self, uses: u32) -> Self {
        self.options.uses = Some(uses);
        self
    }

    pub(crate) fn of(kind: SourceKind) -> Self {
        Self {
            kind,
            secret: None,
            options: ShareOptions {
                lan: true,
                ..ShareOptions::default()
            },
        }
    }
}

/// A participant with an address.
pub(crate) enum Place {
    Host(Box<Host>),
    Puppet(Box<Puppet>),
}

/// Hosts, scripted peers, links and a clock. The [crate] documents the invariants it checks.
pub struct World {
    pub(crate) network: Network,
    pub(crate) places: Vec<Place>,
    pub(crate) ends: BTreeMap<LinkId, End>,
    coming: BTreeMap<LinkId, Coming>,
    routes: BTreeMap<Multiaddr, (HostId, Route)>,
    agenda: BinaryHeap<Reverse<(Time, u64)>>,
    tasks: BTreeMap<u64, Task>,
    pub(crate) nonces: Nonces,
    trace: Trace,
    /// Valid contents of each share, by its tag.
    pub(crate) models: BTreeMap<[u8; 16], Model>,
    pub(crate) rng: ChaCha8Rng,
    limits: Limits,
    doom: Option<Doom>,
    next_id: u64,
    pub(crate) reach: Reach,
    pub(crate) dht: Dht,
    /// Links that were killed or closed by one end, by half the number of their ends.
    killed: BTreeSet<u64>,
    /// Connections opened by the second host to the first.
    paths: BTreeMap<(HostId, HostId), (Route, Fault)>,
    /// Delay between a relayed link to a host and the hole punch.
    punching: BTreeMap<HostId, Duration>,
    /// Number of content bytes received in sealed frames, by host.
    received: BTreeMap<HostId, u64>,
    /// Number of content bytes that others received from a host.
    uploaded: BTreeMap<HostId, u64>,
    /// Session number of the download that a link belongs to, by the receiver's end.
    greeted: BTreeMap<LinkId, u64>,
    /// Number of content bytes received, by host and session number.
    fetched: BTreeMap<(HostId, u64), u64>,
    /// Number of links lost, by host and session number.
    losses: BTreeMap<(HostId, u64), u64>,
    /// Tag of the share that each short code's number belongs to.
    short_codes: BTreeMap<u32, [u8; 16]>,
    /// Hosts on the same local network are told about each other.
    neighbourly: bool,
    /// Text forms of secrets that must never be shown.
    secrets: Vec<String>,
    /// Number of lying peers, and their frames that are detectable lies, by receiving end and frame number there. The
    /// value is the weight: a bad leaf counts as one, anything else is enough on its own.
    pub(crate) liars: u32,
    pub(crate) lies: BTreeMap<(LinkId, u64), u32>,
    /// Tags of shares whose forged manifest must never be shown to a user.
    pub(crate) forged: BTreeSet<[u8; 16]>,
    /// Number of downloads, shares and engines that have ended.
    pub(crate) endings: u64,
    listener: Option<Listener>,
}

impl World {
    /// An empty world with [small limits](small_limits).
    pub fn new(seed: u64) -> Self {
        Self::with_limits(seed, small_limits())
    }

    /// An empty world with these limits as the default for its engines.
    pub fn with_limits(seed: u64, limits: Limits) -> Self {
        Self {
            network: Network::new(seed),
            places: Vec::new(),
            ends: BTreeMap::new(),
            coming: BTreeMap::new(),
            routes: BTreeMap::new(),
            agenda: BinaryHeap::new(),
            tasks: BTreeMap::new(),
            nonces: Nonces::default(),
            trace: Trace::default(),
            models: BTreeMap::new(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            limits,
            doom: None,
            next_id: 0,
            reach: Reach::default(),
            dht: Dht::default(),
            killed: BTreeSet::new(),
            paths: BTreeMap::new(),
            punching: BTreeMap::new(),
            received: BTreeMap::new(),
            uploaded: BTreeMap::new(),
            greeted: BTreeMap::new(),
            fetched: BTreeMap::new(),
            losses: BTreeMap::new(),
            short_codes: BTreeMap::new(),
            neighbourly: false,
            secrets: Vec::new(),
            liars: 0,
            lies: BTreeMap::new(),
            forged: BTreeSet::new(),
            endings: 0,
            listener: None,
        }
    }

    /// Adds a host on the local network, at [`World::address`].
    pub fn add_host(&mut self) -> HostId {
        self.add_host_with(self.limits.clone())
    }

    /// Adds a host with its own limits.
    pub fn add_host_with(&mut self, limits: Limits) -> HostId {
        let id = self.network.add_host();
        let identity = self.draw_identity();
        let seed = self.draw();
        let host = Host::new(identity, limits, seed, self.now());
        self.places.push(Place::Host(Box::new(host)));
        self.tell_date(id);
        self.listen(id, Self::address(id), Route::lan());
        id
    }

    /// The initial address of a host.
    pub fn address(id: HostId) -> Multiaddr {
        let (high, low) = (id.0 / 250, id.0 % 250 + 1);
        let address = format!("/ip4/10.0.{high}.{low}/tcp/4000");
        address.parse().expect("an address")
    }

    /// The current virtual time.
    pub fn now(&self) -> Time {
        self.network.now()
    }

    /// The hash of everything that has happened in engines so far.
    pub fn trace(&self) -> u64 {
        self.trace.hash()
    }

    /// Number of inputs and outputs of all engines so far.
    pub fn engine_events(&self) -> u64 {
        self.trace.count
    }

    /// Shares a tree. Returns as soon as there is a ticket.
    pub fn share(&mut self, host: HostId, tree: Tree) -> (ShareId, Ticket) {
        self.share_with(host, Offering::tree(tree))
    }

    /// Creates a share. Returns as soon as there is a ticket, which is immediately.
    pub fn share_with(&mut self, host: HostId, offering: Offering) -> (ShareId, Ticket) {
        let share = ShareId(self.next_id());
        let source = Source::new(offering.kind.clone());
        let before = match offering.options.short {
            Short::Again { wrong, .. } => wrong,
            Short::None | Short::New => 0,
        };
        let state = self.host_mut(host);
        state.guessed.insert(share, before);
        state.disk.sources.insert(share, source);
        let label = ShareLabel {
            name: "a share".into(),
            ..ShareLabel::default()
        };
        let command = Command::Share {
            share,
            label,
            secret: offering.secret,
            options: offering.options.clone(),
        };
        self.command(host, command);
        let opened = self.events(host).iter().find_map(|event| match event {
            Event::ShareOpen {
                share: id, ticket, ..
            } if *id == share => Some(ticket.clone()),
            _ => None,
        });
        let ticket = opened.expect("a ticket comes at once, whatever there is to scan");
        self.keep_secret(&ticket.secret);
        let tag = ticket.secret.tag();
        self.host_mut(host).shares.insert(share, tag);
        (share, ticket)
    }

    /// Fetches everything into an empty folder.
    pub fn fetch(&mut self, host: HostId, ticket: &Ticket) -> DownloadId {
        self.fetch_with(host, ticket, Fetch::default())
    }

    /// Fetches with these parameters.
    pub fn fetch_with(&mut self, host: HostId, ticket: &Ticket, fetch: Fetch) -> DownloadId {
        let source = FetchSource {
            peer: Some(ticket.peer),
            addresses: ticket.addresses.clone(),
            key: FetchKey::Secret(ticket.secret.clone()),
        };
        self.fetch_from(host, source, fetch)
    }

    /// Fetches from any source, with or without a ticket.
    pub fn fetch_from(&mut self, host: HostId, source: FetchSource, fetch: Fetch) -> DownloadId {
        let download = DownloadId(self.next_id());
        let tag = match &source.key {
            FetchKey::Secret(secret) => secret.tag(),
            FetchKey::Short(code) => self.short_codes[&code.number()],
        };
        let model = self.models.entry(tag).or_default().clone();
        let state = self.host_mut(host);
        state.tags.insert(download, tag);
        let (mut source, mut options) = (source, fetch.options);
        if let FetchKey::Short(code) = &source.key {
            state.proofs.typed(code);
            let (sent, sharer) = state.disk.proofs_of(download, code);
            options.proofs_sent = sent;
            source.peer = source.peer.or(sharer);
        }
        state.disk.add_landing(
            download,
            fetch.sink,
            fetch.existing,
            fetch.leftover,
            Some(model),
        );
        state.answers.insert(download, fetch.answer);
        let command = Command::Fetch {
            download,
            source,
            sink: fetch.sink,
            options: Box::new(options),
        };
        self.command(host, command);
        download
    }

    /// Allows a download by this ticket to end up as this tree, under other names than shared.
    pub fn lands_as(&mut self, ticket: &Ticket, tree: Tree) {
        self.add_version(ticket.secret.tag(), SourceKind::Tree(tree));
    }

    /// Adds a valid content to the share with this tag.
    pub(crate) fn add_version(&mut self, tag: [u8; 16], kind: SourceKind) {
        let model = self.models.entry(tag).or_default();
        model.borrow_mut().push(kind);
    }

    /// Registers a secret that must never be shown.
    pub(crate) fn keep_secret(&mut self, secret: &ShareSecret) {
        for mark in marks(secret) {
            if !self.secrets.contains(&mark) {
                self.secrets.push(mark);
            }
        }
    }

    /// Gives a command to a host's engine.
    pub fn command(&mut self, host: HostId, command: Command) {
        self.feed(host, handover_core::engine::Input::Command(command));
    }

    /// All events of a host's engine so far.
    pub fn events(&self, host: HostId) -> &[Event] {
        &self.host(host).events
    }

    /// Number of unsuccessful password proofs that a host has sent, across all restarts.
    pub fn proofs_in_vain(&self, host: HostId) -> u32 {
        self.host(host).proofs.in_vain()
    }

    /// The outcome of a download, or `None` if it has not ended.
    pub fn outcome(&self, host: HostId, download: DownloadId) -> Option<&DownloadOutcome> {
        self.host(host).outcomes.get(&download)
    }

    /// A host's disk.
    pub fn disk(&self, host: HostId) -> &Disk {
        &self.host(host).disk
    }

    /// A host's disk, mutably.
    pub fn disk_mut(&mut self, host: HostId) -> &mut Disk {
        &mut self.host_mut(host).disk
    }

    /// The peer id of a host or scripted peer.
    pub fn peer(&self, id: HostId) -> PeerId {
        match &self.places[id.0 as usize] {
            Place::Host(host) => host.identity.public().to_peer_id(),
            Place::Puppet(puppet) => puppet.peer(),
        }
    }

    /// Number of content bytes received by a host, including duplicates.
    pub fn received(&self, host: HostId) -> u64 {
        self.received.get(&host).copied().unwrap_or(0)
    }

    /// Number of content bytes that others received from a host.
    pub fn uploaded(&self, host: HostId) -> u64 {
        self.uploaded.get(&host).copied().unwrap_or(0)
    }

    /// Limits the total rate at which a host sends over all its links, in bytes per second.
    pub fn limit_uplink(&mut self, host: HostId, bytes: u64) {
        self.network.limit_uplink(host, bytes);
    }

    /// Power failure: the host loses its engine and its links, but keeps its disk.
    pub fn crash(&mut self, id: HostId) {
        self.host_mut(id).crash();
        let ends: Vec<_> = self.ends_of(id);
        for end in ends {
            self.ends.remove(&end);
            self.network.kill(end);
        }
        self.coming.retain(|_, coming| coming.place != id);
    }

    /// Restarts a crashed host: a new engine with the same identity.
    pub fn restart(&mut self, id: HostId) {
        let (seed, now) = (self.draw(), self.now());
        self.host_mut(id).restart(seed, now);
        self.tell_date(id);
        self.announce(id);
    }

    pub(crate) fn host(&self, id: HostId) -> &Host {
        match &self.places[id.0 as usize] {
            Place::Host(host) => host,
            Place::Puppet(_) => panic!("{id:?} is a puppet"),
        }
    }

    pub(crate) fn host_mut(&mut self, id: HostId) -> &mut Host {
        match &mut self.places[id.0 as usize] {
            Place::Host(host) => host,
            Place::Puppet(_) => panic!("{id:?} is a puppet"),
        }
    }

    pub(crate) fn draw(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    pub(crate) fn draw_identity(&mut self) -> Keypair {
        Keypair::ed25519_from_bytes(self.draw()).expect("32 bytes make a key")
    }

    pub(crate) fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn schedule(&mut self, after: Duration, task: Task) {
        let number = self.next_id();
        self.agenda.push(Reverse((self.now() + after, number)));
        self.tasks.insert(number, task);
    }
}

/// How a secret would look in printed form: as a list of numbers, and in hexadecimal.
fn marks(secret: &ShareSecret) -> [String; 2] {
    let begin = &secret.as_bytes()[..8];
    let list = format!("{begin:?}");
    let hex = begin.iter().map(|byte| format!("{byte:02x}"));
    [list.trim_matches(['[', ']']).to_owned(), hex.collect()]
}
