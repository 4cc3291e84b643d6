//! Maps system errors to the engine's [`DiskError`].

use std::io;

use handover_core::engine::DiskError;
use rustix::io::Errno;

/// Converts an error. `what` is the path concerned, as users know it.
pub(super) fn disk_error(error: impl Into<io::Error>, what: &str) -> DiskError {
    let error = error.into();
    match Errno::from_io_error(&error) {
        Some(Errno::NOSPC | Errno::DQUOT) => DiskError::Full,
        Some(Errno::ACCESS | Errno::PERM) => DiskError::Denied(what.to_owned()),
        Some(Errno::ROFS) => DiskError::Denied(format!("{what}: the file system is read-only")),
        Some(Errno::NOENT) => DiskError::NotFound,
        Some(Errno::NAMETOOLONG) => DiskError::NameTooLong,
        Some(Errno::PIPE) => DiskError::PipeClosed,
        Some(Errno::LOOP) => DiskError::Escape(format!("{what} leads through a symlink")),
        Some(Errno::XDEV) => DiskError::Other(format!(
            "{what} lies on another disk than the download's folder; receive into it directly"
        )),
        Some(Errno::FBIG) => DiskError::Other(format!("{what} is too large for this file system")),
        _ => match error.kind() {
            io::ErrorKind::BrokenPipe => DiskError::PipeClosed,
            io::ErrorKind::NotFound => DiskError::NotFound,
            io::ErrorKind::PermissionDenied => DiskError::Denied(what.to_owned()),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DiskError::Full,
            _ if what.is_empty() => DiskError::Other(error.to_string()),
            _ => DiskError::Other(format!("{what}: {error}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_errors_that_users_can_act_on_have_names() {
        let named = |errno: Errno| disk_error(errno, "a/b");
        assert_eq!(named(Errno::NOSPC), DiskError::Full);
        assert_eq!(named(Errno::DQUOT), DiskError::Full);
        assert_eq!(named(Errno::ACCESS), DiskError::Denied("a/b".into()));
        assert!(matches!(named(Errno::ROFS), DiskError::Denied(_)));
        assert_eq!(named(Errno::NOENT), DiskError::NotFound);
        assert_eq!(named(Errno::NAMETOOLONG), DiskError::NameTooLong);
        assert_eq!(named(Errno::PIPE), DiskError::PipeClosed);
        assert!(matches!(named(Errno::LOOP), DiskError::Escape(_)));
        assert!(matches!(named(Errno::IO), DiskError::Other(text) if text.starts_with("a/b: ")));
    }
}
