//! Opens files and folders relative to a folder's handle, never through a symlink.
//!
//! What was a folder when it was checked may be a symlink to anywhere a moment later. So nothing here checks first and
//! opens afterwards: the system is asked to open and to refuse symlinks in one step, at every component.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Mutex;

use cap_std::fs::Dir;
use handover_core::engine::DiskError;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::error::disk_error;
use super::lock;

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Opens a folder that the user named; symlinks in the user's own path are followed.
pub(super) fn open_root(path: &Path) -> io::Result<Dir> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, OFlags::RDONLY | flags, Mode::empty());
    // A folder that can be traversed but not listed suffices as root for a file in it.
    #[cfg(target_os = "linux")]
    let opened = match opened {
        Err(Errno::ACCESS) => rustix::fs::open(path, OFlags::PATH | flags, Mode::empty()),
        other => other,
    };
    Ok(Dir::from_std_file(opened?.into()))
}

/// Opens a folder by its name in another one.
pub(super) fn open_folder(parent: impl AsFd, name: &str) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(parent, name, FOLDER, Mode::empty())
}

/// Opens `path` (components separated by `/`) below `root`. A symlink at any component fails with `ELOOP` or `ENOTDIR`.
pub(super) fn open(
    root: impl AsFd,
    path: &str,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    let root = root.as_fd();
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::ResolveFlags;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match rustix::fs::openat2(root, path, flags, mode, resolve) {
            // Kernels before 5.6 lack it, and some containers forbid it. Or the whole path is too long for one call,
            // while its components may not be.
            Err(Errno::NOSYS | Errno::PERM | Errno::NAMETOOLONG) => {}
            other => return other,
        }
    }
    open_stepwise(root, path, flags, mode)
}

fn open_stepwise(root: impl AsFd, path: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let Some((folders, name)) = path.rsplit_once('/') else {
        return rustix::fs::openat(root, path, flags, mode);
    };
    let mut folders = folders.split('/');
    let mut at = open_folder(root, folders.next().unwrap_or("."))?;
    for folder in folders {
        at = open_folder(&at, folder)?;
    }
    rustix::fs::openat(&at, name, flags, mode)
}

/// Folders that a download created, by their paths below its root.
pub(super) type Made = Mutex<HashSet<String>>;

/// Reasons why a folder cannot be entered.
#[derive(Debug)]
pub(super) enum Obstacle {
    /// Nothing exists at this path.
    Missing,
    /// A symlink or a file is at this path.
    InTheWay(DiskError),
    /// Any other error.
    Failed(DiskError),
}

impl From<Obstacle> for DiskError {
    fn from(obstacle: Obstacle) -> Self {
        match obstacle {
            Obstacle::Missing => Self::NotFound,
            Obstacle::InTheWay(error) | Obstacle::Failed(error) => error,
        }
    }
}

/// Maximum number of folders that a walker keeps open. Peers choose how deep paths are; deeper ones only take longer.
const KEPT: usize = 12;

/// Enters folders below a root one component at a time, and keeps those on the current path open: the next path is
/// usually nearby.
///
/// Use a walker for one job only. A handle kept for longer would still point to a folder that has been moved away.
#[derive(Debug)]
pub(super) struct Walker<'a> {
    root: &'a Dir,
    /// Open folders, each below the one before it, with their whole paths.
    open: Vec<(String, Dir)>,
}

impl<'a> Walker<'a> {
    pub(super) fn new(root: &'a Dir) -> Self {
        Self {
            root,
            open: Vec::new(),
        }
    }

    /// Enters an existing folder. `""` is the root.
    pub(super) fn enter(&mut self, path: &str) -> Result<&Dir, Obstacle> {
        self.walk(path, None)
    }

    /// Enters a folder, creating missing components.
    pub(super) fn make(&mut self, path: &str, made: &Made) -> Result<&Dir, Obstacle> {
        self.walk(path, Some(made))
    }

    fn walk(&mut self, path: &str, made: Option<&Made>) -> Result<&Dir, Obstacle> {
        let mut rest = path;
        while let Some((open, _)) = self.open.last() {
            match path.strip_prefix(open.as_str()) {
                Some(below) if below.is_empty() || below.starts_with('/') => {
                    rest = below;
                    break;
                }
                _ => drop(self.open.pop()),
            }
        }
        for name in rest.split('/').filter(|name| !name.is_empty()) {
            let entered = (self.path_of(name), self.step(name, made)?);
            if self.open.len() == KEPT {
                self.open.pop();
            }
            self.open.push(entered);
        }
        Ok(self.here())
    }

