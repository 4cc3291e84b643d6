//! Lists the content of a share: a walk that follows no symlink below the paths that the user named.
//!
//! Everything is opened relative to folder handles, so a folder that is swapped for a symlink during the walk reveals
//! nothing of the symlink's target.

use std::collections::HashSet;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use cap_std::fs::Dir;
use handover_core::engine::{DiskError, Scanned};
use handover_core::limits::Limits;
use handover_core::manifest::{Entry, EntryKind};
use handover_core::path::{PathError, SafePath, symlink_stays_inside};
use handover_core::time::Timestamp;
use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;

use super::attributes::permissions;
use super::beneath::{open_folder, open_root};

/// Maps the entries of a share to local files.
#[derive(Debug, Default)]
pub(super) struct Listing {
    folders: Vec<LocalFolder>,
    /// Indexed by entry; `None` for entries without content.
    files: Vec<Option<LocalFile>>,
}

/// A folder that contains shared files: its path below one of the folders that the user named.
#[derive(Debug)]
struct LocalFolder {
    root: Arc<Dir>,
    /// The absolute path of `root` at the time of the scan.
    at: Arc<Path>,
    /// Path below `root`. Ends in `/` unless it is empty.
    path: String,
}

/// A shared file, with its size and modification time at the time of the scan.
#[derive(Debug)]
pub(super) struct LocalFile {
    folder: usize,
    name: Box<str>,
    pub(super) size: u64,
    pub(super) modified: Timestamp,
}

impl LocalFile {
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Listing {
    /// The local file of an entry.
    pub(super) fn file(&self, entry: u32) -> Option<&LocalFile> {
        let entry = usize::try_from(entry).ok()?;
        self.files.get(entry)?.as_ref()
    }

    /// The file's absolute path, for opening it in a later run; never used for this share.
    pub(super) fn path_of(&self, file: &LocalFile) -> PathBuf {
        let folder = &self.folders[file.folder];
        folder.at.join(&folder.path).join(&*file.name)
    }

    /// The handle of the root that contains the file, and the path below it.
    pub(super) fn locate(&self, file: &LocalFile) -> (&Dir, String) {
        let folder = &self.folders[file.folder];
        (&folder.root, format!("{}{}", folder.path, file.name))
    }
}

/// Lists everything that can be shared below `paths`.
pub(super) fn scan(paths: &[PathBuf], limits: &Limits) -> Result<(Scanned, Listing), DiskError> {
    let mut scan = Scan {
        limits,
        at: Arc::from(Path::new("")),
        entries: Vec::new(),
        skipped: Vec::new(),
        listing: Listing::default(),
    };
    let mut names = HashSet::new();
    for path in paths {
        scan.top(path, &mut names)?;
    }
    scan.drop_symlinks_that_lead_out();
    scan.entries.shrink_to_fit();
    scan.listing.files.shrink_to_fit();
    let scanned = Scanned {
        entries: scan.entries,
        skipped: scan.skipped,
        at: now(),
    };
    Ok((scanned, scan.listing))
}

/// The wall clock time.
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: since.subsec_nanos(),
    }
}

struct Scan<'a> {
    limits: &'a Limits,
    /// Absolute path of the folder that the user named, or of the one that contains a named file.
    at: Arc<Path>,
    entries: Vec<Entry>,
    skipped: Vec<(String, String)>,
    listing: Listing,
}

