//! Events: what users are told.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Allowance, AnnounceReport, DiskError, DownloadId, KeptSummary, Origin, PathKind, SessionId,
    ShareId,
};
use crate::code::{ShortCode, Ticket};
use crate::manifest::Manifest;
use crate::pair::PairSecret;
use crate::path::SafePath;
use crate::{Multiaddr, PeerId};

/// What users are told. Names and texts in it come from peers: whoever prints them escapes them.
// Each variant's sentence tells of its fields.
#[allow(missing_docs)]
#[derive(Debug, Clone)]
pub enum Event {
    /// A share can be reached: this is its ticket (again, when its addresses change), and its short code, if it has one
    /// and that is known to be free.
    ShareOpen {
        share: ShareId,
        ticket: Ticket,
        short: Option<ShortCode>,
    },
    /// Whether a share can be found in the DHT, and if not, why: told when that changes.
    Announced { share: ShareId, findable: Findable },
    /// Somebody tried a share's short code with other words; so many more guesses, and it is dead.
    WrongWords { share: ShareId, left: u32 },
    /// A share's short code is dead, after too many wrong guesses. Who has been let in stays; the ticket still opens it.
    CodeBurnt { share: ShareId },
    /// A share's files are listed.
    ShareScanned {
        share: ShareId,
        summary: ManifestSummary,
        manifest: Arc<Manifest>,
        skipped: Vec<(String, String)>,
    },
    /// Hashing went on; `done == total` once.
    ShareHashed {
        share: ShareId,
        done: u64,
        total: u64,
    },
    /// A share could not be made, or was withdrawn.
    ShareEnded { share: ShareId, reason: ShareEnd },
    /// A receiver proved the share's key.
    ReceiverJoined {
        share: ShareId,
        session: SessionId,
        peer: PeerId,
        name: String,
        path: PathKind,
    },
    /// A receiver has so much (by its own account; `total` is what it selected).
    ReceiverProgress {
        share: ShareId,
        session: SessionId,
        path: PathKind,
        rtt: Option<Duration>,
        done: u64,
        total: u64,
    },
    /// A receiver is through, gave up or was lost.
    ReceiverLeft {
        share: ShareId,
        session: SessionId,
        outcome: ReceiverOutcome,
        /// Bytes of content sent to it.
        sent: u64,
    },
    /// A file of a share can't be served any more.
    ShareFileFailed {
        share: ShareId,
        path: SafePath,
        error: DiskError,
    },

