//! Inputs, commands and outputs of the engine.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    Allowance, AnnounceReport, DialId, DiskDone, DiskWork, DownloadId, Event, JobId, Limited,
    LinkId, LookUpId, OnConflict, PathKind, Place, Priority, ShareId, TransferId,
};
use crate::code::ShortCode;
use crate::frame::{Frame, LinkKeys};
use crate::message::Message;
use crate::secret::ShareSecret;
use crate::time::Time;
use crate::{Multiaddr, PeerId};

/// An input of the engine.
// The doc comment of each variant describes its fields.
#[allow(missing_docs)]
#[derive(Debug)]
pub enum Input {
    /// A user or a program issues a command.
    Command(Command),
    /// All addresses at which the transport can be reached now. Repeated whenever they change.
    Listening { addresses: Vec<Multiaddr> },
    /// A link to a peer is up. `peer` is the identity proved by the transport's own encryption.
    LinkUp {
        link: LinkId,
        peer: PeerId,
        path: PathKind,
        /// The remote address: the peer's, or that of the relay in between.
        remote: Multiaddr,
        /// The dial that led to this link; `None` if the other side dialled.
        dial: Option<DialId>,
        /// The relay that carries the link, if any.
        relay: Option<PeerId>,
        /// What that relay allows, less what the transport itself needs of it.
        allowance: Allowance,
    },
    /// A link is gone: nothing more is received from it, and nothing may be sent on it.
    LinkDown { link: LinkId, reason: String },
    /// A dial failed. `reason` is for people.
    DialFailed { dial: DialId, reason: String },
    /// A frame was received on a link that is not keyed yet.
    Plain { link: LinkId, bytes: Bytes },
    /// A frame was received, opened with the link's keys and decoded, and its groups were hashed.
    Frame { link: LinkId, frame: Frame },
    /// A frame was received that could not be opened or decoded, or that is too long. `reason` is for people.
    BadFrame { link: LinkId, reason: String },
    /// Bytes of an incomplete frame were received on a link. Needed once per second at most: it keeps a slow link from
    /// being considered dead.
    Activity { link: LinkId },
    /// The frame with this sequence number was passed to the transport; its bytes are no longer held.
    Sent { link: LinkId, seq: u64 },
    /// A disk job has ended.
    Disk { job: JobId, done: DiskDone },
    /// A neighbour was found, with these addresses. Repeated whenever they change.
    Nearby {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
    },
    /// A neighbour has left the local network.
    NearbyGone { peer: PeerId },
    /// An announcement is complete; `report` gives the answers of the DHT's nodes.
    Announced {
        place: Place,
        report: AnnounceReport,
    },
    /// A lookup found this peer, reported at these addresses. There may be none, and they are not verified.
    Found {
        lookup: LookUpId,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        /// The node that named the peer.
        by: PeerId,
    },
    /// A lookup has ended; `reached` is true if any node of the DHT answered.
    LookedUp { lookup: LookUpId, reached: bool },
    /// A connection to this peer came up that no dial had asked for. A dial without addresses would use it.
    Path { peer: PeerId, path: PathKind },
    /// The date, as days since 1970 in UTC. Sent at the start, and whenever it changes.
    Date { day: u32 },
    /// Reputation of a peer, from what the driver remembers: higher is better, 0 is unknown. It affects only the order
    /// in which peers are tried, never trust.
    Standing { peer: PeerId, standing: i32 },
    /// The time of the last [`Output::Timeout`] has come.
    Tick,
}

