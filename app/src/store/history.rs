//! The last thousand transfers that have ended: what was sent or received, with whom, and the outcome.

use std::time::Duration;

use handover_core::engine::PathKind;
use redb::{ReadableTable, ReadableTableMetadata, TableDefinition};
use serde::{Deserialize, Serialize};

use super::{Store, StoreError, decode, encode, table};

/// Maximum number of transfers kept.
const KEPT: u64 = 1000;
/// Key: a running number.
const TRANSFERS: TableDefinition<u64, &[u8]> = TableDefinition::new("transfers");

/// A transfer that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// When it ended, in seconds since 1970.
    pub at: u64,
    /// Sent or received.
    pub direction: Direction,
    /// The share's name.
    pub name: String,
    /// Number of files transferred, or to be transferred.
    pub files: u64,
    /// Number of bytes transferred.
    pub bytes: u64,
    /// The other side's peer id.
    pub peer: Option<String>,
    /// The other side's own name for itself. May be empty.
    pub peer_name: String,
    /// The outcome.
    pub ended: Ended,
    /// The reason for a failure. May be empty.
    #[serde(default)]
    pub reason: String,
    /// The transfer's duration.
    pub took: Duration,
    /// The path that it used at the end.
    pub path: Option<PathKind>,
    /// The target folder; `None` if it was sent from here, or written to a pipe.
    pub folder: Option<String>,
}

/// The direction of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Sent by this device.
    Sent,
    /// Received by this device.
    Received,
}

/// The outcome of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Everything was transferred.
    Completed,
    /// Some files are missing.
    Incomplete,
    /// The receiver declined the offer.
    Declined,
    /// One side cancelled it.
    Cancelled,
    /// The other side was lost, or the transfer was impossible.
    Failed,
    /// The other side violated the protocol.
    Violation,
}

impl Store {
    /// Stores a transfer, removing the oldest ones if there are too many.
    pub fn add_transfer(&self, transfer: &Transfer) -> Result<(), StoreError> {
        self.write(|transaction| {
            let mut transfers = transaction.open_table(TRANSFERS)?;
            let next = transfers.last()?.map_or(0, |(last, _)| last.value() + 1);
            transfers.insert(next, encode(transfer).as_slice())?;
            while transfers.len()? > KEPT {
                transfers.pop_first()?;
            }
            Ok(())
        })
    }

    /// The last `most` transfers, newest last.
    pub fn history(&self, most: usize) -> Result<Vec<Transfer>, StoreError> {
        let mut newest_first = self.read(|transaction| {
            let Some(transfers) = table(transaction, TRANSFERS)? else {
                return Ok(Vec::new());
            };
            let mut found = Vec::new();
            for row in transfers.iter()?.rev() {
                if found.len() >= most {
                    break;
                }
                found.extend(decode::<Transfer>(row?.1.value()));
            }
            Ok(found)
        })?;
        newest_first.reverse();
        Ok(newest_first)
    }

    /// Removes all transfers. Returns their number.
    pub fn clear_history(&self) -> Result<u64, StoreError> {
        self.write(|transaction| {
            let mut transfers = transaction.open_table(TRANSFERS)?;
            let count = transfers.len()?;
            transfers.retain(|_, _| false)?;
            Ok(count)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transfer(at: u64) -> Transfer {
        Transfer {
            at,
            direction: Direction::Received,
            name: "mods".to_string(),
            files: 2,
            bytes: 7,
            peer: Some("12D3KooW…".to_string()),
            peer_name: "laptop".to_string(),
            ended: Ended::Completed,
            reason: String::new(),
            took: Duration::from_millis(1500),
            path: Some(PathKind::Lan),
            folder: Some("/home/ada".to_string()),
        }
    }

    #[test]
    fn transfers_are_told_newest_last() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::in_folder(folder.path());
        assert_eq!(store.history(10).unwrap(), []);
        let all = [1, 2, 3].map(transfer);
        for transfer in &all {
            store.add_transfer(transfer).unwrap();
        }
        assert_eq!(store.history(10).unwrap(), all);
        assert_eq!(store.history(2).unwrap(), all[1..]);
        assert_eq!(store.clear_history().unwrap(), 3);
        assert_eq!(store.history(10).unwrap(), []);
    }

    #[test]
    fn the_oldest_go_first_and_rows_that_can_not_be_read_are_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::in_folder(folder.path());
        store
            .write(|transaction| {
                let mut transfers = transaction.open_table(TRANSFERS)?;
                for number in 0..KEPT {
                    transfers.insert(number, encode(&transfer(number)).as_slice())?;
                }
                transfers.insert(KEPT - 2, &b"not a transfer"[..])?;
                Ok(())
            })
            .unwrap();
        store.add_transfer(&transfer(9999)).unwrap();
        let kept = store.history(2000).unwrap();
        assert_eq!(kept.len(), 999);
        let (first, last) = (kept.first().unwrap(), kept.last().unwrap());
        assert_eq!((first.at, last.at), (1, 9999));
    }
}
