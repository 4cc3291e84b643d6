//! Unfinished downloads, which another run can resume, and open shares, which are served again under the same code if
//! their run ends without closing them.

use handover_core::engine::OnConflict;
use redb::{ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{Store, StoreError, decode, encode, table};

/// Maximum number of downloads kept, and of shares; the oldest are removed first.
const KEPT: usize = 100;
/// Key: folder and manifest.
const DOWNLOADS: TableDefinition<&str, &[u8]> = TableDefinition::new("unfinished downloads");
/// Key: what is shared and how.
const SHARES: TableDefinition<&str, &[u8]> = TableDefinition::new("open shares");

/// The command line that started a transfer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// The start time, in seconds since 1970.
    pub at: u64,
    /// The working directory.
    pub cwd: String,
    /// The arguments, without any code.
    pub args: Vec<String>,
}

/// An unfinished download.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    /// The command that started it.
    pub begun: Begun,
    /// The share's name.
    pub name: String,
    /// The target folder: an absolute path.
    pub folder: String,
    /// Id of the manifest.
    pub manifest: String,
    /// A ticket for the share, whatever code was used. It opens the share, so it is just as secret.
    pub ticket: String,
    /// Size of the share, in bytes.
    pub bytes: u64,
    /// What to do with existing files, as accepted.
    pub on_conflict: OnConflict,
    /// Whether files may be executable.
    pub executables: bool,
}

/// A share whose run has not ended it properly.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct OpenShare {
    /// The command that started it.
    #[zeroize(skip)]
    pub begun: Begun,
    /// The share's name.
    #[zeroize(skip)]
    pub name: String,
    /// Peer id of the sharer: another identity can't serve it.
    #[zeroize(skip)]
    pub peer: String,
    /// The share's secret.
    pub secret: [u8; 32],
    /// The share's short code.
    pub short: Option<String>,
    /// Number of wrong guesses at the short code so far.
    pub wrong: u32,
    /// Number of receivers that have completed it.
    pub completed: u32,
    /// Expiry time, in seconds since 1970.
    pub expires: Option<u64>,
    /// The scan's paths, sizes and times. Empty if there were too many.
    #[zeroize(skip)]
    pub listing: Vec<(String, u64, i64, u32)>,
}

impl std::fmt::Debug for OpenShare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenShare")
            .field("begun", &self.begun)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Unfinished {
    /// The key of its row.
    pub fn key(&self) -> String {
        format!("{}\0{}", self.folder, self.manifest)
    }
}

impl Store {
    /// Stores a download, replacing its earlier row.
    pub fn begin_download(&self, download: &Unfinished) -> Result<(), StoreError> {
        self.put(
            DOWNLOADS,
            &download.key(),
            download,
            |download: &Unfinished| download.begun.at,
        )
    }

    /// Removes a download that is over.
    pub fn end_download(&self, key: &str) -> Result<(), StoreError> {
        self.remove(DOWNLOADS, key)
    }

    /// The unfinished downloads, oldest first.
    pub fn unfinished(&self) -> Result<Vec<Unfinished>, StoreError> {
        let mut all: Vec<Unfinished> = self.all(DOWNLOADS)?.into_iter().map(|(_, of)| of).collect();
        all.sort_by_key(|download| download.begun.at);
        Ok(all)
    }

    /// Stores a share, replacing its earlier row.
    pub fn open_share(&self, key: &str, share: &OpenShare) -> Result<(), StoreError> {
        self.put(SHARES, key, share, |share: &OpenShare| share.begun.at)
    }

    /// Removes a share that has ended properly.
    pub fn close_share(&self, key: &str) -> Result<(), StoreError> {
        self.remove(SHARES, key)
    }

    /// Shares that have not ended properly, with their keys, oldest first.
    pub fn open_shares(&self) -> Result<Vec<(String, OpenShare)>, StoreError> {
        let mut all: Vec<(String, OpenShare)> = self.all(SHARES)?;
        all.sort_by_key(|(_, share)| share.begun.at);
        Ok(all)
    }

    fn put<T: Serialize + DeserializeOwned>(
        &self,
        into: TableDefinition<&str, &[u8]>,
        key: &str,
        record: &T,
        at: impl Fn(&T) -> u64,
    ) -> Result<(), StoreError> {
        self.write(|transaction| {
            let mut rows = transaction.open_table(into)?;
            rows.insert(key, encode(record).as_slice())?;
            let mut ages = Vec::new();
            for row in rows.iter()? {
                let (key, bytes) = row?;
                let age = decode::<T>(bytes.value()).map_or(0, |record| at(&record));
                ages.push((age, key.value().to_owned()));
            }
            ages.sort();
            let many = ages.len().saturating_sub(KEPT);
            for (_, oldest) in ages.iter().take(many) {
                rows.remove(oldest.as_str())?;
            }
            Ok(())
        })
    }

    fn remove(&self, from: TableDefinition<&str, &[u8]>, key: &str) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.open_table(from)?.remove(key)?;
            Ok(())
        })
    }

    fn all<T: DeserializeOwned>(
        &self,
        of: TableDefinition<&str, &[u8]>,
    ) -> Result<Vec<(String, T)>, StoreError> {
        self.read(|transaction| {
            let Some(rows) = table(transaction, of)? else {
                return Ok(Vec::new());
            };
            let mut all = Vec::new();
            for row in rows.iter()? {
                let (key, bytes) = row?;
                let record = decode(bytes.value());
                all.extend(record.map(|record| (key.value().to_owned(), record)));
            }
            Ok(all)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn download(at: u64, folder: &str) -> Unfinished {
        Unfinished {
            begun: Begun {
                at,
                ..Begun::default()
            },
            name: "mods".into(),
            folder: folder.into(),
            manifest: "ab".into(),
            ticket: "eyJ".into(),
            bytes: 5,
            on_conflict: OnConflict::Rename,
            executables: false,
        }
    }

    #[test]
    fn what_ends_is_forgotten_and_the_oldest_go_first() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::in_folder(folder.path());
        let (first, second) = (download(1, "/a"), download(2, "/b"));
        for download in [&second, &first, &first] {
            store.begin_download(download).unwrap();
        }
        assert_eq!(store.unfinished().unwrap(), [first.clone(), second.clone()]);
        store.end_download(&second.key()).unwrap();
        store.end_download("of nothing").unwrap();
        assert_eq!(store.unfinished().unwrap(), [first]);
        for at in 10..10 + KEPT as u64 {
            store
                .begin_download(&download(at, &at.to_string()))
                .unwrap();
        }
        let kept = store.unfinished().unwrap();
        assert_eq!((kept.len(), kept[0].begun.at), (KEPT, 10));
    }

    #[test]
    fn an_open_share_is_there_until_it_is_closed_and_tells_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::in_folder(folder.path());
        let share = OpenShare {
            begun: Begun::default(),
            name: "mods".into(),
            peer: "12D3".into(),
            secret: [7; 32],
            short: Some("1234567-amber-otter".into()),
            wrong: 2,
            completed: 1,
            expires: Some(9),
            listing: vec![("a".into(), 1, 2, 3)],
        };
        store.open_share("key", &share).unwrap();
        assert_eq!(
            store.open_shares().unwrap(),
            [("key".into(), share.clone())]
        );
        let shown = format!("{share:?}");
        assert!(!shown.contains('7') && !shown.contains("otter"), "{shown}");
        store.close_share("key").unwrap();
        assert_eq!(store.open_shares().unwrap(), []);
    }
}
