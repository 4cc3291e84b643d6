//! The writing side: a download's staging folder, its published files, its pipe.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use handover_core::engine::{
    DiskDone, DiskError, GroupHash, Located, OnConflict, Origin, Piece, PublishFile, PublishFolder,
    PublishSymlink, Published, Record, Segment, SinkKind,
};
use handover_core::limits::GROUP;
use handover_core::merkle::{RangeHash, hash_group};
use handover_core::path::{MAX_COMPONENT, SafePath};
use rand_chacha::ChaCha8Rng;

use super::staged::{Leftover, Staged, tear};
use super::{Disk, Model, SourceKind};
use crate::ledger::{Fault, happened, promise};
use crate::tree::{Node, Tree};

/// The destination of a download.
pub(crate) struct Landing {
    sink: SinkKind,
    pub(super) folder: Tree,
    /// Names that existed before or were created by others.
    theirs: BTreeSet<String>,
    pub(super) pipe: Vec<u8>,
    pub(super) staging: Option<Staged>,
    /// Data that other downloads left in the folder.
    leftover: Leftover,
    /// Files of the latest publish job, for a disk that does not sync.
    fresh: Vec<String>,
    over: bool,
    /// The valid contents; without a model, none is valid.
    model: Option<Model>,
}

impl Landing {
    pub(super) fn new(
        sink: SinkKind,
        folder: Tree,
        leftover: Leftover,
        model: Option<Model>,
    ) -> Self {
        let theirs = folder.iter().map(|(path, _)| path.to_owned()).collect();
        Self {
            sink,
            folder,
            theirs,
            pipe: Vec::new(),
            staging: None,
            leftover,
            fresh: Vec::new(),
            over: false,
            model,
        }
    }

    pub(super) fn is_staged(&self) -> bool {
        self.staging.is_some()
    }

    /// Creates a file as another program would.
    pub(super) fn put(&mut self, path: &str, bytes: Bytes) {
        self.theirs.insert(path.to_owned());
        self.folder = std::mem::take(&mut self.folder).file(path, bytes);
    }

    fn taken(&self, paths: &[SafePath]) -> Vec<usize> {
        let taken = |path: &SafePath| self.folder.get(path.as_str()).is_some();
        let at = paths.iter().enumerate().filter(|(_, path)| taken(path));
        at.map(|(at, _)| at).collect()
    }

    pub(super) fn inspect(
        &self,
        paths: &[SafePath],
        origin: &Origin,
        free: Option<u64>,
    ) -> DiskDone {
        DiskDone::Inspected {
            taken: self.taken(paths),
            free,
            kept: self.leftover.kept(origin, &self.folder),
        }
    }

    pub(super) fn stage(&mut self, origin: &Origin) -> Result<DiskDone, DiskError> {
        if self.over {
            return Err(DiskError::NotFound);
        }
        assert!(self.staging.is_none(), "a download is staged twice");
        self.staging = Some(self.leftover.take(origin));
        Ok(DiskDone::Ok)
    }

    pub(super) fn sync(&mut self, entries: &[u32]) -> Result<DiskDone, DiskError> {
        let staging = self.staging.as_mut().ok_or(DiskError::NotFound)?;
        staging.sync(entries);
        Ok(DiskDone::Ok)
    }

    pub(super) fn note(&mut self, record: Record) -> Result<DiskDone, DiskError> {
        let staging = self.staging.as_mut().ok_or(DiskError::NotFound)?;
        staging.note(record);
        Ok(DiskDone::Ok)
    }

    /// Data that another download into this folder finds.
    pub(super) fn leftover(&self) -> Leftover {
        let mut leftover = self.leftover.clone();
        if let Some(staging) = &self.staging {
            leftover.put(staging.clone());
        }
        leftover
    }

    pub(super) fn write(
        &mut self,
        pieces: Vec<Piece>,
        disk: &mut Disk,
    ) -> Result<DiskDone, DiskError> {
        for piece in pieces {
            disk.take_room(piece.data.len() as u64)?;
            match self.sink {
                SinkKind::Pipe => self.write_pipe(&piece, disk)?,
                SinkKind::Folder => self.write_staged(&piece)?,
            }
        }
        Ok(DiskDone::Ok)
    }

