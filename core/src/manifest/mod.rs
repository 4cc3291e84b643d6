//! The manifest (names, sizes and attributes of what is shared, signed by the sharer) and the signed roots of its files.
//!
//! A [`Manifest`] exists only if all of its names can coexist below one folder on every system and none leads outside
//! it; [`validate`](self) contains the rules. Names are sent before anything is hashed, so the manifest contains no
//! Merkle roots: they follow in [`SignedRoots`], bound to the manifest by its [`ManifestId`].
//!
//! Name conflicts at the receiver and the selection of entries are not handled here.

use serde::{Deserialize, Serialize};

use crate::bounded::Bounded;
use crate::engine::ManifestSummary;
use crate::path::{PathError, SafePath};
use crate::time::Timestamp;

mod roots;
mod signed;
mod validate;

pub use roots::{MAX_ROOTS, SignedRoots};
pub use signed::{ManifestId, SignedManifest};

/// Maximum length of a share's name, and of its author's, in bytes.
pub const MAX_LABEL: usize = 255;
/// Maximum number of entries in a decoded manifest, whatever [`Limits`](crate::limits::Limits) says.
pub const MAX_ENTRIES: usize = 500_000;

/// The name, description and contents of a share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Manifest {
    #[serde(rename = "n")]
    name: String,
    #[serde(rename = "d", skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(rename = "a", skip_serializing_if = "String::is_empty")]
    author: String,
    #[serde(rename = "t")]
    created: Timestamp,
    #[serde(rename = "e")]
    entries: Vec<Entry>,
}

/// The parts of a manifest. [`SignedManifest::sign`] checks them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct ManifestParts {
    /// The share's name, at most [`MAX_LABEL`] bytes.
    #[serde(rename = "n")]
    pub name: String,
    /// The sharer's description. May be empty.
    #[serde(rename = "d", default)]
    pub description: String,
    /// The author, at most [`MAX_LABEL`] bytes. May be empty.
    #[serde(rename = "a", default)]
    pub author: String,
    /// The share's date: that of the newest file, so that the same files give the same manifest again.
    #[serde(rename = "t")]
    pub created: Timestamp,
    /// The entries, in the order in which they are fetched.
    #[serde(rename = "e", deserialize_with = "bounded_entries")]
    pub entries: Vec<Entry>,
}

/// One file, folder, symlink or stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its path below the share's root.
    #[serde(rename = "p")]
    pub path: SafePath,
    /// Its kind, with attributes.
    #[serde(rename = "k")]
    pub kind: EntryKind,
}

/// The kind of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A file.
    #[serde(rename = "f")]
    File {
        /// Size, in bytes.
        #[serde(rename = "s")]
        size: u64,
        /// Permission bits, at most `0o777`.
        #[serde(rename = "m")]
        mode: u32,
        /// Modification time.
        #[serde(rename = "t")]
        modified: Timestamp,
    },
    /// A folder. The parents of an entry need not be listed; they then get default attributes.
    #[serde(rename = "d")]
    Folder {
        /// Permission bits, at most `0o777`.
        #[serde(rename = "m")]
        mode: u32,
        /// Modification time.
        #[serde(rename = "t")]
        modified: Timestamp,
    },
    /// A symlink. It stays inside the share: see [`crate::path::symlink_stays_inside`].
    #[serde(rename = "l")]
    Symlink {
        /// Its target: a path relative to the symlink's folder.
        #[serde(rename = "h")]
        target: String,
    },
    /// A file whose size is known only at its end. It is the only entry of its share.
    #[serde(rename = "z")]
    Stream,
}

impl Manifest {
    /// Returns the share's name. May be empty.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the sharer's description. May be empty.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Returns the author, as claimed by the sharer. May be empty.
    pub fn author(&self) -> &str {
        &self.author
    }

    /// Returns the share's date, as claimed by the sharer: that of the newest file.
    pub fn created(&self) -> Timestamp {
        self.created
    }

