//! What a share holds: its signed manifest, and the Merkle tree of each file as far as it is hashed.

use bytes::Bytes;

use super::super::DiskError;
use crate::manifest::{EntryKind, SignedManifest};
use crate::merkle::{GroupTree, Hash, StreamTree, group_len};
use crate::message::{Announced, Failure};
use crate::{Keypair, manifest::SignedRoots};

/// The files of a share, by entry.
pub(super) struct Content {
    signed: SignedManifest,
    entries: Vec<EntryState>,
    /// Bytes of all files, and how many of them are hashed.
    pub(super) total: u64,
    pub(super) hashed: u64,
    /// No entry before this one is left to be hashed ahead.
    pub(super) cursor: u32,
    /// Files that are whole by now, and nobody was told yet.
    pub(super) fresh: Vec<u32>,
}

/// An entry's state.
pub(super) enum EntryState {
    /// A folder or a symlink: nothing to serve.
    Bare,
    /// A file and its tree.
    File { size: u64, tree: GroupTree },
    /// A stream, as far as it was read.
    Stream(Box<StreamState>),
    /// It can't be served any more. Its size still says which requests make sense; `u64::MAX` for a stream.
    Failed { failure: Failure, size: u64 },
}

/// A pipe that is read as its one receiver asks.
#[derive(Default)]
pub(super) struct StreamState {
    /// The peer that gets it: the first that asked.
    pub(super) taken_by: Option<crate::PeerId>,
    /// How far the pipe was read.
    pub(super) read: u64,
    /// A read is under way.
    pub(super) reading: bool,
    pub(super) tree: StreamTree,
    /// Its size, once its end was seen.
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

    /// What receivers are told of the manifest before they have it.
    pub(super) fn announced(&self) -> Announced {
        Announced {
            len: self.manifest_bytes(),
            id: self.signed.id(),
        }
    }

    /// Bytes of the encoded, signed manifest.
    pub(super) fn manifest_bytes(&self) -> u64 {
        self.signed.encoded().len() as u64
    }

    /// The encoded, signed manifest.
    pub(super) fn encoded(&self) -> &Bytes {
        self.signed.encoded()
    }

    /// Bytes that an entry has to be asked for: a stream any number, a folder none.
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

    /// Takes a group's hash into a file's tree; says whether that was new.
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

    /// Size and first group that is not hashed yet, of a file that has one.
    pub(super) fn unhashed(&self, entry: u32) -> Option<(u64, u64)> {
        match self.entries.get(entry as usize)? {
            EntryState::File { size, tree } => tree.missing().map(|group| (*size, group)),
            _ => None,
        }
    }

    /// The entry's root, once all of it is hashed.
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

    /// Gives an entry up.
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
