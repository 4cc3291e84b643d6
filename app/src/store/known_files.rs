//! Which files of this device have which root: those that were fetched, and those that were shared. So that the same bytes
//! need not be fetched again. It is a hint: what it names may be gone or changed, and whoever uses it looks.
//!
//! It is a file of its own, `known.redb`: there may be many rows, and what else is remembered should not be slower for
//! them. It is as open and as private as the other.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use redb::{ReadableTable, ReadableTableMetadata, TableDefinition};

use super::{Store, StoreError, table};

/// The file's name in the data folder.
const FILE_NAME: &str = "known.redb";
/// Files that are kept; the oldest go first.
const KEPT: u64 = 200_000;
/// How long it is waited for another process that has it open: nothing depends on it.
const PATIENCE: Duration = Duration::from_secs(1);

/// By root: path, size, and when it was changed last (seconds, nanoseconds); and its number in [`AGES`].
type Row = (&'static str, u64, i64, u32, u64);
const FILES: TableDefinition<[u8; 32], Row> = TableDefinition::new("files");
/// Sizes, each with the roots that have it.
const SIZES: TableDefinition<(u64, [u8; 32]), ()> = TableDefinition::new("sizes");
/// Roots in the order in which they were noted.
const AGES: TableDefinition<u64, [u8; 32]> = TableDefinition::new("ages");

/// A file and what it was when it was noted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownFile {
    /// What it hashed to.
    pub root: [u8; 32],
    /// Where it was: an absolute path.
    pub path: String,
    /// Its bytes.
    pub size: u64,
    /// When it was changed last: seconds since 1970, and nanoseconds.
    pub modified: (i64, u32),
}

/// The files that a device knows. Copies are cheap.
#[derive(Debug, Clone)]
pub struct KnownFiles {
    store: Store,
    kept: u64,
}

impl KnownFiles {
    /// Those that are noted in this data folder.
    pub fn in_folder(data_dir: &Path) -> Self {
        let mut store = Store::in_folder(data_dir);
        store.path = data_dir.join(FILE_NAME);
        store.patience = PATIENCE;
        Self { store, kept: KEPT }
    }

    /// Notes files, each in place of what had its root before.
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

    /// Which of these sizes a file has that is known.
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

    /// The files that have these roots, as far as some are known.
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
        // Noted again, it is young again.
        known.note(&[file(1, 1), file(4, 4)]).unwrap();
        let all: Vec<[u8; 32]> = (1..=4).map(|mark| [mark; 32]).collect();
        let found = known.find(&all).unwrap();
        let roots: Vec<u8> = found.iter().map(|file| file.root[0]).collect();
        assert_eq!(roots, [1, 3, 4]);
        let sizes = known.sizes(&[1, 2, 3, 4].into()).unwrap();
        assert_eq!(sizes, [1, 3, 4].into());
    }
}
