//! A bounded cache of open files, evicting the least recently used.

use std::fs::File;
use std::sync::{Arc, Mutex};

use super::lock;

/// Maximum number of files kept open per share and per download. Well below the 256 that some systems allow a process,
/// and enough for the few files that are read or written in parts at a time.
const CAPACITY: usize = 64;

/// Open files by entry. A file dropped from the cache is closed when its last user is done with it.
#[derive(Debug, Default)]
pub(super) struct OpenFiles(Mutex<Vec<(u32, Arc<File>)>>);

impl OpenFiles {
    pub(super) fn get(&self, entry: u32) -> Option<Arc<File>> {
        let mut files = lock(&self.0);
        let at = files.iter().rposition(|(of, _)| *of == entry)?;
        // The vector is in order of use, the most recent last, where the next search finds it first.
        files[at..].rotate_left(1);
        files.last().map(|(_, file)| Arc::clone(file))
    }

    /// Keeps the file open. Replaces an older handle of the same entry, or the least recently used file if the cache is
    /// full.
    pub(super) fn insert(&self, entry: u32, file: Arc<File>) {
        let closed = {
            let mut files = lock(&self.0);
            let same = files.iter().position(|(of, _)| *of == entry);
            let oldest = (files.len() >= CAPACITY).then_some(0);
            let closed = same.or(oldest).map(|at| files.remove(at));
            files.push((entry, file));
            closed
        };
        // Closing may wait for a network file system, so it must not happen under the lock.
        drop(closed);
    }

    pub(super) fn take(&self, entry: u32) -> Option<Arc<File>> {
        let mut files = lock(&self.0);
        let at = files.iter().rposition(|(of, _)| *of == entry)?;
        Some(files.remove(at).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_was_not_used_for_longest_is_closed() {
        let open = OpenFiles::default();
        let file = Arc::new(tempfile::tempfile().unwrap());
        for entry in 0..u32::try_from(CAPACITY).unwrap() {
            open.insert(entry, Arc::clone(&file));
        }
        assert!(open.get(0).is_some());
        open.insert(1000, Arc::clone(&file));
        assert!(open.get(0).is_some());
        assert!(open.get(1).is_none());
        open.insert(1000, Arc::clone(&file));
        assert_eq!(Arc::strong_count(&file), CAPACITY + 1);
        assert!(open.take(1000).is_some());
        assert!(open.get(1000).is_none());
    }
}
