//! The receiver's side up to the moment of publishing: the download's folder, and the staging folder in it where bytes
//! gather that nobody should take for a file yet.

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

/// What staging folders' names begin with; 16 hexadecimal digits follow.
pub(super) const PARTIAL: &str = ".handover-partial-";
const _: () = assert!(PARTIAL.len() > STAGING_PREFIX.len());
/// Digits of a manifest's id in the name of its staging folder.
const ID: usize = 16;
/// The file in a staging folder that its process holds a lock on for as long as it lives.
const LOCK: &str = "lock";
/// The file in a staging folder that says what in it is safe.
const JOURNAL: &str = "journal";
/// Staging files per subfolder, so that no folder grows slow.
const PER_FOLDER: u32 = 1000;
/// Attempts to remove a folder in which others are still at work.
const REMOVALS: usize = 8;

/// A download that goes to a folder.
#[derive(Debug)]
pub(super) struct FolderSink {
    pub(super) path: PathBuf,
    root: RwLock<Option<Arc<Dir>>>,
    staging: RwLock<Option<Arc<Staging>>>,
    /// What an earlier run has left, and was found before the offer was accepted.
    found: Mutex<Option<Staging>>,
    /// Folders on the way to the root that were made for this download, outermost first.
    made_above: Mutex<Vec<PathBuf>>,
    /// Folders below the root that were made for this download.
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

    /// Which of these paths are taken, how much room there is, and what an earlier run has left. Makes nothing: nobody
    /// has accepted yet.
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

    /// Makes the download's folder if need be, and a staging folder in it, or takes up that of an earlier run. Staging
    /// folders of processes that died and left no journal are removed on the way.
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

    /// Makes the bytes of staged files durable.
    pub(super) fn sync(&self, entries: &[u32]) -> Result<(), DiskError> {
        let (root, staging) = self.staged()?;
        let synced = staging.sync(&root, entries);
        synced.map_err(|error| disk_error(error, "the staging folder"))
    }

    /// Notes something in the journal.
    pub(super) fn note(&self, record: &Record) -> Result<(), DiskError> {
        let (_, staging) = self.staged()?;
        let folders: Vec<String> = lock(&self.made).iter().cloned().collect();
        staging.note(record, &folders)
    }

    /// The download's folder and its staging folder, once there is one.
    pub(super) fn staged(&self) -> Result<(Arc<Dir>, Arc<Staging>), DiskError> {
        let root = read_lock(&self.root).clone();
        let staging = read_lock(&self.staging).clone();
        root.zip(staging)
            .ok_or_else(|| DiskError::Other("there is no staging folder".to_owned()))
    }

    /// The download's folder, once it is known to be there.
    pub(super) fn root(&self) -> Option<Arc<Dir>> {
        read_lock(&self.root).clone()
    }

    /// Folders that were made for the download stay, whatever becomes of it.
    pub(super) fn keep_folders(&self) {
        lock(&self.made).clear();
        lock(&self.made_above).clear();
    }

    /// Removes the staging folder with all that is in it.
    pub(super) fn unstage(&self) -> Result<(), DiskError> {
        let Some(staging) = write_lock(&self.staging).take() else {
            return Ok(());
        };
        let Some(root) = read_lock(&self.root).clone() else {
            return Ok(());
        };
        remove(&root, &staging.name, &staging.dir).map_err(|error| self.error(error))
    }

