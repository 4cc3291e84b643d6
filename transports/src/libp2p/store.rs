//! Provider records that a node of the DHT keeps for others for a while.
//!
//! libp2p's own store also keeps values, does not bound the addresses of a record, and does not drop expired records
//! unless libp2p repeats this node's announcements. Nor does it check where announcements come from: they are cheap, so
//! one computer could make it forget the records of all others.

use std::borrow::Cow;
use std::collections::hash_map::{Entry, Values};
use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use handover_core::dial::of_each_kind;
use handover_core::network::{Network, has_room};
use libp2p::PeerId;
use libp2p::kad::store::{Error, RecordStore, Result};
use libp2p::kad::{ProviderRecord, Record, RecordKey};

/// Maximum number of keys kept for others. A new key replaces the one announced longest ago: active sharers announce
/// again, so that one probably belongs to a share that has ended. Refusing the new key instead would make the latest
/// sharer impossible to find for as long as records are kept, which is two days.
const KEYS: usize = 8192;
/// Maximum number of records from one address: an eighth of the capacity.
const RECORDS_OF_ONE: usize = KEYS / 8;
/// Maximum number of providers per key: what a lookup requests from one node, and the DHT's replication factor.
const PROVIDERS: usize = 20;
/// Maximum number of providers per key from one address: a quarter. The DHT key of a short code's number is predictable
/// for everyone.
const PROVIDERS_OF_ONE: usize = PROVIDERS / 4;
/// Maximum number of addresses per record, and maximum length of an address in bytes.
const ADDRESSES: usize = 8;
const ADDRESS_BYTES: usize = 256;
/// Maximum length of a key in bytes that nodes of the public network accept.
const KEY_BYTES: usize = 80;

/// Stores provider records; values are refused.
#[derive(Debug)]
pub(crate) struct Store {
    local: PeerId,
    provided: HashMap<RecordKey, ProviderRecord>,
    others: HashMap<RecordKey, Vec<Kept>>,
    /// Number of records of others from each network.
    from: HashMap<Network, usize>,
    /// Keys by the time at which their newest record expires: the first is forgotten next.
    expiries: BTreeSet<(Instant, Vec<u8>)>,
}

/// A record of another peer, and the networks it came from.
#[derive(Debug)]
struct Kept {
    record: ProviderRecord,
    networks: Vec<Network>,
}

/// Why a record is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotKept {
    #[error("it has no end, or its key is too long")]
    Malformed,
    #[error("this address has too many already")]
    Address,
    #[error("this key has too many providers already")]
    Key,
}

impl Store {
    pub(crate) fn new(local: PeerId) -> Self {
        Self {
            local,
            provided: HashMap::new(),
            others: HashMap::new(),
            from: HashMap::new(),
            expiries: BTreeSet::new(),
        }
    }

    /// Number of keys kept for others.
    pub(crate) fn len(&self) -> usize {
        self.others.len()
    }

    /// Forgets keys whose records have all expired.
    fn purge(&mut self, now: Instant) {
        while let Some((at, key)) = self.expiries.first().cloned() {
            if at > now {
                break;
            }
            self.expiries.pop_first();
            self.forget(&RecordKey::from(key));
        }
    }

    /// Forgets all records of a key.
    fn forget(&mut self, key: &RecordKey) {
        for kept in self.others.remove(key).unwrap_or_default() {
            self.leaves(&kept.networks);
        }
    }

