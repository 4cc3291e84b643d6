//! The journal of a download: which of its bytes are verified and durable, for the next run.
//!
//! The engine decides when data is made durable, and in which order: first the bytes ([`DiskWork::Sync`]), then the
//! record of them ([`DiskWork::Journal`]). So after a crash, everything that a journal lists is on the disk. The driver
//! decides how to store a journal, and finds it again by its [`Origin`].
//!
//! [`DiskWork::Sync`]: super::DiskWork::Sync
//! [`DiskWork::Journal`]: super::DiskWork::Journal

use serde::{Deserialize, Serialize};

use crate::PeerId;
use crate::manifest::{ManifestId, SignedManifest};
use crate::merkle::Hash;
use crate::path::SafePath;

/// Identifies what a journal belongs to. A run may only resume a journal of the same origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The manifest being fetched.
    pub manifest: ManifestId,
    /// The signer of the manifest and of the files' roots.
    pub signer: PeerId,
}

impl Origin {
    pub(super) fn of(signed: &SignedManifest) -> Self {
        Self {
            manifest: signed.id(),
            signer: signed.signer(),
        }
    }
}

/// Consecutive groups of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    /// Index of the file in the manifest.
    pub entry: u32,
    /// Size of the whole file, in bytes.
    pub size: u64,
    /// Index of the first group.
    pub first: u64,
    /// The Merkle node of each group.
    pub nodes: Vec<Hash>,
}

/// A complete and verified file that is about to get its final name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whole {
    /// Index of the file in the manifest.
    pub entry: u32,
    /// Final name, or the name that a numbered one is derived from.
    pub path: SafePath,
    /// Size, in bytes.
    pub size: u64,
    /// The file's root, by which the next run recognises it under its name.
    pub root: Hash,
}

/// An atomic addition to a journal. `dropped` applies first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Files for which all earlier records are void.
    pub dropped: Vec<u32>,
    /// Groups that are on the disk.
    pub groups: Vec<Groups>,
    /// Complete files.
    pub whole: Vec<Whole>,
    /// Files that have been published, with their names. Their groups need not be kept.
    pub published: Vec<(u32, SafePath)>,
}

/// The contents of a journal, as far as the disk confirms them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Groups that are staged.
    pub groups: Vec<Groups>,
    /// Files that are staged, complete and verified, with their roots.
    pub whole: Vec<(u32, Hash)>,
    /// Files that are under their final names.
    pub published: Vec<u32>,
}

impl Kept {
    /// True if nothing was kept.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.whole.is_empty() && self.published.is_empty()
    }
}

/// What an earlier run has left, for people.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptSummary {
    /// Bytes that need not be fetched again.
    pub bytes: u64,
    /// Number of files already under their final names.
    pub files: u64,
}
