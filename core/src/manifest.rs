//! Manifests.
use serde::{Deserialize, Serialize};

use crate::path::SafePath;
use crate::time::Timestamp;
/// A manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    entries: Vec<Entry>,
}
/// An entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path.
    pub path: SafePath,
    /// Kind.
    pub kind: EntryKind,
}
/// Kind of entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A file.
    File {
        /// Bytes.
        size: u64,
        /// Permission bits.
        mode: u32,
        /// Modification time.
        modified: Timestamp,
    },
    /// A folder.
    Folder {
        /// Permission bits.
        mode: u32,
        /// Modification time.
        modified: Timestamp,
    },
    /// A symlink; the target is relative to the link's folder and stays inside the share.
    Symlink {
        /// Target.
        target: String,
    },
    /// A file whose size is known at its end only.
    Stream,
}
/// Roots signed by the sharer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedRoots;