impl Scan<'_> {
    /// Lists a path that the user named. A symlink is followed here, and only here: the user means its target.
    fn top(&mut self, given: &Path, names: &mut HashSet<String>) -> Result<(), DiskError> {
        let shown = given.display().to_string();
        let fail = |error: io::Error| DiskError::Other(format!("{shown}: {}", plain(&error)));
        let metadata = std::fs::metadata(given).map_err(fail)?;
        let name = match given.file_name() {
            Some(name) => name.to_owned(),
            None => match std::fs::canonicalize(given).map_err(fail)?.file_name() {
                Some(name) => name.to_owned(),
                None => return Err(DiskError::Other(format!("{shown}: this has no name"))),
            },
        };
        let path = match name.to_str().map(SafePath::parse) {
            Some(Ok(path)) => path,
            Some(Err(error)) => return self.skip(shown, error.to_string()),
            None => return self.skip(shown, NOT_TEXT.to_owned()),
        };
        if !names.insert(path.fold_key()) {
            let why = format!("{path} is shared already, from another folder");
            return self.skip(shown, why);
        }
        if metadata.is_dir() {
            self.at = std::fs::canonicalize(given).map_err(fail)?.into();
            let root = open_root(given).map_err(fail)?;
            let folder = open_folder(&root, ".").map_err(|error| fail(error.into()))?;
            let stat = rustix::fs::fstat(&folder).map_err(|error| fail(error.into()))?;
            self.folder(&folder, &stat, &path, &Arc::new(root), String::new())
        } else {
            self.top_file(given, &path).map_err(fail)?
        }
    }

    fn top_file(&mut self, given: &Path, path: &SafePath) -> io::Result<Result<(), DiskError>> {
        let real = std::fs::canonicalize(given)?;
        let (Some(folder), Some(name)) = (real.parent(), real.file_name()) else {
            return Err(Errno::NOENT.into());
        };
        self.at = Arc::from(folder);
        let root = open_root(folder)?;
        let stat = rustix::fs::statat(&root, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let Some(name) = name.to_str() else {
            return Ok(self.skip(given.display().to_string(), NOT_TEXT.to_owned()));
        };
        self.listing.folders.push(LocalFolder {
            root: Arc::new(root),
            at: Arc::clone(&self.at),
            path: String::new(),
        });
        let folder = self.listing.folders.len() - 1;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            let why = kind_of(&stat);
            return Ok(self.skip(given.display().to_string(), why.to_owned()));
        }
        Ok(self.file(path.clone(), folder, name, &stat))
    }

    /// Lists a folder, then its content, sorted by name.
    fn folder(
        &mut self,
        folder: &OwnedFd,
        stat: &Stat,
        path: &SafePath,
        root: &Arc<Dir>,
        local: String,
    ) -> Result<(), DiskError> {
        let names = match names_in(folder) {
            Ok(names) => names,
            Err(error) => return self.skip(path.to_string(), plain(&error.into())),
        };
        let kind = EntryKind::Folder {
            mode: permissions(stat.st_mode),
            modified: modified(stat),
        };
        self.push(path.clone(), kind, None)?;
        self.listing.folders.push(LocalFolder {
            root: Arc::clone(root),
            at: Arc::clone(&self.at),
            path: local.clone(),
        });
        let here = Here {
            handle: folder,
            index: self.listing.folders.len() - 1,
            path,
            root,
            local,
        };
        let mut keys = HashSet::with_capacity(names.len());
        for name in names {
            self.child(&here, &name, &mut keys)?;
        }
        Ok(())
    }

    fn child(
        &mut self,
        here: &Here<'_>,
        name: &CString,
        keys: &mut HashSet<String>,
    ) -> Result<(), DiskError> {
        let shown = || format!("{}/{}", here.path, name.to_string_lossy());
        let Ok(text) = name.to_str() else {
            return self.skip(shown(), NOT_TEXT.to_owned());
        };
        let path = match here.path.join(text) {
            Ok(path) => path,
            Err(PathError::Staging) => return self.skip(shown(), UNFINISHED.to_owned()),
            Err(error) => return self.skip(shown(), error.to_string()),
        };
        let stat = match rustix::fs::statat(here.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // Removed since the folder was read: treated as if it had never existed.
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return self.skip(shown(), plain(&error.into())),
        };
        if !keys.insert(path.fold_key()) {
            let why = "its name differs from another one only in case or accents";
            return self.skip(shown(), why.to_owned());
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.file(path, here.index, text, &stat),
            FileType::Directory => match open_folder(here.handle, text) {
                Ok(folder) => {
                    let local = format!("{}{text}/", here.local);
                    self.folder(&folder, &stat, &path, here.root, local)
                }
                Err(error) => self.skip(shown(), plain(&error.into())),
            },
            FileType::Symlink => match rustix::fs::readlinkat(here.handle, name, Vec::new()) {
                Ok(target) => match target.into_string() {
                    Ok(target) => self.push(path, EntryKind::Symlink { target }, None),
                    Err(_) => self.skip(shown(), NOT_TEXT.to_owned()),
                },
                Err(error) => self.skip(shown(), plain(&error.into())),
            },
            _ => self.skip(shown(), kind_of(&stat).to_owned()),
        }
    }

    fn file(
        &mut self,
        path: SafePath,
        folder: usize,
        name: &str,
        stat: &Stat,
    ) -> Result<(), DiskError> {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let kind = EntryKind::File {
            size,
            mode: permissions(stat.st_mode),
            modified: modified(stat),
        };
        let file = LocalFile {
            folder,
            name: name.into(),
            size,
            modified: modified(stat),
        };
        self.push(path, kind, Some(file))
    }

    fn push(
        &mut self,
        path: SafePath,
        kind: EntryKind,
        file: Option<LocalFile>,
    ) -> Result<(), DiskError> {
        let most = usize::try_from(self.limits.manifest_entries).unwrap_or(usize::MAX);
        if self.entries.len() >= most {
            let why =
                format!("this is more than {most} files and folders, which one share can hold");
            return Err(DiskError::Other(why));
        }
        self.entries.push(Entry { path, kind });
        self.listing.files.push(file);
        Ok(())
    }

    // Returns a `Result` so that it can be used in place of adding an entry.
    #[allow(clippy::unnecessary_wraps)]
    fn skip(&mut self, name: String, why: String) -> Result<(), DiskError> {
        self.skipped.push((name, why));
        Ok(())
    }

    /// Removes symlinks that cannot be shared. That is known only once everything is listed.
    fn drop_symlinks_that_lead_out(&mut self) {
        let symlinks: HashSet<&str> = self
            .entries
            .iter()
            .filter(|entry| matches!(entry.kind, EntryKind::Symlink { .. }))
            .map(|entry| entry.path.as_str())
            .collect();
        if symlinks.is_empty() {
            return;
        }
        let tops: HashSet<&str> = self
            .entries
            .iter()
            .map(|entry| top_of(entry.path.as_str()))
            .collect();
        let verdicts: Vec<Option<String>> = self
            .entries
            .iter()
            .map(|entry| match &entry.kind {
                EntryKind::Symlink { target } => why_not(&entry.path, target, &symlinks, &tops),
                _ => None,
            })
            .collect();
        let mut kept = verdicts.iter().map(Option::is_none);
        self.listing.files.retain(|_| kept.next().unwrap_or(true));
        let mut verdicts = verdicts.into_iter();
        let skipped = &mut self.skipped;
        self.entries
            .retain(|entry| match verdicts.next().flatten() {
                None => true,
                Some(why) => {
                    skipped.push((entry.path.to_string(), why));
                    false
                }
            });
    }
}

