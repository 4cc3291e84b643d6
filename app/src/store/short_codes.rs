//! Counts per short code: password proofs sent to peers that did not know the words, and wrong guesses by others; and
//! the peer that proved to know the words. So a command that is run again does not start counting anew, and connects to
//! the right peer.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use handover_core::PeerId;
use handover_core::code::ShortCode;
use redb::{ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

use super::{Store, StoreError, decode, encode, table};

/// Maximum number of codes kept; the oldest are removed first.
const KEPT: usize = 1000;
/// Key: the code.
const CODES: TableDefinition<&str, &[u8]> = TableDefinition::new("short codes");

/// What is known of one code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proved {
    /// Number of password proofs that were sent and did not succeed.
    pub sent: u32,
    /// Number of wrong guesses at the words, if this device issued the code.
    pub guessed: u32,
    /// The peer that knows the words.
    pub sharer: Option<PeerId>,
}

/// The same, as stored.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Row {
    /// When it was written, in seconds since 1970.
    at: u64,
    sent: u32,
    #[serde(default)]
    guessed: u32,
    sharer: Option<String>,
}

/// The short codes that a device has used. Clones are cheap.
#[derive(Debug, Clone)]
pub struct ShortCodes {
    store: Store,
}

impl ShortCodes {
    /// The codes recorded in this data folder.
    pub fn in_folder(data_dir: &Path) -> Self {
        let store = Store::in_folder(data_dir);
        Self { store }
    }

    /// Returns what is known of a code.
    pub fn of(&self, code: &ShortCode) -> Result<Proved, StoreError> {
        self.store.read(|transaction| {
            let Some(rows) = table(transaction, CODES)? else {
                return Ok(Proved::default());
            };
            let row = rows.get(code.encode().as_str())?;
            let row = row.and_then(|row| decode::<Row>(row.value()));
            Ok(row.map_or_else(Proved::default, |row| Proved {
                sent: row.sent,
                guessed: row.guessed,
                sharer: row.sharer.and_then(|peer| peer.parse().ok()),
            }))
        })
    }

    /// Counts a password proof that is about to be sent, durably and across all processes of this device. Returns the
    /// new count. One beyond `most` is returned but not stored, as that proof will not be sent.
    pub fn count(&self, code: &ShortCode, most: u32) -> Result<u32, StoreError> {
        let mut makes = 0;
        self.change(code, |row| {
            makes = row.sent.saturating_add(1);
            row.sent = makes.min(most.max(row.sent));
        })?;
        Ok(makes)
    }

    /// Counts a wrong guess at the words.
    pub fn guessed(&self, code: &ShortCode) -> Result<(), StoreError> {
        self.change(code, |row| row.guessed = row.guessed.saturating_add(1))
    }

    /// Uncounts a password proof that was not sent after all.
    pub fn not_sent(&self, code: &ShortCode) -> Result<(), StoreError> {
        self.change(code, |row| row.sent = row.sent.saturating_sub(1))
    }

    /// Uncounts a password proof that has succeeded, and records the peer that knows the words.
    pub fn succeeded(&self, code: &ShortCode, sharer: PeerId) -> Result<(), StoreError> {
        self.change(code, |row| {
            row.sent = row.sent.saturating_sub(1);
            row.sharer = Some(sharer.to_string());
        })
    }

    /// Changes the row of a code.
    fn change(&self, code: &ShortCode, change: impl FnOnce(&mut Row)) -> Result<(), StoreError> {
        self.store.write(|transaction| {
            let mut rows = transaction.open_table(CODES)?;
            let key = code.encode();
            let noted = rows.get(key.as_str())?;
            let noted = noted.and_then(|row| decode::<Row>(row.value()));
            let mut row = noted.unwrap_or_default();
            change(&mut row);
            row.at = now();
            rows.insert(key.as_str(), encode(&row).as_slice())?;
            let mut ages = Vec::new();
            for row in rows.iter()? {
                let (key, bytes) = row?;
                let age = decode::<Row>(bytes.value()).map_or(0, |row| row.at);
                ages.push((age, key.value().to_owned()));
            }
            ages.sort_unstable();
            let many = ages.len().saturating_sub(KEPT);
            for (_, oldest) in ages.iter().take(many) {
                rows.remove(oldest.as_str())?;
            }
            Ok(())
        })
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use handover_core::code::ShareCode;

    use super::*;

    fn short(text: &str) -> ShortCode {
        match ShareCode::parse(text) {
            Ok(ShareCode::Short(code)) => code,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_code_is_known_again_by_the_next_run() {
        let folder = tempfile::tempdir().unwrap();
        let [code, other] = ["4827193-amber-otter", "4827193-otter-amber"].map(short);
        let codes = ShortCodes::in_folder(folder.path());
        assert_eq!(codes.of(&code).unwrap(), Proved::default());
        for sent in 1..=4 {
            assert_eq!(codes.count(&code, 5).unwrap(), sent);
        }
        // A proof that is not sent does not count: one beyond the maximum, or one that was not needed.
        assert_eq!(codes.count(&code, 4).unwrap(), 5);
        assert_eq!(codes.of(&code).unwrap().sent, 4);
        codes.count(&code, 5).unwrap();
        codes.not_sent(&code).unwrap();
        let sharer = handover_core::Keypair::ed25519_from_bytes([1; 32]).unwrap();
        let sharer = sharer.public().to_peer_id();
        codes.succeeded(&code, sharer).unwrap();
        codes.guessed(&code).unwrap();
        let proved = Proved {
            sent: 3,
            guessed: 1,
            sharer: Some(sharer),
        };
        let again = ShortCodes::in_folder(folder.path());
        assert_eq!(again.of(&code).unwrap(), proved);
        assert_eq!(again.of(&other).unwrap(), Proved::default());
    }
}
