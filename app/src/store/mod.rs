//! Persistent state of a device: a database, `state.redb`, in its data folder.
//!
//! This module opens, shares and recreates the file; the modules below define its tables and records. Several processes
//! of one user may run at once, so each operation opens the file and closes it again: a process holds it only for the
//! length of a transaction, and others wait a moment. All functions block: on a runtime, call them from a blocking
//! thread.
//!
//! The state is a convenience. Nothing that handover does may fail because of it: callers log errors, and go on.

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
/// Suffix added to the name of an unusable file.
const DAMAGED: &str = ".damaged";

/// Version of the table layout. A file with another one is not usable.
const FORMAT: u64 = 1;
/// Version of the record encoding; see [`encode`].
const RECORD: u32 = 1;
/// Its only row holds the version of the table layout.
const ABOUT: TableDefinition<&str, u64> = TableDefinition::new("about");
const FORMAT_ROW: &str = "format";

/// Timeout for opening a file that another process has open, and the interval between attempts.
const PATIENCE: Duration = Duration::from_secs(4);
const TRY_EVERY: Duration = Duration::from_millis(10);
/// Size in bytes of the cache for an open file, which is small.
const CACHE: usize = 4 * 1024 * 1024;

/// The persistent state of a device. It holds a path only: creating one opens nothing, and clones are cheap.
#[derive(Debug, Clone)]
pub struct Store {
    path: PathBuf,
    patience: Duration,
    /// True if an unusable file was moved aside and this has not been reported yet.
    moved: Arc<AtomicBool>,
}

/// Reasons why state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the file open for too long.
    #[error("{} is in use by another program", .0.display())]
    Busy(PathBuf),
    /// The folder or the file cannot be used.
    #[error("{} can't be used: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// A transaction failed.
    #[error("what is remembered can't be read or changed: {0}")]
    Database(Box<redb::Error>),
}

/// Conversions from all database errors that can occur during a transaction.
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
    /// The state in this data folder.
    pub fn in_folder(data_dir: &Path) -> Self {
        Self {
            path: data_dir.join(FILE_NAME),
            patience: PATIENCE,
            moved: Arc::default(),
        }
    }

    /// Runs a read transaction. If the file does not exist, returns the default and does not create it.
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

    /// Runs a write transaction. Nothing is changed if `change` fails.
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

    /// Path of an unusable file that was moved aside. Returned once per such file.
    pub fn moved_aside(&self) -> Option<PathBuf> {
        let moved = self.moved.swap(false, Ordering::Relaxed);
        moved.then(|| self.aside())
    }

    /// The path that an unusable file is moved to.
    fn aside(&self) -> PathBuf {
        let mut aside = self.path.clone().into_os_string();
        aside.push(DAMAGED);
        aside.into()
    }

    /// Creates the data folder in the same way as the identity's; accessible to its owner only, as it may hold secrets.
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

    /// Opens the database. An unusable file is moved aside, and a new one created.
    fn open(&self) -> Result<Database, StoreError> {
        let until = Instant::now() + self.patience;
        match self.open_until(until)? {
            Opened::Ready(database) => Ok(database),
            Opened::Useless(_) => self.begin_anew(until),
        }
    }

    /// Moves the file aside if it is still unusable: another process may have replaced it by now. Only one process does
    /// so at a time, or the second would move away what the first has created.
    fn begin_anew(&self, until: Instant) -> Result<Database, StoreError> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let folder = File::open(folder).map_err(|error| self.unusable(error))?;
        // If folders cannot be locked, go on without.
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

    /// Opens the file, waiting while another process has it open.
    fn open_until(&self, until: Instant) -> Result<Opened, StoreError> {
        loop {
            let opened = self.file().and_then(|file| {
                let backend = FileBackend::new(file)?;
                let mut builder = Database::builder();
                // The disk may have corrupted the file: detect that here, and not during a transaction.
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

    /// The file itself, created if missing. Accessible to its owner only.
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

/// The result of opening a file.
enum Opened {
    Ready(Database),
    /// The file is no database, or of another format. Holds the reason.
    Useless(String),
}

/// True if the file's content is at fault, and not the disk or the folder.
fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
    )
}

/// Checks the version of the table layout, and writes it into a new file.
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

/// A record with the version of its fields, as stored.
#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    v: u32,
    #[serde(flatten)]
    record: T,
}

/// Encodes a record for a row: JSON, with a version. Zeroized on drop, as it may hold a secret.
///
/// # Panics
/// If the record is not a map with text keys: records here are structs.
pub fn encode<T: Serialize>(record: &T) -> Zeroizing<Vec<u8>> {
    let bytes = serde_json::to_vec(&Versioned { v: RECORD, record });
    Zeroizing::new(bytes.expect("a struct is written to memory"))
}

/// Decodes a row, ignoring unknown fields. Returns `None` if it cannot be read; callers skip such rows.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let row: Versioned<T> = serde_json::from_slice(bytes).ok()?;
    (row.v == RECORD).then_some(row.record)
}

/// Opens a table for reading; `None` if nothing was ever written to it.
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