    /// Returns the entries. Everywhere else, an entry is identified by its index in this list.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns the entry with this index. `None` if it is out of range, as an index from a peer may be.
    pub fn entry(&self, index: u32) -> Option<&Entry> {
        self.entries.get(usize::try_from(index).ok()?)
    }

    /// Returns the folder to create for the share, named after it, if its top level has several names or is one hidden
    /// folder. `None` if it is a single file or visible folder.
    pub fn own_folder(&self) -> Option<SafePath> {
        let mut tops = self.entries.iter().map(|entry| {
            let path = entry.path.as_str();
            path.split_once('/').map_or(path, |(top, _)| top)
        });
        let first = tops.next()?;
        let is_folder = match self.entries.as_slice() {
            [only] => matches!(only.kind, EntryKind::Folder { .. }) || only.path.as_str() != first,
            _ => true,
        };
        let is_alone = tops.all(|top| top == first);
        if is_alone && !(is_folder && first.starts_with('.')) {
            return None;
        }
        SafePath::called(&self.name).or_else(|| SafePath::called("a share"))
    }

    /// Returns the totals of all entries.
    pub fn summary(&self) -> ManifestSummary {
        let mut summary = ManifestSummary::default();
        for entry in &self.entries {
            match entry.kind {
                EntryKind::File { size, mode, .. } => {
                    summary.files += 1;
                    // Validation ensures that the sum fits.
                    summary.bytes = summary.bytes.saturating_add(size);
                    summary.executables += u64::from(mode & 0o111 != 0);
                }
                EntryKind::Symlink { .. } => summary.files += 1,
                EntryKind::Folder { .. } => summary.folders += 1,
                EntryKind::Stream => {
                    summary.files += 1;
                    summary.stream = true;
                }
            }
        }
        summary
    }

    fn new(parts: ManifestParts) -> Self {
        let ManifestParts {
            name,
            description,
            author,
            created,
            mut entries,
        } = parts;
        // A large manifest stays in memory as long as its share.
        entries.shrink_to_fit();
        Self {
            name,
            description,
            author,
            created,
            entries,
        }
    }
}

impl Entry {
    /// Returns the size of a file in bytes; 0 for folders and symlinks; `None` for a stream, whose size is unknown.
    pub fn size(&self) -> Option<u64> {
        match self.kind {
            EntryKind::File { size, .. } => Some(size),
            EntryKind::Folder { .. } | EntryKind::Symlink { .. } => Some(0),
            EntryKind::Stream => None,
        }
    }
}

fn bounded_entries<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Entry>, D::Error> {
    Bounded::<Entry, MAX_ENTRIES>::deserialize(deserializer).map(Bounded::into_inner)
}