    fn step(&self, name: &str, made: Option<&Made>) -> Result<Dir, Obstacle> {
        let at = self.here();
        let opened = match (open_folder(at, name), made) {
            (Err(Errno::NOENT), Some(made)) => {
                self.make_here(name, made)?;
                open_folder(at, name)
            }
            (opened, _) => opened,
        };
        match opened {
            Ok(folder) => Ok(Dir::from_std_file(folder.into())),
            Err(Errno::NOENT) => Err(Obstacle::Missing),
            Err(Errno::NOTDIR | Errno::LOOP) => Err(self.in_the_way(name)),
            Err(error) => Err(Obstacle::Failed(disk_error(error, &self.path_of(name)))),
        }
    }

    fn make_here(&self, name: &str, made: &Made) -> Result<(), Obstacle> {
        let path = self.path_of(name);
        match rustix::fs::mkdirat(self.here(), name, Mode::from_raw_mode(0o777)) {
            Ok(()) => {
                lock(made).insert(path);
                Ok(())
            }
            // Created by somebody else in between: usable, but not recorded as ours.
            Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(Obstacle::Failed(disk_error(error, &path))),
        }
    }

    fn in_the_way(&self, name: &str) -> Obstacle {
        let path = self.path_of(name);
        let found = rustix::fs::statat(self.here(), name, AtFlags::SYMLINK_NOFOLLOW);
        let is_symlink =
            found.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink);
        Obstacle::InTheWay(if is_symlink {
            DiskError::Escape(format!("{path} is a symlink here"))
        } else {
            DiskError::Other(format!("{path} is in the way: it is not a folder"))
        })
    }

    fn here(&self) -> &Dir {
        self.open.last().map_or(self.root, |(_, dir)| dir)
    }

    fn path_of(&self, name: &str) -> String {
        match self.open.last() {
            Some((path, _)) => format!("{path}/{name}"),
            None => name.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn root() -> (tempfile::TempDir, Dir) {
        let folder = tempfile::tempdir().unwrap();
        let root = open_root(folder.path()).unwrap();
        (folder, root)
    }

    #[test]
    fn nothing_is_opened_through_a_symlink() {
        let (folder, root) = root();
        fs::create_dir_all(folder.path().join("real/deep")).unwrap();
        fs::write(folder.path().join("real/deep/file"), "x").unwrap();
        symlink("real", folder.path().join("link")).unwrap();
        symlink("file", folder.path().join("real/deep/alias")).unwrap();
        for stepwise in [false, true] {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW;
            let read = |path| {
                if stepwise {
                    open_stepwise(&root, path, flags, Mode::empty())
                } else {
                    open(&root, path, flags, Mode::empty())
                }
            };
            assert!(read("real/deep/file").is_ok());
            for path in ["link/deep/file", "real/deep/alias", "link"] {
                let error = read(path).unwrap_err();
                assert!(matches!(error, Errno::LOOP | Errno::NOTDIR), "{path}");
            }
            assert_eq!(read("real/gone/file").unwrap_err(), Errno::NOENT);
        }
    }

    #[test]
    fn a_walker_remembers_what_it_made_and_stops_at_what_is_no_folder() {
        let (folder, root) = root();
        let made = Made::default();
        fs::create_dir(folder.path().join("old")).unwrap();
        fs::write(folder.path().join("file"), "x").unwrap();
        symlink("old", folder.path().join("link")).unwrap();
        let mut walker = Walker::new(&root);
        assert!(matches!(walker.enter("a/b"), Err(Obstacle::Missing)));
        walker.make("a/b/c", &made).unwrap();
        walker.make("a/d", &made).unwrap();
        walker.make("old/e", &made).unwrap();
        walker.enter("a/b").unwrap();
        walker.enter("").unwrap();
        let blocked = |walker: &mut Walker<'_>, path| match walker.make(path, &made) {
            Err(Obstacle::InTheWay(error)) => error,
            other => panic!("{other:?}"),
        };
        assert!(matches!(
            blocked(&mut walker, "link/x"),
            DiskError::Escape(_)
        ));
        assert!(matches!(
            blocked(&mut walker, "file/x"),
            DiskError::Other(_)
        ));
        let mut made: Vec<_> = made.into_inner().unwrap().into_iter().collect();
        made.sort();
        assert_eq!(made, ["a", "a/b", "a/b/c", "a/d", "old/e"]);
        assert!(!folder.path().join("old/x").exists());
    }
}
