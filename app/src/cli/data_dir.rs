//! Where this device keeps its identity.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::failure::Failure;

/// Says which process uses the identity beside it.
const LOCK: &str = "lock";

/// The folder that was asked for, or the one that the system has for such things.
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

/// An identity in use by this process alone.
pub(crate) struct Claim {
    /// Held for as long as the process runs, where files can be locked and nobody else had it.
    _lock: File,
    /// An identity of its own, which goes with it.
    borrowed: Option<tempfile::TempDir>,
}

impl Claim {
    /// Whether this process is somebody else than usual: another one has the identity.
    pub(crate) fn is_borrowed(&self) -> bool {
        self.borrowed.is_some()
    }
}

/// Claims the identity in `folder`. Where another process has it already, `folder` becomes that of a new one: two
/// processes that are one peer would take each other's connections.
pub(crate) fn claim(folder: &mut PathBuf) -> Result<Claim, Failure> {
    std::fs::create_dir_all(&*folder).map_err(Failure::internal)?;
    let lock = File::create(folder.join(LOCK)).map_err(Failure::internal)?;
    let borrowed = match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Some(tempfile::tempdir().map_err(Failure::internal)?),
        // Where files can't be locked there is nothing to go by.
        Ok(()) | Err(_) => None,
    };
    if let Some(borrowed) = &borrowed {
        *folder = borrowed.path().to_path_buf();
    }
    Ok(Claim {
        _lock: lock,
        borrowed,
    })
}

/// By the XDG base directory specification on Linux and the like, by each vendor's rules elsewhere.
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
        // A relative one is to be ignored, says the specification.
        assert_eq!(
            with(&[("HOME", "/h"), ("XDG_DATA_HOME", "d")]),
            Some("/h/.local/share/handover".into())
        );
        assert_eq!(with(&[]), None);
    }
}
