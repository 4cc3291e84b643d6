//! Checks the date of this computer. No other computer is asked for the time, so only this computer's own files can
//! show that the clock is wrong: none of them was written in the future.

use std::fs::{self, Metadata};
use std::path::Path;
use std::time::SystemTime;

use serde::Serialize;

/// Maximum number of files in the data folder that are checked.
const FILES: usize = 64;
/// Tolerance in seconds, because file systems of other computers may be slightly ahead.
const SLACK: u64 = 24 * 60 * 60;

/// State of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clock {
    /// Time shown by the clock, in seconds since 1970.
    pub(crate) now: u64,
    /// Modification time of the newest file, in seconds since 1970, if it is later than the clock.
    pub(crate) passed: Option<u64>,
}

/// The verdict on the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Unknown,
    /// A file is newer than the time shown.
    Behind,
}

impl Clock {
    /// `newest`: modification time of the newest file, in seconds since 1970.
    pub(crate) fn judge(now: u64, newest: Option<u64>) -> Self {
        let passed = newest.filter(|newest| *newest > now.saturating_add(SLACK));
        Self { now, passed }
    }

    pub(crate) fn verdict(self) -> Verdict {
        match self.passed {
            Some(_) => Verdict::Behind,
            None => Verdict::Unknown,
        }
    }
}

/// Reads the clock, and the modification times of this program and of the files in the data folder.
pub(super) fn read(data: &Path) -> Clock {
    let program = std::env::current_exe().and_then(fs::metadata).ok();
    let kept = fs::read_dir(data).into_iter().flatten().flatten();
    let kept = kept.take(FILES).filter_map(|entry| entry.metadata().ok());
    let written = |of: Metadata| of.modified().ok().and_then(seconds);
    let newest = program.into_iter().chain(kept).filter_map(written).max();
    let now = seconds(SystemTime::now()).unwrap_or_default();
    Clock::judge(now, newest)
}

fn seconds(time: SystemTime) -> Option<u64> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_clock_is_behind_if_files_are_newer() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join("kept")).unwrap();
        let verdict_at = |ahead: Duration| {
            file.set_modified(SystemTime::now() + ahead).unwrap();
            read(folder.path()).verdict()
        };
        assert_eq!(verdict_at(Duration::ZERO), Verdict::Unknown);
        assert_eq!(verdict_at(Duration::from_hours(12)), Verdict::Unknown);
        assert_eq!(verdict_at(Duration::from_hours(48)), Verdict::Behind);
    }
}
