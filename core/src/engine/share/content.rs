//! The content of a share: its signed manifest, and each file's Merkle tree as far as it is hashed.

use bytes::Bytes;

use super::super::DiskError;
use crate::manifest::{EntryKind, SignedManifest};
use crate::merkle::{GroupTree, Hash, StreamTree, group_len};
use crate::message::{Announced, Failure};
use crate::{Keypair, manifest::SignedRoots};

/// The entries of a share.
pub(super) struct Content {
    signed: SignedManifest,
    entries: Vec<EntryState>,
    /// Total bytes of all files, and how many of them are hashed.
    pub(super) total: u64,
    pub(super) hashed: u64,
    /// Every entry before this one is hashed or needs no hashing ahead.
    pub(super) cursor: u32,
    /// Fully hashed files whose roots have not been sent out yet.
    pub(super) fresh: Vec<u32>,
}

/// State of an entry.
pub(super) enum EntryState {
    /// A folder or a symlink: nothing to serve.
    Bare,
    /// A file and its tree.
    File { size: u64, tree: GroupTree },
    /// A stream, as far as it was read.
    Stream(Box<StreamState>),
    /// Can no longer be served. The size still bounds valid requests; `u64::MAX` for a stream.
    Failed { failure: Failure, size: u64 },
}

/// A pipe that is read as its only receiver requests it.
#[derive(Default)]
pub(super) struct StreamState {
    /// The peer that receives it: the first that requested it.
    pub(super) taken_by: Option<crate::PeerId>,
    /// Bytes of the pipe read so far.
    pub(super) read: u64,
    /// True while a read is in progress.
    pub(super) reading: bool,
    pub(super) tree: StreamTree,
    /// Its size, once its end was reached.
    pub(super) size: Option<u64>,
}

impl Content {
    pub(super) fn new(signed: SignedManifest) -> Self {
        let entries: Vec<_> = signed
            .manifest()
            .entries()
            .iter()
            .map(|entry| state_of(&entry.kind))
            .collect();
        let total = signed.manifest().summary().bytes;
        Self {
            signed,
            entries,
            total,
            hashed: 0,
            cursor: 0,
            fresh: Vec::new(),
        }
    }

    /// Returns what receivers are told about the manifest before they have it.
    pub(super) fn announced(&self) -> Announced {
        Announced {
            len: self.manifest_bytes(),
            id: self.signed.id(),
        }
    }

    /// Size of the encoded, signed manifest in bytes.
    pub(super) fn manifest_bytes(&self) -> u64 {
        self.signed.encoded().len() as u64
    }

    /// The encoded, signed manifest.
    pub(super) fn encoded(&self) -> &Bytes {
        self.signed.encoded()
    }

    /// Number of bytes of an entry that can be requested: `u64::MAX` for a stream, `None` for a folder or symlink.
    pub(super) fn bytes_of(&self, entry: u32) -> Option<u64> {
        match self.entries.get(entry as usize)? {
            EntryState::File { size, .. } | EntryState::Failed { size, .. } => Some(*size),
            EntryState::Stream(_) => Some(u64::MAX),
            EntryState::Bare => None,
        }
    }

    pub(super) fn entry(&self, entry: u32) -> Option<&EntryState> {
        self.entries.get(entry as usize)
    }

    pub(super) fn entry_mut(&mut self, entry: u32) -> Option<&mut EntryState> {
        self.entries.get_mut(entry as usize)
    }

    pub(super) fn entry_count(&self) -> u32 {
        u32::try_from(self.entries.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn path(&self, entry: u32) -> Option<crate::path::SafePath> {
        self.signed
            .manifest()
            .entry(entry)
            .map(|entry| entry.path.clone())
    }

    /// Adds a group's hash to a file's tree. Returns true if it was new.
    pub(super) fn insert(&mut self, entry: u32, group: u64, hash: Hash) -> bool {
        let Some(EntryState::File { size, tree }) = self.entries.get_mut(entry as usize) else {
            return false;
        };
        if tree.has(group) {
            return false;
        }
        let bytes = group_len(*size, group);
        tree.insert(group, hash);
        if tree.is_complete() {
            self.fresh.push(entry);
        }
        self.hashed = self.hashed.saturating_add(u64::from(bytes));
        true
    }

    /// Returns the size of a file and its first group that is not hashed, if there is one.
    pub(super) fn unhashed(&self, entry: u32) -> Option<(u64, u64)> {
        match self.entries.get(entry as usize)? {
            EntryState::File { size, tree } => tree.missing().map(|group| (*size, group)),
            _ => None,
        }
    }

    /// Returns the entry's root, once all of it is hashed.
    pub(super) fn root(&self, entry: u32) -> Option<Hash> {
        match self.entries.get(entry as usize)? {
            EntryState::File { tree, .. } => tree.root(),
            EntryState::Stream(stream) => stream.size.map(|size| stream.tree.root(size)),
            EntryState::Bare | EntryState::Failed { .. } => None,
        }
    }

    /// Signs roots of entries.
    pub(super) fn sign_roots(&self, roots: &[(u32, Hash)], key: &Keypair) -> Option<SignedRoots> {
        SignedRoots::sign(&self.signed.id(), roots, key).ok()
    }

    /// Marks an entry as failed.
    pub(super) fn fail(&mut self, entry: u32, error: &DiskError) -> Failure {
        let failure = match error {
            DiskError::Changed => Failure::Changed,
            DiskError::NotFound => Failure::Gone,
            _ => Failure::Unreadable,
        };
        if let Some(state) = self.entries.get_mut(entry as usize) {
            let size = match state {
                EntryState::File { size, .. } | EntryState::Failed { size, .. } => *size,
                EntryState::Stream(_) | EntryState::Bare => u64::MAX,
            };
            *state = EntryState::Failed { failure, size };
        }
        failure
    }
}

fn state_of(kind: &EntryKind) -> EntryState {
    match kind {
        EntryKind::File { size, .. } => EntryState::File {
            size: *size,
            tree: GroupTree::new(*size),
        },
        EntryKind::Stream => EntryState::Stream(Box::default()),
        EntryKind::Folder { .. } | EntryKind::Symlink { .. } => EntryState::Bare,
    }
}
