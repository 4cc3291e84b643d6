//! The disk: performs the engine's [`DiskWork`].
//!
//! [`Disk`] blocks, and may be called from any number of threads at once. The files of a share and the target of a
//! download are registered before the engine learns of them; what is done with which byte is the engine's decision.
//! What it guarantees, whatever a peer or another program on this machine does:
//!
//! - Nothing outside a share's folders is read, and nothing outside a download's folder is touched: everything is
//!   opened relative to a folder's handle, and never through a symlink.
//! - No file appears under its final name before it is complete, and no existing file is replaced unasked.

mod attributes;
mod beneath;
mod chunks;
mod error;
mod finish;
mod handles;
mod journal;
mod known;
mod noted;
mod older;
mod pipe;
mod proofs;
mod publish;
mod read_back;
mod resume;
mod scan;
mod serve;
mod staging;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use handover_core::code::ShortCode;
use handover_core::engine::{
    DiskDone, DiskError, DiskWork, DownloadId, Kept, Located, Published, Scanned, ShareId,
};
use handover_core::limits::Limits;
use handover_core::manifest::{Entry, EntryKind};
use handover_core::merkle;
use handover_core::path::SafePath;

use crate::buffers::Buffers;
use crate::store::{KnownFiles, ShortCodes};

use self::noted::Noted;
use self::pipe::{PipeSink, PipeSource};
use self::proofs::Proofs;
use self::serve::FileShare;
use self::staging::FolderSink;

pub use staging::{Left, left, remove_left};

/// The content of a share.
pub enum ShareInput {
    /// Files and folders. Each is shared under its own name. Symlinks given here are followed, symlinks below are not.
    Paths(Vec<PathBuf>),
    /// One stream of unknown length.
    Pipe {
        /// The source of the bytes.
        reader: Box<dyn Read + Send>,
        /// The entry's name.
        name: String,
    },
}

/// The target of a download.
pub enum DownloadTarget {
    /// This folder, which is created when the offer has been accepted.
    Folder(PathBuf),
    /// This writer, in order.
    Pipe(Box<dyn Write + Send>),
}

enum Share {
    Files(FileShare),
    Pipe(PipeSource),
}

enum Download {
    Folder(Box<FolderSink>),
    Pipe(PipeSink),
}

/// The disk side of a driver.
#[derive(Default)]
pub struct Disk {
    limits: Limits,
    buffers: Arc<Buffers>,
    shares: Registry<ShareId, Share>,
    downloads: Registry<DownloadId, Download>,
    noted: Noted,
    proofs: Proofs,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").finish_non_exhaustive()
    }
}

impl Disk {
    /// A disk whose scans list at most as many entries as `limits` allows.
    pub(crate) fn new(limits: Limits, buffers: Arc<Buffers>) -> Self {
        Self {
            limits,
            buffers,
            ..Self::default()
        }
    }

    /// Adds the database of known files, to record files by root and find them again.
    pub(crate) fn noting(mut self, known: Option<KnownFiles>) -> Self {
        self.noted = Noted::new(known);
        self
    }

    /// Adds the counts of attempts per short code.
    pub(crate) fn counting(mut self, codes: Option<ShortCodes>) -> Self {
        self.proofs = Proofs::new(codes);
        self
    }

    /// Registers the short code that a download was started with. Must be called before the engine is told to fetch it.
    pub(crate) fn register_code(&self, download: DownloadId, code: ShortCode) {
        self.proofs.register(download, code);
    }

    /// Registers the content of a share. Must be called before the engine is told to share it.
    pub fn register_share(&self, share: ShareId, input: ShareInput) {
        let input = match input {
            ShareInput::Paths(paths) => {
                Share::Files(FileShare::new(paths, Arc::clone(&self.buffers)))
            }
            ShareInput::Pipe { reader, name } => Share::Pipe(PipeSource::new(reader, name)),
        };
        self.shares.insert(share, input);
    }

    /// Registers the target of a download. Must be called before the engine is told to fetch it.
    pub fn register_download(&self, download: DownloadId, target: DownloadTarget) {
        let target = match target {
            DownloadTarget::Folder(path) => Download::Folder(Box::new(FolderSink::new(path))),
            DownloadTarget::Pipe(writer) => Download::Pipe(PipeSink::new(writer)),
        };
        self.downloads.insert(download, target);
    }

