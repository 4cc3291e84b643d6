//! What a download leaves to the next run: which of its bytes are checked and safe on the disk.
//!
//! The engine says when something is made safe, and in which order: first the bytes ([`DiskWork::Sync`]), then what is
//! known of them ([`DiskWork::Journal`]). So whatever a crash leaves, all that a journal names is there. How a journal is
//! stored is the driver's; it is found again by what it is of.
//!
//! [`DiskWork::Sync`]: super::DiskWork::Sync
//! [`DiskWork::Journal`]: super::DiskWork::Journal

use serde::{Deserialize, Serialize};

use crate::PeerId;
use crate::manifest::{ManifestId, SignedManifest};
use crate::merkle::Hash;
use crate::path::SafePath;

/// What a journal is of: another run may only go on with the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// What is fetched.
    pub manifest: ManifestId,
    /// Who has signed it, and the roots of its files.
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

/// Groups of one file, one behind the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    /// The file's index in the manifest.
    pub entry: u32,
    /// The file's bytes, in all.
    pub size: u64,
    /// The first group.
    pub first: u64,
    /// The node of each.
    pub nodes: Vec<Hash>,
}

/// A file that is whole and checked, and about to get its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whole {
    /// Its index in the manifest.
    pub entry: u32,
    /// Its name, or what its name is numbered from.
    pub path: SafePath,
    /// Its bytes.
    pub size: u64,
    /// What they hash to: whoever finds it under its name knows it by that.
    pub root: Hash,
}

/// What is added to a journal in one step: all of it, or nothing. `dropped` comes first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Files of which nothing that was said before holds any more.
    pub dropped: Vec<u32>,
    /// Groups that are on the disk.
    pub groups: Vec<Groups>,
    /// Whole files.
    pub whole: Vec<Whole>,
    /// Files that have got their names, and which. Of their groups nothing has to be kept.
    pub published: Vec<(u32, SafePath)>,
}

/// What a journal says, as far as the disk bears it out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Groups that are staged.
    pub groups: Vec<Groups>,
    /// Files that are staged, whole and checked, and what they hash to.
    pub whole: Vec<(u32, Hash)>,
    /// Files that stand under their names.
    pub published: Vec<u32>,
}

impl Kept {
    /// Whether it is nothing.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.whole.is_empty() && self.published.is_empty()
    }
}

/// What an earlier run has left, for people.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptSummary {
    /// Bytes that need not be fetched any more.
    pub bytes: u64,
    /// Files that stand under their names already.
    pub files: u64,
}
