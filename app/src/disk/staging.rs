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
use handover_core::engine::{DiskError, Piece};
use handover_core::limits::LEAF;
use handover_core::path::{STAGING_PREFIX, SafePath};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::beneath::{self, Made, Obstacle, Walker};
use super::error::disk_error;
use super::handles::OpenFiles;
use super::{lock, read_lock, write_lock};

/// What staging folders' names begin with; 16 random hexadecimal digits follow.
pub(super) const PARTIAL: &str = ".handover-partial-";
const _: () = assert!(PARTIAL.len() > STAGING_PREFIX.len());
/// The file in a staging folder that its process holds a lock on for as long as it lives.
const LOCK: &str = "lock";
/// Staging files per subfolder, so that no folder grows slow.
const PER_FOLDER: u32 = 1000;
/// Attempts to remove a folder in which others are still at work.
const REMOVALS: usize = 8;

/// A download that goes to a folder.
#[derive(Debug)]
pub(super) struct FolderSink {
    path: PathBuf,
    root: RwLock<Option<Arc<Dir>>>,
    staging: RwLock<Option<Arc<Staging>>>,
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
            made_above: Mutex::default(),
            made: Mutex::new(HashSet::new()),
        }
    }

    /// Which of these paths are taken, and how much room there is. Makes nothing: nobody has accepted yet.
    pub(super) fn inspect(
        &self,
        paths: &[SafePath],
    ) -> Result<(Vec<usize>, Option<u64>), DiskError> {
        let root = match beneath::open_root(&self.path) {
            Ok(root) => root,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((Vec::new(), self.room_above()));
            }
            Err(error) => return Err(self.error(error)),
        };
        let mut walker = Walker::new(&root);
        let taken = paths
            .iter()
            .enumerate()
            .filter(|(_, path)| is_taken(&mut walker, path))
            .map(|(index, _)| index)
            .collect();
        let free = rustix::fs::fstatvfs(&root).ok();
        Ok((
            taken,
            free.map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize)),
        ))
    }

    fn room_above(&self) -> Option<u64> {
        let mut above = self.path.ancestors();
        let stat = above.find_map(|folder| rustix::fs::statvfs(folder).ok())?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Makes the download's folder if need be, and a staging folder in it. Staging folders of processes that died are
    /// removed on the way.
    pub(super) fn stage(&self) -> Result<(), DiskError> {
        let mut staging = write_lock(&self.staging);
        if staging.is_some() {
            return Ok(());
        }
        let root = Arc::new(self.make_root().map_err(|error| self.error(error))?);
        remove_stale(&root);
        let made = Staging::make(&root).map_err(|error| self.error(error))?;
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
        remove(&root, &staging.name).map_err(|error| self.error(error))
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
    name: String,
    open: OpenFiles,
    /// How far each staging file was written: what else it may be by the time it is published is not ours.
    ends: Mutex<HashMap<u32, u64>>,
    /// Held for as long as the folder is in use.
    _lock: Option<OwnedFd>,
}

impl Staging {
    fn make(root: &Dir) -> Result<Self, Errno> {
        loop {
            let name = format!(
                "{PARTIAL}{:016x}",
                RandomState::new().build_hasher().finish()
            );
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
            return Ok(Self {
                dir,
                name,
                open: OpenFiles::default(),
                ends: Mutex::default(),
                _lock: lock,
            });
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

    fn create(&self, entry: u32) -> Result<File, Errno> {
        let path = path_of(entry);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let mode = Mode::RUSR | Mode::WUSR;
        let created = match beneath::open(&self.dir, &path, flags, mode) {
            Err(Errno::NOENT) => {
                let folder = (entry / PER_FOLDER).to_string();
                match rustix::fs::mkdirat(&self.dir, &folder, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error),
                }
                beneath::open(&self.dir, &path, flags, mode)
            }
            created => created,
        };
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

fn meddled() -> DiskError {
    DiskError::Other("a file in the staging folder was changed by somebody else".to_owned())
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

/// Removes the staging folders of processes that no longer live. Whatever can't be removed stays: it is in nobody's way.
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
        if let Claim::Ours(_lock) = claim(&Dir::from_std_file(folder.into())) {
            let _ = remove(root, &name);
        }
    }
}

fn remove(root: &Dir, name: &str) -> io::Result<()> {
    let mut rounds = 0;
    loop {
        rounds += 1;
        match root.remove_dir_all(name) {
            Ok(()) => return Ok(()),
            // A job that was still writing made a file, or somebody else removes the same folder.
            Err(_) if root.symlink_metadata(name).is_err() => return Ok(()),
            Err(error) if rounds == REMOVALS => return Err(error),
            Err(_) => {}
        }
    }
}