    /// Performs a disk job, and returns its result. Blocks until it is done.
    pub fn perform(&self, work: DiskWork) -> DiskDone {
        self.attempt(work).unwrap_or_else(DiskDone::Failed)
    }

    fn attempt(&self, work: DiskWork) -> Result<DiskDone, DiskError> {
        Ok(match work {
            DiskWork::Inspect {
                download,
                paths,
                origin,
            } => match &*self.downloads.get(download)? {
                Download::Folder(folder) => folder.inspect(&paths, &origin)?,
                Download::Pipe(_) => DiskDone::Inspected {
                    taken: Vec::new(),
                    free: None,
                    kept: Kept::default(),
                },
            },
            DiskWork::Stage { download, origin } => {
                if let Download::Folder(folder) = &*self.downloads.get(download)? {
                    folder.stage(&origin)?;
                }
                DiskDone::Ok
            }
            DiskWork::Sync { download, entries } => self
                .folder(download, |folder| folder.sync(&entries))
                .map(|()| DiskDone::Ok)?,
            DiskWork::Journal { download, record } => self
                .folder(download, |folder| folder.note(&record))
                .map(|()| DiskDone::Ok)?,
            DiskWork::Write { download, pieces } => {
                match &*self.downloads.get(download)? {
                    Download::Folder(folder) => folder.write(&pieces)?,
                    Download::Pipe(pipe) => pipe.write(&pieces)?,
                }
                DiskDone::Ok
            }
            DiskWork::Publish {
                download,
                files,
                synced,
            } => DiskDone::Published(match &*self.downloads.get(download)? {
                Download::Folder(folder) => {
                    let published = folder.publish(&files, synced)?;
                    for (path, root) in folder.places(&files, &published) {
                        self.noted.note(path, root);
                    }
                    published
                }
                Download::Pipe(pipe) => {
                    pipe.flush()?;
                    files
                        .into_iter()
                        .map(|file| Ok(Published::At(file.path)))
                        .collect()
                }
            }),
            DiskWork::Finish {
                download,
                folders,
                symlinks,
                keep,
            } => {
                let failed = match &*self.downloads.get(download)? {
                    Download::Folder(folder) => folder.finish(&folders, &symlinks)?,
                    Download::Pipe(pipe) => {
                        pipe.flush()?;
                        Vec::new()
                    }
                };
                // The reader at the other end of a pipe waits for it to be closed.
                if !keep {
                    self.downloads.remove(download);
                }
                DiskDone::Finished { failed }
            }
            count @ (DiskWork::CountGuess { .. }
            | DiskWork::CountProof { .. }
            | DiskWork::ProofNotSent { .. }
            | DiskWork::ProofSucceeded { .. }) => self.proofs.perform(count)?,
            DiskWork::Discard { download } => {
                self.proofs.forget(download);
                if let Some(download) = self.downloads.remove(download)
                    && let Download::Folder(folder) = &*download
                {
                    folder.discard()?;
                }
                DiskDone::Ok
            }
            DiskWork::Close { download } => {
                self.proofs.forget(download);
                // Dropping the last handle releases the lock, and another process may resume the download.
                self.downloads.remove(download);
                DiskDone::Ok
            }
            known @ (DiskWork::HashStaged { .. }
            | DiskWork::ReadBack { .. }
            | DiskWork::Candidates { .. }
            | DiskWork::Adopt { .. }
            | DiskWork::Reuse { .. }) => self.find_known(known)?,
            of_share => self.work_for_share(of_share)?,
        })
    }

    /// Performs disk jobs of shares.
    fn work_for_share(&self, work: DiskWork) -> Result<DiskDone, DiskError> {
        Ok(match work {
            DiskWork::Scan { share } => DiskDone::Scanned(self.scan(share)?),
            DiskWork::Read {
                share,
                segments,
                hash,
            } => {
                let share = self.shares.get(share)?;
                let (payload, segments) = share.files()?.read(&segments, hash);
                DiskDone::Read { payload, segments }
            }
            DiskWork::HashGroups {
                share,
                entry,
                first,
                count,
            } => {
                let share = self.shares.get(share)?;
                let hashes = share.files()?.hash_groups(entry, first, count)?;
                DiskDone::Hashed { hashes }
            }
            DiskWork::ReadPipe {
                share,
                offset,
                len,
                keep_from,
            } => {
                let share = self.shares.get(share)?;
                let (payload, end) = share.pipe()?.read(offset, len, keep_from)?;
                let hash = merkle::hash_group(&payload);
                DiskDone::PipeRead { payload, hash, end }
            }
            DiskWork::Chunk { share, entry } => {
                let share = self.shares.get(share)?;
                DiskDone::Chunked(share.files()?.chunk(entry)?)
            }
            DiskWork::NoteRoots { share, roots } => {
                let share = self.shares.get(share)?;
                for (path, root) in share.files()?.places(&roots) {
                    self.noted.note(path, root);
                }
                DiskDone::Ok
            }
            DiskWork::Forget { share } => {
                self.shares.remove(share);
                DiskDone::Ok
            }
            other => unreachable!("{other:?} is no work for a share"),
        })
    }