/// An order that a user, or a program on their behalf, gives the engine.
// The doc comment of each variant describes its fields.
#[allow(missing_docs)]
#[derive(Debug, Clone)]
pub enum Command {
    /// Offer a share. The driver knows which local files `share` stands for, and is asked to scan them.
    Share {
        share: ShareId,
        label: ShareLabel,
        /// The secret of a share that was offered before. If `None`, a new one is drawn.
        secret: Option<ShareSecret>,
        options: ShareOptions,
    },
    /// Withdraw a share and tell its receivers.
    Unshare { share: ShareId },
    /// Fetch what a code points to. The driver knows which folder or pipe `download` stands for.
    Fetch {
        download: DownloadId,
        source: FetchSource,
        sink: SinkKind,
        options: Box<FetchOptions>,
    },
    /// Accept the offer.
    Accept {
        download: DownloadId,
        terms: AcceptTerms,
    },
    /// Decline the offer.
    Decline { download: DownloadId },
    /// Use these relays too: the answer to [`Event::RelaysInQuestion`].
    UseRelays {
        download: DownloadId,
        relays: Vec<PeerId>,
    },
    /// Stop requesting more, and keep what is there.
    Pause { download: DownloadId },
    /// Continue after a pause.
    Resume { download: DownloadId },
    /// End a download for this run; another run can resume what its journal lists. Without a journal it is cancelled.
    Suspend { download: DownloadId },
    /// Cancel a download and remove everything not published.
    Cancel { download: DownloadId },
    /// Limit content to this `rate`, in bytes per second. `None` removes the limit.
    Limit { limited: Limited, rate: Option<u64> },
    /// Set the weight of a transfer when it competes with others for a shared rate limit.
    Priority { of: TransferId, priority: Priority },
    /// Stop answering requests. Receivers are told, and wait.
    PauseShare { share: ShareId },
    /// Answer requests again.
    ResumeShare { share: ShareId },
    /// End everything: withdraw every share, suspend every download, and tell the peers.
    Shutdown,
}

/// How a share is presented to receivers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShareLabel {
    /// Name of the share.
    pub name: String,
    /// Description in the sharer's words. May be empty.
    pub description: String,
    /// Name of the sharer. May be empty.
    pub author: String,
}

/// How a share is served.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct ShareOptions {
    /// Withdraw the share when this many receivers have completed it.
    pub uses: Option<u32>,
    /// Withdraw the share after this time.
    pub expires: Option<Duration>,
    /// Put loopback addresses into the ticket: the receiver is on the same machine.
    pub loopback: bool,
    /// Put addresses of the local network into the ticket. Otherwise it has only those that are valid everywhere.
    pub lan: bool,
    /// Announce the share in the DHT, under the secret and under the short code's number.
    pub dht: bool,
    /// Be reachable through relays only: receivers don't learn this device's address.
    pub relayed_only: bool,
    /// Whether the share can also be opened with a short code.
    pub short: Short,
    /// Number of words in a new short code: two to four; other numbers are clamped to that range.
    pub words: u8,
    /// Admit this peer only: any other that knows the secret is told that there is no such share.
    pub only: Option<PeerId>,
    /// Pair with receivers that ask for it.
    pub remember: bool,
}

/// Whether a share has a short code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Short {
    /// No short code.
    #[default]
    None,
    /// A new one is drawn.
    New,
    /// The short code of an earlier run, with its count of wrong guesses.
    Again {
        /// The code.
        code: ShortCode,
        /// Number of wrong guesses so far.
        wrong: u32,
    },
}

/// The peer to fetch from, and the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchSource {
    /// The sharer's identity. A legacy code does not contain it: the sharer is then any peer at the address that proves
    /// the key.
    pub peer: Option<PeerId>,
    /// Addresses to dial. Neighbours are tried as well.
    pub addresses: Vec<Multiaddr>,
    /// The key that opens the share.
    pub key: FetchKey,
}

/// The key that opens a share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchKey {
    /// The share's secret.
    Secret(ShareSecret),
    /// The share's short code.
    Short(ShortCode),
}

impl FetchKey {
    /// The rendezvous point of the share's secret, if the key is that.
    pub(super) fn meeting_place(&self) -> Option<Place> {
        match self {
            Self::Secret(secret) => Some(Place::Share(secret.meeting_point())),
            Self::Short(_) => None,
        }
    }
}

/// The destination of a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SinkKind {
    /// Files in a folder: staged, verified, then published one by one.
    Folder,
    /// One file into a pipe, in order, each group once it is verified.
    Pipe,
}

