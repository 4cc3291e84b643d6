//! The writing side: a download's staging folder, its files under their final names, its pipe.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use handover_core::engine::{
    DiskDone, DiskError, OnConflict, Piece, PublishFile, PublishFolder, PublishSymlink, Published,
    SinkKind,
};
use handover_core::path::{MAX_COMPONENT, SafePath};

use super::{Disk, SourceKind};
use crate::tree::{Node, Tree};

/// Where a download goes.
pub(crate) struct Landing {
    sink: SinkKind,
    pub(super) folder: Tree,
    pub(super) pipe: Vec<u8>,
    staging: Option<BTreeMap<u32, Vec<u8>>>,
    over: bool,
    /// What may come out of it; nothing may where there is none.
    model: Option<Arc<SourceKind>>,
}

impl Landing {
    pub(super) fn new(sink: SinkKind, folder: Tree, model: Option<Arc<SourceKind>>) -> Self {
        Self {
            sink,
            folder,
            pipe: Vec::new(),
            staging: None,
            over: false,
            model,
        }
    }

    pub(super) fn is_staged(&self) -> bool {
        self.staging.is_some()
    }

    pub(super) fn taken(&self, paths: &[SafePath]) -> Vec<usize> {
        let taken = |path: &SafePath| self.folder.get(path.as_str()).is_some();
        let at = paths.iter().enumerate().filter(|(_, path)| taken(path));
        at.map(|(at, _)| at).collect()
    }

    pub(super) fn stage(&mut self) -> Result<DiskDone, DiskError> {
        if self.over {
            return Err(DiskError::NotFound);
        }
        assert!(self.staging.is_none(), "a download is staged twice");
        self.staging = Some(BTreeMap::new());
        Ok(DiskDone::Ok)
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
        let expected = match self.model.as_deref() {
            Some(SourceKind::Pipe(bytes)) => Some(bytes),
            Some(SourceKind::Tree(tree)) => {
                let mut files = tree.iter().filter_map(|(path, _)| tree.bytes(path));
                files.find(|bytes| bytes.starts_with(&self.pipe))
            }
            None => None,
        };
        let right = expected.is_some_and(|bytes| bytes.starts_with(&self.pipe));
        assert!(right, "wrong bytes went into a pipe at {at}");
        Ok(())
    }

    fn write_staged(&mut self, piece: &Piece) -> Result<(), DiskError> {
        // A write that ends after its download was discarded finds no folder.
        let staging = self.staging.as_mut().ok_or(DiskError::NotFound)?;
        let file = staging.entry(piece.entry).or_default();
        let start = usize::try_from(piece.offset).expect("an offset in memory");
        let end = start + piece.data.len();
        if file.len() < end {
            file.resize(end, 0);
        }
        file[start..end].copy_from_slice(&piece.data);
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
        let published = files.iter().map(|file| self.publish_one(file, disk));
        Ok(DiskDone::Published(published.collect()))
    }

    fn publish_one(&mut self, file: &PublishFile, disk: &Disk) -> Result<Published, DiskError> {
        let path = file.path.as_str();
        if disk.denied.contains(path) {
            return Err(DiskError::Denied(path.to_owned()));
        }
        if file.path.file_name().len() > MAX_COMPONENT {
            return Err(DiskError::NameTooLong);
        }
        let staging = self.staging.as_mut().ok_or(DiskError::NotFound)?;
        let bytes = Bytes::from(staging.remove(&file.entry).unwrap_or_default());
        self.check(path, &bytes);
        let Some(name) = self.free_name(&file.path, file.on_conflict) else {
            return Ok(Published::Skipped);
        };
        let node = Node::File {
            bytes,
            mode: file.mode,
            modified: file.modified,
        };
        self.folder.0.insert(name.as_str().to_owned(), node);
        Ok(Published::At(name))
    }

    /// What gets a final name must be what the sharer has under it.
    fn check(&self, path: &str, bytes: &Bytes) {
        let expected = match self.model.as_deref() {
            Some(SourceKind::Tree(tree)) => tree.bytes(path),
            Some(SourceKind::Pipe(bytes)) => Some(bytes),
            None => None,
        };
        match expected {
            Some(expected) => assert!(bytes == expected, "{path} was published with wrong bytes"),
            None => panic!("{path} was published, and nobody shares it"),
        }
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
            self.folder.0.insert(path, Node::Folder);
        }
        for link in symlinks {
            if let Some(name) = self.free_name(&link.path, link.on_conflict) {
                let target = link.target.clone();
                let path = name.as_str().to_owned();
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
}