    /// A download looks for its peer: attempt 1, 2, ….
    Connecting {
        download: DownloadId,
        attempt: u32,
        /// Why the attempt before failed.
        reason: Option<String>,
    },
    /// A round of look-ups in the DHT has ended without the peer; `reached` says whether any node of it has answered. `day`
    /// is the date on this side (days since 1970, UTC), where that may be why: all days around it were looked under.
    NotFound {
        download: DownloadId,
        reached: bool,
        day: Option<u32>,
    },
    /// The peer was found under a day that is not this side's: its date is ahead by so many days at the least, or behind if
    /// they are negative. One of the two clocks is wrong.
    OtherDate { download: DownloadId, days: i32 },
    /// The other side was found, and nobody but the other side has named the relays that lead to it: whoever runs one of
    /// them sees where this side is. Answer with [`Command::UseRelays`](super::Command::UseRelays), or end the download.
    RelaysInQuestion {
        download: DownloadId,
        /// Who they are, and an address of each.
        relays: Vec<(PeerId, Multiaddr)>,
    },
    /// A link proved the key.
    Connected {
        download: DownloadId,
        peer: PeerId,
        path: PathKind,
    },
    /// The sharer is still listing its files.
    SharerPreparing { download: DownloadId },
    /// The sharer has paused and answers no requests, or has gone on.
    SharerPaused { download: DownloadId, paused: bool },
    /// This is on offer; answer with [`Command::Accept`] or [`Command::Decline`].
    Offer {
        download: DownloadId,
        manifest: Arc<Manifest>,
        /// The folder of its own in which all of it lands.
        folder: Option<SafePath>,
        /// Indexes of entries whose name is taken here.
        taken: Vec<u32>,
        /// Room on the disk, if known.
        free: Option<u64>,
        /// What an earlier run has left of it.
        kept: KeptSummary,
    },
    /// Another run could go on with this download: by this ticket, which leads to the same whatever the code was.
    Resumable {
        download: DownloadId,
        ticket: Ticket,
        origin: Origin,
    },
    /// The transfer goes on.
    Progress {
        download: DownloadId,
        progress: Progress,
    },
    /// The transfer moved to another link.
    PathChanged {
        download: DownloadId,
        path: PathKind,
    },
    /// The sharer is fetched from through relays that end each connection after some bytes or some time: through so many by
    /// now, since that is so. Told again when there are more.
    Circuits {
        download: DownloadId,
        relays: usize,
        /// What one of them lets each carry.
        allowance: Allowance,
    },
    /// What may go through such relays in an hour is used up: from now on a download goes on as slowly as that allows.
    RelaysSpared {
        download: DownloadId,
        /// Bytes an hour, through each.
        an_hour: u64,
    },
    /// The last link was lost; the download looks for the peer again.
    ConnectionLost {
        download: DownloadId,
        /// What the lost link went over. Relays end links on purpose, after so many bytes or so much time.
        path: PathKind,
        reason: String,
    },
    /// The sharer is not to be had; somebody who has some of what it shares shows what that is, as the sharer has signed it.
    Deputy {
        download: DownloadId,
        peer: PeerId,
        path: PathKind,
    },
    /// Somebody who has some of it serves us, beside the sharer.
    SourceJoined {
        download: DownloadId,
        peer: PeerId,
        path: PathKind,
    },
    /// It does not any more.
    SourceLeft { download: DownloadId, peer: PeerId },
    /// All of a download is here, and others are served for so long. It ends after that.
    Seeding {
        download: DownloadId,
        summary: DownloadSummary,
        time: Duration,
    },
    /// A file stands under its final name.
    FileDone {
        download: DownloadId,
        path: SafePath,
        size: u64,
    },
    /// A file was not taken because its name is taken.
    FileSkipped {
        download: DownloadId,
        path: SafePath,
    },
    /// A file can't be had, or can't be stored; the others go on.
    FileFailed {
        download: DownloadId,
        path: SafePath,
        reason: String,
    },
    /// This side and a peer that calls itself so have agreed to remember each other: a transfer between them is complete
    /// for which both had set it. The secret opens what they share with each other from now on, in place of any before.
    Paired {
        peer: PeerId,
        name: String,
        secret: PairSecret,
    },
    /// A peer broke the protocol and was dropped.
    PeerBlamed { peer: PeerId, violation: String },
    /// What one relay carried of a download, at its end: good bytes, and links that were lost while they were
    /// in use.
    Carried {
        download: DownloadId,
        relay: PeerId,
        bytes: u64,
        cuts: u32,
    },
    /// What one peer brought of a download, at its end: bytes that were good, pieces that were not, and how long from the
    /// first question to the last answer.
    Delivered {
        download: DownloadId,
        peer: PeerId,
        bytes: u64,
        bad: u32,
        took: Duration,
    },
    /// A download has ended. Nothing about it comes after this.
    DownloadEnded {
        download: DownloadId,
        outcome: DownloadOutcome,
    },
    /// [`Command::Shutdown`] is done.
    ShutDown,
}

/// What a manifest amounts to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestSummary {
    /// Files, with symlinks.
    pub files: u64,
    /// Folders.
    pub folders: u64,
    /// Bytes of all files whose size is known.
    pub bytes: u64,
    /// Files with an executable bit.
    pub executables: u64,
    /// There is an entry whose size is not known before its end.
    pub stream: bool,
}

/// How far a download is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes here.
    pub done: u64,
    /// Bytes wanted; `None` if that is not known before the end.
    pub total: Option<u64>,
    /// Files under their final names.
    pub files_done: u64,
    /// Files wanted.
    pub files_total: u64,
    /// Bytes a second over the last few seconds.
    pub rate: u64,
    /// Round-trip time of the link, once measured.
    pub rtt: Option<Duration>,
    /// The path in use.
    pub path: PathKind,
    /// How many sources there are, the sharer one of them.
    pub sources: usize,
    /// The bytes of an earlier run are being read, to see whether they are still right.
    pub checking: Option<Checking>,
    /// Paused by the user.
    pub paused: bool,
}

