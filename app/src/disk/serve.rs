//! Reads and hashes what is shared. Only a file that has changed since the scan fails; the others are served.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use bytes::Bytes;
use handover_core::chunk::Chunk;
use handover_core::engine::{DiskError, GroupHash, Scanned, Segment};
use handover_core::limits::{GROUP, LEAF, Limits};
use handover_core::merkle::{self, Hash, RangeHash};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::attributes::modified;
use super::beneath;
use super::chunks;
use super::error::disk_error;
use super::handles::OpenFiles;
use super::scan::{self, Listing, LocalFile};
use super::{read_lock, write_lock};
use crate::buffers::Buffers;

/// The files and folders of a share.
#[derive(Debug)]
pub(super) struct FileShare {
    paths: Vec<PathBuf>,
    buffers: Arc<Buffers>,
    listing: RwLock<Arc<Listing>>,
    open: OpenFiles,
}

impl FileShare {
    pub(super) fn new(paths: Vec<PathBuf>, buffers: Arc<Buffers>) -> Self {
        Self {
            paths,
            buffers,
            listing: RwLock::default(),
            open: OpenFiles::default(),
        }
    }

    pub(super) fn scan(&self, limits: &Limits) -> Result<Scanned, DiskError> {
        let (scanned, listing) = scan::scan(&self.paths, limits)?;
        *write_lock(&self.listing) = Arc::new(listing);
        Ok(scanned)
    }

    /// Reads segments into one payload; failed ones contribute no bytes.
    #[allow(clippy::type_complexity)]
    pub(super) fn read(
        &self,
        segments: &[Segment],
        hash: bool,
    ) -> (Bytes, Vec<Result<Option<GroupHash>, DiskError>>) {
        let listing = Arc::clone(&read_lock(&self.listing));
        let total = segments.iter().map(|segment| segment.len as usize).sum();
        let mut payload = self.buffers.take(total);
        let mut filled = 0;
        let mut scratch = Vec::new();
        let outcomes = segments
            .iter()
            .map(|segment| {
                let end = filled + segment.len as usize;
                let room = &mut payload.as_mut()[filled..end];
                let scratch = hash.then_some(&mut scratch);
                let outcome = self.read_segment(&listing, segment, room, scratch)?;
                filled = end;
                Ok(outcome)
            })
            .collect();
        payload.truncate(filled);
        (payload.freeze(), outcomes)
    }

    /// Hashes `count` groups of a file, starting at `first`.
    pub(super) fn hash_groups(
        &self,
        entry: u32,
        first: u64,
        count: u32,
    ) -> Result<Vec<Hash>, DiskError> {
        let listing = Arc::clone(&read_lock(&self.listing));
        let file = listing.file(entry).ok_or(DiskError::NotFound)?;
        let groups = merkle::group_count(file.size);
        if first.saturating_add(count.into()) > groups {
            return Err(outside());
        }
        let handle = self.open(&listing, entry, file)?;
        let mut buffer = vec![0; merkle::group_len(file.size, 0) as usize];
        let mut hashes = Vec::with_capacity(count as usize);
        for group in first..first + u64::from(count) {
            let start = group * u64::from(GROUP);
            let room = &mut buffer[..merkle::group_len(file.size, group) as usize];
            self.fill(entry, file, &handle, room, start)?;
            hashes.push(merkle::hash_group(room));
        }
        self.check(entry, file, &handle)?;
        Ok(hashes)
    }

    /// Splits a file into chunks.
    pub(super) fn chunk(&self, entry: u32) -> Result<Vec<Chunk>, DiskError> {
        let listing = Arc::clone(&read_lock(&self.listing));
        let file = listing.file(entry).ok_or(DiskError::NotFound)?;
        let handle = self.open(&listing, entry, file)?;
        let reader = FromStart(&handle, 0);
        let chunks = chunks::list(reader).map_err(|error| disk_error(error, file.name()))?;
        self.check(entry, file, &handle)?;
        Ok(chunks)
    }

    /// The paths of files with known roots.
    pub(super) fn places(&self, roots: &[(u32, Hash)]) -> Vec<(PathBuf, Hash)> {
        let listing = Arc::clone(&read_lock(&self.listing));
        let place = |(entry, root): &(u32, Hash)| {
            let file = listing.file(*entry)?;
            Some((listing.path_of(file), *root))
        };
        roots.iter().filter_map(place).collect()
    }

