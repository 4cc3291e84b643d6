//! What is shared: names, sizes and attributes, signed by the sharer; and the roots of files, signed as they come up.
//!
//! A [`Manifest`] exists only if every one of its names can stand beside the others below one folder, on every system,
//! and leads nowhere else; [`validate`](self) holds the rules. Names go out before anything is hashed, so the Merkle
//! roots are not in the manifest: they follow in [`SignedRoots`], bound to it by its [`ManifestId`].
//!
//! Whether a name is taken at the receiver, and what of the offer is wanted, is not known here.

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

/// Bytes of a share's name, and of its author's, at the most.
pub const MAX_LABEL: usize = 255;
/// Entries that a manifest is decoded with at the most, whatever [`Limits`](crate::limits::Limits) says.
pub const MAX_ENTRIES: usize = 500_000;

/// What a share is called and what is in it.
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

/// What a manifest is made of. [`SignedManifest::sign`] checks it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct ManifestParts {
    /// What the share is called: [`MAX_LABEL`] bytes at the most.
    #[serde(rename = "n")]
    pub name: String,
    /// What it is, in the sharer's words. May be empty.
    #[serde(rename = "d", default)]
    pub description: String,
    /// Who offers it: [`MAX_LABEL`] bytes at the most. May be empty.
    #[serde(rename = "a", default)]
    pub author: String,
    /// What the share gives as its date: the newest file's, so that the same files make the same manifest again.
    #[serde(rename = "t")]
    pub created: Timestamp,
    /// What is in it, in the order in which it will be fetched.
    #[serde(rename = "e", deserialize_with = "bounded_entries")]
    pub entries: Vec<Entry>,
}

/// One file, folder or symlink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where it stands, below the share's root.
    #[serde(rename = "p")]
    pub path: SafePath,
    /// What it is.
    #[serde(rename = "k")]
    pub kind: EntryKind,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A file.
    #[serde(rename = "f")]
    File {
        /// Bytes.
        #[serde(rename = "s")]
        size: u64,
        /// Permission bits: `0o777` at the most.
        #[serde(rename = "m")]
        mode: u32,
        /// Modification time.
        #[serde(rename = "t")]
        modified: Timestamp,
    },
    /// A folder. Those above an entry need not be named; they then get default attributes.
    #[serde(rename = "d")]
    Folder {
        /// Permission bits: `0o777` at the most.
        #[serde(rename = "m")]
        mode: u32,
        /// Modification time.
        #[serde(rename = "t")]
        modified: Timestamp,
    },
    /// A symlink. It stays inside the share: see [`crate::path::symlink_stays_inside`].
    #[serde(rename = "l")]
    Symlink {
        /// What it holds: a path relative to its own folder.
        #[serde(rename = "h")]
        target: String,
    },
    /// A file whose size is known at its end only. It is a share's only entry.
    #[serde(rename = "z")]
    Stream,
}

impl Manifest {
    /// What the share is called. May be empty.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is, in the sharer's words. May be empty.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Who offers it, by their own word. May be empty.
    pub fn author(&self) -> &str {
        &self.author
    }

    /// The share's date: the newest file's, by the sharer's word.
    pub fn created(&self) -> Timestamp {
        self.created
    }

    /// What is in it. Everywhere else, entries are named by their index in this list.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry with this index; `None` if there is none, for indexes come from peers too.
    pub fn entry(&self, index: u32) -> Option<&Entry> {
        self.entries.get(usize::try_from(index).ok()?)
    }

    /// The folder that it is to land in, for its top holds several names, or one that file managers don't show: by what it
    /// is called. One file, and one folder, keep their place.
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

    /// What it amounts to.
    pub fn summary(&self) -> ManifestSummary {
        let mut summary = ManifestSummary::default();
        for entry in &self.entries {
            match entry.kind {
                EntryKind::File { size, mode, .. } => {
                    summary.files += 1;
                    // Checked to fit when the manifest was made.
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
        // A large share is kept for as long as it lasts.
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
    /// The size of a file in bytes; 0 for folders and symlinks; `None` for a stream, whose end nobody knows yet.
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

/// Why a manifest, or roots that follow one, are refused. Names in it are quoted with their control and invisible
/// characters escaped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Its encoding is over `manifest_bytes`.
    #[error("the list of files takes {bytes} bytes; {max} are allowed")]
    TooLarge {
        /// Its bytes.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// Not the CBOR of a manifest; in the decoder's words.
    #[error("the list of files is malformed: {0}")]
    Malformed(String),
    /// Not an Ed25519 key.
    #[error("the list of files is signed with a key of an unsupported kind")]
    KeyKind,
    /// Signed, but by another than the sharer.
    #[error("the list of files is signed by somebody other than the sender")]
    OtherSigner,
    /// Not signed by the key it names.
    #[error("the signature of the list of files is wrong")]
    BadSignature,
    /// Over `manifest_entries`.
    #[error("there are {entries} entries; {max} are allowed")]
    TooManyEntries {
        /// The entries.
        entries: usize,
        /// The limit.
        max: usize,
    },
    /// Name, author or description is over its limit.
    #[error("the share's {what} is {bytes} bytes long; {max} are allowed")]
    TextTooLong {
        /// Which one.
        what: &'static str,
        /// Its bytes.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A path is over the limits.
    #[error("the path {path:?} is refused: {error}", path = .path.as_str())]
    Path {
        /// Which one.
        path: SafePath,
        /// Why.
        error: PathError,
    },
    /// Two entries of one name, or of names that some file system takes for one.
    #[error("{first:?} and {second:?} are one name on some systems", first = .first.as_str(), second = .second.as_str())]
    SameName {
        /// One of them.
        first: SafePath,
        /// The other.
        second: SafePath,
    },
    /// An entry stands below one that is no folder.
    #[error("{below:?} stands below {above:?}, which is not a folder", below = .below.as_str(), above = .above.as_str())]
    BelowNoFolder {
        /// The one that is no folder.
        above: SafePath,
        /// The one below it.
        below: SafePath,
    },
    /// A symlink might lead out of the share.
    #[error("the symlink {path:?} is refused: {error}", path = .path.as_str())]
    Symlink {
        /// Where it stands.
        path: SafePath,
        /// What is wrong with its target.
        error: PathError,
    },
    /// Set-user-id and the like, or no permission bits at all.
    #[error("{path:?} has mode bits {mode:#o}; only 0o777 are allowed", path = .path.as_str())]
    Mode {
        /// The entry.
        path: SafePath,
        /// Its bits.
        mode: u32,
    },
    /// A time with a billion nanoseconds or more.
    #[error("a time has {nanos} nanoseconds in a second")]
    Time {
        /// The nanoseconds.
        nanos: u32,
    },
    /// The sizes add up to more than 2^64.
    #[error("the sizes add up to more than any disk holds")]
    Overflow,
    /// A stream beside other entries.
    #[error("a stream can't be shared beside other entries")]
    StreamNotAlone,
    /// Over [`MAX_ROOTS`].
    #[error("{0} roots at once; {MAX_ROOTS} are allowed")]
    TooManyRoots(usize),
    /// Roots are listed twice or out of order.
    #[error("the roots are not in the order of their entries, each once")]
    RootOrder,
    /// Roots are not signed by the sharer, or for another manifest.
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
