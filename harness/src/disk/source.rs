//! The reading side: a share's tree or pipe.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use handover_core::engine::{DiskDone, DiskError, GroupHash, Scanned, Segment};
use handover_core::limits::GROUP;
use handover_core::manifest::{Entry, EntryKind};
use handover_core::merkle::{RangeHash, hash_group};
use handover_core::path::SafePath;
use handover_core::time::Timestamp;

use super::chunks;
use crate::tree::{Node, Tree};

/// Content of a share.
#[derive(Debug, Clone)]
pub(crate) enum SourceKind {
    /// Files and folders.
    Tree(Tree),
    /// Bytes of a pipe, which can be read once.
    Pipe(Bytes),
}

/// Valid contents of a share: what it was each time it was created, and what bit rot has made of it.
pub(crate) type Model = Rc<RefCell<Vec<SourceKind>>>;

/// A share and the result of its scan.
pub(crate) struct Source {
    pub(crate) kind: SourceKind,
    listed: Vec<Entry>,
    /// Number of bytes read from the pipe. `kept_from` is the offset below which they are no longer needed.
    read: u64,
    kept_from: u64,
    pub(crate) forgotten: bool,
}

impl Source {
    pub(crate) fn new(kind: SourceKind) -> Self {
        Self {
            kind,
            listed: Vec::new(),
            read: 0,
            kept_from: 0,
            forgotten: false,
        }
    }

    pub(super) fn scan(&mut self) -> Scanned {
        self.listed = match &self.kind {
            SourceKind::Tree(tree) => tree.entries(),
            SourceKind::Pipe(_) => vec![Entry {
                path: SafePath::parse("stdin").expect("a good path"),
                kind: EntryKind::Stream,
            }],
        };
        Scanned {
            entries: self.listed.clone(),
            ..Scanned::default()
        }
    }

    pub(super) fn read(
        &mut self,
        segments: &[Segment],
        hash: bool,
        denied: &BTreeSet<String>,
    ) -> DiskDone {
        let mut payload = BytesMut::new();
        let mut outcomes = Vec::new();
        for segment in segments {
            outcomes.push(self.file(segment.entry, denied).map(|bytes| {
                let (range, group) = cut(bytes, segment);
                payload.extend_from_slice(&range);
                hash.then(|| {
                    let within = u32::try_from(segment.offset % u64::from(GROUP))
                        .expect("less than a group");
                    let hashes = RangeHash::of(&group);
                    GroupHash {
                        hash: hashes.node(),
                        inner: hashes.proof(within, segment.len),
                    }
                })
            }));
        }
        DiskDone::Read {
            payload: payload.freeze(),
            segments: outcomes,
        }
    }

    pub(super) fn hash(
        &mut self,
        entry: u32,
        first: u64,
        count: u32,
        denied: &BTreeSet<String>,
    ) -> Result<DiskDone, DiskError> {
        let bytes = self.file(entry, denied)?;
        let group = GROUP as usize;
        let groups = bytes
            .chunks(group)
            .skip(usize::try_from(first).expect("a group of a file"));
        let hashes: Vec<_> = groups.take(count as usize).map(hash_group).collect();
        assert_eq!(hashes.len(), count as usize, "groups behind the file's end");
        Ok(DiskDone::Hashed { hashes })
    }

    pub(super) fn chunk(
        &mut self,
        entry: u32,
        denied: &BTreeSet<String>,
    ) -> Result<DiskDone, DiskError> {
        let bytes = self.file(entry, denied)?;
        Ok(DiskDone::Chunked(chunks::cut(bytes)))
    }

    /// An entry's bytes, if it is a file that has not changed since the scan.
    pub(super) fn bytes(&self, entry: u32) -> Option<Bytes> {
        self.file(entry, &BTreeSet::new()).ok().cloned()
    }

    pub(super) fn read_pipe(&mut self, offset: u64, len: u32, keep_from: u64) -> DiskDone {
        let SourceKind::Pipe(bytes) = &self.kind else {
            panic!("a tree is read as a pipe");
        };
        assert!(
            (self.kept_from..=self.read).contains(&offset),
            "a pipe at {} that is kept from {} on is read at {offset}",
            self.read,
            self.kept_from
        );
        self.kept_from = self.kept_from.max(keep_from);
        let start = usize::try_from(offset).expect("an offset in memory");
        let end = (start + len as usize).min(bytes.len());
        self.read = self.read.max(end as u64);
        let payload = bytes.slice(start..end);
        DiskDone::PipeRead {
            hash: hash_group(&payload),
            end: payload.len() < len as usize,
            payload,
        }
    }

    /// A file's bytes, or an error if it has changed since the scan.
    fn file(&self, entry: u32, denied: &BTreeSet<String>) -> Result<&Bytes, DiskError> {
        let listed = self.listed.get(entry as usize).expect("a listed entry");
        let EntryKind::File { size, modified, .. } = listed.kind else {
            panic!("{} is read, and is no file", listed.path.as_str());
        };
        let SourceKind::Tree(tree) = &self.kind else {
            panic!("a pipe is read as a file");
        };
        let path = listed.path.as_str();
        if denied.contains(path) {
            return Err(DiskError::Denied(path.to_owned()));
        }
        let (bytes, seen) = match tree.get(path) {
            Some(Node::File {
                bytes, modified, ..
            }) => (bytes, *modified),
            _ => return Err(DiskError::NotFound),
        };
        unchanged(seen == modified && bytes.len() as u64 == size)?;
        Ok(bytes)
    }
}

fn unchanged(same: bool) -> Result<(), DiskError> {
    if same {
        Ok(())
    } else {
        Err(DiskError::Changed)
    }
}

/// A segment's bytes, and those of its whole group.
fn cut(bytes: &Bytes, segment: &Segment) -> (Bytes, Bytes) {
    let start = usize::try_from(segment.offset).expect("an offset in memory");
    let group = start - start % GROUP as usize;
    let end = (group + GROUP as usize).min(bytes.len());
    let range = bytes.slice(start..start + segment.len as usize);
    (range, bytes.slice(group..end))
}

/// The wall clock, a number of seconds after all files were created.
pub(crate) fn wall_clock(seconds: i64) -> Timestamp {
    Timestamp {
        seconds: 1_700_100_000 + seconds,
        nanos: 0,
    }
}