    /// Hashes groups of a staged file, as many as exist.
    pub(super) fn hash_staged(&self, entry: u32, first: u64, count: u32) -> DiskDone {
        let Some(staging) = &self.staging else {
            return DiskDone::Failed(DiskError::NotFound);
        };
        let groups = (first..).take(count as usize);
        let hashes = groups.map_while(|group| staging.group(entry, group).map(hash_group));
        DiskDone::Hashed {
            hashes: hashes.collect(),
        }
    }

    /// Reads back written data, from staging or from the final name.
    pub(super) fn read_back(&self, kept: &[Located]) -> DiskDone {
        let mut payload = BytesMut::new();
        let mut segments = Vec::new();
        for Located { segment, path } in kept {
            let bytes = if let Some(path) = path {
                self.folder.bytes(path.as_str()).cloned()
            } else {
                let staging = self.staging.as_ref();
                let staged = staging.and_then(|staging| staging.read(segment.entry));
                staged.map(Bytes::copy_from_slice)
            };
            let cut = bytes.and_then(|bytes| cut_of(&bytes, segment));
            segments.push(cut.ok_or(DiskError::NotFound).map(|(bytes, hash)| {
                payload.extend_from_slice(&bytes);
                Some(hash)
            }));
        }
        let payload = payload.freeze();
        DiskDone::Read { payload, segments }
    }

    fn write_pipe(&mut self, piece: &Piece, disk: &Disk) -> Result<(), DiskError> {
        let at = self.pipe.len();
        assert_eq!(piece.offset, at as u64, "a pipe is written out of order");
        if disk
            .pipe_closes_after
            .is_some_and(|most| at as u64 + piece.data.len() as u64 > most)
        {
            return Err(DiskError::PipeClosed);
        }
        self.pipe.extend_from_slice(&piece.data);
        let right = self.any_version(|version| match version {
            SourceKind::Pipe(bytes) => bytes.starts_with(&self.pipe),
            SourceKind::Tree(tree) => {
                let mut files = tree.iter().filter_map(|(path, _)| tree.bytes(path));
                files.any(|bytes| bytes.starts_with(&self.pipe))
            }
        });
        // A sharer without proofs is trusted until its root arrives, because a pipe can't wait.
        promise!(
            Verified,
            right || disk.pipes_may_be_wrong,
            "wrong bytes went into a pipe at {at}"
        );
        Ok(())
    }

    fn write_staged(&mut self, piece: &Piece) -> Result<(), DiskError> {
        // A write that ends after its download was discarded finds no folder.
        let staging = self.staging.as_mut().ok_or(DiskError::NotFound)?;
        staging.write(piece);
        Ok(())
    }

    pub(super) fn publish(
        &mut self,
        files: &[PublishFile],
        disk: &mut Disk,
    ) -> Result<DiskDone, DiskError> {
        if self.staging.is_none() {
            return Err(DiskError::NotFound);
        }
        self.fresh.clear();
        let published = files.iter().map(|file| self.publish_one(file, disk));
        Ok(DiskDone::Published(published.collect()))
    }

    fn publish_one(&mut self, file: &PublishFile, disk: &mut Disk) -> Result<Published, DiskError> {
        let path = file.path.as_str();
        if disk.denied.contains(path) {
            return Err(DiskError::Denied(path.to_owned()));
        }
        if file.path.file_name().len() > MAX_COMPONENT {
            return Err(DiskError::NameTooLong);
        }
        if disk.renames_fail > 0 {
            disk.renames_fail -= 1;
            happened(Fault::RenameFails);
            return Err(DiskError::Other("the rename failed".into()));
        }
        self.stays_inside(path)?;
        let staging = self.staging.as_mut().ok_or(DiskError::NotFound)?;
        let bytes = staging.take(file.entry);
        let right = self.any_version(|version| is_of(version, path, &bytes));
        promise!(
            Published,
            right,
            "{path} is published with wrong bytes from {:?} on",
            self.first_wrong(path, &bytes)
        );
        let Some(name) = self.free_name(&file.path, file.on_conflict) else {
            return Ok(Published::Skipped);
        };
        let node = Node::File {
            bytes,
            mode: file.mode,
            modified: file.modified,
        };
        if let (Some(root), Node::File { bytes, .. }, true) = (file.root, &node, disk.remembers) {
            disk.known.insert(root, bytes.clone());
        }
        self.fresh.push(name.as_str().to_owned());
        self.theirs.remove(name.as_str());
        self.folder.0.insert(name.as_str().to_owned(), node);
        Ok(Published::At(name))
    }

