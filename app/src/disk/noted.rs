//! The device's database of known files: read by the caller, and written by a separate thread so that no transfer waits
//! for it. It is a convenience: failures to read or write are treated as if nothing was recorded.

use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use handover_core::merkle::Hash;

use crate::store::{KnownFile, KnownFiles};

/// Capacity of the queue of files to record; further ones are dropped.
const WAITING: usize = 4096;
/// Maximum number of files written in one transaction, besides the first.
const BATCH: usize = 4096;
/// How long to collect more files before a transaction: the device's other records are written first. A run that ends
/// does not wait.
const LINGER: Duration = Duration::from_millis(500);

/// The device's database of known files, if it has one.
#[derive(Debug, Default)]
pub(super) struct Noted(Option<Writer>);

#[derive(Debug)]
struct Writer {
    known: KnownFiles,
    files: Option<SyncSender<(PathBuf, Hash)>>,
    thread: Option<JoinHandle<()>>,
}

impl Noted {
    /// Opens the database and starts its writer thread.
    pub(super) fn new(known: Option<KnownFiles>) -> Self {
        Self(known.map(|known| {
            let (files, waiting) = sync_channel(WAITING);
            let to = known.clone();
            let thread = std::thread::Builder::new()
                .name("known files".to_owned())
                .spawn(move || write(&to, &waiting));
            Writer {
                known,
                files: Some(files),
                thread: thread.ok(),
            }
        }))
    }

    /// Records the root of a file.
    pub(super) fn note(&self, path: PathBuf, root: Hash) {
        let files = self.0.as_ref().and_then(|writer| writer.files.as_ref());
        if let Some(files) = files {
            let _ = files.try_send((path, root));
        }
    }

    /// Returns which of these sizes any known file has.
    pub(super) fn sizes(&self, of: &BTreeSet<u64>) -> BTreeSet<u64> {
        let Some(writer) = &self.0 else {
            return BTreeSet::new();
        };
        let known = writer.known.sizes(of);
        known.unwrap_or_else(|error| {
            tracing::debug!(%error, "which files are known can't be told");
            BTreeSet::new()
        })
    }

    /// Returns the known files with these roots.
    pub(super) fn find(&self, roots: &[[u8; 32]]) -> HashMap<[u8; 32], KnownFile> {
        let Some(writer) = self.0.as_ref().filter(|_| !roots.is_empty()) else {
            return HashMap::new();
        };
        let found = writer.known.find(roots).unwrap_or_default();
        found.into_iter().map(|file| (file.root, file)).collect()
    }
}

impl Drop for Writer {
    /// Writes what is queued. Takes as long as a transaction does.
    fn drop(&mut self) {
        self.files = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write(known: &KnownFiles, waiting: &Receiver<(PathBuf, Hash)>) {
    while let Ok(first) = waiting.recv() {
        let until = Instant::now() + LINGER;
        let left = || until.saturating_duration_since(Instant::now());
        let more = std::iter::from_fn(|| waiting.recv_timeout(left()).ok());
        let files: Vec<KnownFile> = std::iter::once(first)
            .chain(more.take(BATCH))
            .filter_map(|(path, root)| look(path, root))
            .collect();
        if files.is_empty() {
            continue;
        }
        if let Err(error) = known.note(&files) {
            tracing::debug!(%error, "files are not noted");
        }
    }
}

/// The file's current metadata. A file changed at this very moment will not match its root, which is detected later.
fn look(path: PathBuf, root: Hash) -> Option<KnownFile> {
    let metadata = path
        .symlink_metadata()
        .ok()
        .filter(std::fs::Metadata::is_file)?;
    let nanos = u32::try_from(metadata.mtime_nsec()).unwrap_or(0);
    Some(KnownFile {
        root: root.0,
        path: path.into_os_string().into_string().ok()?,
        size: metadata.len(),
        modified: (metadata.mtime(), nanos),
    })
}
