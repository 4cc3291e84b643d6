//! Permission bits and modification times, as recorded in the manifest.

use std::fs::Metadata;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

use handover_core::time::Timestamp;
use rustix::fs::{AtFlags, Mode, RawMode, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

/// The bits transferred between machines: never setuid, setgid or sticky.
const PERMISSIONS: u32 = 0o777;
/// Owner bits of a staged file that marks bits to withhold from others. Ordinary staged files have different owner bits
/// until they get their own mode.
const COPY: u32 = 0o700;

/// The time of the file's last modification.
pub(super) fn modified(metadata: &Metadata) -> Timestamp {
    Timestamp {
        seconds: metadata.mtime(),
        nanos: u32::try_from(metadata.mtime_nsec()).unwrap_or(0),
    }
}

/// The permission bits of a mode.
// Modes are 16 bits wide on some systems.
#[allow(clippy::useless_conversion)]
pub(super) fn permissions(mode: RawMode) -> u32 {
    u32::from(mode) & PERMISSIONS
}

/// The bits withheld from every file that this process creates (umask).
pub(super) fn umask() -> u32 {
    static UMASK: OnceLock<u32> = OnceLock::new();
    *UMASK.get_or_init(|| told_umask().unwrap_or_else(asked_umask))
}

/// Reads the umask from `/proc`, on Linux.
fn told_umask() -> Option<u32> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(line.trim(), 8).ok()
}

/// Reads the umask by changing it, the only way on other systems. Files that other threads create in that moment are
/// accessible to their owner only.
// Modes are 16 bits wide on some systems.
#[allow(clippy::useless_conversion)]
fn asked_umask() -> u32 {
    let own = rustix::process::umask(Mode::from_raw_mode(0o077));
    rustix::process::umask(own);
    u32::from(own.as_raw_mode())
}

/// The bits that a copy of a file with this mode must not have: those of the group, and of others, where they cannot
/// read the file.
pub(super) fn kept_from_others(mode: u32) -> u32 {
    let group = if mode & 0o040 == 0 { 0o070 } else { 0 };
    let everybody = if mode & 0o004 == 0 { 0o007 } else { 0 };
    group | everybody
}

/// The same for a copy of a file that was published with `mode`: only those bits that the disk or the user has withheld
/// from it.
pub(super) fn withheld_since(published: &Metadata, mode: u32) -> u32 {
    kept_from_others(published.mode()) & !kept_from_others(mode & !umask())
}

/// Marks in a staged file's own mode, where a crash does not lose it, which bits are to be withheld from others. Until
/// then the staging folder denies access to others.
pub(super) fn withhold(staging: impl AsFd, staged: &str, bits: u32) -> io::Result<()> {
    let mode = Mode::from_raw_mode((COPY | (!bits & 0o077)) as RawMode);
    bearable(rustix::fs::chmodat(staging, staged, mode, AtFlags::empty()))
}

/// Removes from a staged file's future mode the bits that are marked to be withheld.
pub(super) fn withheld(staged: &Metadata, mode: u32) -> u32 {
    let noted = staged.mode() & PERMISSIONS;
    if noted & COPY == COPY {
        mode & noted
    } else {
        mode
    }
}

/// Sets the permission bits, except those in the user's umask, and the modification time of an open file or folder.
/// Like `cp`: the sender does not decide who else may read or write here.
pub(super) fn set(file: impl AsFd, mode: u32, modified: Timestamp) -> io::Result<()> {
    set_all(file, mode & !umask(), modified)
}

/// File systems that support neither (FAT), and times that they cannot store, are no reason to lose a file.
fn set_all(file: impl AsFd, mode: u32, modified: Timestamp) -> io::Result<()> {
    let file = file.as_fd();
    let mode = Mode::from_raw_mode((mode & PERMISSIONS) as RawMode);
    bearable(rustix::fs::fchmod(file, mode))?;
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT as _,
        },
        last_modification: Timespec {
            tv_sec: modified.seconds,
            // Larger values are UTIME_NOW and UTIME_OMIT to the system.
            tv_nsec: modified.nanos.min(999_999_999).into(),
        },
    };
    bearable(rustix::fs::futimens(file, &times))
}

fn bearable(result: Result<(), Errno>) -> io::Result<()> {
    match result {
        Err(Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_can_be_read_back() {
        let file = tempfile::tempfile().unwrap();
        for (mode, seconds, nanos) in [
            (0o644, 0, 0),
            (0o755, 915_148_800, 123_456_789),
            (0o000, -86_400, 999_999_999),
            (0o777, 4_000_000_000, 1),
        ] {
            let time = Timestamp { seconds, nanos };
            set_all(&file, mode, time).unwrap();
            let metadata = file.metadata().unwrap();
            assert_eq!(modified(&metadata), time);
            assert_eq!(metadata.mode() & 0o7777, mode);
        }
    }

    #[test]
    fn the_umask_is_the_one_that_new_files_get() {
        let folder = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(folder.path().join("new")).unwrap();
        let mode = file.metadata().unwrap().mode();
        assert_eq!(mode & 0o7777, 0o666 & !umask());
        assert_eq!(told_umask(), Some(umask()));
        set(&file, 0o777, Timestamp::default()).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o777 & !umask());
    }

    #[test]
    fn neither_setuid_nor_an_impossible_time_gets_through() {
        let file = tempfile::tempfile().unwrap();
        let time = Timestamp {
            seconds: i64::MAX,
            nanos: u32::MAX,
        };
        set_all(&file, 0o6755, time).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o755);
    }
}
