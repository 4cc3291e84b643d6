//! Getting to know a relay before it is used.
//!
//! Hole punching offers the addresses that were observed before a relayed connection opened, and a peer learns what it
//! looks like over TCP and over QUIC, IPv4 and IPv6, only from somebody it dialled over that. So a relay is dialled over
//! all of them, and a circuit or a reservation waits until it has said what it sees, or failed to.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;
use tokio::time::Instant;

/// How long the first may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the others may take beyond twice of what the first took: IPv6 may lead nowhere, without a word.
const SLACK: Duration = Duration::from_millis(200);
/// Relays approached at once; one more is used as it is.
const MAX_APPROACHES: usize = 32;

/// The relays that are being approached.
#[derive(Debug, Default)]
pub(crate) struct Approaches(BTreeMap<PeerId, Approach>);

#[derive(Debug)]
struct Approach {
    /// Dials that have neither failed nor been followed by an observation.
    open: BTreeSet<ConnectionId>,
    began: Instant,
    until: Instant,
}

impl Approaches {
    /// These dials of a relay have begun. `false` if it is not worth waiting for them.
    pub(crate) fn begin(
        &mut self,
        relay: PeerId,
        dials: impl IntoIterator<Item = ConnectionId>,
        now: Instant,
    ) -> bool {
        let open: BTreeSet<_> = dials.into_iter().collect();
        if open.is_empty() || self.0.len() >= MAX_APPROACHES {
            return false;
        }
        let approach = Approach {
            open,
            began: now,
            until: now + PATIENCE,
        };
        self.0.insert(relay, approach);
        true
    }

    /// Whether this relay is being approached.
    pub(crate) fn under_way(&self, relay: PeerId) -> bool {
        self.0.contains_key(&relay)
    }

    /// This dial has failed or, if it was `good`, what it looks like from there is known. Who is ready by that.
    pub(crate) fn settled(
        &mut self,
        connection: ConnectionId,
        good: bool,
        now: Instant,
    ) -> Option<PeerId> {
        let mut all = self.0.iter_mut();
        let (relay, approach) = all.find(|(_, approach)| approach.open.contains(&connection))?;
        approach.open.remove(&connection);
        if !approach.open.is_empty() {
            if good {
                let took = now.duration_since(approach.began);
                approach.until = approach.until.min(now + took + SLACK);
            }
            return None;
        }
        let ready = *relay;
        self.0.remove(&ready);
        Some(ready)
    }

    /// When [`wake`](Self::wake) has something to do.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.0.values().map(|approach| approach.until).min()
    }

    /// Who has been waited for long enough.
    pub(crate) fn wake(&mut self, now: Instant) -> Vec<PeerId> {
        let late = |(_, approach): &(&PeerId, &Approach)| approach.until <= now;
        let late: Vec<PeerId> = self
            .0
            .iter()
            .filter(late)
            .map(|(relay, _)| *relay)
            .collect();
        for relay in &late {
            self.0.remove(relay);
        }
        late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_ready_when_all_is_known_or_time_is_up() {
        let now = Instant::now();
        let ids: Vec<_> = (0..4).map(ConnectionId::new_unchecked).collect();
        let (a, b) = (PeerId::random(), PeerId::random());
        let mut approaches = Approaches::default();
        assert!(approaches.begin(a, [ids[0], ids[1]], now));
        assert!(approaches.begin(b, [ids[2]], now));
        assert!(!approaches.begin(PeerId::random(), [], now));
        assert_eq!(approaches.settled(ids[0], false, now), None);
        assert_eq!(approaches.settled(ids[3], true, now), None);
        assert_eq!(approaches.settled(ids[1], true, now), Some(a));
        assert_eq!(approaches.wake(now), []);
        let until = approaches.next_wake().unwrap();
        assert_eq!(approaches.wake(until), [b]);
        assert_eq!(approaches.next_wake(), None);
    }

    #[test]
    fn a_way_that_leads_nowhere_is_not_waited_for_much_longer_than_the_others() {
        let now = Instant::now();
        let ids: Vec<_> = (0..3).map(ConnectionId::new_unchecked).collect();
        let relay = PeerId::random();
        let mut approaches = Approaches::default();
        assert!(approaches.begin(relay, ids.clone(), now));
        approaches.settled(ids[0], false, now);
        assert_eq!(approaches.next_wake(), Some(now + PATIENCE), "it failed");
        let took = Duration::from_millis(90);
        approaches.settled(ids[1], true, now + took);
        let until = now + 2 * took + SLACK;
        assert_eq!(approaches.next_wake(), Some(until));
        assert_eq!(approaches.wake(until), [relay]);
    }

    #[test]
    fn a_crowd_is_not_waited_for() {
        let now = Instant::now();
        let mut approaches = Approaches::default();
        let begun = (0..100)
            .filter(|id| {
                let dial = ConnectionId::new_unchecked(*id);
                approaches.begin(PeerId::random(), [dial], now)
            })
            .count();
        assert_eq!(begun, MAX_APPROACHES);
    }
}