/// How far the reading of what an earlier run has left is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checking {
    /// Bytes that were read.
    pub done: u64,
    /// Bytes that are to be read.
    pub total: u64,
}

/// Whether a share can be found in the DHT by somebody who looks for it there. The best comes last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Findable {
    /// No node of the DHT answers.
    NoNode,
    /// There is no address to announce yet: none of this computer is known to be reachable, and no relay has a place.
    NoAddress,
    /// Nodes of the DHT answer, but none of them tells of the share.
    NotKept,
    /// A node of the DHT tells others of it, and where it is.
    Found,
}

impl Findable {
    /// What an announcement came to. That nodes were told is not enough: some keep no record without addresses, and
    /// others none of peers that they don't like. A record counts that a node gives to those who ask for it, with an
    /// address, as a receiver will.
    pub(super) fn of(report: &AnnounceReport) -> Self {
        match report {
            AnnounceReport { nodes: 0, .. } => Self::NoNode,
            AnnounceReport { found_at: 1.., .. } => Self::Found,
            AnnounceReport { addresses: 0, .. } => Self::NoAddress,
            AnnounceReport { .. } => Self::NotKept,
        }
    }

    /// Whether it is found.
    pub fn is_found(self) -> bool {
        self == Self::Found
    }
}

/// Why a share ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShareEnd {
    /// As commanded.
    Stopped,
    /// As many receivers as were asked for have completed it.
    UsedUp,
    /// Its time is over.
    Expired,
    /// It can't be offered.
    Failed(String),
}

/// How a receiver left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiverOutcome {
    /// It has all it wanted.
    Completed,
    /// It said no to the offer.
    Declined,
    /// It gave up.
    Cancelled,
    /// Its links are gone and it did not come back in time.
    Lost,
    /// It broke the protocol.
    Violation,
}

/// How a download ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DownloadOutcome {
    /// All that was wanted is here, but for `failed` and `skipped` files.
    Completed(DownloadSummary),
    /// The user said no.
    Declined,
    /// The user gave up.
    Cancelled,
    /// It ended for this run, and another one can go on.
    Suspended,
    /// It could not be done. Another run can go on with what its journal names.
    Failed(DownloadError),
}

/// What came in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DownloadSummary {
    /// Files and symlinks in place.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files left as they were because their name was taken.
    pub skipped: u64,
    /// Files that could not be had or stored; an event named each.
    pub failed: u64,
    /// Executable files whose bit was left off because the user had not agreed to it.
    pub executables_stripped: u64,
    /// Bytes that were here already, and were not fetched.
    pub spared: u64,
    /// Files that stood in their places already, and were not touched.
    pub untouched: u64,
    /// From acceptance to the end.
    pub took: Duration,
    /// The path that brought the last byte.
    pub path: Option<PathKind>,
}

/// Why a download failed as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DownloadError {
    /// Nobody answered, or the peer was lost and not found again.
    #[error("the other side could not be reached: {0}")]
    Unreachable(String),
    /// A peer answered, but it does not know this code (any more).
    #[error("the other side no longer offers this; ask for a new code")]
    NoSuchShare,
    /// The words of the short code are not the sharer's.
    #[error("the words of this code are not the ones that the other side has")]
    WrongWords,
    /// The words of the short code were proved to as many peers as they may be, on this device, and none of them knew them.
    /// Each may have checked a guess: somebody may be standing in for the sharer.
    #[error(
        "nobody of those who were found for this code knows its words, and no more may be asked"
    )]
    NoMoreProofs,
    /// The sharer stopped offering it.
    #[error("the other side stopped sharing")]
    Withdrawn,
    /// The sharer was started again over other files than were on offer.
    #[error("the other side now offers other files than before")]
    OtherFiles,
    /// The peer broke the protocol.
    #[error("the other side broke the protocol and was dropped: {0}")]
    Violation(String),
    /// Nothing in the offer can go where it should.
    #[error("{0}")]
    Unsuitable(String),
    /// The disk here.
    #[error("{0}")]
    Disk(#[from] DiskError),
}