    /// True if any valid content of the share satisfies a condition.
    fn any_version(&self, is: impl Fn(&SourceKind) -> bool) -> bool {
        let model = self.model.as_ref();
        model.is_some_and(|model| model.borrow().iter().any(is))
    }

    /// Offset of the first byte that differs from every version of the share.
    fn first_wrong(&self, path: &str, bytes: &Bytes) -> Option<usize> {
        let model = self.model.as_ref()?.borrow();
        let agrees = |version: &SourceKind| {
            let right = match version {
                SourceKind::Tree(tree) => tree.bytes(path)?,
                SourceKind::Pipe(all) => all,
            };
            Some(right.iter().zip(bytes).take_while(|(a, b)| a == b).count())
        };
        model.iter().filter_map(agrees).max()
    }

    /// Checks that a path stays inside the folder, both by its text and by symlinks on the way. Symlinks that existed
    /// before must be refused by the disk; others must not exist.
    fn stays_inside(&self, path: &str) -> Result<(), DiskError> {
        promise!(Inside, is_plain(path), "{path:?} leads out of the folder");
        let above = path.match_indices('/').map(|(at, _)| &path[..at]);
        for folder in above {
            if !matches!(self.folder.get(folder), Some(Node::Symlink { .. })) {
                continue;
            }
            let planted = self.theirs.contains(folder);
            promise!(Inside, planted, "{path:?} is written through a symlink");
            return Err(DiskError::Escape(folder.to_owned()));
        }
        Ok(())
    }

    fn free_name(&self, path: &SafePath, on_conflict: OnConflict) -> Option<SafePath> {
        let is_free = |path: &SafePath| self.folder.get(path.as_str()).is_none();
        match on_conflict {
            OnConflict::Overwrite => Some(path.clone()),
            _ if is_free(path) => Some(path.clone()),
            OnConflict::Skip => None,
            OnConflict::Rename => (1..1000).map(|n| path.numbered(n)).find(is_free),
        }
    }

    pub(super) fn finish(
        &mut self,
        folders: &[PublishFolder],
        symlinks: &[PublishSymlink],
    ) -> Result<DiskDone, DiskError> {
        if self.sink == SinkKind::Folder && self.staging.is_none() {
            return Err(DiskError::NotFound);
        }
        for folder in folders {
            let path = folder.path.as_str().to_owned();
            promise!(Inside, is_plain(&path), "{path:?} leads out of the folder");
            self.folder.0.entry(path).or_insert(Node::Folder);
        }
        for link in symlinks {
            let path = link.path.as_str();
            promise!(Inside, is_plain(path), "{path:?} leads out of the folder");
            let inside = target_stays_inside(path, &link.target);
            promise!(Inside, inside, "{path:?} points to {:?}", link.target);
            if let Some(name) = self.free_name(&link.path, link.on_conflict) {
                let target = link.target.clone();
                let path = name.as_str().to_owned();
                self.theirs.remove(&path);
                self.folder.0.insert(path, Node::Symlink { target });
            }
        }
        self.staging = None;
        self.over = true;
        Ok(DiskDone::Finished { failed: Vec::new() })
    }

    pub(super) fn discard(&mut self) -> DiskDone {
        self.staging = None;
        self.over = true;
        DiskDone::Ok
    }

