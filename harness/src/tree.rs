//! What hosts share: folders of files in memory.

use std::collections::BTreeMap;

use bytes::Bytes;
use handover_core::manifest::{Entry, EntryKind};
use handover_core::path::SafePath;
use handover_core::time::Timestamp;

/// Something in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A file.
    File {
        /// Its content.
        bytes: Bytes,
        /// Permission bits.
        mode: u32,
        /// When it was last changed; a change is noticed by this alone.
        modified: Timestamp,
    },
    /// A folder that has attributes of its own.
    Folder,
    /// A symlink.
    Symlink {
        /// What it holds.
        target: String,
    },
}

/// Files, folders and symlinks by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree(pub(crate) BTreeMap<String, Node>);

/// When files in a [`Tree`] were changed, unless they are changed later.
const CREATED: Timestamp = Timestamp {
    seconds: 1_700_000_000,
    nanos: 0,
};

impl Tree {
    /// An empty folder.
    pub fn new() -> Self {
        Self::default()
    }

    /// One file and nothing else.
    pub fn one(path: &str, bytes: impl Into<Bytes>) -> Self {
        Self::new().file(path, bytes)
    }

    /// With this file too.
    #[must_use]
    pub fn file(self, path: &str, bytes: impl Into<Bytes>) -> Self {
        self.file_with_mode(path, bytes, 0o644)
    }

    /// With this file too, which has other permissions.
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

    /// With this folder too.
    #[must_use]
    pub fn folder(mut self, path: &str) -> Self {
        self.0.insert(path.to_owned(), Node::Folder);
        self
    }

    /// With this symlink too.
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

    /// What stands at a path.
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.0.get(path)
    }

    /// Everything in it, by path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        let files = self.iter().map(|(_, node)| match node {
            Node::File { bytes, .. } => bytes.len() as u64,
            Node::Folder | Node::Symlink { .. } => 0,
        });
        files.sum()
    }

    /// The file's content is another from now on, and its modification time too.
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

    /// What a manifest says of it, in the order of the paths.
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

/// So many bytes that repeat nowhere, the same for the same `mark`.
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
