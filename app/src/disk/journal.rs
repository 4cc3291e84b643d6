//! The journal of a download: which of its data is verified and durable, in a file in the staging folder.
//!
//! It is a redb database, because redb's transactions are atomic, whatever happens meanwhile. The engine decides what
//! is recorded, when and in which order; [`super::resume`] checks what the disk still confirms of it.

use std::fmt;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};

use handover_core::engine::{Groups, Origin, Record, Whole};
use handover_core::merkle::Hash;
use handover_core::path::SafePath;
use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition};

/// Format of a journal; other versions are not read.
const VERSION: u64 = 1;
/// Size of the database's cache, in bytes.
const CACHE: usize = 1024 * 1024;
/// Size of a node, in bytes.
const NODE: usize = 32;

/// `version`; `manifest` and `signer`, which identify the download.
const HEADER: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("header");
/// Key: entry and first group. Value: the file's size, and the nodes of consecutive groups, concatenated.
const GROUPS: TableDefinition<'_, (u32, u64), (u64, &[u8])> = TableDefinition::new("groups");
/// Complete files. Key: entry. Value: size, root, and the intended path.
const WHOLE: TableDefinition<'_, u32, (u64, [u8; NODE], &str)> = TableDefinition::new("whole");
/// Published files. Key: entry. Value: the path.
const PUBLISHED: TableDefinition<'_, u32, &str> = TableDefinition::new("published");
/// Folders created for the download: they get their attributes at its end.
const FOLDERS: TableDefinition<'_, &str, ()> = TableDefinition::new("folders");

/// An open journal.
pub(super) struct Journal(Database);

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Journal")
    }
}

/// The whole content of a journal.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Notes {
    pub(super) groups: Vec<Groups>,
    pub(super) whole: Vec<Whole>,
    pub(super) published: Vec<(u32, SafePath)>,
    pub(super) folders: Vec<String>,
}

/// Reasons why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum JournalError {
    #[error("{0}")]
    Store(#[from] redb::Error),
    #[error("it is of another download")]
    OtherOrigin,
    #[error("it is damaged")]
    Damaged,
}

macro_rules! from_store {
    ($($error:ident),*) => {
        $(impl From<redb::$error> for JournalError {
            fn from(error: redb::$error) -> Self {
                Self::Store(error.into())
            }
        })*
    };
}

from_store!(
    DatabaseError,
    TransactionError,
    TableError,
    StorageError,
    CommitError
);

impl Journal {
    /// Opens the journal in this file, which must be empty or hold one of the same origin.
    pub(super) fn open(file: File, origin: &Origin) -> Result<Self, JournalError> {
        // The file may contain anything by now, and redb panics on some of it.
        let opened = catch_unwind(AssertUnwindSafe(|| Self::try_open(file, origin)));
        opened.unwrap_or(Err(JournalError::Damaged))
    }

    fn try_open(file: File, origin: &Origin) -> Result<Self, JournalError> {
        let database = Database::builder()
            .set_cache_size(CACHE)
            .create_with_backend(FileBackend::new(file)?)?;
        let writing = database.begin_write()?;
        {
            let mut header = writing.open_table(HEADER)?;
            let signer = origin.signer.to_bytes();
            let ours: [(&str, &[u8]); 3] = [
                ("version", &VERSION.to_le_bytes()),
                ("manifest", origin.manifest.as_bytes()),
                ("signer", &signer),
            ];
            for (key, value) in ours {
                let known = header.get(key)?.map(|known| known.value() == value);
                match known {
                    Some(true) => {}
                    Some(false) => return Err(JournalError::OtherOrigin),
                    None => {
                        header.insert(key, value)?;
                    }
                }
            }
            writing.open_table(GROUPS)?;
            writing.open_table(WHOLE)?;
            writing.open_table(PUBLISHED)?;
            writing.open_table(FOLDERS)?;
        }
        writing.commit()?;
        Ok(Self(database))
    }

    /// Writes a record and the created folders in one transaction.
    pub(super) fn note(&self, record: &Record, folders: &[String]) -> Result<(), JournalError> {
        let writing = self.0.begin_write()?;
        {
            let mut groups = writing.open_table(GROUPS)?;
            let mut whole = writing.open_table(WHOLE)?;
            let mut published = writing.open_table(PUBLISHED)?;
            for entry in &record.dropped {
                forget(&mut groups, *entry)?;
                whole.remove(entry)?;
            }
            for run in &record.groups {
                let nodes: Vec<u8> = run.nodes.iter().flat_map(|node| node.0).collect();
                groups.insert((run.entry, run.first), (run.size, nodes.as_slice()))?;
            }
            for file in &record.whole {
                forget(&mut groups, file.entry)?;
                whole.insert(file.entry, (file.size, file.root.0, file.path.as_str()))?;
            }
            for (entry, path) in &record.published {
                forget(&mut groups, *entry)?;
                whole.remove(entry)?;
                published.insert(entry, path.as_str())?;
            }
            let mut made = writing.open_table(FOLDERS)?;
            for folder in folders {
                made.insert(folder.as_str(), ())?;
            }
        }
        writing.commit()?;
        Ok(())
    }