    fn read_segment(
        &self,
        listing: &Listing,
        segment: &Segment,
        room: &mut [u8],
        scratch: Option<&mut Vec<u8>>,
    ) -> Result<Option<GroupHash>, DiskError> {
        let file = listing.file(segment.entry).ok_or(DiskError::NotFound)?;
        let group = Group::around(segment, file.size).ok_or_else(outside)?;
        let handle = self.open(listing, segment.entry, file)?;
        self.fill(segment.entry, file, &handle, room, segment.offset)?;
        let hash = match scratch {
            None => None,
            Some(_) if group.len == segment.len => Some(GroupHash {
                hash: merkle::hash_group(room),
                inner: Vec::new(),
            }),
            Some(scratch) => {
                scratch.resize(group.len as usize, 0);
                let from = group.offset as usize;
                let to = from + room.len();
                scratch[from..to].copy_from_slice(room);
                let before = &mut scratch[..from];
                self.fill(segment.entry, file, &handle, before, group.start)?;
                let after = &mut scratch[to..];
                let end = segment.offset + u64::from(segment.len);
                self.fill(segment.entry, file, &handle, after, end)?;
                let leaves = RangeHash::of(scratch);
                Some(GroupHash {
                    hash: leaves.node(),
                    inner: leaves.proof(group.offset, segment.len),
                })
            }
        };
        self.check(segment.entry, file, &handle)?;
        // Small files are read once and not again soon; they must not evict larger ones.
        if u64::from(segment.len) != file.size {
            self.open.insert(segment.entry, handle);
        }
        Ok(hash)
    }

    /// Returns an open handle to the file that the scan saw, from the cache if possible.
    fn open(
        &self,
        listing: &Listing,
        entry: u32,
        file: &LocalFile,
    ) -> Result<Arc<File>, DiskError> {
        if let Some(handle) = self.open.get(entry) {
            // A removed file is not served from its handle: another file may have its name now, so that is opened.
            if handle.metadata().is_ok_and(|metadata| metadata.nlink() > 0) {
                self.check(entry, file, &handle)?;
                return Ok(handle);
            }
            self.open.take(entry);
        }
        let (root, path) = listing.locate(file);
        // Without NONBLOCK, a named pipe that has replaced the file would block the worker for ever.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let handle = match beneath::open(root, &path, flags, Mode::empty()) {
            Ok(handle) => Arc::new(File::from(handle)),
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(DiskError::NotFound),
            // A symlink or a device has replaced it.
            Err(Errno::LOOP | Errno::XDEV | Errno::NXIO) => return Err(DiskError::Changed),
            Err(error) => return Err(disk_error(error, &path)),
        };
        self.check(entry, file, &handle)?;
        Ok(handle)
    }

    fn fill(
        &self,
        entry: u32,
        file: &LocalFile,
        handle: &File,
        room: &mut [u8],
        offset: u64,
    ) -> Result<(), DiskError> {
        handle.read_exact_at(room, offset).map_err(|error| {
            self.open.take(entry);
            match error.kind() {
                io::ErrorKind::UnexpectedEof => DiskError::Changed,
                _ => disk_error(error, file.name()),
            }
        })
    }

    /// Checks that the file is still what the scan saw.
    fn check(&self, entry: u32, file: &LocalFile, handle: &File) -> Result<(), DiskError> {
        let metadata = handle.metadata();
        let metadata = metadata.map_err(|error| disk_error(error, file.name()))?;
        let same = metadata.is_file()
            && metadata.len() == file.size
            && modified(&metadata) == file.modified;
        if same {
            return Ok(());
        }
        self.open.take(entry);
        Err(DiskError::Changed)
    }
}

/// Reads a file from its beginning, independently of other readers of the handle.
struct FromStart<'a>(&'a File, u64);

impl io::Read for FromStart<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read_at(room, self.1)?;
        self.1 += read as u64;
        Ok(read)
    }
}

fn outside() -> DiskError {
    DiskError::Other("this range does not lie within one group of the file".to_owned())
}

/// The group that contains a segment.
struct Group {
    start: u64,
    len: u32,
    /// Offset of the segment within the group.
    offset: u32,
}

impl Group {
    /// Returns `None` unless the segment consists of whole leaves of one group.
    fn around(segment: &Segment, size: u64) -> Option<Self> {
        let offset = u32::try_from(segment.offset % u64::from(GROUP)).ok()?;
        let start = segment.offset - u64::from(offset);
        if start > size {
            return None;
        }
        let len = merkle::group_len(size, start / u64::from(GROUP));
        let end = offset.checked_add(segment.len)?;
        let leaves =
            offset.is_multiple_of(LEAF) && (end == len || segment.len.is_multiple_of(LEAF));
        let holds = end <= len && (segment.len > 0 || size == 0);
        (leaves && holds).then_some(Self { start, len, offset })
    }
}
