//! The known files of this device by root: those that were fetched, and those that were shared, so that the same bytes
//! need not be fetched again. A hint only: the file may be gone or changed, so callers check.
//!
//! They have a file of their own, `known.redb`: there may be many rows, and those must not slow down the other state.
//! It has the same format and permissions as `state.redb`.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use redb::{ReadableTable, ReadableTableMetadata, TableDefinition};

use super::{Store, StoreError, table};

/// The file's name in the data folder.
const FILE_NAME: &str = "known.redb";
/// Maximum number of files kept; the oldest are removed first.
const KEPT: u64 = 200_000;
/// Timeout for opening the file while another process has it open. Short, as nothing depends on it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Keyed by root: path, size, modification time (seconds, nanoseconds), and key in [`AGES`].
type Row = (&'static str, u64, i64, u32, u64);
const FILES: TableDefinition<[u8; 32], Row> = TableDefinition::new("files");
/// Sizes, each with every root of that size.
const SIZES: TableDefinition<(u64, [u8; 32]), ()> = TableDefinition::new("sizes");
/// Roots in the order in which they were recorded.
const AGES: TableDefinition<u64, [u8; 32]> = TableDefinition::new("ages");

/// A file, as it was when it was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownFile {
    /// Root of its content.
    pub root: [u8; 32],
    /// Its absolute path.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its modification time: seconds since 1970, and nanoseconds.
    pub modified: (i64, u32),
}

/// The known files of a device. Clones are cheap.
#[derive(Debug, Clone)]
pub struct KnownFiles {
    store: Store,
    kept: u64,
}

impl KnownFiles {
    /// The files recorded in this data folder.
    pub fn in_folder(data_dir: &Path) -> Self {
        let mut store = Store::in_folder(data_dir);
        store.path = data_dir.join(FILE_NAME);
        store.patience = PATIENCE;
        Self { store, kept: KEPT }
    }

    /// Records files, each replacing an earlier one with the same root.
    pub fn note(&self, files: &[KnownFile]) -> Result<(), StoreError> {
        self.store.write(|transaction| {
            let mut rows = transaction.open_table(FILES)?;
            let mut sizes = transaction.open_table(SIZES)?;
            let mut ages = transaction.open_table(AGES)?;
            let first = ages.last()?.map_or(0, |(last, _)| last.value() + 1);
            for (next, file) in (first..).zip(files) {
                let (seconds, nanos) = file.modified;
                let row = (file.path.as_str(), file.size, seconds, nanos, next);
                let before = rows.insert(file.root, row)?.map(|row| row.value().4);
                if let Some(before) = before {
                    ages.remove(before)?;
                }
                ages.insert(next, file.root)?;
                sizes.insert((file.size, file.root), ())?;
            }
            while ages.len()? > self.kept {
                let Some((_, root)) = ages.pop_first()? else {
                    break;
                };
                let root = root.value();
                let size = rows.remove(root)?.map(|row| row.value().1);
                if let Some(size) = size {
                    sizes.remove((size, root))?;
                }
            }
            Ok(())
        })
    }

    /// Returns which of these sizes any known file has.
    pub fn sizes(&self, of: &BTreeSet<u64>) -> Result<BTreeSet<u64>, StoreError> {
        self.store.read(|transaction| {
            let mut known = BTreeSet::new();
            let Some(sizes) = table(transaction, SIZES)? else {
                return Ok(known);
            };
            for size in of {
                let mut rows = sizes.range((*size, [0; 32])..=(*size, [0xff; 32]))?;
                if rows.next().transpose()?.is_some() {
                    known.insert(*size);
                }
            }
            Ok(known)
        })
    }

    /// Returns the known files with these roots.
    pub fn find(&self, roots: &[[u8; 32]]) -> Result<Vec<KnownFile>, StoreError> {
        self.store.read(|transaction| {
            let mut found = Vec::new();
            let Some(rows) = table(transaction, FILES)? else {
                return Ok(found);
            };
            for root in roots {
                if let Some(row) = rows.get(root)? {
                    let (path, size, seconds, nanos, _) = row.value();
                    found.push(KnownFile {
                        root: *root,
                        path: path.to_owned(),
                        size,
                        modified: (seconds, nanos),
                    });
                }
            }
            Ok(found)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(mark: u8, size: u64) -> KnownFile {
        KnownFile {
            root: [mark; 32],
            path: format!("/somewhere/{mark}"),
            size,
            modified: (-1, 7),
        }
    }

    #[test]
    fn files_are_found_by_size_and_by_root() {
        let folder = tempfile::tempdir().unwrap();
        let known = KnownFiles::in_folder(folder.path());
        assert_eq!(known.sizes(&[5].into()).unwrap(), [].into());
        assert_eq!(known.find(&[[1; 32]]).unwrap(), []);
        known.note(&[file(1, 5), file(2, 6), file(3, 5)]).unwrap();
        assert_eq!(known.sizes(&[4, 5, 7].into()).unwrap(), [5].into());
        let found = known.find(&[[2; 32], [9; 32]]).unwrap();
        assert_eq!(found, [file(2, 6)]);
        let moved = KnownFile {
            path: "/elsewhere".to_owned(),
            ..file(2, 6)
        };
        known.note(std::slice::from_ref(&moved)).unwrap();
        assert_eq!(known.find(&[[2; 32]]).unwrap(), [moved]);
    }

    #[test]
    fn the_oldest_go_where_there_are_too_many() {
        let folder = tempfile::tempdir().unwrap();
        let mut known = KnownFiles::in_folder(folder.path());
        known.kept = 3;
        known.note(&[file(1, 1), file(2, 2), file(3, 3)]).unwrap();
        // Recording it again makes it the newest.
        known.note(&[file(1, 1), file(4, 4)]).unwrap();
        let all: Vec<[u8; 32]> = (1..=4).map(|mark| [mark; 32]).collect();
        let found = known.find(&all).unwrap();
        let roots: Vec<u8> = found.iter().map(|file| file.root[0]).collect();
        assert_eq!(roots, [1, 3, 4]);
        let sizes = known.sizes(&[1, 2, 3, 4].into()).unwrap();
        assert_eq!(sizes, [1, 3, 4].into());
    }
}
