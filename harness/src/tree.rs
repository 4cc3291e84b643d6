//! Shared content: folders of files in memory.

use std::collections::BTreeMap;

use bytes::Bytes;
use handover_core::manifest::{Entry, EntryKind};
use handover_core::path::SafePath;
use handover_core::time::Timestamp;

/// An entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A file.
    File {
        /// Content.
        bytes: Bytes,
        /// Permission bits.
        mode: u32,
        /// Modification time. Changes are detected by this alone.
        modified: Timestamp,
    },
    /// A folder with attributes of its own.
    Folder,
    /// A symlink.
    Symlink {
        /// The link's target, as written.
        target: String,
    },
}

/// Files, folders and symlinks by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree(pub(crate) BTreeMap<String, Node>);

/// Modification time of new files in a [`Tree`].
const CREATED: Timestamp = Timestamp {
    seconds: 1_700_000_000,
    nanos: 0,
};

impl Tree {
    /// Creates an empty folder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a folder with one file.
    pub fn one(path: &str, bytes: impl Into<Bytes>) -> Self {
        Self::new().file(path, bytes)
    }

    /// Adds a file.
    #[must_use]
    pub fn file(self, path: &str, bytes: impl Into<Bytes>) -> Self {
        self.file_with_mode(path, bytes, 0o644)
    }

    /// Adds a file with these permission bits.
    #[must_use]
    pub fn file_with_mode(mut self, path: &str, bytes: impl Into<Bytes>, mode: u32) -> Self {
        let node = Node::File {
            bytes: bytes.into(),
            mode,
            modified: CREATED,
        };
        self.0.insert(path.to_owned(), node);
        self
    }

    /// Adds a folder.
    #[must_use]
    pub fn folder(mut self, path: &str) -> Self {
        self.0.insert(path.to_owned(), Node::Folder);
        self
    }

    /// Adds a symlink.
    #[must_use]
    pub fn symlink(mut self, path: &str, target: &str) -> Self {
        let target = target.to_owned();
        self.0.insert(path.to_owned(), Node::Symlink { target });
        self
    }

    /// A file's content.
    pub fn bytes(&self, path: &str) -> Option<&Bytes> {
        match self.0.get(path)? {
            Node::File { bytes, .. } => Some(bytes),
            Node::Folder | Node::Symlink { .. } => None,
        }
    }

    /// The entry at a path.
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.0.get(path)
    }

    /// All entries, ordered by path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// Total size of all files, in bytes.
    pub fn size(&self) -> u64 {
        let files = self.iter().map(|(_, node)| match node {
            Node::File { bytes, .. } => bytes.len() as u64,
            Node::Folder | Node::Symlink { .. } => 0,
        });
        files.sum()
    }

    /// Replaces a file's content, and advances its modification time by one second.
    pub(crate) fn change(&mut self, path: &str, new: Bytes) {
        let Some(Node::File {
            bytes, modified, ..
        }) = self.0.get_mut(path)
        else {
            panic!("{path} is no file to be changed");
        };
        *bytes = new;
        modified.seconds += 1;
    }

    /// Manifest entries of this tree, ordered by path.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let entry = |(path, node): (&str, &Node)| Entry {
            path: SafePath::parse(path).expect("a scenario shares good paths"),
            kind: match node {
                Node::File {
                    bytes,
                    mode,
                    modified,
                } => EntryKind::File {
                    size: bytes.len() as u64,
                    mode: *mode,
                    modified: *modified,
                },
                Node::Folder => EntryKind::Folder {
                    mode: 0o755,
                    modified: CREATED,
                },
                Node::Symlink { target } => EntryKind::Symlink {
                    target: target.clone(),
                },
            },
        };
        self.iter().map(entry).collect()
    }
}

/// Generates `len` bytes without repetition. The same `mark` always gives the same bytes.
pub fn content(mark: u64, len: usize) -> Bytes {
    let mut state = mark.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let words = std::iter::repeat_with(|| {
        // xorshift64 (Marsaglia, 2003)
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let mut bytes: Vec<u8> = words.take(len.div_ceil(8)).flatten().collect();
    bytes.truncate(len);
    bytes.into()
}
