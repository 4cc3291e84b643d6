//! One direction of a simulated link: how it splits bytes into pieces, when each piece arrives, and how much it holds.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use handover_core::time::Time;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::profile::{LinkProfile, Pieces};

/// One direction of a link.
#[derive(Debug)]
pub(super) struct Direction {
    profile: LinkProfile,
    rng: ChaCha8Rng,
    /// Items in flight, in order; one [`arrive`](Self::arrive) is due for each.
    items: VecDeque<Item>,
    /// Bytes sent and not yet credited.
    held: usize,
    /// True if the sender wanted to send more than the window allowed.
    starved: bool,
    /// When the line is free for the next byte.
    free_at: Time,
    /// When the last item arrives: no item overtakes another.
    last_arrival: Time,
    stalled_until: Time,
    sending: Sending,
    /// True while the receiver wants events.
    heard: bool,
    /// True once the end or a reset has arrived.
    over: bool,
}

#[derive(Debug)]
enum Item {
    Bytes(Bytes),
    End,
    Reset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    Open,
    Closed,
    Reset,
}

/// What has arrived.
#[derive(Debug)]
pub(super) enum Arrival {
    /// Nothing visible to the receiver.
    Nothing,
    /// The direction is stalled: try again at this time.
    Later(Time),
    Bytes(Bytes),
    End,
    Reset,
}

