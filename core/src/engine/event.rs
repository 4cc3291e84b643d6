//! Events: the engine's reports to users.

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

/// A report to the user. Names and texts in it come from peers and must be escaped for display.
// The doc comment of each variant describes its fields.
#[allow(missing_docs)]
#[derive(Debug, Clone)]
pub enum Event {
    /// A share can be reached. Gives its ticket (repeated whenever its addresses change), and its short code, if it has
    /// one, once that is known to be free.
    ShareOpen {
        share: ShareId,
        ticket: Ticket,
        short: Option<ShortCode>,
    },
    /// Whether a share can be found in the DHT, and if not, why. Repeated whenever that changes.
    Announced { share: ShareId, findable: Findable },
    /// A peer tried a share's short code with wrong words. The code dies when no more guesses are `left`.
    WrongWords { share: ShareId, left: u32 },
    /// A share's short code is dead after too many wrong guesses. Receivers that were admitted stay; the ticket still
    /// opens the share.
    CodeBurnt { share: ShareId },
    /// The files of a share are listed.
    ShareScanned {
        share: ShareId,
        summary: ManifestSummary,
        manifest: Arc<Manifest>,
        skipped: Vec<(String, String)>,
    },
    /// Progress of hashing, in bytes. `done == total` is reported once.
    ShareHashed {
        share: ShareId,
        done: u64,
        total: u64,
    },
    /// A share could not be created, or was withdrawn.
    ShareEnded { share: ShareId, reason: ShareEnd },
    /// A receiver proved the share's key.
    ReceiverJoined {
        share: ShareId,
        session: SessionId,
        peer: PeerId,
        name: String,
        path: PathKind,
    },
    /// Bytes that a receiver has, and the total that it selected, as reported by the receiver itself.
    ReceiverProgress {
        share: ShareId,
        session: SessionId,
        path: PathKind,
        rtt: Option<Duration>,
        done: u64,
        total: u64,
    },
    /// A receiver completed, gave up or was lost.
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

