//! Disk jobs: what the engine asks of the driver's disk side, and the results.

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

/// A job for the driver's disk side.
// The doc comment of each variant describes its fields.
#[allow(missing_docs)]
#[derive(Debug)]
pub enum DiskWork {
    /// List the files that `share` stands for, without opening any.
    Scan { share: ShareId },
    /// Read these segments of a share, in order, into one payload. With `hash`, also hash the group of each segment.
    /// A file whose size or modification time has changed since the scan fails with [`DiskError::Changed`].
    Read {
        share: ShareId,
        segments: Vec<Segment>,
        hash: bool,
    },
    /// Hash `count` whole groups of one file of a share, starting at group `first`.
    HashGroups {
        share: ShareId,
        entry: u32,
        first: u64,
        count: u32,
    },
    /// Read the next bytes of a share's pipe: up to `len`, fewer only at the end of the stream. `offset` is their
    /// position in the stream. Bytes below `keep_from` are never requested again; bytes above it may be requested once
    /// more.
    ReadPipe {
        share: ShareId,
        offset: u64,
        len: u32,
        keep_from: u64,
    },
    /// Cut a file of a share into chunks, as described in [`crate::chunk`].
    Chunk { share: ShareId, entry: u32 },
    /// Record the roots of these files of a share, so that a download of the same bytes on this device can find them.
    /// An optimisation only.
    NoteRoots {
        share: ShareId,
        roots: Vec<(u32, Hash)>,
    },
    /// Forget a share and close its files.
    Forget { share: ShareId },
    /// Check which of these paths exist below the download's folder, how much space is free, and what an earlier run of
    /// the same `origin` has left there that no other process is resuming. Does nothing for a pipe.
    Inspect {
        download: DownloadId,
        paths: Vec<SafePath>,
        origin: Origin,
    },
    /// Create the download's staging folder next to the files' destination, or take over the one left by an earlier run
    /// of the same `origin`.
    Stage {
        download: DownloadId,
        origin: Origin,
    },
    /// Hash `count` whole groups of a staged file that an earlier run has written, starting at group `first`.
    HashStaged {
        download: DownloadId,
        entry: u32,
        first: u64,
        count: u32,
    },
    /// Find out which of these files could be on this device already: staged by an earlier run, under their final
    /// names, or known elsewhere. Compares sizes only and reads no content.
    Candidates {
        download: DownloadId,
        files: Vec<Sought>,
    },
    /// Copy files that are on this device already to staging, each only if it has the given root, which is checked
    /// during or after the copy. A file under its own final name with the right root stays where it is.
    Adopt {
        download: DownloadId,
        files: Vec<Adopt>,
    },
    /// Cut the older versions of a file (under its final name, or staged by an earlier run) into chunks, and copy to
    /// staging those that also occur in `chunks`, the chunks of the new version.
    Reuse {
        download: DownloadId,
        file: Sought,
        chunks: Vec<Chunk>,
    },
    /// Write pieces to staging, or to the pipe. Pieces for a pipe come in order.
    Write {
        download: DownloadId,
        pieces: Vec<Piece>,
    },
    /// Make the bytes of these staged files durable.
    Sync {
        download: DownloadId,
        entries: Vec<u32>,
    },
    /// Append this record to the download's journal, durably and atomically. Fails without a staging folder, as the
    /// journal is kept there.
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
    /// Read back segments that a download has written, in order, into one payload, and hash the group of each.
    ReadBack {
        download: DownloadId,
        segments: Vec<Located>,
    },
    /// Create folders and symlinks, then set the folders' attributes (deepest first), then remove the staging folder.
    /// With `keep`, the files may still be read back until the download is discarded; without it, the download is
    /// forgotten.
    Finish {
        download: DownloadId,
        folders: Vec<PublishFolder>,
        symlinks: Vec<PublishSymlink>,
        keep: bool,
    },
    /// Count one more wrong guess at the words of a share's short code, durably. The guess is answered after that.
    CountGuess { share: ShareId, code: ShortCode },
    /// Count one more password proof for the download's short code, durably and across all downloads and runs of this
    /// device. The proof is sent after that. A proof beyond `most` is not sent and not stored. The count is 0 if this
    /// device stores none.
    CountProof { download: DownloadId, most: u32 },
    /// Uncount a password proof that was not sent after all.
    ProofNotSent { download: DownloadId },
    /// Uncount a password proof that has succeeded, and record the peer that knows the words: later runs go to it.
    ProofSucceeded {
        download: DownloadId,
        sharer: PeerId,
    },
    /// Remove the download's staging folder, unless it was finished, and forget the download.
    Discard { download: DownloadId },
    /// Forget the download, but keep its staging folder and journal for another run.
    Close { download: DownloadId },
}

