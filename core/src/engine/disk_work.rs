//! Disk work: what the engine asks of its driver's disk side, and how that ends.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{DownloadId, Kept, OnConflict, Origin, Record, Segment, ShareId};
use crate::PeerId;
use crate::chunk::Chunk;
use crate::code::ShortCode;
use crate::manifest::Entry;
use crate::merkle::{Hash, RangeHash};
use crate::path::SafePath;
use crate::time::Timestamp;

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
    /// Cut a file of a share into chunks, as [`crate::chunk`] says.
    Chunk { share: ShareId, entry: u32 },
    /// These files of a share hash to these roots: worth noting, so that whoever is offered the same bytes here finds
    /// them. Nothing depends on it.
    NoteRoots {
        share: ShareId,
        roots: Vec<(u32, Hash)>,
    },
    /// Forget a share: close its files.
    Forget { share: ShareId },
    /// Look which of these paths exist below the download's folder, how much room there is, and what an earlier run has
    /// left there of the same `origin` that no other process goes on with. For a pipe: nothing.
    Inspect {
        download: DownloadId,
        paths: Vec<SafePath>,
        origin: Origin,
    },
    /// Make the download's staging folder, next to where its files will be; or take the one over that an earlier run of
    /// the same `origin` has left.
    Stage {
        download: DownloadId,
        origin: Origin,
    },
    /// Hash whole groups of a staged file, `count` of them from group `first` on: an earlier run has written them.
    HashStaged {
        download: DownloadId,
        entry: u32,
        first: u64,
        count: u32,
    },
    /// Look which of these files could be here already: by what stands under their names, and by what is known of other
    /// files. A cheap look, by size; nothing is read.
    Candidates {
        download: DownloadId,
        files: Vec<Sought>,
    },
    /// Bring files that are here already to staging, each only if it really has its root: copied, and hashed on the way or
    /// behind it. What stands under its own final name already, and is right, stays where it is.
    Adopt {
        download: DownloadId,
        files: Vec<Adopt>,
    },
    /// Cut what stands under a file's final name into chunks, and bring to staging what the new version, which is made of
    /// these, has of it.
    Reuse {
        download: DownloadId,
        file: Sought,
        chunks: Vec<Chunk>,
    },
    /// Write pieces to staging (or to the pipe, where pieces come in order).
    Write {
        download: DownloadId,
        pieces: Vec<Piece>,
    },
    /// Make the bytes of these staged files durable.
    Sync {
        download: DownloadId,
        entries: Vec<u32>,
    },
    /// Note this in the download's journal: durably, and all of it or nothing. Without a staging folder to keep it in
    /// it fails.
    Journal {
        download: DownloadId,
        record: Record,
    },
    /// Make staged files durable (unless they are `synced` already), then give each its attributes and its final name.
    Publish {
        download: DownloadId,
        files: Vec<PublishFile>,
        synced: bool,
    },
    /// Read these back of what a download has written, in order, into one payload, and hash each one's group.
    ReadBack {
        download: DownloadId,
        segments: Vec<Located>,
    },
    /// Make folders and symlinks, then set the folders' attributes (deepest first), then remove the staging folder. If
    /// `keep`, what is there may still be read back until the download is discarded; else it is forgotten.
    Finish {
        download: DownloadId,
        folders: Vec<PublishFolder>,
        symlinks: Vec<PublishSymlink>,
        keep: bool,
    },
    /// Count one more wrong guess at the words of a share's short code, durably, before it is answered.
    CountGuess { share: ShareId, code: ShortCode },
    /// Count one more proof of the words of the download's short code, before it is sent: durably, and together with those
    /// of all other downloads and runs of this device. One beyond `most` will not be sent, and is not noted. Where nothing is
    /// kept, 0 is the count.
    CountProof { download: DownloadId, most: u32 },
    /// A proof was counted, and is not sent after all: it does not count.
    ProofNotSent { download: DownloadId },
    /// A counted proof went to the peer that knows the words: it does not count, and later runs go to this peer.
    ProofSucceeded {
        download: DownloadId,
        sharer: PeerId,
    },
    /// Remove the download's staging folder, if it was not finished, and forget the download.
    Discard { download: DownloadId },
    /// Forget the download; what is staged and in its journal stays for another run.
    Close { download: DownloadId },
}

