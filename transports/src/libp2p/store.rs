//! What a node of the DHT keeps for others: who provides what, for a while.
//!
//! libp2p's own store keeps values too, has no bound on the addresses of a record, and never forgets what has expired
//! unless its own announcements are repeated by libp2p.

use std::borrow::Cow;
use std::collections::hash_map::Values;
use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use handover_core::dial::of_each_kind;
use libp2p::PeerId;
use libp2p::kad::store::{Error, RecordStore, Result};
use libp2p::kad::{ProviderRecord, Record, RecordKey};

/// Keys that are kept for others; one more takes the place of the one that was announced longest ago. Whoever still
/// shares announces again, so that one is likely to be of a share that has ended. To refuse the new one would leave
/// whoever came last unfound, for as long as records are kept: two days.
const KEYS: usize = 8192;
/// Providers of one key: what a look-up asks of one node, and the DHT's replication factor.
const PROVIDERS: usize = 20;
/// Addresses of one record, and how long one may be.
const ADDRESSES: usize = 8;
const ADDRESS_BYTES: usize = 256;
/// The longest key that nodes of the public network take.
const KEY_BYTES: usize = 80;

/// Provider records; values are refused.
#[derive(Debug)]
pub(crate) struct Store {
    local: PeerId,
    provided: HashMap<RecordKey, ProviderRecord>,
    others: HashMap<RecordKey, Vec<ProviderRecord>>,
    /// Which key is to be forgotten next, by when its newest record expires.
    expiries: BTreeSet<(Instant, Vec<u8>)>,
}

impl Store {
    pub(crate) fn new(local: PeerId) -> Self {
        Self {
            local,
            provided: HashMap::new(),
            others: HashMap::new(),
            expiries: BTreeSet::new(),
        }
    }

    /// Keys that are kept for others.
    pub(crate) fn len(&self) -> usize {
        self.others.len()
    }

    /// Forgets keys of which nothing is valid any more.
    fn purge(&mut self, now: Instant) {
        while let Some((at, key)) = self.expiries.first().cloned() {
            if at > now {
                break;
            }
            self.expiries.pop_first();
            self.others.remove(&RecordKey::from(key));
        }
    }

    fn last_expiry(records: &[ProviderRecord]) -> Option<Instant> {
        records.iter().filter_map(|record| record.expires).max()
    }

    /// Notes when a key's records end after they changed.
    fn reschedule(&mut self, key: &RecordKey, before: Option<Instant>) {
        let now = self
            .others
            .get(key)
            .and_then(|records| Self::last_expiry(records));
        if before == now {
            return;
        }
        if let Some(before) = before {
            self.expiries.remove(&(before, key.to_vec()));
        }
        if let Some(now) = now {
            self.expiries.insert((now, key.to_vec()));
        }
    }
}

impl RecordStore for Store {
    type RecordsIter<'a> = std::iter::Empty<Cow<'a, Record>>;
    type ProvidedIter<'a> = std::iter::Map<
        Values<'a, RecordKey, ProviderRecord>,
        fn(&'a ProviderRecord) -> Cow<'a, ProviderRecord>,
    >;

    fn get(&self, _: &RecordKey) -> Option<Cow<'_, Record>> {
        None
    }

    fn put(&mut self, _: Record) -> Result<()> {
        Err(Error::MaxRecords)
    }

    fn remove(&mut self, _: &RecordKey) {}

