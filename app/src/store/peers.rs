//! The peers met so far: how they behaved, and which of them are paired, so that no code is needed.
//!
//! A peer's record determines its rank ([`standing`]), and opens shares between two paired devices. It is never a
//! reason to trust what a peer sends.

use std::time::Duration;

use data_encoding::HEXLOWER;
use handover_core::PeerId;
use handover_core::pair::PairSecret;
use redb::{ReadableTable, ReadableTableMetadata, Table, TableDefinition};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Store, StoreError, decode, encode, table};

/// Maximum number of peers kept.
const KEPT: u64 = 1000;
/// Maximum number of names kept per peer, and maximum bytes of each.
const NAMES: usize = 4;
const NAME: usize = 255;
/// Key: the peer id, in binary form.
const PEERS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("peers");

/// What is known of a peer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PeerRecord {
    /// The peer's own names for itself, latest first. Not verified.
    pub names: Vec<String>,
    /// When it was first met, in seconds since 1970.
    pub first_met: u64,
    /// When it was last met, in seconds since 1970.
    pub last_met: u64,
    /// Verified bytes that it delivered.
    pub delivered: u64,
    /// The time that delivering them took.
    pub delivered_in: Duration,
    /// Bytes that were sent to it.
    pub taken: u64,
    /// Number of completed transfers with it, in either direction.
    pub completed: u32,
    /// Number of failed transfers, not counting those that a user declined or cancelled.
    pub failed: u32,
    /// Number of its pieces that did not match their root.
    pub bad: u32,
    /// Number of protocol violations.
    pub violations: u32,
    /// Verified bytes received through it as a relay, from any peer.
    pub carried: u64,
    /// Number of connections through it that ended while they were in use.
    pub cuts: u32,
    /// The pairing, if the peers may connect without a code.
    pub pair: Option<Pair>,
}

impl PeerRecord {
    /// The peer's latest name for itself. Empty if it never gave one.
    pub fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// Average rate at which it delivered, in bytes a second. `None` below 50 ms of delivery time.
    pub fn speed(&self) -> Option<u64> {
        let millis = self.delivered_in.as_millis();
        (millis >= 50).then(|| {
            let speed = u128::from(self.delivered) * 1000 / millis;
            u64::try_from(speed).unwrap_or(u64::MAX)
        })
    }

    fn is_called(&mut self, name: &str) {
        let mut end = name.len().min(NAME);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        let name = &name[..end];
        if !name.is_empty() {
            self.names.retain(|known| known != name);
            self.names.insert(0, name.to_string());
            self.names.truncate(NAMES);
        }
    }
}

/// A pairing of two devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// The identity of this device that was paired. Another identity cannot use the pairing.
    #[serde(with = "as_text")]
    pub us: PeerId,
    /// The secret that both devices share.
    #[serde(with = "as_hex")]
    pub secret: PairSecret,
}

mod as_text {
    use serde::{Deserializer, Serializer, de::Error};

    use super::{Deserialize, PeerId};

    pub(super) fn serialize<S: Serializer>(
        peer: &PeerId,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(peer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<PeerId, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| D::Error::custom("no peer id"))
    }
}

mod as_hex {
    use serde::{Deserializer, Serializer, de::Error};

    use super::{Deserialize, HEXLOWER, PairSecret, Serialize, Zeroizing};

    pub(super) fn serialize<S: Serializer>(
        secret: &PairSecret,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let text = Zeroizing::new(HEXLOWER.encode(secret.as_bytes()));
        text.as_str().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<PairSecret, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let bytes = HEXLOWER.decode(text.as_bytes()).map(Zeroizing::new);
        let bytes = bytes.map_err(|_| D::Error::custom("no secret"))?;
        let bytes = bytes.as_slice().try_into();
        bytes
            .map(PairSecret::from_bytes)
            .map_err(|_| D::Error::custom("a secret of another length"))
    }
}

/// What one transfer, or a part of it, adds to a peer's record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meeting {
    /// The peer's own name for itself, if it gave one.
    pub name: String,
    /// Verified bytes that it delivered, and the time that this took.
    pub delivered: u64,
    /// See [`Meeting::delivered`].
    pub delivered_in: Duration,
    /// Bytes that were sent to it.
    pub taken: u64,
    /// True if the transfer was completed; `None` if a user declined or cancelled it.
    pub completed: Option<bool>,
    /// Number of pieces that did not match their root.
    pub bad: u32,
    /// Number of protocol violations.
    pub violations: u32,
    /// Verified bytes received through it as a relay, and the number of connections through it that ended while in use.
    pub carried: u64,
    /// See [`Meeting::carried`].
    pub cuts: u32,
}

/// The reputation of a peer: higher is better, an unknown peer has 0. Used only to order the sources and relays to try.
/// A peer with protocol violations ranks below all without.
pub fn standing(record: &PeerRecord) -> i32 {
    const BROKE_IT: i32 = -1_000_000;
    let count = |number: u32, most: u32| i32::try_from(number.min(most)).unwrap_or(0);
    if record.violations > 0 {
        return BROKE_IT - count(record.violations, 1000);
    }
    // Twice the speed counts as much as one more transfer.
    let kib = record.speed().unwrap_or(0) / 1024;
    let speed = count(kib.checked_ilog2().unwrap_or(0), 30);
    count(record.completed, 50) + speed + relaying(record)
        - 2 * count(record.failed, 50)
        - 20 * count(record.bad, 50)
}

