//! The engine: a sans-IO state machine that makes all decisions and performs no I/O.
//!
//! # The contract
//!
//! A driver owns one [`Engine`] and repeats three steps:
//!
//! 1. Call [`Engine::handle_input`] with the current time whenever something has happened. If the time goes back
//!    between calls, the engine treats it as unchanged.
//! 2. Then call [`Engine::poll_output`] until it returns [`Output::Timeout`], and perform each output before that in
//!    order. The next input is handled only after that.
//! 3. Wait for that time or the next input, whichever is first. [`Input::Tick`] reports that the time has come.
//!
//! The driver guarantees: the frames of a link are sent in the order of their sequence numbers, each sealed with its
//! number, and each received frame is opened with the number of frames received before it; every disk job and every
//! dial ends exactly once; the loss of a link is reported once, and the link is not used after that. The engine
//! guarantees: `poll_output` reaches a timeout in a number of steps bounded by the work there is, that timeout is in
//! the future, no two frames of a link share a number, and everything that a peer can make grow stays within
//! [`Limits`].
//!
//! The engine never processes bulk bytes: it moves them by reference from frames to the disk and from the disk to
//! frames, and decides by the hashes that workers compute of them.

mod bits;
mod context;
mod disk_work;
mod download;
mod event;
mod flow;
mod handshakes;
mod ids;
mod io;
mod journal;
mod links;
mod memory_budget;
mod rate_limiter;
mod relays;
mod remember;
mod reputation;
mod round_robin;
mod seeders;
mod send_budget;
mod serving;
mod share;
mod token_bucket;
mod violation;

use std::collections::BTreeMap;

pub use disk_work::*;
pub use event::*;
pub use ids::*;
pub use io::*;
pub use journal::*;
pub use violation::Violation;

use context::{Context, DownloadJob, JobOwner, LookUpOwner, ShareJob};
use download::Download;
use links::{Care, Role};
use share::Share;

use crate::dial;
use crate::frame::{self, Frame};
use crate::limits::Limits;
use crate::message::Message;
use crate::time::Time;
use crate::{Keypair, Multiaddr, PeerId};

/// Protocol version sent in the handshake request.
pub const VERSION: u32 = 1;

/// The engine: all shares, downloads and links. See the [module](self) for how to drive it.
pub struct Engine {
    cx: Context,
    shares: BTreeMap<ShareId, Share>,
    downloads: BTreeMap<DownloadId, Download>,
    shutting_down: bool,
}

impl Engine {
    /// Creates an idle engine. All its randomness comes from `seed`, which must never be used twice; `now` is the
    /// driver's clock.
    pub fn new(limits: Limits, identity: Keypair, seed: [u8; 32], now: Time) -> Self {
        Self {
            cx: Context::new(limits, identity, seed, now),
            shares: BTreeMap::new(),
            downloads: BTreeMap::new(),
            shutting_down: false,
        }
    }

    /// Returns the identity that this engine signs with.
    pub fn peer(&self) -> PeerId {
        self.cx.peer
    }

    /// Handles what has happened by `now`.
    pub fn handle_input(&mut self, now: Time, input: Input) {
        self.cx.now = self.cx.now.max(now);
        match input {
            Input::Command(command) => self.command(command),
            Input::Listening { addresses } => self.listening(addresses),
            Input::LinkUp {
                link,
                peer,
                path,
                remote,
                dial: None,
                ..
            } => self.on_link_in((link, peer, path), &remote),
            Input::LinkUp {
                link,
                peer,
                path,
                dial: Some(dial),
                relay,
                allowance,
                ..
            } => self.on_link_out((link, peer, path), dial, (relay, allowance)),
            Input::LinkDown { link, reason } => self.link_down(link, reason),
            Input::DialFailed { dial, reason } => {
                let dialled = self.cx.dial_done(dial);
                let download = dialled.and_then(|of| self.downloads.get_mut(&of.download));
                if let Some(download) = download {
                    download.dial_failed(&mut self.cx, dial, reason);
                }
            }
            Input::Plain { link, bytes } => self.on_plain(link, &bytes),
            Input::Frame { link, frame } => self.frame(link, frame),
            Input::BadFrame { link, reason } => self.blame(link, &Violation::new(reason)),
            Input::Activity { link } => {
                if let Some(state) = self.cx.links.get_mut(link) {
                    state.heard(self.cx.now);
                    if let Role::Fetching(id) = state.role {
                        self.download(id, |download, cx| download.active(link, cx.now));
                    }
                }
            }
            Input::Sent { link, seq } => match self.cx.links.get(link).map(|link| &link.role) {
                Some(Role::Serving(share)) => {
                    if let Some(share) = self.shares.get_mut(share) {
                        share.sent(&mut self.cx, link, seq);
                    }
                }
                Some(Role::Seeding(id)) => {
                    let id = *id;
                    self.download(id, |download, cx| {
                        if let Some((seed, transfer)) = download.serving() {
                            seed.sent(cx, link, seq, transfer);
                        }
                    });
                }
                _ => {}
            },
            Input::Disk { job, done } => self.disk_done(job, done),
            Input::Nearby { peer, addresses } => self.nearby(peer, &addresses),
            Input::NearbyGone { peer } => {
                self.cx.nearby.remove(&peer);
            }
            Input::Announced { place, report } => {
                for share in self.shares.values_mut() {
                    share.announced(&mut self.cx, place, &report);
                }
                for download in self.downloads.values_mut() {
                    if let Some((seed, _)) = download.serving() {
                        seed.announced(&self.cx, place, &report);
                    }
                }
            }
            Input::Found {
                lookup,
                peer,
                addresses,
                by,
            } => self.found(lookup, (peer, by), &addresses),
            Input::LookedUp { lookup, reached } => self.looked_up(lookup, reached),
            Input::Path { peer, path } => {
                self.cx.links.path_came(peer, path);
                for download in self.downloads.values_mut() {
                    download.path(&mut self.cx, peer, path);
                }
            }
            Input::Date { day } => self.date(day),
            Input::Standing { peer, standing } => self.cx.reputations.set(peer, standing),
            Input::Tick => {}
        }
        self.tick();
        self.go_on();
        self.sweep();
    }