    fn records(&self) -> Self::RecordsIter<'_> {
        std::iter::empty()
    }

    fn add_provider(&mut self, mut record: ProviderRecord) -> Result<()> {
        let key = record.key.clone();
        if record.provider == self.local {
            self.provided.insert(key, record);
            return Ok(());
        }
        // Kademlia gives every record of another peer an expiry; one without could not be forgotten.
        if record.expires.is_none() || key.as_ref().len() > KEY_BYTES {
            return Err(Error::ValueTooLarge);
        }
        self.purge(Instant::now());
        if self.others.len() >= KEYS
            && !self.others.contains_key(&key)
            && let Some((_, oldest)) = self.expiries.pop_first()
        {
            self.others.remove(&RecordKey::from(oldest));
        }
        record
            .addresses
            .retain(|address| address.len() <= ADDRESS_BYTES);
        record.addresses = of_each_kind(record.addresses, ADDRESSES);
        let records = self.others.entry(key.clone()).or_default();
        let before = Self::last_expiry(records);
        let same = |known: &ProviderRecord| known.provider == record.provider;
        match records.iter().position(same) {
            Some(known) => records[known] = record,
            // Who came first stays: a flood of new names does not wash the known ones out.
            None if records.len() >= PROVIDERS => return Ok(()),
            None => records.push(record),
        }
        self.reschedule(&key, before);
        Ok(())
    }

    fn providers(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        let others = self.others.get(key).into_iter().flatten();
        self.provided
            .get(key)
            .into_iter()
            .chain(others)
            .cloned()
            .collect()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        self.provided.values().map(Cow::Borrowed)
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) {
        if *provider == self.local {
            self.provided.remove(key);
            return;
        }
        let Some(records) = self.others.get_mut(key) else {
            return;
        };
        let before = Self::last_expiry(records);
        records.retain(|record| record.provider != *provider);
        if records.is_empty() {
            self.others.remove(key);
        }
        self.reschedule(key, before);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn record(key: u32, lives: Duration) -> ProviderRecord {
        let mut record = ProviderRecord::new(key.to_be_bytes().to_vec(), PeerId::random(), vec![]);
        record.expires = Some(Instant::now() + lives);
        record
    }

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn what_has_expired_is_forgotten() {
        let mut store = Store::new(PeerId::random());
        store.add_provider(record(1, HOUR)).unwrap();
        store.purge(Instant::now() + 2 * HOUR);
        assert_eq!((store.len(), store.expiries.len()), (0, 0));
    }

    /// New announcements were refused: after some 1,400 shares in two days a node let nobody be found any more.
    #[test]
    fn where_there_is_no_room_the_one_that_was_announced_longest_ago_goes() {
        let mut store = Store::new(PeerId::random());
        let keys = u32::try_from(KEYS).unwrap();
        for key in 0..keys {
            store
                .add_provider(record(key, HOUR + Duration::from_secs(key.into())))
                .unwrap();
        }
        // The first is announced again, so the second is the oldest.
        store.add_provider(record(0, 2 * HOUR)).unwrap();
        store.add_provider(record(u32::MAX, 2 * HOUR)).unwrap();
        assert_eq!((store.len(), store.expiries.len()), (KEYS, KEYS));
        let kept = |key| store.providers(&record(key, HOUR).key).len();
        // Two peers have announced the first.
        assert_eq!([kept(0), kept(1), kept(2), kept(u32::MAX)], [2, 0, 1, 1]);
    }

    #[test]
    fn providers_of_one_key_and_their_addresses_are_bounded() {
        let mut store = Store::new(PeerId::random());
        for _ in 0..PROVIDERS * 2 {
            let mut one = record(1, HOUR);
            one.addresses = (0..100)
                .map(|port| format!("/ip4/192.0.2.1/tcp/{port}").parse().unwrap())
                .collect();
            store.add_provider(one).unwrap();
        }
        let kept = store.providers(&record(1, HOUR).key);
        assert_eq!(kept.len(), PROVIDERS);
        assert!(
            kept.iter()
                .all(|record| record.addresses.len() == ADDRESSES)
        );
    }

    #[test]
    fn one_that_announces_again_lives_longer_and_one_that_is_removed_leaves_nothing() {
        let mut store = Store::new(PeerId::random());
        let mut one = record(1, HOUR);
        store.add_provider(one.clone()).unwrap();
        one.expires = Some(Instant::now() + 3 * HOUR);
        store.add_provider(one.clone()).unwrap();
        store.purge(Instant::now() + 2 * HOUR);
        assert_eq!(store.providers(&one.key).len(), 1);
        store.remove_provider(&one.key, &one.provider);
        assert_eq!((store.len(), store.expiries.len()), (0, 0));
    }

    #[test]
    fn this_peers_own_records_are_apart() {
        let local = PeerId::random();
        let mut store = Store::new(local);
        let own = ProviderRecord::new(vec![1], local, vec![]);
        store.add_provider(own.clone()).unwrap();
        assert_eq!((store.provided().count(), store.len()), (1, 0));
        assert_eq!(store.providers(&own.key).len(), 1);
        store.remove_provider(&own.key, &local);
        assert_eq!(store.provided().count(), 0);
    }
}