    /// Gives the download up: what was staged goes, and every folder made for it in which nothing is.
    pub(super) fn discard(&self) -> Result<(), DiskError> {
        let unstaged = self.unstage();
        if let Some(root) = write_lock(&self.root).take() {
            let mut made: Vec<String> = lock(&self.made).drain().collect();
            // Longer paths first: a folder's content goes before the folder.
            made.sort_unstable_by(|a, b| b.cmp(a));
            let mut walker = Walker::new(&root);
            for path in made {
                let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
                if let Ok(parent) = walker.enter(parent) {
                    // It fails where something is in it, and that is as it should be.
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

/// Whether something stands at the path, or on the way to it, that is not ours to replace.
fn is_taken(walker: &mut Walker<'_>, path: &SafePath) -> bool {
    let (parent, name) = split(path);
    match walker.enter(parent) {
        Ok(parent) => rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok(),
        Err(Obstacle::InTheWay(_)) => true,
        Err(_) => false,
    }
}

/// A path's folder (`""` is the root) and its name in it.
pub(super) fn split(path: &SafePath) -> (&str, &str) {
    path.as_str()
        .rsplit_once('/')
        .unwrap_or(("", path.as_str()))
}

/// A download's staging folder.
#[derive(Debug)]
pub(super) struct Staging {
    pub(super) dir: Dir,
    older: Option<Dir>,
    name: String,
    open: OpenFiles,
    /// How far each staging file was written: what else it may be by the time it is published is not ours.
    ends: Mutex<HashMap<u32, u64>>,
    /// Subfolders that were made since the last sync.
    made: Mutex<Vec<String>>,
    journal: Mutex<Option<Journal>>,
    /// What a journal would be of; `None` where no later run would find it.
    origin: Option<Origin>,
    /// Held for as long as the folder is in use.
    _lock: Option<OwnedFd>,
}

impl Staging {
    /// Another process that fetches the same into the same folder has the name by which a later run would find it; then
    /// any name will do.
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
                // Somebody has removed it as stale: it had no lock yet.
                Err(Errno::NOENT) => continue,
                folder => folder?,
            };
            let dir = Dir::from_std_file(folder.into());
            let lock = match claim(&dir) {
                Claim::Ours(lock) => Some(lock),
                // Somebody is removing it as stale.
                Claim::Taken => continue,
                // Without locks nobody can tell that it is in use; nor can anybody take it for stale.
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

    /// What an earlier run has left of the same origin, if no other process goes on with it: its staging folder, what is
    /// in it, and the folders that it made. Without a journal that can be read nothing in it is known to be right; then
    /// it is set aside, to be hashed again.
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
                    // An empty file is made when it is published.
                    Err(Errno::NOENT) => continue,
                    Err(error) => return Err(error.into()),
                },
            };
            file.sync_data()?;
        }
        // A file is only there for sure when its folder says so.
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
            // The folder itself, and its place in the download's, are there for sure from here on.
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
        // A piece ends inside a leaf only where its file ends; so this one is a whole file.
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

    /// The staging file of an entry, whether or not there is one yet. `probably_new` only says what to try first.
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

    /// A staging file in which nothing stands, in place of any before.
    pub(super) fn begin(&self, entry: u32) -> Result<File, Errno> {
        self.forget(entry, true);
        self.create(entry)
    }

    /// What an earlier run has staged of an entry, if nobody knows what of that is right.
    pub(super) fn older(&self, entry: u32) -> Option<File> {
        let older = self.older.as_ref()?;
        let file = beneath::open(older, &path_of(entry), known::READ, Mode::empty());
        let file = File::from(file.ok()?);
        file.metadata().is_ok_and(|of| of.is_file()).then_some(file)
    }

    /// What an earlier run has staged of an entry is all of it, as it turned out.
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

    /// These bits will be withheld from others, whatever mode the file is published with.
    pub(super) fn withhold(&self, entry: u32, bits: u32) -> io::Result<()> {
        if bits == 0 {
            return Ok(());
        }
        attributes::withhold(&self.dir, &path_of(entry), bits)
    }

    /// A staging file was written up to here.
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

    /// The staging file of an entry that is whole, and no longer kept open here. An empty file is made.
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

    /// Opens a staging file that has its final attributes already, from a publishing that failed.
    fn reopen(&self, entry: u32) -> Result<File, Errno> {
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::chmodat(&self.dir, path_of(entry), mode, AtFlags::empty())?;
        self.open_existing(entry)
    }

    /// Forgets a staging file that has moved on, and removes what is left of it.
    pub(super) fn forget(&self, entry: u32, remove: bool) {
        self.open.take(entry);
        lock(&self.ends).remove(&entry);
        if remove {
            // What stays goes with the staging folder.
            let _ = rustix::fs::unlinkat(&self.dir, path_of(entry), AtFlags::empty());
        }
    }
}

fn journal_error(error: &JournalError) -> DiskError {
    DiskError::Other(format!("the journal in the staging folder: {error}"))
}

/// What the staging folder of a download is called, so that a later run finds it.
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

/// The user whom a folder belongs to, and this process's files in it too; nothing if they are not the same. In a folder that
/// several may write to, such as `/tmp`, somebody else may have made one by this name, with bytes and a journal of theirs. A
/// file that is made in it shows whose it would be: on a network's file system that may be somebody else than this process.
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
        // There is no room for it, say.
        Err(_) => rustix::process::geteuid().as_raw(),
    };
    (ours == owner).then_some(owner)
}

/// Where an entry's staging file is, below the staging folder.
pub(super) fn path_of(entry: u32) -> String {
    format!("{}/{entry}", entry / PER_FOLDER)
}

enum Claim {
    Ours(OwnedFd),
    Taken,
    Unknown,
}

/// Tries to get the lock of a staging folder. Both who makes one and who wants to remove one do this first; so whoever
/// comes second knows, whichever of the two it is.
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

/// What is in a folder of a download that was begun by another run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Nothing that it could go on with.
    Nothing,
    /// What its journal names, or what is staged without one.
    Something,
    /// Another process goes on with it.
    InUse,
}

/// What is left of a manifest's download in this folder. Without its journal it can be hashed again.
pub fn left(folder: &Path, manifest: &str) -> Left {
    let found = find_left(folder, manifest);
    found.map_or(Left::Nothing, |(_, _, dir)| match claim(&dir) {
        Claim::Taken => Left::InUse,
        Claim::Ours(_) | Claim::Unknown => Left::Something,
    })
}

/// Removes what is left of a manifest's download in this folder, unless it is in use.
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

/// Removes the staging folders of processes that no longer live, but those with a journal: somebody may go on with them
/// one day. Whatever can't be removed stays: it is in nobody's way.
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

/// Removes a staging folder that is claimed. It goes by another name first: its own may be taken anew at any moment.
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
            // A job that was still writing made a file, or somebody else removes the same folder.
            Err(_) if root.symlink_metadata(&aside).is_err() => return Ok(()),
            Err(error) if rounds == REMOVALS => return Err(error),
            Err(_) => {}
        }
    }
}
