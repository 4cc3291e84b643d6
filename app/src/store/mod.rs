//! What a device remembers from run to run: one database, `state.redb`, in its data folder.
//!
//! It knows how the file is opened, shared and begun anew; what stands in its tables is the business of the modules
//! below, which bring definitions and records of their own. Several processes of one user may run at once, and each
//! operation opens the file and closes it again: so nobody holds it for longer than a transaction takes, and who finds
//! it taken waits a moment. Everything blocks: on a runtime it belongs on a thread for such things.
//!
//! A memory is a convenience. Nothing that handover does may fail because of it: callers log what went wrong, and go on.

mod history;
mod known_files;
mod peers;
mod short_codes;
mod unfinished;

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use handover_transports::identity;
use redb::backends::FileBackend;
use redb::{
    Database, DatabaseError, ReadTransaction, ReadableDatabase, StorageError, TableDefinition,
    TableError, WriteTransaction,
};
use rustix::fs::{FlockOperation, flock};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use history::{Direction, Ended, Transfer};
pub use known_files::{KnownFile, KnownFiles};
pub use peers::{Meeting, Pair, PeerRecord, standing};
pub use short_codes::{Proved, ShortCodes};
pub use unfinished::{Begun, OpenShare, Unfinished};

/// The file's name in the data folder.
pub const FILE_NAME: &str = "state.redb";
/// What is added to the name of a file that can't be used.
const DAMAGED: &str = ".damaged";

/// How the tables are laid out. A file with another number is not understood.
const FORMAT: u64 = 1;
/// How records are written; see [`encode`].
const RECORD: u32 = 1;
/// The one row in it says how the tables are laid out.
const ABOUT: TableDefinition<&str, u64> = TableDefinition::new("about");
const FORMAT_ROW: &str = "format";

/// How long a file is waited for that another process has open, and how often it is tried.
const PATIENCE: Duration = Duration::from_secs(4);
const TRY_EVERY: Duration = Duration::from_millis(10);
/// Bytes of the file kept in memory while it is open. It is small.
const CACHE: usize = 4 * 1024 * 1024;

/// The memory of a device. It is a path: making one opens nothing, and copies are cheap.
#[derive(Debug, Clone)]
pub struct Store {
    path: PathBuf,
    patience: Duration,
    /// A file that could not be used was moved aside, and nobody was told yet.
    moved: Arc<AtomicBool>,
}

/// Why something can't be remembered, or remembered what was.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open, and does not let go.
    #[error("{} is in use by another program", .0.display())]
    Busy(PathBuf),
    /// The folder or the file can't be used.
    #[error("{} can't be used: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A transaction failed.
    #[error("what is remembered can't be read or changed: {0}")]
    Database(Box<redb::Error>),
}

/// Whatever the database says in the middle of a transaction.
macro_rules! from_database {
    ($($error:ty),*) => {
        $(impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                Self::Database(Box::new(error.into()))
            }
        })*
    };
}
from_database!(
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError
);

impl Store {
    /// What is remembered in this data folder.
    pub fn in_folder(data_dir: &Path) -> Self {
        Self {
            path: data_dir.join(FILE_NAME),
            patience: PATIENCE,
            moved: Arc::default(),
        }
    }

    /// Looks something up. Where nothing was ever remembered there is nothing, and no file is made.
    pub fn read<T: Default>(
        &self,
        look: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if !self.path.exists() {
            return Ok(T::default());
        }
        let database = self.open()?;
        let transaction = database.begin_read()?;
        look(&transaction)
    }

    /// Changes something: all of it, or nothing if `change` fails.
    pub fn write<T>(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.make_folder()?;
        let database = self.open()?;
        let transaction = database.begin_write()?;
        let changed = change(&transaction)?;
        transaction.commit()?;
        Ok(changed)
    }

    /// Where a file lies that could not be used and was moved aside. Says so once.
    pub fn moved_aside(&self) -> Option<PathBuf> {
        let moved = self.moved.swap(false, Ordering::Relaxed);
        moved.then(|| self.aside())
    }

    /// Where a file goes that can't be used.
    fn aside(&self) -> PathBuf {
        let mut aside = self.path.clone().into_os_string();
        aside.push(DAMAGED);
        aside.into()
    }

    /// As `new` makes it; for its owner alone, as it may hold secrets.
    fn make_folder(&self) -> Result<(), StoreError> {
        let Some(folder) = self.path.parent() else {
            return Ok(());
        };
        identity::create_folder(folder).map_err(|error| self.unusable(error))
    }

    fn unusable(&self, error: io::Error) -> StoreError {
        StoreError::File {
            path: self.path.clone(),
            error,
        }
    }