    /// Updates the counts of these networks after a record was removed.
    fn leaves(&mut self, networks: &[Network]) {
        for network in networks {
            if let Entry::Occupied(mut count) = self.from.entry(*network) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
    }

    /// Stores another peer's announcement. `networks`: where it came from.
    pub(crate) fn announced(
        &mut self,
        mut record: ProviderRecord,
        networks: Vec<Network>,
    ) -> std::result::Result<(), NotKept> {
        let key = record.key.clone();
        // Kademlia gives every record of another peer an expiry; one without would never be removed.
        if record.expires.is_none() || key.as_ref().len() > KEY_BYTES {
            return Err(NotKept::Malformed);
        }
        self.purge(Instant::now());
        let before = self.others.get(&key).and_then(|kept| last_expiry(kept));
        let earlier = self.take(&key, &record.provider);
        if let Some(refusal) = self.refusal(&key, &networks) {
            // Keep the earlier announcement, which came from elsewhere.
            if let Some(earlier) = earlier {
                self.keep(key.clone(), earlier);
            }
            self.reschedule(&key, before);
            return Err(refusal);
        }
        if self.others.len() >= KEYS
            && !self.others.contains_key(&key)
            && let Some((_, oldest)) = self.expiries.pop_first()
        {
            self.forget(&RecordKey::from(oldest));
        }
        record
            .addresses
            .retain(|address| address.len() <= ADDRESS_BYTES);
        record.addresses = of_each_kind(record.addresses, ADDRESSES);
        self.keep(key.clone(), Kept { record, networks });
        self.reschedule(&key, before);
        Ok(())
    }

    /// Why a further record of this key from these networks is refused; `None` if it is accepted. Existing records
    /// stay: a flood of new peers does not displace them.
    fn refusal(&self, key: &RecordKey, networks: &[Network]) -> Option<NotKept> {
        let of_key = self.others.get(key).map_or(&[][..], Vec::as_slice);
        let is_full = |network: &Network| {
            let all = self.from.get(network).copied().unwrap_or_default();
            all >= network.share(RECORDS_OF_ONE)
        };
        let from = of_key.iter().map(|kept| &kept.networks);
        if networks.iter().any(is_full) || !has_room(networks, from, PROVIDERS_OF_ONE) {
            Some(NotKept::Address)
        } else {
            (of_key.len() >= PROVIDERS).then_some(NotKept::Key)
        }
    }

    /// Removes and returns the record of a peer for a key.
    fn take(&mut self, key: &RecordKey, provider: &PeerId) -> Option<Kept> {
        let records = self.others.get_mut(key)?;
        let of = |kept: &Kept| kept.record.provider == *provider;
        let at = records.iter().position(of)?;
        let gone = records.remove(at);
        if records.is_empty() {
            self.others.remove(key);
        }
        self.leaves(&gone.networks);
        Some(gone)
    }

    fn keep(&mut self, key: RecordKey, kept: Kept) {
        for network in &kept.networks {
            *self.from.entry(*network).or_default() += 1;
        }
        self.others.entry(key).or_default().push(kept);
    }

    /// Updates the expiry of a key after its records changed.
    fn reschedule(&mut self, key: &RecordKey, before: Option<Instant>) {
        let now = self
            .others
            .get(key)
            .and_then(|records| last_expiry(records));
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

fn last_expiry(records: &[Kept]) -> Option<Instant> {
    records.iter().filter_map(|kept| kept.record.expires).max()
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

    /// Accepts only this peer's own records: those of others are stored by [`Store::announced`].
    fn add_provider(&mut self, record: ProviderRecord) -> Result<()> {
        if record.provider != self.local {
            return Err(Error::MaxProvidedKeys);
        }
        self.provided.insert(record.key.clone(), record);
        Ok(())
    }

    fn providers(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        let others = self.others.get(key).into_iter().flatten();
        let others = others.map(|kept| &kept.record);
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
        let before = self.others.get(key).and_then(|kept| last_expiry(kept));
        self.take(key, provider);
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
        store.announced(record(1, HOUR), Vec::new()).unwrap();
        store.purge(Instant::now() + 2 * HOUR);
        assert_eq!((store.len(), store.expiries.len()), (0, 0));
    }

    /// Regression: new announcements were refused, so after about 1,400 shares in two days a node made no further peer
    /// findable.
    #[test]
    fn where_there_is_no_room_the_one_that_was_announced_longest_ago_goes() {
        let mut store = Store::new(PeerId::random());
        let keys = u32::try_from(KEYS).unwrap();
        for key in 0..keys {
            let record = record(key, HOUR + Duration::from_secs(key.into()));
            store.announced(record, Vec::new()).unwrap();
        }
        // The first key is announced again, so the second is the oldest.
        store.announced(record(0, 2 * HOUR), Vec::new()).unwrap();
        store
            .announced(record(u32::MAX, 2 * HOUR), Vec::new())
            .unwrap();
        assert_eq!((store.len(), store.expiries.len()), (KEYS, KEYS));
        let kept = |key| store.providers(&record(key, HOUR).key).len();
        // Two peers have announced the first key.
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
            let told = store.announced(one, Vec::new());
            assert!(matches!(told, Ok(()) | Err(NotKept::Key)));
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
        store.announced(one.clone(), Vec::new()).unwrap();
        one.expires = Some(Instant::now() + 3 * HOUR);
        store.announced(one.clone(), Vec::new()).unwrap();
        store.purge(Instant::now() + 2 * HOUR);
        assert_eq!(store.providers(&one.key).len(), 1);
        store.remove_provider(&one.key, &one.provider);
        assert_eq!((store.len(), store.expiries.len()), (0, 0));
    }

    /// Regression: 8,200 announcements of one computer made a node forget those of all others.
    #[test]
    fn one_address_has_an_eighth_of_the_room_and_one_site_a_quarter() {
        let networks = |address: &str| Network::of(&address.parse().unwrap());
        let mut store = Store::new(PeerId::random());
        store
            .announced(record(u32::MAX, HOUR), networks("/ip4/198.51.100.7/tcp/1"))
            .unwrap();
        let flood = |store: &mut Store, of: u32, address: &str| {
            let keys = of * 10_000..(of + 1) * 10_000;
            let record = |key| record(key, 2 * HOUR);
            let kept = keys.filter(|key| store.announced(record(*key), networks(address)).is_ok());
            kept.count()
        };
        let one = RECORDS_OF_ONE;
        assert_eq!(flood(&mut store, 1, "/ip4/203.0.113.9/tcp/1"), one);
        assert_eq!(flood(&mut store, 2, "/ip4/203.0.113.9/udp/7/quic-v1"), 0);
        for (subnet, kept) in [one, one, 0].into_iter().enumerate() {
            let address = format!("/ip6/2001:db9:1:{subnet}::9/tcp/1");
            let of = 3 + u32::try_from(subnet).unwrap();
            assert_eq!(flood(&mut store, of, &address), kept, "{address}");
        }
        assert_eq!(store.providers(&record(u32::MAX, HOUR).key).len(), 1);
        // Expired records free their room.
        store.purge(Instant::now() + 3 * HOUR);
        assert!(store.from.is_empty() && store.len() == 0);
        assert_eq!(flood(&mut store, 1, "/ip4/203.0.113.9/tcp/1"), one);
    }

    /// Regression: twenty announcements of one computer filled a key for two days, before its sharer announced.
    #[test]
    fn one_address_has_a_quarter_of_a_key() {
        let networks = |address: &str| Network::of(&address.parse().unwrap());
        let mut store = Store::new(PeerId::random());
        let greedy = "/ip4/203.0.113.9/tcp/1";
        let kept = (0..100).filter(|_| store.announced(record(1, HOUR), networks(greedy)).is_ok());
        assert_eq!(kept.count(), PROVIDERS_OF_ONE);
        let honest = record(1, HOUR);
        let told = store.announced(honest.clone(), networks("/ip4/198.51.100.7/tcp/1"));
        assert_eq!(told, Ok(()));
        // A second announcement, from an address that has too many records, is refused; the first one stays.
        assert_eq!(
            store.announced(honest.clone(), networks(greedy)),
            Err(NotKept::Address)
        );
        let providers = store.providers(&honest.key);
        assert!(providers.iter().any(|it| it.provider == honest.provider));
        assert_eq!(providers.len(), PROVIDERS_OF_ONE + 1);
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
