//! One reservation: the connection of its request, its lifetime, and the addresses it makes this peer reachable at.
//! Pure state: the caller passes the time.

use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::core::transport::ListenerId;
use libp2p::swarm::ConnectionId;
use tokio::time::Instant;

use super::messages::CircuitLimit;

/// Maximum time until renewal: half of the shortest lifetime that known relays give. Clocks differ, and the expiry is
/// by the relay's clock.
const RENEW: Duration = Duration::from_mins(30);

/// Minimum time until renewal, whatever the relay says.
const SOONEST: Duration = Duration::from_mins(1);

/// Assumed lifetime if the expiry is implausible by this side's clock: what relays by go-libp2p and rust-libp2p give.
const USUAL: Duration = Duration::from_hours(1);

/// Maximum plausible lifetime. No relay gives more.
const LONGEST: Duration = Duration::from_hours(24);

/// A reservation, wanted or held.
#[derive(Debug)]
pub(super) struct Reservation {
    /// The listener that wants it.
    pub(super) listener: ListenerId,
    /// The relay's address, without its peer id.
    pub(super) way: Multiaddr,
    /// The dial whose connection will carry the request.
    pub(super) dialling: Option<ConnectionId>,
    /// The connection with a request under way.
    pub(super) asking: Option<ConnectionId>,
    pub(super) held: Option<Held>,
}

/// A granted reservation.
#[derive(Debug)]
pub(super) struct Held {
    /// The connection on which it was granted.
    pub(super) on: ConnectionId,
    until: Instant,
    /// Time of the next renewal.
    pub(super) renew_at: Instant,
    /// The listen addresses it provides.
    pub(super) addresses: Vec<Multiaddr>,
    /// The limit of each circuit.
    pub(super) limit: Option<CircuitLimit>,
}

impl Held {
    pub(super) fn new(
        on: ConnectionId,
        lasts: Duration,
        addresses: Vec<Multiaddr>,
        limit: Option<CircuitLimit>,
        now: Instant,
    ) -> Self {
        Self {
            on,
            until: now + lasts,
            renew_at: now + (lasts * 3 / 4).clamp(SOONEST, RENEW),
            addresses,
            limit,
        }
    }
}

impl Reservation {
    pub(super) fn new(listener: ListenerId, way: Multiaddr) -> Self {
        Self {
            listener,
            way,
            dialling: None,
            asking: None,
            held: None,
        }
    }

    /// Records a request on this connection.
    pub(super) fn asked(&mut self, on: ConnectionId) {
        self.dialling = None;
        self.asking = Some(on);
    }

    /// Records a grant. Returns the listen addresses of the previous one.
    pub(super) fn promised(&mut self, held: Held) -> Vec<Multiaddr> {
        self.asking = None;
        let before = self.held.replace(held);
        before.map(|held| held.addresses).unwrap_or_default()
    }

    /// Records a refusal. Returns true if an earlier grant is still valid, which is then renewed later.
    pub(super) fn denied(&mut self, on: ConnectionId, now: Instant) -> bool {
        self.asking = None;
        let Some(held) = self.held.as_mut() else {
            return false;
        };
        // A relay may drop a reservation together with its connection, so a refusal on another connection means that
        // none is left.
        let stands = held.on == on && held.until > now;
        held.renew_at = now + SOONEST.max(held.until.saturating_duration_since(now) / 4);
        stands
    }

    /// True if it depends on this connection.
    pub(super) fn is_on(&self, connection: ConnectionId) -> bool {
        let made = self.held.as_ref().map(|held| held.on);
        [self.dialling, self.asking, made].contains(&Some(connection))
    }

    /// Time of the next renewal.
    pub(super) fn renews_at(&self) -> Option<Instant> {
        let held = self.held.as_ref().filter(|_| self.asking.is_none());
        held.map(|held| held.renew_at)
    }
}

/// Returns the lifetime of a reservation with this expiry in seconds since 1970, allowing for clocks that differ.
pub(super) fn lasts(expire: Option<u64>, now: Duration) -> Duration {
    let end = expire.map(Duration::from_secs);
    let left = end.and_then(|end| end.checked_sub(now));
    left.filter(|left| !left.is_zero() && *left <= LONGEST)
        .unwrap_or(USUAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    fn id(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    fn held(lasts: Duration, now: Instant) -> Reservation {
        let way = "/ip4/192.0.2.1/tcp/1".parse().unwrap();
        let mut reservation = Reservation::new(ListenerId::next(), way);
        reservation.asked(id(1));
        assert_eq!(reservation.renews_at(), None);
        reservation.promised(Held::new(id(1), lasts, Vec::new(), None, now));
        reservation
    }

    #[test]
    fn a_clock_that_is_off_does_not_cost_the_reservation() {
        let now = Duration::from_hours(500_000);
        let at = |seconds: u64| lasts(Some(seconds), now);
        assert_eq!(at(now.as_secs() + 2 * HOUR), Duration::from_hours(2));
        for wrong in [
            0,
            now.as_secs() - 48 * HOUR,
            now.as_secs() + 48 * HOUR,
            u64::MAX,
        ] {
            assert_eq!(at(wrong), USUAL, "{wrong}");
        }
        assert_eq!(lasts(None, now), USUAL);
    }

    #[test]
    fn it_is_renewed_in_time_and_not_without_end() {
        let now = Instant::now();
        for (lasts, renewed) in [(7200, 1800), (1200, 900), (1, 60)] {
            let reservation = held(Duration::from_secs(lasts), now);
            let after = reservation.renews_at().unwrap() - now;
            assert_eq!(after, Duration::from_secs(renewed), "{lasts}");
        }
    }

    #[test]
    fn a_renewal_that_is_refused_leaves_the_promise_until_it_ends() {
        let now = Instant::now();
        let mut reservation = held(USUAL, now);
        let due = reservation.renews_at().unwrap();
        reservation.asked(id(1));
        assert!(reservation.denied(id(1), due));
        let again = reservation.renews_at().unwrap();
        assert!(again > due && again < now + USUAL);
        reservation.asked(id(1));
        assert!(!reservation.denied(id(1), now + USUAL), "it has ended");
    }

    #[test]
    fn a_refusal_on_another_connection_means_that_nothing_was_promised() {
        let now = Instant::now();
        let mut reservation = held(USUAL, now);
        reservation.asked(id(2));
        assert!(!reservation.denied(id(2), now));
    }
}
