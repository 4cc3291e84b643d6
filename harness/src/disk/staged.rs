//! A download's staged data and its journal: what a crash loses of it, and what the next run finds.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use handover_core::engine::{Groups, Kept, Origin, Piece, Record, Whole};
use handover_core::limits::GROUP;
use handover_core::merkle::{Hash, file_root, hash_group};
use handover_core::path::SafePath;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

use crate::ledger::{Fault, happened, promise};
use crate::tree::Tree;

/// Block size in bytes: a crash tears writes at block boundaries.
const BLOCK: usize = 512;

/// Data that downloads into one folder left there for the next one.
#[derive(Debug, Clone, Default)]
pub struct Leftover(Vec<Staged>);

/// One staging folder.
#[derive(Debug, Clone)]
pub(crate) struct Staged {
    origin: Origin,
    files: BTreeMap<u32, File>,
    journal: Option<Notes>,
    /// Files with a flipped bit: the journal may be wrong about them.
    rotten: BTreeSet<u32>,
}

/// A staged file: its current content, and the part that is safely on the disk.
#[derive(Debug, Clone, Default)]
struct File {
    now: Vec<u8>,
    synced: Vec<u8>,
}

/// The content of a journal.
#[derive(Debug, Clone, Default)]
struct Notes {
    groups: BTreeMap<(u32, u64), Hash>,
    whole: BTreeMap<u32, Whole>,
    published: BTreeMap<u32, SafePath>,
}

impl Leftover {
    /// Data that another run can resume from.
    pub(super) fn kept(&self, origin: &Origin, folder: &Tree) -> Kept {
        let staged = self.0.iter().find(|staged| staged.origin == *origin);
        staged.map(|staged| staged.kept(folder)).unwrap_or_default()
    }

    pub(super) fn take(&mut self, origin: &Origin) -> Staged {
        let at = self.0.iter().position(|staged| staged.origin == *origin);
        at.map_or_else(|| Staged::new(*origin), |at| self.0.remove(at))
    }

    /// Flips a bit of a staged file without notice. Returns false if nothing is staged.
    pub fn rot(&mut self, at: usize) -> bool {
        let staged = self.0.iter_mut().rev();
        let mut files = staged.filter_map(|staged| {
            let rotten = &mut staged.rotten;
            let files = staged.files.iter_mut();
            files
                .filter(|(_, file)| !file.now.is_empty())
                .map(|(entry, file)| {
                    rotten.insert(*entry);
                    file
                })
                .next()
        });
        let Some(file) = files.next() else {
            return false;
        };
        let at = at % file.now.len();
        file.now[at] ^= 1;
        file.synced.clone_from(&file.now);
        happened(Fault::StagedRot);
        true
    }

    /// Keeps a staging folder. One without a journal is useless, and dropped.
    pub(super) fn put(&mut self, staged: Staged) {
        if staged.journal.is_some() {
            self.0.push(staged);
        }
    }
}

impl Staged {
    fn new(origin: Origin) -> Self {
        Self {
            origin,
            files: BTreeMap::new(),
            journal: None,
            rotten: BTreeSet::new(),
        }
    }

    pub(super) fn write(&mut self, piece: &Piece) {
        let file = &mut self.files.entry(piece.entry).or_default().now;
        let start = usize::try_from(piece.offset).expect("an offset in memory");
        let end = start + piece.data.len();
        if file.len() < end {
            file.resize(end, 0);
        }
        file[start..end].copy_from_slice(&piece.data);
    }

    /// The staged data of a file, if there is any.
    pub(super) fn read(&self, entry: u32) -> Option<&[u8]> {
        self.files.get(&entry).map(|file| file.now.as_slice())
    }

    /// The staged data of a file, empty if there is none.
    pub(super) fn bytes(&self, entry: u32) -> &[u8] {
        self.files.get(&entry).map_or(&[], |file| &file.now)
    }

    /// Removes a staged file, and returns its content.
    pub(super) fn take(&mut self, entry: u32) -> Bytes {
        let file = self.files.remove(&entry).unwrap_or_default();
        file.now.into()
    }