/// The reputation of a relay: from the bytes that it carries per connection that it cuts. Most relays cut after 128
/// KiB, and rank like an unknown one.
fn relaying(record: &PeerRecord) -> i32 {
    const USUAL: i32 = 7;
    let each = record.carried / (u64::from(record.cuts) + 1) / 1024;
    let doublings = each.checked_ilog2().unwrap_or(0);
    let better = i32::try_from(doublings).unwrap_or(0) - USUAL;
    // A relay that was soon not needed any more has done nothing wrong.
    if record.cuts == 0 {
        better.max(0)
    } else {
        better
    }
}

impl Store {
    /// Adds a meeting at `now`, in seconds since 1970. With `known_only`, an unknown peer is not recorded: failed
    /// attempts of strangers must not push out peers that were met.
    pub fn meet(
        &self,
        peer: PeerId,
        meeting: &Meeting,
        now: u64,
        known_only: bool,
    ) -> Result<(), StoreError> {
        self.change(peer, now, known_only, |record| {
            record.is_called(&meeting.name);
            let (more, time) = (meeting.delivered, meeting.delivered_in);
            record.delivered = record.delivered.saturating_add(more);
            record.delivered_in = record.delivered_in.saturating_add(time);
            record.taken = record.taken.saturating_add(meeting.taken);
            record.bad = record.bad.saturating_add(meeting.bad);
            record.violations = record.violations.saturating_add(meeting.violations);
            record.carried = record.carried.saturating_add(meeting.carried);
            record.cuts = record.cuts.saturating_add(meeting.cuts);
            let (completed, failed) = match meeting.completed {
                Some(true) => (1, 0),
                Some(false) => (0, 1),
                None => (0, 0),
            };
            record.completed = record.completed.saturating_add(completed);
            record.failed = record.failed.saturating_add(failed);
        })
    }

    /// Stores a pairing with a peer, replacing any earlier one.
    pub fn pair(&self, peer: PeerId, name: &str, pair: &Pair, now: u64) -> Result<(), StoreError> {
        self.change(peer, now, false, |record| {
            record.is_called(name);
            record.pair = Some(pair.clone());
        })
    }

    fn change(
        &self,
        peer: PeerId,
        now: u64,
        known_only: bool,
        change: impl FnOnce(&mut PeerRecord),
    ) -> Result<(), StoreError> {
        self.write(|transaction| {
            let mut peers = transaction.open_table(PEERS)?;
            let key = peer.to_bytes();
            let known = peers.get(key.as_slice())?;
            let known = known.and_then(|row| decode::<PeerRecord>(row.value()));
            if known.is_none() && known_only {
                return Ok(());
            }
            let mut record = known.unwrap_or_else(|| PeerRecord {
                first_met: now,
                ..PeerRecord::default()
            });
            record.last_met = record.last_met.max(now);
            change(&mut record);
            peers.insert(key.as_slice(), encode(&record).as_slice())?;
            make_room(&mut peers, &key)
        })
    }

    /// All peers that were met, the latest first.
    pub fn peers(&self) -> Result<Vec<(PeerId, PeerRecord)>, StoreError> {
        let mut found = self.read(|transaction| {
            let Some(peers) = table(transaction, PEERS)? else {
                return Ok(Vec::new());
            };
            let mut found = Vec::new();
            for row in peers.iter()? {
                let (key, value) = row?;
                let peer = PeerId::from_bytes(key.value()).ok();
                found.extend(peer.zip(decode(value.value())));
            }
            Ok(found)
        })?;
        found.sort_by_key(|(_, record): &(_, PeerRecord)| std::cmp::Reverse(record.last_met));
        Ok(found)
    }

    /// Removes a peer and its pairing.
    pub fn forget_peer(&self, peer: PeerId) -> Result<(), StoreError> {
        self.write(|transaction| {
            let mut peers = transaction.open_table(PEERS)?;
            peers.remove(peer.to_bytes().as_slice())?;
            Ok(())
        })
    }

    /// Removes all peers. Returns their number.
    pub fn forget_all_peers(&self) -> Result<u64, StoreError> {
        self.write(|transaction| {
            let mut peers = transaction.open_table(PEERS)?;
            let count = peers.len()?;
            peers.retain(|_, _| false)?;
            Ok(count)
        })
    }
}

/// Removes the peers met longest ago if there are too many; paired peers only after all others, and the one just
/// written never.
fn make_room(peers: &mut Table<&[u8], &[u8]>, written: &[u8]) -> Result<(), StoreError> {
    while peers.len()? > KEPT {
        let mut first = None;
        for row in peers.iter()? {
            let (key, value) = row?;
            let record = decode::<PeerRecord>(value.value()).unwrap_or_default();
            let rank = (record.pair.is_some(), record.last_met);
            let goes = first.as_ref().is_none_or(|(least, _)| rank < *least);
            if goes && key.value() != written {
                first = Some((rank, key.value().to_vec()));
            }
        }
        let Some((_, key)) = first else {
            return Ok(());
        };
        peers.remove(key.as_slice())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
