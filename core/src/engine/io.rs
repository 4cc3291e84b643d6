//! What goes into the engine and what comes out of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::code::Ticket;
use crate::frame::{Frame, LinkKeys};
use crate::manifest::{Entry, Manifest};
use crate::merkle::Hash;
use crate::message::Message;
use crate::path::SafePath;
use crate::secret::ShareSecret;
use crate::time::{Time, Timestamp};
use crate::{Multiaddr, PeerId};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

id!(
    /// One connection to one peer. The transport picks it; no two links of a process ever share one.
    LinkId
);
id!(
    /// One attempt of the engine to reach a peer.
    DialId
);
id!(
    /// One share that this engine offers. Whoever gives the command picks it.
    ShareId
);
id!(
    /// One download that this engine makes. Whoever gives the command picks it.
    DownloadId
);
id!(
    /// One receiver at one of our shares, over however many links.
    SessionId
);
id!(
    /// One piece of disk work.
    JobId
);

/// How a link reaches its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathKind {
    /// Both ends are on one machine.
    Loopback,
    /// Both ends are on one local network.
    Lan,
    /// Straight over the internet.
    Direct,
    /// Through a relay.
    Relayed,
}

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
        /// The dial that this link answers; `None` if the other side dialled.
        dial: Option<DialId>,
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
        options: FetchOptions,
    },
    /// Take what was offered.
    Accept {
        download: DownloadId,
        terms: AcceptTerms,
    },
    /// Refuse what was offered.
    Decline { download: DownloadId },
    /// Stop asking for more, keep what is there.
    Pause { download: DownloadId },
    /// Go on after a pause.
    Resume { download: DownloadId },
    /// Give up a download; what was not published is removed.
    Cancel { download: DownloadId },
    /// End everything: every share is withdrawn, every download cancelled, peers are told.
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
pub struct ShareOptions {
    /// Withdraw the share when this many receivers have completed it.
    pub uses: Option<u32>,
    /// Put loopback addresses into the ticket: the receiver is on this machine.
    pub loopback: bool,
}

/// Whom to fetch from, and with what key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchSource {
    /// The sharer's identity. A legacy code does not name it: whoever proves the key at the address is it.
    pub peer: Option<PeerId>,
    /// Where to dial.
    pub addresses: Vec<Multiaddr>,
    /// The share's secret.
    pub secret: ShareSecret,
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
pub struct FetchOptions {
    /// What this side calls itself to the sharer. May be empty.
    pub name: String,
    /// Dial loopback addresses that the code names. Without it they are refused: a code is somebody else's word.
    pub loopback: bool,
    /// Give up looking for the peer after this long, instead of [`Limits::search`](crate::limits::Limits).
    pub search: Option<Duration>,
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

/// What to do with a file whose name is taken at the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnConflict {
    /// Leave the existing file, do not fetch the new one.
    Skip,
    /// Keep both; the new one gets a free name.
    Rename,
    /// Replace the existing file when the new one is whole and checked.
    Overwrite,
}

/// What the engine wants done, or wants known.
// Each variant's sentence tells of its fields.
#[allow(missing_docs)]
#[derive(Debug)]
pub enum Output {
    /// Nothing more until this moment or the next input. [`Time::NEVER`] if no moment matters.
    Timeout(Time),
    /// Reach this peer at any of these addresses. Ends in [`Input::LinkUp`] or [`Input::DialFailed`] with the same id.
    Dial {
        dial: DialId,
        peer: Option<PeerId>,
        addresses: Vec<Multiaddr>,
    },
    /// Close a link after what was given to it has been sent. [`Input::LinkDown`] need not follow.
    Close { link: LinkId },
    /// Send these bytes as one frame, unsealed: the link has no keys yet.
    SendPlain { link: LinkId, bytes: Bytes },
    /// Read one more unsealed frame from this link. A link that is up and was not told so yet reads nothing.
    AwaitPlain { link: LinkId },
    /// From here on the link's frames are sealed and opened with these keys, in both directions.
    Keys { link: LinkId, keys: LinkKeys },
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

/// A range of one entry's bytes: whole leaves of one group, but for the end of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Segment {
    /// Index of the entry in the manifest.
    #[serde(rename = "e")]
    pub entry: u32,
    /// Byte offset in the entry: a multiple of [`LEAF`](crate::limits::LEAF).
    #[serde(rename = "o")]
    pub offset: u64,
    /// Bytes, at the most [`GROUP`](crate::limits::GROUP).
    #[serde(rename = "l")]
    pub len: u32,
}

