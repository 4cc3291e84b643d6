//! What goes into the engine and what comes out of it.

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

/// What the engine is told.
// Each variant's sentence tells of its fields.
#[allow(missing_docs)]
#[derive(Debug)]
pub enum Input {
    /// Somebody wants something.
    Command(Command),
    /// The transport can be reached here; addresses come and go.
    Listening { addresses: Vec<Multiaddr> },
    /// A link to a peer stands. `peer` is whom the transport's own encryption proved.
    LinkUp {
        link: LinkId,
        peer: PeerId,
        path: PathKind,
        /// Where it leads: the peer's address, or that of the relay between.
        remote: Multiaddr,
        /// The dial that this link answers; `None` if the other side dialled.
        dial: Option<DialId>,
        /// The relay that carries it, if one does.
        relay: Option<PeerId>,
        /// What that relay lets it carry. What the transport needs of that for itself is taken off.
        allowance: Allowance,
    },
    /// A link is gone; nothing more comes from it, and nothing more may be sent on it.
    LinkDown { link: LinkId, reason: String },
    /// A dial came to nothing. `reason` is for people.
    DialFailed { dial: DialId, reason: String },
    /// A frame came on a link that has no keys yet.
    Plain { link: LinkId, bytes: Bytes },
    /// A frame came, was opened with the link's keys, decoded and its groups hashed.
    Frame { link: LinkId, frame: Frame },
    /// A frame came that could not be opened or decoded, or its length is over the limit. `reason` is for people.
    BadFrame { link: LinkId, reason: String },
    /// Bytes came on a link, of a frame that is not whole yet. At most one a second is needed: it keeps a link that
    /// is slow from being taken for dead.
    Activity { link: LinkId },
    /// The frame with this sequence number has gone to the transport; its bytes are no longer held.
    Sent { link: LinkId, seq: u64 },
    /// A disk job has ended.
    Disk { job: JobId, done: DiskDone },
    /// A peer is on the local network, at these addresses. Again, when they change.
    Nearby {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
    },
    /// It is not there any more.
    NearbyGone { peer: PeerId },
    /// An announcement has gone round; `report` says what the nodes of the DHT made of it.
    Announced {
        place: Place,
        report: AnnounceReport,
    },
    /// A look-up has found this peer, said to be at these addresses. They may be none, and may be anybody's word.
    Found {
        lookup: LookUpId,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        /// The node that has named it.
        by: PeerId,
    },
    /// A look-up has ended; `reached` says whether any node of the DHT has answered it.
    LookedUp { lookup: LookUpId, reached: bool },
    /// A connection to this peer stands that no link was asked for: a dial of it without addresses would run over it.
    Path { peer: PeerId, path: PathKind },
    /// The date, as days since 1970 in UTC: at the start, and when it has changed.
    Date { day: u32 },
    /// How a peer has done so far, by what is remembered of it: more is better, 0 is a stranger. It says who is tried
    /// first, and never whom to trust.
    Standing { peer: PeerId, standing: i32 },
    /// Time has passed: [`Output::Timeout`]'s moment is here.
    Tick,
}

/// What a user, or a program in their name, wants of the engine.
// Each variant's sentence tells of its fields.
#[allow(missing_docs)]
#[derive(Debug, Clone)]
pub enum Command {
    /// Offer something. The driver knows which local files `share` means and is asked to scan them.
    Share {
        share: ShareId,
        label: ShareLabel,
        /// The secret of a share that was offered before; a new one is drawn if there is none.
        secret: Option<ShareSecret>,
        options: ShareOptions,
    },
    /// Stop offering it; receivers are told.
    Unshare { share: ShareId },
    /// Fetch what a ticket points to. The driver knows which folder or pipe `download` means.
    Fetch {
        download: DownloadId,
        source: FetchSource,
        sink: SinkKind,
        options: Box<FetchOptions>,
    },
    /// Take what was offered.
    Accept {
        download: DownloadId,
        terms: AcceptTerms,
    },
    /// Refuse what was offered.
    Decline { download: DownloadId },
    /// Go through these relays too: the answer to [`Event::RelaysInQuestion`].
    UseRelays {
        download: DownloadId,
        relays: Vec<PeerId>,
    },
    /// Stop asking for more, keep what is there.
    Pause { download: DownloadId },
    /// Go on after a pause.
    Resume { download: DownloadId },
    /// End a download for this run; another one can go on with what its journal names. Without a journal it is cancelled.
    Suspend { download: DownloadId },
    /// Give up a download; what was not published is removed.
    Cancel { download: DownloadId },
    /// From now on let no more than so many bytes of content a second go; `None` takes the limit away.
    Limit { limited: Limited, rate: Option<u64> },
    /// Give a transfer more or less of what all have in common, beside others.
    Priority { of: TransferId, priority: Priority },
    /// Answer no more requests for now. Receivers are told, and wait.
    PauseShare { share: ShareId },
    /// Answer them again.
    ResumeShare { share: ShareId },
    /// End everything: every share is withdrawn, every download suspended, peers are told.
    Shutdown,
}

/// How a share presents itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShareLabel {
    /// What the share is called.
    pub name: String,
    /// What it is, in the sharer's words. May be empty.
    pub description: String,
    /// Who offers it. May be empty.
    pub author: String,
}