/// A range of a file that a download has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// Which range.
    pub segment: Segment,
    /// Where the file stands below the download's folder; `None` while it is staged.
    pub path: Option<SafePath>,
}

/// A file that could be here already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sought {
    /// The entry's index.
    pub entry: u32,
    /// Its bytes.
    pub size: u64,
    /// Its final name.
    pub path: SafePath,
}

/// A file that is here already, if the root is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopt {
    /// Which.
    pub file: Sought,
    /// What its bytes must hash to.
    pub root: Hash,
    /// A file of the same download that has the same root. Where it is not set, the file may stand under its own name, or
    /// anywhere else that is known.
    pub duplicate: Option<Duplicate>,
}

/// A file of a download that another one is a copy of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duplicate {
    /// Its final name.
    pub path: SafePath,
    /// The permission bits that it was published with, before the disk withheld any.
    pub mode: u32,
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
    /// What it hashes to, where that is known: worth noting, as in [`DiskWork::NoteRoots`].
    pub root: Option<Hash>,
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
    /// [`DiskWork::Read`], [`DiskWork::ReadBack`]: the payload is that of the segments that are `Ok`, in order. With `hash`, each is hashed.
    Read {
        payload: Bytes,
        segments: Vec<Result<Option<GroupHash>, DiskError>>,
    },
    /// [`DiskWork::HashGroups`], [`DiskWork::HashStaged`]: one hash a group; of staged ones fewer, if the file ends before.
    Hashed { hashes: Vec<Hash> },
    /// [`DiskWork::ReadPipe`]: fewer bytes than asked for are the last ones.
    /// `hash` is the node of the group that the bytes are; `end` says that nothing follows them.
    PipeRead {
        payload: Bytes,
        hash: Hash,
        end: bool,
    },
    /// [`DiskWork::Inspect`]: indexes into `paths` that exist; `free` bytes of room, if known; what an earlier run left.
    Inspected {
        taken: Vec<usize>,
        free: Option<u64>,
        kept: Kept,
    },
    /// [`DiskWork::Stage`], [`DiskWork::Write`], [`DiskWork::Sync`], [`DiskWork::Journal`], [`DiskWork::NoteRoots`],
    /// [`DiskWork::CountGuess`], [`DiskWork::ProofSucceeded`], [`DiskWork::ProofNotSent`], [`DiskWork::Forget`],
    /// [`DiskWork::Discard`], [`DiskWork::Close`].
    Ok,
    /// [`DiskWork::CountProof`]: how many were sent by now that have not succeeded, with this one.
    ProofCounted { sent: u32 },
    /// [`DiskWork::Chunk`]: all of the file's chunks, in order.
    Chunked(Vec<Chunk>),
    /// [`DiskWork::Candidates`]: the files of which something is here.
    Candidates(Vec<Candidate>),
    /// [`DiskWork::Adopt`]: one outcome a file, in order.
    Adopted(Vec<Adopted>),
    /// [`DiskWork::Reuse`]: leaves of the new version that are staged, as ranges that each lie in one group: where each
    /// starts, and what its leaves hash to. They rise.
    Reused(Vec<(u64, RangeHash)>),
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

/// What could be a file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The entry's index.
    pub entry: u32,
    /// Bytes of the file that stands under its final name.
    pub stands: Option<u64>,
    /// A file of its size is known elsewhere.
    pub elsewhere: bool,
}

/// What became of a file that was to be adopted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adopted {
    /// It stands under its final name already, and was not touched.
    Stands,
    /// It is staged, whole and checked: it was left by an earlier run, or is in the download's folder under another name.
    Staged,
    /// The same, and its bytes are from somewhere else on the device.
    StagedFromElsewhere,
    /// It is not here after all.
    No,
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
