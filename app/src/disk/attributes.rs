//! Permission bits and modification times, as the manifest has them.

use std::fs::Metadata;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use handover_core::time::Timestamp;
use rustix::fs::{Mode, RawMode, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

/// The bits that go from machine to machine: never setuid, setgid or sticky.
const PERMISSIONS: u32 = 0o777;

/// When the file was last written to.
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

/// Gives an open file or folder its permission bits and its modification time.
///
/// File systems that know neither (FAT) and times that they can't hold are no reason to lose a file.
pub(super) fn set(file: impl AsFd, mode: u32, modified: Timestamp) -> io::Result<()> {
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
            // Values above mean "now" and "leave it" to the system.
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
            set(&file, mode, time).unwrap();
            let metadata = file.metadata().unwrap();
            assert_eq!(modified(&metadata), time);
            assert_eq!(metadata.mode() & 0o7777, mode);
        }
    }

    #[test]
    fn neither_setuid_nor_an_impossible_time_gets_through() {
        let file = tempfile::tempfile().unwrap();
        let time = Timestamp {
            seconds: i64::MAX,
            nanos: u32::MAX,
        };
        set(&file, 0o6755, time).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o755);
    }
}