/// Work for the driver's disk side.
// Each variant's sentence tells of its fields.
#[allow(missing_docs)]
#[derive(Debug)]
pub enum DiskWork {
    /// Walk what `share` means and list it. Does not open files.
    Scan { share: ShareId },
    /// Read these segments of a share, in order, into one payload. With `hash`, hash each segment's group too.
    /// A file whose size or modification time is no longer what the scan saw fails with [`DiskError::Changed`].
    Read {
        share: ShareId,
        segments: Vec<Segment>,
        hash: bool,
    },
    /// Hash whole groups of one file of a share: `count` of them from group `first` on.
    HashGroups {
        share: ShareId,
        entry: u32,
        first: u64,
        count: u32,
    },
    /// Read the next bytes of a share's pipe: up to `len`, fewer only at its end. `offset` is where they stand in the
    /// stream. What lies below `keep_from` will never be asked for again; what lies above may be asked for once more.
    ReadPipe {
        share: ShareId,
        offset: u64,
        len: u32,
        keep_from: u64,
    },
    /// Forget a share: close its files.
    Forget { share: ShareId },
    /// Look which of these paths exist below the download's folder, and how much room there is. For a pipe: nothing.
    Inspect {
        download: DownloadId,
        paths: Vec<SafePath>,
    },
    /// Make the download's staging folder, next to where its files will be.
    Stage { download: DownloadId },
    /// Write pieces to staging (or to the pipe, where pieces come in order).
    Write {
        download: DownloadId,
        pieces: Vec<Piece>,
    },
    /// Make staged files durable, then give each its attributes and its final name.
    Publish {
        download: DownloadId,
        files: Vec<PublishFile>,
    },
    /// Make folders and symlinks, then set the folders' attributes (deepest first), then remove the staging folder.
    Finish {
        download: DownloadId,
        folders: Vec<PublishFolder>,
        symlinks: Vec<PublishSymlink>,
    },
    /// Remove the download's staging folder and forget the download.
    Discard { download: DownloadId },
}

/// Verified or provisional bytes on their way to staging.
#[derive(Debug, Clone)]
pub struct Piece {
    /// The entry's index in the manifest; also names its staging file.
    pub entry: u32,
    /// Where the bytes stand in the file.
    pub offset: u64,
    /// The bytes.
    pub data: Bytes,
}

/// A staged file that is whole and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishFile {
    /// The entry's index; names the staging file. An empty file may have none yet: it is made.
    pub entry: u32,
    /// Its final name below the download's folder; parents are made as needed.
    pub path: SafePath,
    /// Permission bits, already masked by what the user agreed to: `0o777` at the most.
    pub mode: u32,
    /// Its modification time.
    pub modified: Timestamp,
    /// What to do if the name is taken by now.
    pub on_conflict: OnConflict,
}

/// A folder with its attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishFolder {
    /// Below the download's folder.
    pub path: SafePath,
    /// Permission bits.
    pub mode: u32,
    /// Its modification time.
    pub modified: Timestamp,
}

/// A symlink whose target was checked to stay inside the share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishSymlink {
    /// The entry's index.
    pub entry: u32,
    /// Where the link stands.
    pub path: SafePath,
    /// What it holds, relative to its own folder.
    pub target: String,
    /// What to do if the name is taken by now.
    pub on_conflict: OnConflict,
}

