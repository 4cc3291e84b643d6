//! Learning this peer's observed addresses from a relay before using it
//!
//! Hole punching offers the addresses that were observed before a relayed connection opened. A peer learns its observed
//! address for TCP and QUIC, over IPv4 and IPv6, only from a node that it has dialled that way. So a relay is dialled
//! in all of these ways, and a circuit or a reservation waits until each dial has brought an observation or failed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;
use tokio::time::Instant;

/// Timeout for the first observation.
const PATIENCE: Duration = Duration::from_secs(2);
/// How much longer than twice the time of the first observation the others may take: IPv6 packets may be dropped
/// silently.
const SLACK: Duration = Duration::from_millis(200);
/// Maximum number of relays approached at once. Any further relay is used without waiting.
const MAX_APPROACHES: usize = 32;

/// The relays that are being approached.
#[derive(Debug, Default)]
pub(crate) struct Approaches(BTreeMap<PeerId, Approach>);

#[derive(Debug)]
struct Approach {
    /// Dials that have neither failed nor brought an observation yet.
    open: BTreeSet<ConnectionId>,
    began: Instant,
    until: Instant,
}

impl Approaches {
    /// Starts the wait for these dials to a relay. Returns false if there is none to wait for, or too many relays are
    /// approached.
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

    /// True if this relay is being approached.
    pub(crate) fn under_way(&self, relay: PeerId) -> bool {
        self.0.contains_key(&relay)
    }

    /// Handles the end of a dial: it failed or, if `good`, brought an observation. Returns the relay if it is now
    /// ready.
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

    /// Time of the next call to [`wake`](Self::wake).
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.0.values().map(|approach| approach.until).min()
    }

    /// Removes and returns the relays whose wait has timed out.
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
