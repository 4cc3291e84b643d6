//! The receiver's side until publishing: the download's folder, and in it the staging folder, which holds bytes that
//! must not look like finished files yet.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use cap_std::fs::Dir;
use handover_core::engine::{DiskDone, DiskError, Kept, Origin, Piece, Record};
use handover_core::limits::LEAF;
use handover_core::path::{STAGING_PREFIX, SafePath};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::attributes;
use super::beneath::{self, Made, Obstacle, Walker};
use super::error::disk_error;
use super::handles::OpenFiles;
use super::journal::{Journal, JournalError};
use super::known;
use super::older::{self, OLDER};
use super::publish::TOGETHER;
use super::resume;
use super::{lock, read_lock, write_lock};

/// Prefix of a staging folder's name; 16 hexadecimal digits follow.
pub(super) const PARTIAL: &str = ".handover-partial-";
const _: () = assert!(PARTIAL.len() > STAGING_PREFIX.len());
/// Number of hexadecimal digits of a manifest's id in the name of its staging folder.
const ID: usize = 16;
/// The file in a staging folder that its process keeps locked while it lives.
const LOCK: &str = "lock";
/// The file in a staging folder that records what in the folder is durable.
const JOURNAL: &str = "journal";
/// Maximum number of staging files per subfolder, so that no folder becomes slow.
const PER_FOLDER: u32 = 1000;
/// Attempts to remove a folder that others are still working in.
const REMOVALS: usize = 8;

/// A download into a folder.
#[derive(Debug)]
pub(super) struct FolderSink {
    pub(super) path: PathBuf,
    root: RwLock<Option<Arc<Dir>>>,
    staging: RwLock<Option<Arc<Staging>>>,
    /// Staging folder of an earlier run, found before the offer was accepted.
    found: Mutex<Option<Staging>>,
    /// The root and folders above it, as far as they were created for this download. Outermost first.
    made_above: Mutex<Vec<PathBuf>>,
    /// Folders below the root created for this download.
    pub(super) made: Made,
}