/// How a disk job ended.
// Each variant's sentence tells of its fields.
#[allow(missing_docs)]
#[derive(Debug)]
pub enum DiskDone {
    /// The whole job failed.
    Failed(DiskError),
    /// [`DiskWork::Scan`].
    Scanned(Scanned),
    /// [`DiskWork::Read`]: the payload is that of the segments that are `Ok`, in order. With `hash`, each is hashed.
    Read {
        payload: Bytes,
        segments: Vec<Result<Option<GroupHash>, DiskError>>,
    },
    /// [`DiskWork::HashGroups`]: one hash a group.
    Hashed { hashes: Vec<Hash> },
    /// [`DiskWork::ReadPipe`]: fewer bytes than asked for are the last ones.
    /// `hash` is the node of the group that the bytes are; `end` says that nothing follows them.
    PipeRead {
        payload: Bytes,
        hash: Hash,
        end: bool,
    },
    /// [`DiskWork::Inspect`]: indexes into `paths` that exist; `free` bytes of room, if known.
    Inspected {
        taken: Vec<usize>,
        free: Option<u64>,
    },
    /// [`DiskWork::Stage`], [`DiskWork::Write`], [`DiskWork::Forget`], [`DiskWork::Discard`].
    Ok,
    /// [`DiskWork::Publish`]: one outcome a file, in order.
    Published(Vec<Result<Published, DiskError>>),
    /// [`DiskWork::Finish`]: what could not be done, by path; the rest is done.
    Finished { failed: Vec<(SafePath, DiskError)> },
}

/// The hash of the group a segment stands in, and what a proof of the segment inside its group needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupHash {
    /// The whole group's node.
    pub hash: Hash,
    /// Siblings from the segment's leaves up to the group's node; empty if the segment is the whole group.
    pub inner: Vec<Hash>,
}

/// What became of a file that was to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// It stands at this path (which is another than asked for if the name was taken and [`OnConflict::Rename`] held).
    At(SafePath),
    /// The name was taken and [`OnConflict::Skip`] held.
    Skipped,
}

/// What a scan found. `entries` are in the order in which they will be fetched; the driver remembers which local file
/// each index means.
#[derive(Debug, Clone, Default)]
pub struct Scanned {
    /// Everything that can be shared.
    pub entries: Vec<Entry>,
    /// What can't be, and why: name (as the file system has it, lossy) and reason, for people.
    pub skipped: Vec<(String, String)>,
    /// The wall clock at the end of the scan.
    pub at: Timestamp,
}

/// What can go wrong with files here, on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum DiskError {
    /// There is no room.
    #[error("no space left on the disk")]
    Full,
    /// Permission denied, or a read-only file system.
    #[error("permission denied: {0}")]
    Denied(String),
    /// It is not there (any more).
    #[error("not found")]
    NotFound,
    /// A shared file is not what it was when the share was made.
    #[error("the file changed while it was being sent")]
    Changed,
    /// A name is too long for the file system here.
    #[error("the name is too long for this file system")]
    NameTooLong,
    /// The other end of a pipe is gone.
    #[error("the pipe was closed")]
    PipeClosed,
    /// A symlink or other thing in the way would lead out of the folder.
    #[error("refused: {0}")]
    Escape(String),
    /// Anything else, in the system's words.
    #[error("{0}")]
    Other(String),
}

/// What users are told. Names and texts in it come from peers: whoever prints them escapes them.
// Each variant's sentence tells of its fields.
#[allow(missing_docs)]
#[derive(Debug, Clone)]
pub enum Event {
    /// A share can be reached: this is its ticket (again, when its addresses change).
    ShareOpen { share: ShareId, ticket: Ticket },
    /// A share's files are listed.
    ShareScanned {
        share: ShareId,
        summary: ManifestSummary,
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
    /// A link proved the key.
    Connected {
        download: DownloadId,
        peer: PeerId,
        path: PathKind,
    },
    /// The sharer is still listing its files.
    SharerPreparing { download: DownloadId },
    /// This is on offer; answer with [`Command::Accept`] or [`Command::Decline`].
    Offer {
        download: DownloadId,
        manifest: Arc<Manifest>,
        /// Indexes of entries whose name is taken here.
        taken: Vec<u32>,
        /// Room on the disk, if known.
        free: Option<u64>,
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
    /// The last link was lost; the download looks for the peer again.
    ConnectionLost {
        download: DownloadId,
        reason: String,
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
    /// A peer broke the protocol and was dropped.
    PeerBlamed { peer: PeerId, violation: String },
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
    /// Paused by the user.
    pub paused: bool,
}

/// Why a share ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShareEnd {
    /// As commanded.
    Stopped,
    /// As many receivers as were asked for have completed it.
    UsedUp,
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
    /// It could not be done.
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
    /// The sharer stopped offering it.
    #[error("the other side stopped sharing")]
    Withdrawn,
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