/// How a share is served.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct ShareOptions {
    /// Withdraw the share when this many receivers have completed it.
    pub uses: Option<u32>,
    /// Withdraw the share after so long.
    pub expires: Option<Duration>,
    /// Put loopback addresses into the ticket: the receiver is on this machine.
    pub loopback: bool,
    /// Put addresses of the local network into the ticket. Without it only those are in it that hold everywhere.
    pub lan: bool,
    /// Be found in the DHT, by the secret and by the short code's number.
    pub dht: bool,
    /// Only be reached through relays: receivers don't learn where this machine is.
    pub relayed_only: bool,
    /// Open it to a short code too.
    pub short: Short,
    /// Words of a new short code: two to four, and other numbers are taken for the nearest of these.
    pub words: u8,
    /// For this peer only: who else knows the secret is told that there is no such share.
    pub only: Option<PeerId>,
    /// Remember receivers that would remember this side.
    pub remember: bool,
}

/// Whether a share has a short code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Short {
    /// It has none.
    #[default]
    None,
    /// A new one is drawn.
    New,
    /// The one that it had before, with as many wrong guesses as there were.
    Again {
        /// The code.
        code: ShortCode,
        /// Wrong guesses so far.
        wrong: u32,
    },
}

/// Whom to fetch from, and with what key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchSource {
    /// The sharer's identity. A legacy code does not name it: whoever proves the key at the address is it.
    pub peer: Option<PeerId>,
    /// Where to dial. Peers on the local network are tried beside them.
    pub addresses: Vec<Multiaddr>,
    /// What opens it.
    pub key: FetchKey,
}

/// What opens a share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchKey {
    /// Its secret.
    Secret(ShareSecret),
    /// Its short code.
    Short(ShortCode),
}

impl FetchKey {
    /// Where those meet who know the share's secret, if this is it.
    pub(super) fn meeting_place(&self) -> Option<Place> {
        match self {
            Self::Secret(secret) => Some(Place::Share(secret.meeting_point())),
            Self::Short(_) => None,
        }
    }
}

/// Where a download goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SinkKind {
    /// Files below a folder: staged, checked, then published one by one.
    Folder,
    /// One file into a pipe, in order, each group as it is checked.
    Pipe,
}

/// How a download is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct FetchOptions {
    /// What this side calls itself to the sharer. May be empty.
    pub name: String,
    /// Dial loopback addresses that the code names. Without it they are refused: a code is somebody else's word.
    pub loopback: bool,
    /// Look for the sharer in the DHT too.
    pub dht: bool,
    /// Only go through relays: the sharer doesn't learn where this machine is.
    pub relayed_only: bool,
    /// Give up looking for the peer after this long, instead of [`Limits::search`](crate::limits::Limits).
    pub search: Option<Duration>,
    /// Remember the sharer, if it would remember this side.
    pub remember: bool,
    /// Serve what is here to others who fetch the same.
    pub seed: bool,
    /// Go on with that for so long when all of it is here.
    pub seed_for: Option<Duration>,
    /// Put what has several names at its top into a [folder of its own](crate::manifest::Manifest::own_folder).
    pub own_folder: bool,
    /// Relays that the user has named: only those who run them say how much they carry.
    pub relays: Vec<PeerId>,
    /// Go through these relays only, before the user has [agreed](Command::UseRelays) to others; `None`: through any.
    pub only_relays: Option<Vec<PeerId>>,
    /// Proofs of the short code's words that this device has sent before, as
    /// [`DiskWork::CountProof`](super::DiskWork::CountProof) has counted them.
    pub proofs_sent: u32,
}

/// On what terms an offer is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptTerms {
    /// Which entries, by index; `None` takes all.
    pub select: Option<Vec<u32>>,
    /// What to do where something exists already.
    pub on_conflict: OnConflict,
    /// Keep executable bits. Without it files arrive without them.
    pub executables: bool,
}

/// What the engine wants done, or wants known.
// Each variant's sentence tells of its fields.
#[allow(missing_docs)]
#[derive(Debug)]
pub enum Output {
    /// Nothing more until this moment or the next input. [`Time::NEVER`] if no moment matters.
    Timeout(Time),
    /// Reach this peer at any of these addresses. Ends in [`Input::LinkUp`] or [`Input::DialFailed`] with the same id.
    /// Without addresses: over the best connection to it that stands.
    Dial {
        dial: DialId,
        peer: Option<PeerId>,
        addresses: Vec<Multiaddr>,
    },
    /// Be found in the DHT at this place, with the addresses of the moment. Ends in [`Input::Announced`].
    Announce { place: Place },
    /// Don't be found there any more.
    Withdraw { place: Place },
    /// Look in the DHT who is at this place. Ends in [`Input::LookedUp`], unless it is ended before.
    LookUp { lookup: LookUpId, place: Place },
    /// Nobody waits for this look-up any more.
    EndLookUp { lookup: LookUpId },
    /// Make a connection to this peer at any of these addresses, without a link on it: the other side opens that.
    Reach {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
    },
    /// Close a link after what was given to it has been sent. [`Input::LinkDown`] need not follow.
    Close { link: LinkId },
    /// Send these bytes as one frame, unsealed: the link has no keys yet.
    SendPlain { link: LinkId, bytes: Bytes },
    /// Read one more unsealed frame from this link. A link that is up and was not told so yet reads nothing.
    AwaitPlain { link: LinkId },
    /// From here on the link's frames are sealed and opened with these keys, in both directions.
    /// `largest` is how many bytes a sealed frame's body may have that comes: only a sharer sends bulk.
    Keys {
        link: LinkId,
        keys: LinkKeys,
        largest: u32,
    },
    /// Seal and send. `seq` counts from 0 for each link and is the nonce: frames go out in its order.
    Send {
        link: LinkId,
        seq: u64,
        message: Message,
        payload: Bytes,
    },
    /// Do this disk work and answer with [`Input::Disk`]. Jobs may run at once and end in any order.
    Disk { job: JobId, work: DiskWork },
    /// Something that users want to know.
    Event(Event),
}