/// A range of a file that a download has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The range.
    pub segment: Segment,
    /// The file's path below the download's folder; `None` while it is staged.
    pub path: Option<SafePath>,
}

/// A file that may be on this device already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sought {
    /// Index of the entry in the manifest.
    pub entry: u32,
    /// Size, in bytes.
    pub size: u64,
    /// Final name.
    pub path: SafePath,
}

/// A file that is on this device already, provided that its root matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopt {
    /// The file.
    pub file: Sought,
    /// The root that its content must have.
    pub root: Hash,
    /// A file of the same download that has the same root. If `None`, the driver looks under the file's own final name,
    /// in the staging of an earlier run, and at any other place it knows of.
    pub duplicate: Option<Duplicate>,
}

/// A file of a download that another file is a copy of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duplicate {
    /// Final name.
    pub path: SafePath,
    /// Permission bits that the file was published with, before the disk side withheld any.
    pub mode: u32,
}

/// Verified or provisional bytes to be written to staging.
#[derive(Debug, Clone)]
pub struct Piece {
    /// Index of the entry in the manifest; also names its staging file.
    pub entry: u32,
    /// Byte offset in the file.
    pub offset: u64,
    /// The bytes to write.
    pub data: Bytes,
}

/// A complete and verified staged file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishFile {
    /// Index of the entry; also names the staging file. An empty file may have none yet: it is created.
    pub entry: u32,
    /// Final name below the download's folder. Missing parents are created.
    pub path: SafePath,
    /// Permission bits, already masked by what the user agreed to: at most `0o777`.
    pub mode: u32,
    /// Modification time.
    pub modified: Timestamp,
    /// What to do if the name is taken by now.
    pub on_conflict: OnConflict,
    /// The file's root, if known. It is recorded, as by [`DiskWork::NoteRoots`].
    pub root: Option<Hash>,
}

/// A folder with its attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishFolder {
    /// Path below the download's folder.
    pub path: SafePath,
    /// Permission bits.
    pub mode: u32,
    /// Modification time.
    pub modified: Timestamp,
}

/// A symlink whose target was checked to stay inside the share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishSymlink {
    /// Index of the entry in the manifest.
    pub entry: u32,
    /// Path of the symlink.
    pub path: SafePath,
    /// Target, relative to the folder of the symlink.
    pub target: String,
    /// What to do if the name is taken by now.
    pub on_conflict: OnConflict,
}