    /// Performs disk jobs on bytes of a download that are on this disk already.
    fn find_known(&self, work: DiskWork) -> Result<DiskDone, DiskError> {
        Ok(match work {
            DiskWork::HashStaged {
                download,
                entry,
                first,
                count,
            } => self
                .folder(download, |folder| folder.hash_staged(entry, first, count))
                .map(|hashes| DiskDone::Hashed { hashes })?,
            DiskWork::ReadBack { download, segments } => self.read_back(download, &segments)?,
            DiskWork::Candidates { download, files } => self
                .folder(download, |folder| folder.candidates(&files, &self.noted))
                .map(DiskDone::Candidates)?,
            DiskWork::Adopt { download, files } => self
                .folder(download, |folder| folder.adopt(&files, &self.noted))
                .map(DiskDone::Adopted)?,
            DiskWork::Reuse {
                download,
                file,
                chunks,
            } => self
                .folder(download, |folder| folder.reuse(&file, &chunks))
                .map(DiskDone::Reused)?,
            other => unreachable!("{other:?} looks for nothing"),
        })
    }

    /// Calls `act` with a download's folder. Fails for a pipe.
    fn folder<T>(
        &self,
        download: DownloadId,
        act: impl FnOnce(&FolderSink) -> Result<T, DiskError>,
    ) -> Result<T, DiskError> {
        match &*self.downloads.get(download)? {
            Download::Folder(folder) => act(folder),
            Download::Pipe(_) => Err(DiskError::Other("this download goes to a pipe".to_owned())),
        }
    }

    fn read_back(&self, download: DownloadId, segments: &[Located]) -> Result<DiskDone, DiskError> {
        let (payload, segments) = match &*self.downloads.get(download)? {
            Download::Folder(folder) => folder.read_back(segments),
            Download::Pipe(_) => return Err(DiskError::NotFound),
        };
        Ok(DiskDone::Read { payload, segments })
    }

    fn scan(&self, share: ShareId) -> Result<Scanned, DiskError> {
        match &*self.shares.get(share)? {
            Share::Files(files) => files.scan(&self.limits),
            Share::Pipe(pipe) => {
                let path = SafePath::parse(&pipe.name)
                    .map_err(|why| DiskError::Other(format!("{}: {why}", pipe.name)))?;
                Ok(Scanned {
                    entries: vec![Entry {
                        path,
                        kind: EntryKind::Stream,
                    }],
                    skipped: Vec::new(),
                    at: scan::now(),
                })
            }
        }
    }
}

impl Share {
    fn files(&self) -> Result<&FileShare, DiskError> {
        match self {
            Self::Files(files) => Ok(files),
            Self::Pipe(_) => Err(DiskError::Other("this share is a pipe".to_owned())),
        }
    }

    fn pipe(&self) -> Result<&PipeSource, DiskError> {
        match self {
            Self::Pipe(pipe) => Ok(pipe),
            Self::Files(_) => Err(DiskError::Other("this share is not a pipe".to_owned())),
        }
    }
}

/// Registered shares or downloads. The lock is held for lookups only, never during work.
struct Registry<K, V>(Mutex<HashMap<K, Arc<V>>>);

impl<K, V> Default for Registry<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Copy + Eq + Hash, V> Registry<K, V> {
    fn get(&self, key: K) -> Result<Arc<V>, DiskError> {
        lock(&self.0).get(&key).cloned().ok_or(DiskError::NotFound)
    }

    fn insert(&self, key: K, value: V) {
        let old = lock(&self.0).insert(key, Arc::new(value));
        drop(old);
    }

    fn remove(&self, key: K) -> Option<Arc<V>> {
        lock(&self.0).remove(&key)
    }
}

// A job that panicked leaves no inconsistent state behind: each lock guards one small step.

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read_lock<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write_lock<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