impl FolderSink {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            // The process may change its working directory later.
            path: std::path::absolute(&path).unwrap_or(path),
            root: RwLock::default(),
            staging: RwLock::default(),
            found: Mutex::default(),
            made_above: Mutex::default(),
            made: Mutex::new(HashSet::new()),
        }
    }

    /// Returns which of these paths are taken, the free space, and what an earlier run has left. Creates nothing: the
    /// offer is not accepted yet.
    pub(super) fn inspect(
        &self,
        paths: &[SafePath],
        origin: &Origin,
    ) -> Result<DiskDone, DiskError> {
        let root = match beneath::open_root(&self.path) {
            Ok(root) => root,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(DiskDone::Inspected {
                    taken: Vec::new(),
                    free: self.room_above(),
                    kept: Kept::default(),
                });
            }
            Err(error) => return Err(self.error(error)),
        };
        let mut kept = Kept::default();
        if let Some((staging, found, folders)) = Staging::take_up(&root, origin) {
            kept = found;
            lock(&self.made).extend(folders);
            *lock(&self.found) = Some(staging);
        }
        let mut walker = Walker::new(&root);
        let taken = paths
            .iter()
            .enumerate()
            .filter(|(_, path)| is_taken(&mut walker, path))
            .map(|(index, _)| index)
            .collect();
        let free = rustix::fs::fstatvfs(&root).ok();
        Ok(DiskDone::Inspected {
            taken,
            free: free.map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize)),
            kept,
        })
    }

    fn room_above(&self) -> Option<u64> {
        let mut above = self.path.ancestors();
        let stat = above.find_map(|folder| rustix::fs::statvfs(folder).ok())?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Creates the download's folder if necessary, and a staging folder in it, or reuses that of an earlier run. Also
    /// removes staging folders without a journal whose process is dead.
    pub(super) fn stage(&self, origin: &Origin) -> Result<(), DiskError> {
        let mut staging = write_lock(&self.staging);
        if staging.is_some() {
            return Ok(());
        }
        let root = Arc::new(self.make_root().map_err(|error| self.error(error))?);
        remove_stale(&root);
        let made = match lock(&self.found).take() {
            Some(found) => found,
            None => Staging::make(&root, origin).map_err(|error| self.error(error))?,
        };
        *write_lock(&self.root) = Some(root);
        *staging = Some(Arc::new(made));
        Ok(())
    }

    fn make_root(&self) -> io::Result<Dir> {
        let mut made = lock(&self.made_above);
        let missing: Vec<&Path> = self
            .path
            .ancestors()
            .take_while(|folder| folder.symlink_metadata().is_err())
            .collect();
        for folder in missing.into_iter().rev() {
            match std::fs::create_dir(folder) {
                Ok(()) => made.push(folder.to_owned()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        beneath::open_root(&self.path)
    }

    /// Writes pieces to their staging files.
    pub(super) fn write(&self, pieces: &[Piece]) -> Result<(), DiskError> {
        let (_, staging) = self.staged()?;
        for piece in pieces {
            let written = staging.write(piece);
            written.map_err(|error| disk_error(error, "the staging folder"))?;
        }
        Ok(())
    }

    /// Syncs the data of staged files to the disk.
    pub(super) fn sync(&self, entries: &[u32]) -> Result<(), DiskError> {
        let (root, staging) = self.staged()?;
        let synced = staging.sync(&root, entries);
        synced.map_err(|error| disk_error(error, "the staging folder"))
    }

    /// Writes a record to the journal.
    pub(super) fn note(&self, record: &Record) -> Result<(), DiskError> {
        let (_, staging) = self.staged()?;
        let folders: Vec<String> = lock(&self.made).iter().cloned().collect();
        staging.note(record, &folders)
    }

    /// The download's folder and its staging folder, once the latter exists.
    pub(super) fn staged(&self) -> Result<(Arc<Dir>, Arc<Staging>), DiskError> {
        let root = read_lock(&self.root).clone();
        let staging = read_lock(&self.staging).clone();
        root.zip(staging)
            .ok_or_else(|| DiskError::Other("there is no staging folder".to_owned()))
    }

    /// The download's folder, once it is known to exist.
    pub(super) fn root(&self) -> Option<Arc<Dir>> {
        read_lock(&self.root).clone()
    }

    /// Keeps the folders created for the download, however it ends.
    pub(super) fn keep_folders(&self) {
        lock(&self.made).clear();
        lock(&self.made_above).clear();
    }

    /// Removes the staging folder with its content.
    pub(super) fn unstage(&self) -> Result<(), DiskError> {
        let Some(staging) = write_lock(&self.staging).take() else {
            return Ok(());
        };
        let Some(root) = read_lock(&self.root).clone() else {
            return Ok(());
        };
        remove(&root, &staging.name, &staging.dir).map_err(|error| self.error(error))
    }

    /// Discards the download: removes the staging folder, and every folder created for the download that is empty.
    pub(super) fn discard(&self) -> Result<(), DiskError> {
        let unstaged = self.unstage();
        if let Some(root) = write_lock(&self.root).take() {
            let mut made: Vec<String> = lock(&self.made).drain().collect();
            // Longer paths first: a folder's content is removed before the folder.
            made.sort_unstable_by(|a, b| b.cmp(a));
            let mut walker = Walker::new(&root);
            for path in made {
                let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
                if let Ok(parent) = walker.enter(parent) {
                    // Fails if the folder is not empty, as intended.
                    let _ = rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR);
                }
            }
        }
        for folder in lock(&self.made_above).drain(..).rev() {
            let _ = std::fs::remove_dir(folder);
        }
        unstaged
    }

    fn error(&self, error: impl Into<io::Error>) -> DiskError {
        disk_error(error, &self.path.display().to_string())
    }
}

/// True if the path, or a component on the way to it, is occupied by something that is not ours to replace.
fn is_taken(walker: &mut Walker<'_>, path: &SafePath) -> bool {
    let (parent, name) = split(path);
    match walker.enter(parent) {
        Ok(parent) => rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok(),
        Err(Obstacle::InTheWay(_)) => true,
        Err(_) => false,
    }
}

/// Splits a path into its folder (`""` is the root) and the name in it.
pub(super) fn split(path: &SafePath) -> (&str, &str) {
    path.as_str()
        .rsplit_once('/')
        .unwrap_or(("", path.as_str()))
}

/// The staging folder of a download.
#[derive(Debug)]
pub(super) struct Staging {
    pub(super) dir: Dir,
    older: Option<Dir>,
    name: String,
    open: OpenFiles,
    /// The end of what was written to each staging file, in bytes. A file of another length at publishing was changed
    /// by somebody else.
    ends: Mutex<HashMap<u32, u64>>,
    /// Subfolders created since the last sync.
    made: Mutex<Vec<String>>,
    journal: Mutex<Option<Journal>>,
    /// The origin to write into a journal; `None` if no later run would find the folder.
    origin: Option<Origin>,
    /// Lock held while the folder is in use.
    _lock: Option<OwnedFd>,
}

impl Staging {
    /// Creates a staging folder. If another process fetches the same into the same folder, that process's staging
    /// folder has the name by which a later run would find it; then a random name is used.
    fn make(root: &Dir, origin: &Origin) -> Result<Self, Errno> {
        let mut theirs = false;
        loop {
            let name = if theirs {
                random_name()
            } else {
                name_of(origin)
            };
            let by_name = !std::mem::replace(&mut theirs, true);
            match rustix::fs::mkdirat(root, &name, Mode::RWXU) {
                Ok(()) => {}
                Err(Errno::EXIST) => continue,
                Err(error) => return Err(error),
            }
            let folder = match beneath::open_folder(root, &name) {
                // Another process removed it as stale, before it had a lock.
                Err(Errno::NOENT) => continue,
                folder => folder?,
            };
            let dir = Dir::from_std_file(folder.into());
            let lock = match claim(&dir) {
                Claim::Ours(lock) => Some(lock),
                // Another process is removing it as stale.
                Claim::Taken => continue,
                // Without locks no process can see that it is in use; but none can take it for stale either.
                Claim::Unknown => None,
            };
            return Ok(Self::new(dir, name, by_name.then_some(*origin), lock));
        }
    }

    fn new(dir: Dir, name: String, origin: Option<Origin>, lock: Option<OwnedFd>) -> Self {
        Self {
            older: beneath::open_folder(&dir, OLDER)
                .ok()
                .map(|older| Dir::from_std_file(older.into())),
            dir,
            name,
            open: OpenFiles::default(),
            ends: Mutex::default(),
            made: Mutex::default(),
            journal: Mutex::default(),
            origin,
            _lock: lock,
        }
    }

    /// Reuses the staging folder of an earlier run of the same origin, unless another process is using it. Returns the
    /// folder, what is in it, and the folders that the earlier run created. Without a readable journal nothing in it is
    /// known to be right; then its files are set aside, to be hashed again.
    fn take_up(root: &Dir, origin: &Origin) -> Option<(Self, Kept, Vec<String>)> {
        let name = name_of(origin);
        let folder = beneath::open_folder(root, &name).ok()?;
        let dir = Dir::from_std_file(folder.into());
        let Some(owner) = own_by(&dir) else {
            tracing::warn!("a staging folder belongs to somebody else; it is left alone");
            return None;
        };
        let Claim::Ours(claimed) = claim(&dir) else {
            return None;
        };
        let flags = OFlags::RDWR;
        let journal = beneath::open(&dir, JOURNAL, flags, Mode::empty()).ok();
        let is_plain = |file: &OwnedFd| {
            let stat = rustix::fs::fstat(file);
            stat.is_ok_and(|stat| resume::is_plain(&stat, owner))
        };
        let notes = journal.filter(is_plain).and_then(|file| {
            let journal = Journal::open(file.into(), origin);
            let notes = journal.and_then(|journal| Ok((journal.read()?, journal)));
            notes
                .inspect_err(|error| tracing::warn!(%error, "a journal can't be used"))
                .ok()
        });
        let Some((notes, journal)) = notes else {
            if !older::set_aside(&dir, JOURNAL).is_ok_and(|any| any) {
                let _ = remove(root, &name, &dir);
                return None;
            }
            let staging = Self::new(dir, name, Some(*origin), Some(claimed));
            return Some((staging, Kept::default(), Vec::new()));
        };
        let folders = notes.folders.clone();
        let found = resume::find(root, (&dir, owner), notes);
        let staging = Self::new(dir, name, Some(*origin), Some(claimed));
        *lock(&staging.ends) = found.ends;
        *lock(&staging.journal) = Some(journal);
        Some((staging, found.kept, folders))
    }

    fn sync(&self, root: &Dir, entries: &[u32]) -> io::Result<()> {
        if cfg!(target_os = "linux") && entries.len() >= TOGETHER {
            #[cfg(target_os = "linux")]
            rustix::fs::syncfs(root)?;
            return Ok(());
        }
        for entry in entries {
            let file = match self.open.get(*entry) {
                Some(file) => file,
                None => match self.open_existing(*entry) {
                    Ok(file) => Arc::new(file),
                    // Empty files are created at publishing.
                    Err(Errno::NOENT) => continue,
                    Err(error) => return Err(error.into()),
                },
            };
            file.sync_data()?;
        }
        // A new file is durable only once its folder is synced.
        for folder in std::mem::take(&mut *lock(&self.made)) {
            rustix::fs::fsync(beneath::open_folder(&self.dir, &folder)?)?;
        }
        Ok(())
    }

    fn note(&self, record: &Record, folders: &[String]) -> Result<(), DiskError> {
        let Some(origin) = &self.origin else {
            let why = "another process fetches the same into the same folder";
            return Err(DiskError::Other(why.to_owned()));
        };
        let mut journal = lock(&self.journal);
        if journal.is_none() {
            let flags = OFlags::RDWR | OFlags::CREATE;
            let file = beneath::open(&self.dir, JOURNAL, flags, Mode::RUSR | Mode::WUSR);
            let file = file.map_err(|error| disk_error(error, "the staging folder"))?;
            *journal =
                Some(Journal::open(file.into(), origin).map_err(|error| journal_error(&error))?);
            // Syncs the staging folder, so that the new journal's name in it is durable.
            let _ = rustix::fs::fsync(&self.dir);
        }
        match &*journal {
            Some(journal) => journal
                .note(record, folders)
                .map_err(|error| journal_error(&error)),
            None => Ok(()),
        }
    }

    fn write(&self, piece: &Piece) -> io::Result<()> {
        let len = piece.data.len() as u64;
        // A piece ends inside a leaf only at the end of its file; so this one is a whole file.
        let whole = piece.offset == 0 && !len.is_multiple_of(LEAF.into());
        let file = match self.open.get(piece.entry) {
            Some(file) => file,
            None => Arc::new(self.open_or_create(piece.entry, whole)?),
        };
        file.write_all_at(&piece.data, piece.offset)?;
        {
            let mut ends = lock(&self.ends);
            let end = ends.entry(piece.entry).or_default();
            *end = (*end).max(piece.offset.saturating_add(len));
        }
        if !whole {
            self.open.insert(piece.entry, file);
        }
        Ok(())
    }

    /// Opens the staging file of an entry, or creates it. `probably_new` only says what to try first.
    fn open_or_create(&self, entry: u32, probably_new: bool) -> Result<File, Errno> {
        if !probably_new && let Ok(file) = self.open_existing(entry) {
            return Ok(file);
        }
        match self.create(entry) {
            Err(Errno::EXIST) => self.open_existing(entry),
            created => created,
        }
    }

    fn open_existing(&self, entry: u32) -> Result<File, Errno> {
        let path = path_of(entry);
        beneath::open(&self.dir, &path, OFlags::WRONLY, Mode::empty()).map(File::from)
    }

    /// Creates an empty staging file, replacing any that exists.
    pub(super) fn begin(&self, entry: u32) -> Result<File, Errno> {
        self.forget(entry, true);
        self.create(entry)
    }

    /// The file that an earlier run staged for an entry, if no journal says which of its bytes are right.
    pub(super) fn older(&self, entry: u32) -> Option<File> {
        let older = self.older.as_ref()?;
        let file = beneath::open(older, &path_of(entry), known::READ, Mode::empty());
        let file = File::from(file.ok()?);
        file.metadata().is_ok_and(|of| of.is_file()).then_some(file)
    }

    /// Uses the file that an earlier run staged for an entry as its staging file: it turned out to be complete.
    pub(super) fn take_older(&self, entry: u32, len: u64) -> io::Result<()> {
        let Some(older) = &self.older else {
            return Err(Errno::NOENT.into());
        };
        drop(self.begin(entry)?);
        let path = path_of(entry);
        rustix::fs::renameat(older, &path, &self.dir, &path)?;
        self.wrote_up_to(entry, len);
        Ok(())
    }

    /// Withholds these permission bits from others, whatever mode the file is published with.
    pub(super) fn withhold(&self, entry: u32, bits: u32) -> io::Result<()> {
        if bits == 0 {
            return Ok(());
        }
        attributes::withhold(&self.dir, &path_of(entry), bits)
    }

    /// Records how far a staging file was written.
    pub(super) fn wrote_up_to(&self, entry: u32, end: u64) {
        lock(&self.ends).insert(entry, end);
    }

    fn create(&self, entry: u32) -> Result<File, Errno> {
        let path = path_of(entry);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let bits = Mode::RUSR | Mode::WUSR;
        let created = match beneath::open(&self.dir, &path, flags, bits) {
            Err(Errno::NOENT) => {
                let folder = (entry / PER_FOLDER).to_string();
                match rustix::fs::mkdirat(&self.dir, &folder, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error),
                }
                beneath::open(&self.dir, &path, flags, bits)
            }
            created => created,
        };
        let folder = (entry / PER_FOLDER).to_string();
        let mut made = lock(&self.made);
        if !made.contains(&folder) {
            made.push(folder);
        }
        created.map(File::from)
    }

    /// Returns the staging file of a complete entry, and no longer keeps it open here. Creates the file if it is empty.
    pub(super) fn finished(&self, entry: u32) -> Result<Arc<File>, DiskError> {
        let fault = |error: Errno| disk_error(error, "the staging folder");
        let end = lock(&self.ends).get(&entry).copied();
        let file = match self.open.take(entry) {
            Some(file) => file,
            None => Arc::new(match (self.open_existing(entry), end) {
                (Ok(file), _) => file,
                (Err(Errno::NOENT), None) => self.create(entry).map_err(fault)?,
                (Err(Errno::NOENT), Some(_)) => return Err(meddled()),
                (Err(Errno::ACCESS), _) => self.reopen(entry).map_err(fault)?,
                (Err(error), _) => return Err(fault(error)),
            }),
        };
        let metadata = file
            .metadata()
            .map_err(|error| disk_error(error, "the staging folder"))?;
        if metadata.len() == end.unwrap_or(0) {
            Ok(file)
        } else {
            Err(meddled())
        }
    }

    /// Opens a staging file that already has its final attributes, from an earlier failed attempt to publish it.
    fn reopen(&self, entry: u32) -> Result<File, Errno> {
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::chmodat(&self.dir, path_of(entry), mode, AtFlags::empty())?;
        self.open_existing(entry)
    }

    /// Forgets what is known of a staging file, and removes the file if `remove`.
    pub(super) fn forget(&self, entry: u32, remove: bool) {
        self.open.take(entry);
        lock(&self.ends).remove(&entry);
        if remove {
            // If that fails, it is removed with the staging folder.
            let _ = rustix::fs::unlinkat(&self.dir, path_of(entry), AtFlags::empty());
        }
    }
}

fn journal_error(error: &JournalError) -> DiskError {
    DiskError::Other(format!("the journal in the staging folder: {error}"))
}

/// The name of a download's staging folder, by which a later run finds it.
fn name_of(origin: &Origin) -> String {
    let id = origin.manifest.to_string();
    format!("{PARTIAL}{}", id.get(..ID).unwrap_or(&id))
}

fn random_name() -> String {
    let random = RandomState::new().build_hasher().finish();
    format!("{PARTIAL}{random:016x}")
}

fn meddled() -> DiskError {
    DiskError::Other("a file in the staging folder was changed by somebody else".to_owned())
}

/// The user id that owns a folder, if files that this process creates in it have the same owner; else `None`. In a
/// folder that several users can write to, such as `/tmp`, somebody else may have created one with this name, holding
/// their own bytes and journal. The owner is taken from a test file: on a network file system it may differ from this
/// process's user.
fn own_by(dir: &Dir) -> Option<u32> {
    let owner = rustix::fs::fstat(dir).ok()?.st_uid;
    let name = random_name();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let ours = match beneath::open(dir, &name, flags, Mode::RUSR | Mode::WUSR) {
        Ok(made) => {
            let stat = rustix::fs::fstat(&made);
            let _ = rustix::fs::unlinkat(dir, &name, AtFlags::empty());
            stat.ok()?.st_uid
        }
        // The disk may be full, for example.
        Err(_) => rustix::process::geteuid().as_raw(),
    };
    (ours == owner).then_some(owner)
}

/// Path of an entry's staging file, relative to the staging folder.
pub(super) fn path_of(entry: u32) -> String {
    format!("{}/{entry}", entry / PER_FOLDER)
}

enum Claim {
    Ours(OwnedFd),
    Taken,
    Unknown,
}

/// Tries to lock a staging folder. Both creating and removing one start with this, so whichever process comes second
/// knows of the other.
fn claim(dir: &Dir) -> Claim {
    let flags = OFlags::RDWR | OFlags::CREATE;
    let lock = match beneath::open(dir, LOCK, flags, Mode::RUSR | Mode::WUSR) {
        Ok(lock) => lock,
        // The folder has been removed.
        Err(Errno::NOENT) => return Claim::Taken,
        Err(_) => return Claim::Unknown,
    };
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => match rustix::fs::fstat(&lock) {
            Ok(stat) if stat.st_nlink > 0 => Claim::Ours(lock),
            _ => Claim::Taken,
        },
        Err(Errno::WOULDBLOCK) => Claim::Taken,
        Err(_) => Claim::Unknown,
    }
}