    /// A download starts an attempt to reach its peer, numbered from 1.
    Connecting {
        download: DownloadId,
        attempt: u32,
        /// Why the previous attempt failed.
        reason: Option<String>,
    },
    /// A round of DHT lookups ended without finding the peer; `reached` is true if any node answered. `day` is the date
    /// on this side (days since 1970, UTC) if a wrong date may be the cause: the lookups have covered all days around
    /// it.
    NotFound {
        download: DownloadId,
        reached: bool,
        day: Option<u32>,
    },
    /// The peer was found under the key of another day: its date is at least this many days ahead, or behind if
    /// negative. One of the two clocks is wrong.
    OtherDate { download: DownloadId, days: i32 },
    /// The sharer was found, but only the sharer itself has named the relays that lead to it. The operator of such a
    /// relay learns this side's address. Answer with [`Command::UseRelays`](super::Command::UseRelays), or end the
    /// download.
    RelaysInQuestion {
        download: DownloadId,
        /// The relays, with one address of each.
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
    /// The sharer has paused and answers no requests, or has resumed.
    SharerPaused { download: DownloadId, paused: bool },
    /// The offer. Answer with [`Command::Accept`](super::Command::Accept) or [`Command::Decline`](super::Command::Decline).
    Offer {
        download: DownloadId,
        manifest: Arc<Manifest>,
        /// The folder created for the share, which will hold all of it.
        folder: Option<SafePath>,
        /// Indexes of entries whose names are taken here.
        taken: Vec<u32>,
        /// Free disk space in bytes, if known.
        free: Option<u64>,
        /// What an earlier run has left of this download.
        kept: KeptSummary,
    },
    /// Another run could resume this download with this ticket, whichever code it was started with.
    Resumable {
        download: DownloadId,
        ticket: Ticket,
        origin: Origin,
    },
    /// Progress of a download.
    Progress {
        download: DownloadId,
        progress: Progress,
    },
    /// The transfer moved to another link.
    PathChanged {
        download: DownloadId,
        path: PathKind,
    },
    /// The sharer is reached through relays that end each circuit after some bytes or some time. Gives the number of
    /// relays used since that began, and is repeated when it grows.
    Circuits {
        download: DownloadId,
        relays: usize,
        /// What one of these relays allows per circuit.
        allowance: Allowance,
    },
    /// The hourly budget of such relays is used up: from now on, the download goes on as slowly as that budget allows.
    RelaysSpared {
        download: DownloadId,
        /// Bytes per hour through each relay.
        an_hour: u64,
    },
    /// The last link was lost; the download searches for the peer again.
    ConnectionLost {
        download: DownloadId,
        /// Path of the lost link. Relays end links on purpose, after some bytes or some time.
        path: PathKind,
        reason: String,
    },
    /// The sharer is unreachable. A manifest source has supplied the manifest, signed by the sharer.
    Deputy {
        download: DownloadId,
        peer: PeerId,
        path: PathKind,
    },
    /// A seeder now serves this download, in addition to the sharer.
    SourceJoined {
        download: DownloadId,
        peer: PeerId,
        path: PathKind,
    },
    /// A seeder no longer serves this download.
    SourceLeft { download: DownloadId, peer: PeerId },
    /// A download is complete, and serves others for this `time` before it ends.
    Seeding {
        download: DownloadId,
        summary: DownloadSummary,
        time: Duration,
    },
    /// A file has its final name.
    FileDone {
        download: DownloadId,
        path: SafePath,
        size: u64,
    },
    /// A file was not fetched because its name is taken.
    FileSkipped {
        download: DownloadId,
        path: SafePath,
    },
    /// A file can't be fetched or stored; the others go on.
    FileFailed {
        download: DownloadId,
        path: SafePath,
        reason: String,
    },
    /// This side and a peer that calls itself `name` are now paired: both had asked for it, and a transfer between them
    /// is complete. The secret opens what they share with each other from now on, and replaces any earlier one.
    Paired {
        peer: PeerId,
        name: String,
        secret: PairSecret,
    },
    /// A peer broke the protocol and was dropped.
    PeerBlamed { peer: PeerId, violation: String },
    /// Sent at the end of a download: the good bytes that one relay carried, and the number of links through it that
    /// were lost while in use.
    Carried {
        download: DownloadId,
        relay: PeerId,
        bytes: u64,
        cuts: u32,
    },
    /// Sent at the end of a download: the good bytes that one peer delivered, the number of pieces that did not verify,
    /// and the time from the first request to the last answer.
    Delivered {
        download: DownloadId,
        peer: PeerId,
        bytes: u64,
        bad: u32,
        took: Duration,
    },
    /// A download has ended. No further event refers to it.
    DownloadEnded {
        download: DownloadId,
        outcome: DownloadOutcome,
    },
    /// [`Command::Shutdown`](super::Command::Shutdown) is done.
    ShutDown,
}

/// Totals of a manifest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestSummary {
    /// Number of files, including symlinks.
    pub files: u64,
    /// Number of folders.
    pub folders: u64,
    /// Bytes of all files of known size.
    pub bytes: u64,
    /// Number of files with an executable bit.
    pub executables: u64,
    /// True if an entry's size is unknown until its end.
    pub stream: bool,
}

/// Progress of a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes present.
    pub done: u64,
    /// Bytes wanted; `None` if unknown until the end.
    pub total: Option<u64>,
    /// Number of files under their final names.
    pub files_done: u64,
    /// Number of files wanted.
    pub files_total: u64,
    /// Bytes per second over the last few seconds.
    pub rate: u64,
    /// Round-trip time of the link, once measured.
    pub rtt: Option<Duration>,
    /// The path in use.
    pub path: PathKind,
    /// Number of sources, including the sharer while there is a link to it.
    pub sources: usize,
    /// Progress of verifying the bytes that an earlier run has written, while that is under way.
    pub checking: Option<Checking>,
    /// True if the user has paused the download.
    pub paused: bool,
}