/// The result of a disk job.
// The doc comment of each variant describes its fields.
#[allow(missing_docs)]
#[derive(Debug)]
pub enum DiskDone {
    /// The whole job failed.
    Failed(DiskError),
    /// [`DiskWork::Scan`].
    Scanned(Scanned),
    /// [`DiskWork::Read`], [`DiskWork::ReadBack`]: the payload holds the segments that are `Ok`, in order. With `hash`,
    /// each has its group's hash.
    Read {
        payload: Bytes,
        segments: Vec<Result<Option<GroupHash>, DiskError>>,
    },
    /// [`DiskWork::HashGroups`], [`DiskWork::HashStaged`]: one hash per group; fewer for a staged file that ends
    /// earlier.
    Hashed { hashes: Vec<Hash> },
    /// [`DiskWork::ReadPipe`]: fewer bytes than requested are the last of the stream.
    /// `hash` is the Merkle node of the group made of these bytes; `end` is true if the stream ends after them.
    PipeRead {
        payload: Bytes,
        hash: Hash,
        end: bool,
    },
    /// [`DiskWork::Inspect`]: indexes into `paths` of those that exist, `free` space in bytes if known, and what an
    /// earlier run has left.
    Inspected {
        taken: Vec<usize>,
        free: Option<u64>,
        kept: Kept,
    },
    /// [`DiskWork::Stage`], [`DiskWork::Write`], [`DiskWork::Sync`], [`DiskWork::Journal`], [`DiskWork::NoteRoots`],
    /// [`DiskWork::CountGuess`], [`DiskWork::ProofSucceeded`], [`DiskWork::ProofNotSent`], [`DiskWork::Forget`],
    /// [`DiskWork::Discard`], [`DiskWork::Close`].
    Ok,
    /// [`DiskWork::CountProof`]: the number of proofs sent so far that have not succeeded, including this one.
    ProofCounted { sent: u32 },
    /// [`DiskWork::Chunk`]: all chunks of the file, in order.
    Chunked(Vec<Chunk>),
    /// [`DiskWork::Candidates`]: the files that may be on this device.
    Candidates(Vec<Candidate>),
    /// [`DiskWork::Adopt`]: one result per file, in order.
    Adopted(Vec<Adopted>),
    /// [`DiskWork::Reuse`]: the leaves of the new version that are staged, as ranges within one group each, in
    /// ascending order: the offset of each range and the hash of its leaves.
    Reused(Vec<(u64, RangeHash)>),
    /// [`DiskWork::Publish`]: one result per file, in order.
    Published(Vec<Result<Published, DiskError>>),
    /// [`DiskWork::Finish`]: the paths that failed; all others succeeded.
    Finished { failed: Vec<(SafePath, DiskError)> },
}

/// The hash of a segment's group, and the siblings that prove the segment inside the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupHash {
    /// Merkle node of the whole group.
    pub hash: Hash,
    /// Siblings from the segment's leaves up to the group's node; empty if the segment is the whole group.
    pub inner: Vec<Hash>,
}

/// Where the bytes of a file may be found on this device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Index of the entry in the manifest.
    pub entry: u32,
    /// Size, in bytes, of the file under its final name, or of the one that an earlier run has staged.
    pub stands: Option<u64>,
    /// True if a file of the same size is known elsewhere.
    pub elsewhere: bool,
}

/// The result of adopting a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adopted {
    /// The file is under its final name already, and was not touched.
    Stands,
    /// The file is staged, complete and verified. It was left by an earlier run, or copied from another name in the
    /// download's folder.
    Staged,
    /// The same, but copied from elsewhere on the device.
    StagedFromElsewhere,
    /// The file was not found, or its root does not match.
    No,
}

/// The result of publishing a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// The file has this path. It differs from the requested one if that was taken and [`OnConflict::Rename`] applied.
    At(SafePath),
    /// The name was taken and [`OnConflict::Skip`] applied.
    Skipped,
}

/// The result of a scan. `entries` are in the order in which they are fetched; the driver remembers the local file of
/// each index.
#[derive(Debug, Clone, Default)]
pub struct Scanned {
    /// Everything that can be shared.
    pub entries: Vec<Entry>,
    /// What can't be shared: name (as in the file system, lossy) and reason, for people.
    pub skipped: Vec<(String, String)>,
    /// Wall-clock time at the end of the scan.
    pub at: Timestamp,
}

/// An error of the file system on this device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum DiskError {
    /// No space is left.
    #[error("no space left on the disk")]
    Full,
    /// Permission denied, or a read-only file system.
    #[error("permission denied: {0}")]
    Denied(String),
    /// The file does not exist, or no longer.
    #[error("not found")]
    NotFound,
    /// A shared file has changed since the share was created.
    #[error("the file changed while it was being sent")]
    Changed,
    /// A name is too long for this file system.
    #[error("the name is too long for this file system")]
    NameTooLong,
    /// The other end of a pipe was closed.
    #[error("the pipe was closed")]
    PipeClosed,
    /// A symlink or other object in the path would lead out of the folder.
    #[error("refused: {0}")]
    Escape(String),
    /// Any other error, in the system's words.
    #[error("{0}")]
    Other(String),
}