impl Direction {
    /// `number` selects the random stream of this direction. Nothing arrives before `up`.
    pub(super) fn new(profile: LinkProfile, seed: u64, number: u64, up: Time) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(number);
        Self {
            profile,
            rng,
            items: VecDeque::new(),
            held: 0,
            starved: false,
            free_at: Time::ZERO,
            last_arrival: up,
            stalled_until: Time::ZERO,
            sending: Sending::Open,
            heard: true,
            over: false,
        }
    }

    pub(super) fn profile(&self) -> &LinkProfile {
        &self.profile
    }

    pub(super) fn room(&self) -> usize {
        match self.sending {
            Sending::Open => self.profile.window.max(1).saturating_sub(self.held),
            Sending::Closed | Sending::Reset => 0,
        }
    }

    /// Returns the number of bytes accepted and the arrival time of each piece, or `None` if the direction is closed.
    /// `uplink` is the sender's line if it is limited: its bytes per second, and when it is free.
    pub(super) fn send(
        &mut self,
        now: Time,
        bytes: &Bytes,
        mut uplink: Option<&mut (u64, Time)>,
    ) -> Option<(usize, Vec<Time>)> {
        if self.sending != Sending::Open {
            return None;
        }
        let taken = self.room().min(bytes.len());
        self.starved = taken < bytes.len();
        self.held += taken;
        let mut rest = bytes.slice(..taken);
        let mut arrivals = Vec::new();
        while !rest.is_empty() {
            let piece = rest.split_to(self.draw_piece(rest.len()));
            let mut from = now;
            if let Some((rate, free_at)) = uplink.as_deref_mut() {
                *free_at = (*free_at).max(now) + time_at(*rate, piece.len());
                from = *free_at;
            }
            arrivals.push(self.put(from, piece.len()));
            self.items.push_back(Item::Bytes(piece));
        }
        Some((taken, arrivals))
    }

    /// Ends the direction after everything already sent. Returns when the end arrives, or `None` if it was ended
    /// before.
    pub(super) fn close(&mut self, now: Time) -> Option<Time> {
        if self.sending != Sending::Open {
            return None;
        }
        self.sending = Sending::Closed;
        self.items.push_back(Item::End);
        Some(self.put(now, 0))
    }

    /// Resets the direction after everything already sent. Returns when the reset arrives, or `None` if it was reset
    /// before.
    pub(super) fn reset(&mut self, now: Time) -> Option<Time> {
        if self.sending == Sending::Reset {
            return None;
        }
        self.sending = Sending::Reset;
        self.items.push_back(Item::Reset);
        Some(self.put(now, 0))
    }

    /// Drops everything in flight.
    pub(super) fn die(&mut self) {
        self.sending = Sending::Reset;
        self.items.clear();
    }

    /// The receiver wants no more events.
    pub(super) fn deafen(&mut self) {
        self.heard = false;
    }

    pub(super) fn is_heard(&self) -> bool {
        self.heard
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    pub(super) fn stall(&mut self, until: Time) {
        self.stalled_until = self.stalled_until.max(until);
    }

    /// Credits bytes that have left the receiver's buffer. Returns true if the sender is waiting for room.
    pub(super) fn credit(&mut self, bytes: usize) -> bool {
        self.held = self.held.saturating_sub(bytes);
        self.sending == Sending::Open && std::mem::take(&mut self.starved)
    }

    /// Takes the next item, which is due. At most `budget` bytes of it are delivered.
    pub(super) fn arrive(&mut self, now: Time, budget: Option<u64>) -> Arrival {
        if self.stalled_until > now {
            return Arrival::Later(self.stalled_until);
        }
        match self.items.pop_front() {
            None => Arrival::Nothing,
            Some(Item::Bytes(bytes)) => self.arrive_bytes(bytes, budget),
            Some(Item::End) => {
                self.over = true;
                Arrival::End
            }
            Some(Item::Reset) => {
                self.over = true;
                Arrival::Reset
            }
        }
    }

    fn arrive_bytes(&mut self, mut bytes: Bytes, budget: Option<u64>) -> Arrival {
        if let Some(Item::Bytes(next)) = self.items.front_mut()
            && matches!(self.profile.pieces, Pieces::Random { .. })
            && self.rng.next_u32().is_multiple_of(4)
        {
            // Glued: the next piece carries both.
            let mut glued = BytesMut::from(bytes);
            glued.extend_from_slice(next);
            *next = glued.freeze();
            return Arrival::Nothing;
        }
        if let Some(budget) = budget {
            bytes.truncate(usize::try_from(budget).unwrap_or(usize::MAX));
        }
        if !self.heard {
            // No receiver will consume these bytes, so they are credited here.
            self.held = self.held.saturating_sub(bytes.len());
        }
        Arrival::Bytes(bytes)
    }

    /// Returns the arrival time of an item of `len` bytes that is put on the line now.
    fn put(&mut self, now: Time, len: usize) -> Time {
        self.free_at = self.free_at.max(now) + self.time_on_wire(len);
        let jitter = self.draw_jitter();
        let at = self.free_at + self.profile.delay + jitter;
        self.last_arrival = self.last_arrival.max(at);
        self.last_arrival
    }

    fn time_on_wire(&self, len: usize) -> Duration {
        let Some(bandwidth) = self.profile.bandwidth else {
            return Duration::ZERO;
        };
        time_at(bandwidth, len)
    }

    fn draw_jitter(&mut self) -> Duration {
        let most = u64::try_from(self.profile.jitter.as_nanos()).unwrap_or(u64::MAX);
        match most {
            0 => Duration::ZERO,
            most => Duration::from_nanos(self.rng.next_u64() % most),
        }
    }

    /// Draws the length of the next piece: first its magnitude, then a length below that.
    fn draw_piece(&mut self, left: usize) -> usize {
        let Pieces::Random { max } = self.profile.pieces else {
            return left;
        };
        let magnitudes = max.max(1).ilog2() + 1;
        let below = 1_u64 << (self.rng.next_u32() % magnitudes);
        let len = 1 + self.rng.next_u64() % (2 * below - 1);
        usize::try_from(len)
            .unwrap_or(usize::MAX)
            .min(left)
            .min(max.max(1))
    }
}

/// The time that `len` bytes take at `rate` bytes per second.
fn time_at(rate: u64, len: usize) -> Duration {
    let nanos = len as u128 * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