    /// Closes the download. Staged data stays for another one.
    pub(super) fn close(&mut self) -> DiskDone {
        if let Some(staging) = self.staging.take() {
            self.leftover.put(staging);
        }
        self.over = true;
        DiskDone::Ok
    }

    /// Power failure: unsynced data may be lost, block by block.
    pub(super) fn crash(&mut self, rng: &mut ChaCha8Rng, forgets_to_sync: bool) {
        if let Some(staging) = &mut self.staging {
            staging.crash(rng);
        }
        for path in std::mem::take(&mut self.fresh) {
            if forgets_to_sync && let Some(Node::File { bytes, .. }) = self.folder.0.get_mut(&path)
            {
                let mut torn = bytes.to_vec();
                tear(&mut torn, &[], rng);
                *bytes = torn.into();
            }
        }
        self.over = true;
    }

    /// True if a path has a file as it was shared, or as it was before.
    pub(super) fn holds(&self, path: &str) -> bool {
        let Some(bytes) = self.folder.bytes(path) else {
            return self.sink == SinkKind::Pipe || self.folder.get(path).is_some();
        };
        self.theirs.contains(path)
            || self.any_version(|version| is_of(version, path, bytes))
            || self.any_version(|version| is_of_any(version, bytes))
    }

    /// True if the bytes written to the pipe are one complete shared file.
    pub(super) fn pipe_is_whole(&self) -> bool {
        let bytes = Bytes::from(self.pipe.clone());
        self.any_version(|version| is_of_any(version, &bytes))
    }

    /// Checks everything in the folder.
    pub(super) fn look(&self) {
        for (path, node) in self.folder.iter() {
            promise!(Inside, is_plain(path), "{path:?} is outside of the folder");
            if matches!(node, Node::File { .. }) {
                promise!(
                    Verified,
                    self.holds(path),
                    "{path} stands there, and is not what was shared"
                );
            }
        }
    }
}

/// A segment's bytes and the hash of its group, if the bytes are present.
fn cut_of(bytes: &Bytes, segment: &Segment) -> Option<(Bytes, GroupHash)> {
    let start = usize::try_from(segment.offset).ok()?;
    let end = start + segment.len as usize;
    if end > bytes.len() {
        return None;
    }
    let within = segment.offset % u64::from(GROUP);
    let group = start - usize::try_from(within).ok()?;
    let group = bytes.slice(group..(group + GROUP as usize).min(bytes.len()));
    let hashes = RangeHash::of(&group);
    let hash = GroupHash {
        hash: hashes.node(),
        inner: hashes.proof(u32::try_from(within).ok()?, segment.len),
    };
    Some((bytes.slice(start..end), hash))
}

/// True if these are the bytes of a share's file at this path.
fn is_of(version: &SourceKind, path: &str, bytes: &Bytes) -> bool {
    match version {
        SourceKind::Tree(tree) => tree.bytes(path) == Some(bytes),
        SourceKind::Pipe(all) => all == bytes,
    }
}

/// True if these are the bytes of any file of a share: it has another name if its own was taken.
fn is_of_any(version: &SourceKind, bytes: &Bytes) -> bool {
    match version {
        SourceKind::Tree(tree) => tree.iter().any(|(path, _)| tree.bytes(path) == Some(bytes)),
        SourceKind::Pipe(all) => all == bytes,
    }
}

/// True if a path only consists of names below the folder. Deliberately independent of core's rule, which it checks.
fn is_plain(path: &str) -> bool {
    let bad = |name: &str| name.is_empty() || name == "." || name == "..";
    !path.split('/').any(bad) && !path.contains(['\\', '\0'])
}

/// True if a symlink's target stays in the folder. A name on the way may be a symlink itself, so `..` must not follow
/// one.
fn target_stays_inside(path: &str, target: &str) -> bool {
    let depth = path.matches('/').count();
    let ups = target.split('/').take_while(|name| *name == "..").count();
    let up_again = target.split('/').skip(ups).any(|name| name == "..");
    !target.starts_with('/') && !target.contains(['\\', '\0']) && ups <= depth && !up_again
}