    /// Opens the database; one that can't be used is moved aside, and a new one begun.
    fn open(&self) -> Result<Database, StoreError> {
        let until = Instant::now() + self.patience;
        match self.open_until(until)? {
            Opened::Ready(database) => Ok(database),
            Opened::Useless(_) => self.begin_anew(until),
        }
    }

    /// Moves the file aside, if it can't be used: another process may have done so by now. One at a time does it, or
    /// the second would move away what the first has begun.
    fn begin_anew(&self, until: Instant) -> Result<Database, StoreError> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let folder = File::open(folder).map_err(|error| self.unusable(error))?;
        // Where folders can't be locked there is nothing to go by.
        let _ = flock(&folder, FlockOperation::LockExclusive);
        let reason = match self.open_until(until)? {
            Opened::Ready(database) => return Ok(database),
            Opened::Useless(reason) => reason,
        };
        let aside = self.aside();
        std::fs::rename(&self.path, &aside).map_err(|error| self.unusable(error))?;
        tracing::warn!(
            reason,
            "what was remembered can't be read; it is begun anew"
        );
        self.moved.store(true, Ordering::Relaxed);
        match self.open_until(until)? {
            Opened::Ready(database) => Ok(database),
            Opened::Useless(reason) => Err(self.unusable(io::Error::other(reason))),
        }
    }

    /// Opens the file, or waits for who has it.
    fn open_until(&self, until: Instant) -> Result<Opened, StoreError> {
        loop {
            let opened = self.file().and_then(|file| {
                let backend = FileBackend::new(file)?;
                let mut builder = Database::builder();
                // A disk may have changed what was written: that is to be noticed here, and not in the middle.
                builder.set_cache_size(CACHE);
                builder.set_check_integrity_on_open(true);
                builder.create_with_backend(backend)
            });
            match opened {
                Ok(database) => return understood(database),
                Err(DatabaseError::DatabaseAlreadyOpen) if Instant::now() < until => {
                    sleep(TRY_EVERY);
                }
                Err(DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch) => {
                    return Err(StoreError::Busy(self.path.clone()));
                }
                Err(DatabaseError::Storage(StorageError::Io(error))) if !is_damage(&error) => {
                    return Err(self.unusable(error));
                }
                Err(error) => return Ok(Opened::Useless(error.to_string())),
            }
        }
    }

    /// The file itself, made if there is none. Nobody else may read it.
    fn file(&self) -> Result<File, DatabaseError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.path)?;
        if file.metadata()?.permissions().mode() & 0o077 != 0 {
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        Ok(file)
    }
}

/// What came of opening a file.
enum Opened {
    Ready(Database),
    /// It is no database, or not one of ours; and why.
    Useless(String),
}

/// Whether it is the file that is wrong, and not the disk or the folder.
fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
    )
}

/// Looks whether the tables are laid out as they are here; a new file is told that they are.
fn understood(database: Database) -> Result<Opened, StoreError> {
    let transaction = database.begin_read()?;
    let format = match transaction.open_table(ABOUT) {
        Ok(about) => about.get(FORMAT_ROW)?.map(|format| format.value()),
        Err(TableError::TableDoesNotExist(_)) => None,
        Err(error) => return Ok(Opened::Useless(error.to_string())),
    };
    transaction.close()?;
    match format {
        Some(FORMAT) => Ok(Opened::Ready(database)),
        Some(other) => {
            let reason = format!("its format is {other}, and this program knows {FORMAT}");
            Ok(Opened::Useless(reason))
        }
        None => {
            let transaction = database.begin_write()?;
            transaction.open_table(ABOUT)?.insert(FORMAT_ROW, FORMAT)?;
            transaction.commit()?;
            Ok(Opened::Ready(database))
        }
    }
}

/// A record with the version of its fields, as it is written.
#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    v: u32,
    #[serde(flatten)]
    record: T,
}

/// A record as the bytes of a row: JSON, with a version. Wiped when dropped, as it may hold a secret.
///
/// # Panics
/// If the record is no map with text keys: records here are structs.
pub fn encode<T: Serialize>(record: &T) -> Zeroizing<Vec<u8>> {
    let bytes = serde_json::to_vec(&Versioned { v: RECORD, record });
    Zeroizing::new(bytes.expect("a struct is written to memory"))
}

/// Reads a row. Fields that are not known are ignored; `None` for what can't be read, which callers skip.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let row: Versioned<T> = serde_json::from_slice(bytes).ok()?;
    (row.v == RECORD).then_some(row.record)
}

/// A table to read; `None` where nothing was ever written to it.
pub fn table<K: redb::Key + 'static, V: redb::Value + 'static>(
    transaction: &ReadTransaction,
    definition: TableDefinition<K, V>,
) -> Result<Option<redb::ReadOnlyTable<K, V>>, StoreError> {
    match transaction.open_table(definition) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