/// How a download is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct FetchOptions {
    /// Name of this side, shown to the sharer. May be empty.
    pub name: String,
    /// Dial loopback addresses in the code. Refused by default, as a code comes from another person.
    pub loopback: bool,
    /// Search for the sharer in the DHT too.
    pub dht: bool,
    /// Connect through relays only: the sharer doesn't learn this device's address.
    pub relayed_only: bool,
    /// Timeout of the search for the peer, in place of [`Limits::search`](crate::limits::Limits).
    pub search: Option<Duration>,
    /// Pair with the sharer if it asks for it too.
    pub remember: bool,
    /// Act as a seeder: serve what is here to other receivers.
    pub seed: bool,
    /// How long to keep seeding once the download is complete. `None` stops then.
    pub seed_for: Option<Duration>,
    /// Put the files into a [folder of their own](crate::manifest::Manifest::own_folder) where the manifest calls for
    /// one.
    pub own_folder: bool,
    /// Relays that the user has named. They are exempt from this side's byte budget: their operators set the limits.
    pub relays: Vec<PeerId>,
    /// Use only these relays until the user has [agreed](Command::UseRelays) to others. `None` allows any.
    pub only_relays: Option<Vec<PeerId>>,
    /// Number of password proofs for the short code that this device has sent before, as counted by
    /// [`DiskWork::CountProof`].
    pub proofs_sent: u32,
}

/// The terms on which an offer is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptTerms {
    /// Indexes of the selected entries; `None` selects all.
    pub select: Option<Vec<u32>>,
    /// What to do where a name is taken.
    pub on_conflict: OnConflict,
    /// Keep executable bits. Otherwise files are stored without them.
    pub executables: bool,
}

/// An output of the engine: an action for the driver to perform, or an event.
// The doc comment of each variant describes its fields.
#[allow(missing_docs)]
#[derive(Debug)]
pub enum Output {
    /// No more outputs until this time or the next input. [`Time::NEVER`] if no deadline is set.
    Timeout(Time),
    /// Dial this peer at any of these addresses. Results in [`Input::LinkUp`] or [`Input::DialFailed`] with the same
    /// id. Without addresses, use the best existing connection to the peer.
    Dial {
        dial: DialId,
        peer: Option<PeerId>,
        addresses: Vec<Multiaddr>,
    },
    /// Announce this side's current addresses under this DHT key. Results in [`Input::Announced`].
    Announce { place: Place },
    /// Stop announcing under this DHT key.
    Withdraw { place: Place },
    /// Look up the peers under this DHT key. Results in [`Input::LookedUp`], unless the lookup is ended before.
    LookUp { lookup: LookUpId, place: Place },
    /// End a lookup whose results are no longer needed.
    EndLookUp { lookup: LookUpId },
    /// Open a connection to this peer at any of these addresses, without a link: the other side opens that.
    Reach {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
    },
    /// Close a link after everything queued on it has been sent. [`Input::LinkDown`] need not follow.
    Close { link: LinkId },
    /// Send these bytes as one unsealed frame: the link is not keyed yet.
    SendPlain { link: LinkId, bytes: Bytes },
    /// Read one more unsealed frame from this link. Nothing is read from a link that is not keyed until this asks for
    /// it.
    AwaitPlain { link: LinkId },
    /// From now on, seal and open the link's frames with these keys, in both directions.
    /// `largest` is the maximum size of an incoming sealed frame's body, in bytes: only the serving side sends bulk.
    Keys {
        link: LinkId,
        keys: LinkKeys,
        largest: u32,
    },
    /// Seal and send a message. `seq` counts from 0 on each link and is the nonce: frames are sent in its order.
    Send {
        link: LinkId,
        seq: u64,
        message: Message,
        payload: Bytes,
    },
    /// Do this disk job and answer with [`Input::Disk`]. Jobs may run concurrently and end in any order.
    Disk { job: JobId, work: DiskWork },
    /// An event for the user.
    Event(Event),
}