    pub(super) fn sync(&mut self, entries: &[u32]) {
        for entry in entries {
            let file = self.files.entry(*entry).or_default();
            file.synced.clone_from(&file.now);
        }
    }

    pub(super) fn note(&mut self, record: Record) {
        let notes = self.journal.get_or_insert_default();
        for entry in record.dropped {
            notes.groups.retain(|(of, _), _| *of != entry);
            notes.whole.remove(&entry);
        }
        for Groups {
            entry,
            first,
            nodes,
            ..
        } in record.groups
        {
            let groups = (first..).zip(nodes);
            notes
                .groups
                .extend(groups.map(|(at, node)| ((entry, at), node)));
        }
        for whole in record.whole {
            notes.groups.retain(|(of, _), _| *of != whole.entry);
            notes.whole.insert(whole.entry, whole);
        }
        for (entry, path) in record.published {
            notes.groups.retain(|(of, _), _| *of != entry);
            notes.whole.remove(&entry);
            notes.published.insert(entry, path);
        }
    }

    /// The part of the journal that the disk confirms. All staged data must be confirmed: that is the journal's
    /// purpose.
    fn kept(&self, folder: &Tree) -> Kept {
        let mut kept = Kept::default();
        let Some(notes) = &self.journal else {
            return kept;
        };
        for ((entry, group), node) in &notes.groups {
            let found = self.group(*entry, *group);
            promise!(
                Noted,
                self.rotten.contains(entry)
                    || found.is_some_and(|bytes| hash_group(bytes) == *node),
                "group {group} of {entry} is in the journal, and not on the disk"
            );
            kept.groups.push(Groups {
                entry: *entry,
                // Only a journal stored in a file needs the size.
                size: 0,
                first: *group,
                nodes: vec![*node],
            });
        }
        for whole in notes.whole.values() {
            let found = self.files.get(&whole.entry);
            if let Some(file) = found {
                promise!(
                    Noted,
                    self.rotten.contains(&whole.entry) || file_root(&file.now) == whole.root,
                    "{} is said to be whole, and is not what is staged",
                    whole.path
                );
                kept.whole.push((whole.entry, whole.root));
            } else if stands(folder, whole) {
                kept.published.push(whole.entry);
            }
        }
        let published = notes.published.iter();
        let there = published.filter(|(_, path)| folder.bytes(path.as_str()).is_some());
        kept.published.extend(there.map(|(entry, _)| *entry));
        if !kept.is_empty() {
            happened(Fault::Resumed);
        }
        kept
    }

    pub(super) fn group(&self, entry: u32, group: u64) -> Option<&[u8]> {
        let file = &self.files.get(&entry)?.now;
        let start = usize::try_from(group * u64::from(GROUP)).ok()?;
        let end = file.len().min(start + GROUP as usize);
        file.get(start..end)
    }

    /// Power failure: any unsynced block may be lost.
    pub(super) fn crash(&mut self, rng: &mut ChaCha8Rng) {
        for file in self.files.values_mut() {
            if file.now != file.synced {
                happened(Fault::LostWrites);
                tear(&mut file.now, &file.synced, rng);
            }
        }
    }
}

/// True if a file that was about to be published exists under its name, or under a numbered variant.
fn stands(folder: &Tree, whole: &Whole) -> bool {
    let numbered = (1..1000).map(|number| whole.path.numbered(number));
    let names = std::iter::once(whole.path.clone()).chain(numbered);
    names
        .map_while(|name| folder.bytes(name.as_str()))
        .any(|bytes| file_root(bytes) == whole.root)
}

/// Loses random blocks of a file that differ from the synced content; the others stay.
pub(super) fn tear(file: &mut [u8], synced: &[u8], rng: &mut ChaCha8Rng) {
    let mut kept = 0;
    let mut lost = 0;
    for (at, block) in file.chunks_mut(BLOCK).enumerate() {
        if rng.next_u32().is_multiple_of(2) {
            kept += 1;
            continue;
        }
        lost += 1;
        let before = synced.get(at * BLOCK..).unwrap_or_default();
        let len = before.len().min(block.len());
        block[..len].copy_from_slice(&before[..len]);
        block[len..].fill(0);
    }
    if kept > 0 && lost > 0 {
        happened(Fault::TornWrites);
    }
}
