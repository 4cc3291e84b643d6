//! The peers that were met: how they did, and which of them have agreed to be known without a code.
//!
//! What is kept of a peer makes an order ([`standing`]), and opens shares between the two where both agreed. It is never
//! a reason to trust what a peer sends.

use std::time::Duration;

use data_encoding::HEXLOWER;
use handover_core::PeerId;
use handover_core::pair::PairSecret;
use redb::{ReadableTable, ReadableTableMetadata, Table, TableDefinition};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Store, StoreError, decode, encode, table};

/// Peers that are kept.
const KEPT: u64 = 1000;
/// Names of one peer that are kept, and bytes of each.
const NAMES: usize = 4;
const NAME: usize = 255;
/// By peer id, in its binary form.
const PEERS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("peers");

/// What is known of a peer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PeerRecord {
    /// What it called itself, the last name first. It is the peer's own word.
    pub names: Vec<String>,
    /// When it was met first, in seconds since 1970.
    pub first_met: u64,
    /// When it was met last.
    pub last_met: u64,
    /// Good bytes that it brought here.
    pub delivered: u64,
    /// Over so much time.
    pub delivered_in: Duration,
    /// Bytes that were sent to it.
    pub taken: u64,
    /// Transfers with it, either way, that were completed.
    pub completed: u32,
    /// Those that were not, by no wish of anybody here.
    pub failed: u32,
    /// Pieces from it that did not match their root.
    pub bad: u32,
    /// How often it broke the protocol.
    pub violations: u32,
    /// Good bytes that came through it as a relay, from whomever.
    pub carried: u64,
    /// Connections through it that ended while they were in use.
    pub cuts: u32,
    /// What was agreed on, if it may come and be called on without a code.
    pub pair: Option<Pair>,
}

impl PeerRecord {
    /// What it calls itself. Empty if it never said.
    pub fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// Bytes a second that it brought, on average.
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

/// What two devices have agreed on who know each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// Which identity of this device agreed. Another one can't keep its word.
    #[serde(with = "as_text")]
    pub us: PeerId,
    /// What both know.
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

/// What one transfer, or a part of it, adds to what is known of a peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meeting {
    /// What it calls itself, if it said so.
    pub name: String,
    /// Good bytes that it brought, and in how much time.
    pub delivered: u64,
    /// See [`Meeting::delivered`].
    pub delivered_in: Duration,
    /// Bytes that it was sent.
    pub taken: u64,
    /// Whether the transfer was completed; `None` if somebody did not want it any more.
    pub completed: Option<bool>,
    /// Pieces that did not match their root.
    pub bad: u32,
    /// How often it broke the protocol.
    pub violations: u32,
    /// Good bytes that came through it as a relay, and connections through it that ended while they were in use.
    pub carried: u64,
    /// See [`Meeting::carried`].
    pub cuts: u32,
}

/// How a peer has done: more is better, a stranger has 0. For the order in which sources and relays are tried, and for
/// nothing else. Who broke the protocol comes behind all who did not.
pub fn standing(record: &PeerRecord) -> i32 {
    const BROKE_IT: i32 = -1_000_000;
    let count = |number: u32, most: u32| i32::try_from(number.min(most)).unwrap_or(0);
    if record.violations > 0 {
        return BROKE_IT - count(record.violations, 1000);
    }
    // Twice the speed is as good as one transfer more.
    let kib = record.speed().unwrap_or(0) / 1024;
    let speed = count(kib.checked_ilog2().unwrap_or(0), 30);
    count(record.completed, 50) + speed + relaying(record)
        - 2 * count(record.failed, 50)
        - 20 * count(record.bad, 50)
}

/// How well a peer relays: by how much comes through it before it cuts a connection. Most relays do after 128 KiB, and are
/// neither better nor worse than one that is not known.
fn relaying(record: &PeerRecord) -> i32 {
    const USUAL: i32 = 7;
    let each = record.carried / (u64::from(record.cuts) + 1) / 1024;
    let doublings = each.checked_ilog2().unwrap_or(0);
    let better = i32::try_from(doublings).unwrap_or(0) - USUAL;
    // Who was soon not needed any more has done nothing wrong.
    if record.cuts == 0 {
        better.max(0)
    } else {
        better
    }
}

impl Store {
    /// Notes what became of a meeting at `now`, in seconds since 1970. With `known_only` a peer of whom nothing is known
    /// stays unknown: what strangers do at the door must not push out those who were met.
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

    /// Keeps what was agreed on with a peer, in place of what was agreed on before.
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

    /// Everybody who was met, who was met last first.
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

    /// Forgets a peer, and what was agreed on with it.
    pub fn forget_peer(&self, peer: PeerId) -> Result<(), StoreError> {
        self.write(|transaction| {
            let mut peers = transaction.open_table(PEERS)?;
            peers.remove(peer.to_bytes().as_slice())?;
            Ok(())
        })
    }

    /// Forgets everybody; how many there were.
    pub fn forget_all_peers(&self) -> Result<u64, StoreError> {
        self.write(|transaction| {
            let mut peers = transaction.open_table(PEERS)?;
            let count = peers.len()?;
            peers.retain(|_, _| false)?;
            Ok(count)
        })
    }
}

/// Who was met longest ago goes, where there are too many; those who are known by agreement after all others, and the
/// one that was just written never.
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