    /// Reads the whole journal.
    pub(super) fn read(&self) -> Result<Notes, JournalError> {
        let read = catch_unwind(AssertUnwindSafe(|| self.try_read()));
        read.unwrap_or(Err(JournalError::Damaged))
    }

    fn try_read(&self) -> Result<Notes, JournalError> {
        let reading = self.0.begin_read()?;
        let mut notes = Notes::default();
        for row in reading.open_table(GROUPS)?.iter()? {
            let (key, value) = row?;
            let ((entry, first), (size, hashes)) = (key.value(), value.value());
            let hashes = hashes.as_chunks::<NODE>().0;
            notes.groups.push(Groups {
                entry,
                size,
                first,
                nodes: hashes.iter().map(|node| Hash(*node)).collect(),
            });
        }
        for row in reading.open_table(WHOLE)?.iter()? {
            let (entry, value) = row?;
            let (size, root, path) = value.value();
            notes.whole.push(Whole {
                entry: entry.value(),
                path: SafePath::parse_made(path).map_err(|_| JournalError::Damaged)?,
                size,
                root: Hash(root),
            });
        }
        for row in reading.open_table(PUBLISHED)?.iter()? {
            let (entry, path) = row?;
            let path = SafePath::parse_made(path.value()).map_err(|_| JournalError::Damaged)?;
            notes.published.push((entry.value(), path));
        }
        for row in reading.open_table(FOLDERS)?.iter()? {
            notes.folders.push(row?.0.value().to_owned());
        }
        Ok(notes)
    }
}

/// Removes all groups of a file.
fn forget(
    groups: &mut Table<'_, (u32, u64), (u64, &[u8])>,
    entry: u32,
) -> Result<(), JournalError> {
    groups.retain_in((entry, 0)..=(entry, u64::MAX), |_, _| false)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::origin_of as origin;
    use super::*;

    fn groups(entry: u32, first: u64, nodes: &[u8]) -> Groups {
        let nodes = nodes.iter().map(|byte| Hash([*byte; 32])).collect();
        Groups {
            entry,
            size: 1 << 40,
            first,
            nodes,
        }
    }

    fn whole(entry: u32) -> Whole {
        Whole {
            entry,
            path: SafePath::parse("a/b").unwrap(),
            size: 5,
            root: Hash([9; 32]),
        }
    }

    #[test]
    fn what_was_noted_is_read_by_the_next_run_and_later_words_count() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let origin = origin("a");
        let journal = Journal::open(file.reopen().unwrap(), &origin).unwrap();
        let mut record = Record {
            groups: vec![
                groups(1, 0, &[1, 2]),
                groups(1, 7, &[3]),
                groups(2, 0, &[4]),
            ],
            ..Record::default()
        };
        journal.note(&record, &["folder".into()]).unwrap();
        record = Record {
            dropped: vec![2],
            groups: vec![groups(3, 1, &[5])],
            whole: vec![whole(1)],
            published: vec![(4, SafePath::parse("c").unwrap())],
        };
        journal.note(&record, &[]).unwrap();
        drop(journal);
        let journal = Journal::open(file.reopen().unwrap(), &origin).unwrap();
        let notes = journal.read().unwrap();
        assert_eq!(notes.groups, [groups(3, 1, &[5])]);
        assert_eq!(notes.whole, [whole(1)]);
        assert_eq!(notes.published, [(4, SafePath::parse("c").unwrap())]);
        assert_eq!(notes.folders, ["folder"]);
    }

    #[test]
    fn a_journal_of_something_else_and_one_that_is_damaged_are_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        drop(Journal::open(file.reopen().unwrap(), &origin("a")).unwrap());
        let other = Journal::open(file.reopen().unwrap(), &origin("b"));
        assert!(matches!(other, Err(JournalError::OtherOrigin)), "{other:?}");
        for (at, with) in [(0, 100), (500, 4000)] {
            let mut bytes = std::fs::read(file.path()).unwrap();
            bytes[at..at + with].fill(0xAA);
            let damaged = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(damaged.path(), &bytes).unwrap();
            let opened = Journal::open(damaged.reopen().unwrap(), &origin("a"));
            let read = opened.and_then(|journal| journal.read());
            assert!(read.is_err() || read.unwrap() == Notes::default());
        }
    }
}
