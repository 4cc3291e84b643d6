//! The folder for this device's identity.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use handover_transports::identity;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::exit::Exit;
use super::failure::Failure;

/// File that is locked by the process using the identity in the same folder.
const LOCK: &str = "lock";
/// Permissions for the owner alone.
const PRIVATE_FOLDER: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;

/// Returns the requested folder, or the one that the system provides for such data.
pub(crate) fn choose(asked: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(folder) = asked {
        return Ok(folder.to_path_buf());
    }
    system(|name| std::env::var_os(name)).ok_or_else(|| {
        Failure::usage(
            "this account has no home folder to keep the device's identity in",
            "Name a folder for it with --data-dir or HANDOVER_DATA_DIR.",
        )
    })
}

/// An identity that only this process uses.
pub(crate) struct Claim {
    /// Lock on the identity, held until this value is dropped. Where files cannot be locked, it does not exclude
    /// others.
    _lock: Option<File>,
    /// Folder of a temporary identity, deleted with this value.
    borrowed: Option<tempfile::TempDir>,
}

impl Claim {
    /// True if this process uses a temporary identity instead of the usual one.
    pub(crate) fn is_borrowed(&self) -> bool {
        self.borrowed.is_some()
    }
}

/// Claims the identity in `folder`. If another process has it, `folder` becomes that of a new identity: two processes
/// with the same identity would take each other's connections.
pub(crate) fn claim(folder: &mut PathBuf) -> Result<Claim, Failure> {
    let lock = prepare(folder).map_err(|error| unusable(folder, &error))?;
    take(folder, lock)
}

/// Like [`claim`], but where the folder cannot be written, this run gets a temporary identity and nothing of it is
/// stored.
pub(crate) fn claim_or_do_without(folder: &mut PathBuf) -> Result<Claim, Failure> {
    match prepare(folder) {
        Ok(lock) => take(folder, lock),
        Err(error) if is_refused(&error) => {
            tracing::warn!(folder = %folder.display(), %error, "nothing can be kept in the data folder");
            disguise(folder)
        }
        Err(error) => Err(unusable(folder, &error)),
    }
}

/// Takes the lock, or uses a temporary identity.
fn take(folder: &mut PathBuf, lock: File) -> Result<Claim, Failure> {
    let borrowed = match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Some(tempfile::tempdir().map_err(Failure::internal)?),
        // Where files cannot be locked, other processes cannot be detected.
        Ok(()) | Err(_) => None,
    };
    if let Some(borrowed) = &borrowed {
        *folder = borrowed.path().to_path_buf();
    }
    Ok(Claim {
        _lock: Some(lock),
        borrowed,
    })
}

/// True if the file system is read-only or this user may not write.
fn is_refused(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
    )
}

fn unusable(folder: &Path, error: &io::Error) -> Failure {
    Failure::new(
        Exit::Disk,
        format!(
            "the data folder {} can't be used: {error}",
            folder.display()
        ),
        "Name another one with --data-dir or HANDOVER_DATA_DIR.",
    )
}

/// Creates the folder if necessary and opens its lock file.
fn prepare(folder: &Path) -> io::Result<File> {
    make(folder)?;
    open_lock(&folder.join(LOCK))
}

/// Uses a new identity for this run only.
pub(crate) fn disguise(folder: &mut PathBuf) -> Result<Claim, Failure> {
    let own = tempfile::tempdir().map_err(Failure::internal)?;
    *folder = own.path().to_path_buf();
    Ok(Claim {
        _lock: None,
        borrowed: Some(own),
    })
}

/// Creates the folder, private to its owner from the start. Restricts the system's default folder if an earlier version
/// or another program has left it open. The permissions of other folders are the user's decision.
fn make(folder: &Path) -> io::Result<()> {
    identity::create_folder(folder)?;
    let is_own = system(|name| std::env::var_os(name)).is_some_and(|own| own == folder);
    let mode = folder.metadata()?.permissions().mode();
    if is_own && mode & 0o077 != 0 {
        // Some file systems have no permissions.
        let _ = std::fs::set_permissions(folder, Permissions::from_mode(PRIVATE_FOLDER));
    }
    Ok(())
}

/// Opens the lock file. Nobody else may open it, because opening a file is enough to lock it.
fn open_lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    let lock = options.mode(PRIVATE_FILE).open(path)?;
    // An earlier version's file may be open to all. Some file systems have no permissions.
    let _ = lock.set_permissions(Permissions::from_mode(PRIVATE_FILE));
    Ok(lock)
}

/// The default folder: by the XDG base directory specification on Linux and similar systems, by the vendor's rules
/// elsewhere.
fn system(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let folder = |name| {
        variable(name)
            .map(PathBuf::from)
            .filter(|folder| folder.is_absolute())
    };
    let base = if cfg!(windows) {
        folder("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        folder("HOME").map(|home| home.join("Library/Application Support"))
    } else {
        folder("XDG_DATA_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/share")))
    };
    Some(base?.join("handover"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_and_its_lock_are_private_from_the_first_instant() {
        let scene = tempfile::tempdir().unwrap();
        let mut folder = scene.path().join("data/handover");
        let own = folder.clone();
        let first = claim(&mut folder).unwrap_or_else(|_| panic!("a claim"));
        assert!(!first.is_borrowed());
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&own), mode(&own.join(LOCK))), (0o700, 0o600));
        let second = claim(&mut folder).unwrap_or_else(|_| panic!("a claim"));
        assert!(second.is_borrowed() && folder != own);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_specification_is_followed() {
        let with = |set: &[(&str, &str)]| {
            let set: Vec<_> = set
                .iter()
                .map(|(name, value)| (name.to_string(), value.into()))
                .collect();
            system(move |name| {
                set.iter()
                    .find(|(known, _)| known == name)
                    .map(|(_, value): &(_, OsString)| value.clone())
            })
        };
        assert_eq!(
            with(&[("HOME", "/h")]),
            Some("/h/.local/share/handover".into())
        );
        assert_eq!(
            with(&[("HOME", "/h"), ("XDG_DATA_HOME", "/d")]),
            Some("/d/handover".into())
        );
        // The specification says that a relative path is to be ignored.
        assert_eq!(
            with(&[("HOME", "/h"), ("XDG_DATA_HOME", "d")]),
            Some("/h/.local/share/handover".into())
        );
        assert_eq!(with(&[]), None);
    }
}