/// Progress of verifying what an earlier run has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checking {
    /// Bytes read.
    pub done: u64,
    /// Bytes to read in total.
    pub total: u64,
}

/// Whether a lookup in the DHT finds a share. Ordered from worst to best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Findable {
    /// No node of the DHT answers.
    NoNode,
    /// There is no address to announce yet: no address of this device is known to be reachable, and no relay has a free
    /// reservation.
    NoAddress,
    /// Nodes of the DHT answer, but none of them returns the share's record.
    NotKept,
    /// A node of the DHT returns the share's record, with an address.
    Found,
}

impl Findable {
    /// Judges the result of an announcement. Sending the record to nodes is not enough: some keep no record without
    /// addresses, and others none of peers that they don't like. Only a record counts that a node returns, with an
    /// address, to a peer that asks for it, as a receiver will.
    pub(super) fn of(report: &AnnounceReport) -> Self {
        match report {
            AnnounceReport { nodes: 0, .. } => Self::NoNode,
            AnnounceReport { found_at: 1.., .. } => Self::Found,
            AnnounceReport { addresses: 0, .. } => Self::NoAddress,
            AnnounceReport { .. } => Self::NotKept,
        }
    }

    /// True if the share can be found.
    pub fn is_found(self) -> bool {
        self == Self::Found
    }
}

/// Why a share ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShareEnd {
    /// A command ended it.
    Stopped,
    /// The requested number of receivers have completed it.
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
    /// It has everything that it wanted.
    Completed,
    /// It declined the offer.
    Declined,
    /// It gave up.
    Cancelled,
    /// Its links were lost and it did not return in time.
    Lost,
    /// It broke the protocol.
    Violation,
}

/// How a download ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DownloadOutcome {
    /// Everything wanted is here, except `failed` and `skipped` files.
    Completed(DownloadSummary),
    /// The user declined the offer.
    Declined,
    /// The user cancelled it.
    Cancelled,
    /// It ended for this run, and another run can resume it.
    Suspended,
    /// It failed. Another run can resume from what its journal lists.
    Failed(DownloadError),
}

/// Totals of a completed download.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DownloadSummary {
    /// Number of files and symlinks in place.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
    /// Number of files left as they were because their names were taken.
    pub skipped: u64,
    /// Number of files that could not be fetched or stored; an event named each.
    pub failed: u64,
    /// Number of executable files stored without that bit because the user had not agreed to it.
    pub executables_stripped: u64,
    /// Bytes that were on this device already and were not fetched.
    pub spared: u64,
    /// Number of files that were in place already and were not touched.
    pub untouched: u64,
    /// Time from acceptance to the end.
    pub took: Duration,
    /// The path that delivered the last byte.
    pub path: Option<PathKind>,
}

/// Why a download failed as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DownloadError {
    /// No peer answered, or the peer was lost and not found again.
    #[error("the other side could not be reached: {0}")]
    Unreachable(String),
    /// A peer answered, but does not know this code (any more).
    #[error("the other side no longer offers this; ask for a new code")]
    NoSuchShare,
    /// The words of the short code differ from the sharer's.
    #[error("the words of this code are not the ones that the other side has")]
    WrongWords,
    /// This device has sent as many password proofs for this short code as it may, and no peer knew the words. Each
    /// peer may have checked a guess: one of them may be an impostor.
    #[error(
        "nobody of those who were found for this code knows its words, and no more may be asked"
    )]
    NoMoreProofs,
    /// The sharer withdrew the share.
    #[error("the other side stopped sharing")]
    Withdrawn,
    /// The sharer was restarted with other files than those offered.
    #[error("the other side now offers other files than before")]
    OtherFiles,
    /// The peer broke the protocol.
    #[error("the other side broke the protocol and was dropped: {0}")]
    Violation(String),
    /// The download goes to a pipe, and the selection is not exactly one file.
    #[error("{0}")]
    Unsuitable(String),
    /// An error of the local disk.
    #[error("{0}")]
    Disk(#[from] DiskError),
}