/// A folder that the walk is currently in.
struct Here<'a> {
    handle: &'a OwnedFd,
    /// Index in [`Listing::folders`].
    index: usize,
    path: &'a SafePath,
    root: &'a Arc<Dir>,
    local: String,
}

const NOT_TEXT: &str = "its name is not valid Unicode";
const UNFINISHED: &str = "this is an unfinished download";

/// Returns why a symlink cannot be shared, or `None`. Its target must lie in the share, and the path there must lead
/// through folders only.
fn why_not(
    link: &SafePath,
    target: &str,
    symlinks: &HashSet<&str>,
    tops: &HashSet<&str>,
) -> Option<String> {
    let outside = || {
        Some(format!(
            "this symlink points outside what is shared, to {target}"
        ))
    };
    if symlink_stays_inside(link, target).is_err() {
        return outside();
    }
    let link = link.as_str();
    let mut at = link
        .rsplit_once('/')
        .map_or("", |(parent, _)| parent)
        .to_owned();
    let mut steps = target
        .split('/')
        .filter(|step| !step.is_empty() && *step != ".")
        .peekable();
    while let Some(step) = steps.next() {
        if step == ".." {
            at.truncate(at.rfind('/').unwrap_or(0));
            continue;
        }
        if !at.is_empty() {
            at.push('/');
        }
        at.push_str(step);
        if steps.peek().is_some() && symlinks.contains(at.as_str()) {
            return Some(format!("this symlink leads through another one, {at}"));
        }
    }
    // Inside the receiver's folder is not enough: a target there that is not part of the share is not ours.
    if tops.contains(top_of(&at)) {
        None
    } else {
        outside()
    }
}

fn top_of(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

fn names_in(folder: impl AsFd) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for found in rustix::fs::Dir::read_from(folder)? {
        let found = found?;
        let name = found.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

// The types of the fields differ between systems.
#[allow(clippy::useless_conversion)]
fn modified(stat: &Stat) -> Timestamp {
    Timestamp {
        seconds: i64::from(stat.st_mtime),
        nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
    }
}

fn kind_of(stat: &Stat) -> &'static str {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo => "this is a named pipe",
        FileType::Socket => "this is a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "this is a device",
        _ => "this is neither a file nor a folder",
    }
}

fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "not found".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}