/// What an earlier run's download has left in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Nothing that can be resumed.
    Nothing,
    /// Files named by a journal, or staged without one.
    Something,
    /// Another process is using it.
    InUse,
}

/// Returns what a manifest's download has left in this folder. Without a journal it can be hashed again.
pub fn left(folder: &Path, manifest: &str) -> Left {
    let found = find_left(folder, manifest);
    found.map_or(Left::Nothing, |(_, _, dir)| match claim(&dir) {
        Claim::Taken => Left::InUse,
        Claim::Ours(_) | Claim::Unknown => Left::Something,
    })
}

/// Removes what a manifest's download has left in this folder, unless it is in use.
pub fn remove_left(folder: &Path, manifest: &str) -> io::Result<()> {
    let Some((root, name, dir)) = find_left(folder, manifest) else {
        return Ok(());
    };
    match claim(&dir) {
        Claim::Taken => Err(Errno::BUSY.into()),
        Claim::Ours(_) | Claim::Unknown => remove(&root, &name, &dir),
    }
}

fn find_left(folder: &Path, manifest: &str) -> Option<(Dir, String, Dir)> {
    let root = beneath::open_root(folder).ok()?;
    let name = format!("{PARTIAL}{}", manifest.get(..ID)?);
    let dir = Dir::from_std_file(beneath::open_folder(&root, &name).ok()?.into());
    own_by(&dir)?;
    Some((root, name, dir))
}