    /// Returns the next output to perform, or the time at which to call again.
    pub fn poll_output(&mut self) -> Output {
        if let Some(output) = self.cx.pop() {
            return output;
        }
        let links = self.cx.links.deadline(&self.cx.limits);
        let shares = self.shares.values().map(Share::deadline);
        let limits = &self.cx.limits;
        let downloads = self.downloads.values();
        let downloads = downloads.map(|download| download.deadline(limits));
        let next = shares
            .chain(downloads)
            .chain([links, self.flow_deadline()])
            .min()
            .unwrap_or(Time::NEVER);
        Output::Timeout(next)
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Share {
                share,
                label,
                secret,
                options,
            } => {
                let opened = Share::open(&mut self.cx, share, label, secret, options);
                self.shares.insert(share, opened);
            }
            Command::Unshare { share } => {
                if let Some(share) = self.shares.get_mut(&share) {
                    share.end(&mut self.cx, ShareEnd::Stopped);
                }
            }
            Command::Fetch {
                download,
                source,
                sink,
                options,
            } => {
                let opened = Download::open(&mut self.cx, download, source, sink, *options);
                self.downloads.insert(download, opened);
            }
            Command::Accept { download, terms } => {
                self.download(download, |download, cx| download.accept(cx, terms));
            }
            Command::Decline { download } => self.download(download, Download::decline),
            Command::UseRelays { download, relays } => {
                self.download(download, |download, cx| download.use_relays(cx, &relays));
            }
            Command::Pause { download } => {
                self.download(download, |download, cx| download.pause(cx, true));
            }
            Command::Resume { download } => {
                self.download(download, |download, cx| download.pause(cx, false));
            }
            Command::Suspend { download } => self.download(download, Download::suspend),
            Command::Cancel { download } => self.download(download, Download::cancel),
            Command::Limit { limited, rate } => self.limit(limited, rate),
            Command::Priority { of, priority } => self.weigh(of, priority),
            Command::PauseShare { share } => self.pause_share(share, true),
            Command::ResumeShare { share } => self.pause_share(share, false),
            Command::Shutdown => self.shut_down(),
        }
    }

    fn download(&mut self, id: DownloadId, act: impl FnOnce(&mut Download, &mut Context)) {
        if let Some(download) = self.downloads.get_mut(&id) {
            act(download, &mut self.cx);
        }
    }

    fn shut_down(&mut self) {
        self.shutting_down = true;
        for share in self.shares.values_mut() {
            share.end(&mut self.cx, ShareEnd::Stopped);
        }
        for download in self.downloads.values_mut() {
            download.suspend(&mut self.cx);
        }
    }

    fn listening(&mut self, addresses: Vec<Multiaddr>) {
        if self.cx.addresses == addresses {
            return;
        }
        self.cx.addresses = addresses;
        for share in self.shares.values_mut() {
            share.reachable(&mut self.cx);
        }
        for download in self.downloads.values_mut() {
            download.reachable(&mut self.cx);
        }
    }

    /// Handles a new date: the DHT keys of short codes' numbers change with it.
    fn date(&mut self, day: u32) {
        self.cx.day = Some(day);
        for share in self.shares.values_mut() {
            share.be_found(&mut self.cx);
        }
    }

    fn found(&mut self, lookup: LookUpId, (peer, by): (PeerId, PeerId), addresses: &[Multiaddr]) {
        match self.cx.looking(lookup) {
            Some(LookUpOwner::Share(id)) => {
                if let Some(share) = self.shares.get_mut(&id) {
                    share.found(&mut self.cx, lookup, peer);
                }
            }
            Some(LookUpOwner::Download(id)) => {
                self.download(id, |download, cx| {
                    download.found(cx, lookup, (peer, by), addresses)
                });
            }
            None => {}
        }
    }

    fn looked_up(&mut self, lookup: LookUpId, reached: bool) {
        match self.cx.looked_up(lookup) {
            Some(LookUpOwner::Share(id)) => {
                if let Some(share) = self.shares.get_mut(&id) {
                    share.looked_up(&mut self.cx, lookup);
                }
            }
            Some(LookUpOwner::Download(id)) => {
                self.download(id, |download, cx| download.looked_up(cx, lookup, reached));
            }
            None => {}
        }
    }

    /// Handles a neighbour that was found. It may be the peer that a download searches for.
    fn nearby(&mut self, peer: PeerId, addresses: &[Multiaddr]) {
        let cx = &mut self.cx;
        if cx.nearby.len() >= cx.limits.nearby && !cx.nearby.contains_key(&peer) {
            return;
        }
        // These are the peer's unverified claims: vetted like the addresses in a code.
        let vetted = dial::vet(addresses, false, &cx.limits).dial;
        if vetted.is_empty() || peer == cx.peer || cx.nearby.get(&peer) == Some(&vetted) {
            return;
        }
        cx.nearby.insert(peer, vetted);
        for download in self.downloads.values_mut() {
            download.nearby(cx, peer);
        }
    }

    /// Handles a frame from a keyed link.
    fn frame(&mut self, link: LinkId, frame: Frame) {
        let now = self.cx.now;
        let Some(state) = self.cx.links.get_mut(link) else {
            return;
        };
        state.heard(now);
        if state.path == PathKind::Relayed {
            state.passed(frame::sealed_len(&frame.message, &frame.payload));
        }
        match frame.message {
            Message::Ping { nonce } => {
                if self.spend(link) {
                    self.cx.send(link, Message::Pong { nonce });
                }
                return;
            }
            Message::Pong { nonce } => {
                state.pong(nonce, now);
                self.spend(link);
                return;
            }
            // Messages that advance the transfer are not counted.
            Message::Data { .. } | Message::Request { .. } => {}
            _ => {
                if !self.spend(link) {
                    return;
                }
            }
        }
        let Some(state) = self.cx.links.get(link) else {
            return;
        };
        let outcome = match state.role {
            Role::Serving(id) => match self.shares.get_mut(&id) {
                Some(share) => share.message(&mut self.cx, link, frame),
                None => Ok(()),
            },
            Role::Fetching(id) => match self.downloads.get_mut(&id) {
                Some(download) => download.message(&mut self.cx, link, frame),
                None => Ok(()),
            },
            Role::Seeding(id) => match self.downloads.get_mut(&id) {
                Some(download) => download.seed_message(&mut self.cx, link, frame),
                None => Ok(()),
            },
            Role::AwaitingRequest
            | Role::AwaitingProof(..)
            | Role::AwaitingPoint(..)
            | Role::CountingProof(..)
            | Role::AwaitingReply(..) => Err(Violation::new("a sealed frame before the keys")),
        };
        if let Err(violation) = outcome {
            self.blame(link, &violation);
        }
        self.accuse();
    }

    /// Blames the sharer if a download has found out, from a source's data, that the sharer lied.
    fn accuse(&mut self) {
        let accused = self
            .downloads
            .iter_mut()
            .find_map(|(id, download)| Some((*id, download.accused.take()?)));
        if let Some((id, violation)) = accused {
            self.blame_sharer(id, &violation);
        }
    }

    fn blame_sharer(&mut self, id: DownloadId, violation: &Violation) {
        match self
            .downloads
            .get(&id)
            .and_then(|download| download.links.best)
        {
            Some(link) => self.blame(link, violation),
            None => self.download(id, |download, cx| download.sharer_lied(cx, violation)),
        }
    }

    /// Counts a message that makes no progress, and blames the peer if there are too many. Returns true to go on.
    fn spend(&mut self, link: LinkId) -> bool {
        let cx = &mut self.cx;
        let may = cx
            .links
            .get_mut(link)
            .is_some_and(|link| link.spend(cx.now, &cx.limits));
        if !may {
            self.blame(
                link,
                &Violation::new("a flood of messages without progress"),
            );
        }
        may
    }

    /// Handles a violation: closes the link, and reports the peer to the user and to the link's owner.
    fn blame(&mut self, link: LinkId, violation: &Violation) {
        let Some(state) = self.cx.links.remove(link) else {
            return;
        };
        self.cx.push(Output::Close { link });
        self.cx.reputations.blamed(state.peer);
        self.cx.event(Event::PeerBlamed {
            peer: state.peer,
            violation: violation.to_string(),
        });
        match state.role {
            Role::Serving(id) => {
                if let Some(share) = self.shares.get_mut(&id) {
                    share.blamed(&mut self.cx, link);
                }
            }
            Role::Fetching(id) => {
                self.download(id, |download, cx| download.blamed(cx, link, violation));
            }
            Role::Seeding(id) => {
                self.download(id, |download, cx| {
                    download.seed_blamed(cx, link, state.peer)
                });
            }
            Role::AwaitingPoint(id, dial, _)
            | Role::CountingProof(id, dial, _)
            | Role::AwaitingReply(id, dial, _) => {
                self.download(id, |download, _| {
                    download.finding.proofs.answered(state.peer)
                });
                self.dial_failed(id, dial, "the other side does not speak this protocol");
            }
            Role::AwaitingRequest | Role::AwaitingProof(..) => {}
        }
    }

    fn link_down(&mut self, link: LinkId, reason: String) {
        let Some(state) = self.cx.links.remove(link) else {
            return;
        };
        if let (Some(relay), None) = (state.relay, state.allowance.bytes) {
            self.cx.relays.cut(relay, state.carried, self.cx.now);
        }
        match state.role {
            Role::Serving(id) => {
                if let Some(share) = self.shares.get_mut(&id) {
                    share.link_down(&mut self.cx, link);
                }
            }
            Role::Fetching(id) => {
                self.download(id, |download, cx| download.link_down(cx, link, reason));
            }
            Role::Seeding(id) => self.download(id, |download, cx| {
                if let Some((seed, _)) = download.serving() {
                    seed.link_down(cx, link);
                }
            }),
            Role::AwaitingPoint(id, dial, _)
            | Role::CountingProof(id, dial, _)
            | Role::AwaitingReply(id, dial, _) => {
                self.download(id, |download, cx| {
                    download.finding.proofs.broke(state.peer);
                    download.dial_failed(cx, dial, reason);
                });
            }
            Role::AwaitingRequest | Role::AwaitingProof(..) => {}
        }
    }

    fn disk_done(&mut self, job: JobId, done: DiskDone) {
        match self.cx.job_done(job) {
            Some(JobOwner::Share(id, job)) => {
                if let ShareJob::CountGuess(link) = job {
                    self.on_guess_counted(link);
                }
                if let Some(share) = self.shares.get_mut(&id) {
                    share.disk_done(&mut self.cx, job, done);
                }
            }
            Some(JobOwner::Download(id, DownloadJob::CountProof(link))) => {
                self.on_proof_counted(id, link, &done);
            }
            Some(JobOwner::Download(id, job)) => {
                let Some(download) = self.downloads.get_mut(&id) else {
                    return;
                };
                if let Err(violation) = download.disk_done(&mut self.cx, job, done) {
                    self.blame_sharer(id, &violation);
                }
            }
            None => {}
        }
    }

    /// Does what is due by now.
    fn tick(&mut self) {
        if self.cx.links.deadline(&self.cx.limits) <= self.cx.now {
            for link in self.cx.links.ids() {
                self.care(link);
            }
        }
        for share in self.shares.values_mut() {
            share.tick(&mut self.cx);
        }
        for download in self.downloads.values_mut() {
            download.tick(&mut self.cx);
        }
    }

    fn care(&mut self, link: LinkId) {
        match self.cx.links.care(link, self.cx.now, &self.cx.limits) {
            None => {}
            Some(Care::Ping(nonce)) => {
                self.cx.send(link, Message::Ping { nonce });
            }
            Some(care @ (Care::Dead | Care::HandshakeOver)) => {
                let reason = match care {
                    Care::Dead => "the connection went silent",
                    _ => "the other side did not answer in time",
                };
                self.cx.push(Output::Close { link });
                self.link_down(link, reason.to_string());
            }
        }
    }

    /// Removes shares and downloads that are over.
    fn sweep(&mut self) {
        self.shares.retain(|_, share| !share.is_over());
        self.downloads.retain(|_, download| !download.is_over());
        self.forget_flows();
        if self.shutting_down && self.shares.is_empty() && self.downloads.is_empty() {
            self.shutting_down = false;
            self.cx.event(Event::ShutDown);
        }
    }
}