/// Why a manifest or signed roots are refused. Messages quote names with control and invisible characters escaped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// The encoding is longer than `manifest_bytes`.
    #[error("the list of files takes {bytes} bytes; {max} are allowed")]
    TooLarge {
        /// Its length, in bytes.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// Not the CBOR of a manifest. The text is the decoder's message.
    #[error("the list of files is malformed: {0}")]
    Malformed(String),
    /// The key is not Ed25519.
    #[error("the list of files is signed with a key of an unsupported kind")]
    KeyKind,
    /// Signed by a peer other than the sharer.
    #[error("the list of files is signed by somebody other than the sender")]
    OtherSigner,
    /// Not signed by the key in the envelope.
    #[error("the signature of the list of files is wrong")]
    BadSignature,
    /// More entries than `manifest_entries`.
    #[error("there are {entries} entries; {max} are allowed")]
    TooManyEntries {
        /// The number of entries.
        entries: usize,
        /// The limit.
        max: usize,
    },
    /// The name, author or description is longer than its limit.
    #[error("the share's {what} is {bytes} bytes long; {max} are allowed")]
    TextTooLong {
        /// Which of them.
        what: &'static str,
        /// Its length, in bytes.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A path exceeds the limits.
    #[error("the path {path:?} is refused: {error}", path = .path.as_str())]
    Path {
        /// The path.
        path: SafePath,
        /// The reason.
        error: PathError,
    },
    /// Two entries have the same name, or names that some file system treats as the same.
    #[error("{first:?} and {second:?} are one name on some systems", first = .first.as_str(), second = .second.as_str())]
    SameName {
        /// One of them.
        first: SafePath,
        /// The other.
        second: SafePath,
    },
    /// An entry is below one that is not a folder.
    #[error("{below:?} stands below {above:?}, which is not a folder", below = .below.as_str(), above = .above.as_str())]
    BelowNoFolder {
        /// The entry that is not a folder.
        above: SafePath,
        /// The entry below it.
        below: SafePath,
    },
    /// A symlink might lead out of the share.
    #[error("the symlink {path:?} is refused: {error}", path = .path.as_str())]
    Symlink {
        /// Path of the symlink.
        path: SafePath,
        /// Why its target is refused.
        error: PathError,
    },
    /// The mode has bits other than `0o777`, such as set-user-id.
    #[error("{path:?} has mode bits {mode:#o}; only 0o777 are allowed", path = .path.as_str())]
    Mode {
        /// The entry.
        path: SafePath,
        /// Its mode bits.
        mode: u32,
    },
    /// A time has 1,000,000,000 nanoseconds or more.
    #[error("a time has {nanos} nanoseconds in a second")]
    Time {
        /// The nanoseconds.
        nanos: u32,
    },
    /// The sum of all sizes is 2^64 or more.
    #[error("the sizes add up to more than any disk holds")]
    Overflow,
    /// There are entries besides a stream.
    #[error("a stream can't be shared beside other entries")]
    StreamNotAlone,
    /// More than [`MAX_ROOTS`] roots.
    #[error("{0} roots at once; {MAX_ROOTS} are allowed")]
    TooManyRoots(usize),
    /// Roots are duplicated or out of order.
    #[error("the roots are not in the order of their entries, each once")]
    RootOrder,
    /// The roots are not signed by the sharer, or are signed for another manifest.
    #[error("the signature of the files' roots is wrong")]
    BadRootSignature,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    fn own_folder(name: &str, paths: &[&str]) -> Option<String> {
        let entry = |path: &&str| Entry {
            path: SafePath::parse(path.trim_end_matches('/')).unwrap(),
            kind: if path.ends_with('/') {
                EntryKind::Folder {
                    mode: 0o755,
                    modified: Timestamp::default(),
                }
            } else {
                EntryKind::File {
                    size: 1,
                    mode: 0o644,
                    modified: Timestamp::default(),
                }
            },
        };
        let parts = ManifestParts {
            name: name.to_owned(),
            entries: paths.iter().map(entry).collect(),
            ..ManifestParts::default()
        };
        let keys = crate::Keypair::ed25519_from_bytes([1; 32]).unwrap();
        let signed = SignedManifest::sign(parts, &keys, &Limits::default()).unwrap();
        let folder = signed.manifest().own_folder();
        folder.map(|folder| folder.as_str().to_owned())
    }

    #[test]
    fn one_file_or_folder_keeps_its_place_and_all_else_has_a_folder_of_its_own() {
        let called = |paths: &[&str]| own_folder("it", paths);
        for paths in [
            &["a"][..],
            &[".bashrc"],
            &["mods/"],
            &["mods/a", "mods/b/.c"],
            &[],
        ] {
            assert_eq!(called(paths), None, "{paths:?}");
        }
        for paths in [
            &["a", "b"][..],
            &["mods/a", "b"],
            &[".ssh/"],
            &[".ssh/id"],
            &[".config/a", ".config/b"],
        ] {
            assert_eq!(called(paths), Some("it".into()), "{paths:?}");
        }
        assert_eq!(own_folder("..", &["a", "b"]), Some("a share".into()));
    }
}