/// Removes the staging folders of dead processes, except those with a journal, which may be resumed one day. Failures
/// are ignored: the folders do no harm.
fn remove_stale(root: &Dir) {
    let Ok(entries) = root.entries() else {
        return;
    };
    let names = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    for name in names.filter(|name| name.starts_with(PARTIAL)) {
        let Ok(folder) = beneath::open_folder(root, &name) else {
            continue;
        };
        let dir = Dir::from_std_file(folder.into());
        if rustix::fs::statat(&dir, JOURNAL, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            continue;
        }
        if let Claim::Ours(_lock) = claim(&dir) {
            let _ = remove(root, &name, &dir);
        }
    }
}

/// Removes a locked staging folder. It is renamed first: its own name may be reused at any moment.
fn remove(root: &Dir, name: &str, dir: &Dir) -> io::Result<()> {
    let inode = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
    let there = rustix::fs::statat(root, name, AtFlags::SYMLINK_NOFOLLOW).map(inode);
    if there != rustix::fs::fstat(dir).map(inode) {
        return Ok(());
    }
    let aside = random_name();
    rustix::fs::renameat(root, name, root, &aside)?;
    let mut rounds = 0;
    loop {
        rounds += 1;
        match root.remove_dir_all(&aside) {
            Ok(()) => return Ok(()),
            // A job that was still writing created a file, or another process is removing the same folder.
            Err(_) if root.symlink_metadata(&aside).is_err() => return Ok(()),
            Err(error) if rounds == REMOVALS => return Err(error),
            Err(_) => {}
        }
    }
}
