//! A network in virtual time: hosts, links between them, and what the links do to bytes.
//!
//! Nothing happens by itself. A driver [`send`](Network::send)s, asks [when the next event is
//! due](Network::next_event_at) and [`advance`](Network::advance_to)s to any moment before or after it, which returns
//! the events on the way in order. The same seed and the same calls give exactly the same events: the queue is ordered
//! by time and then by sequence number, and each direction of each link has its own random stream, so a draw on one
//! does not affect the others.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use bytes::Bytes;
use handover_core::engine::LinkId;
use handover_core::time::Time;

use super::direction::{Arrival, Direction};
use super::profile::{Death, LinkProfile};

/// A simulated machine on the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub u32);

/// The two ends of a link. Each end has its own id, unique in the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ends {
    /// The end of the host that connected.
    pub dialler: LinkId,
    /// The other end.
    pub listener: LinkId,
}

/// An event at one end of a link.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NetworkEvent {
    /// The link is up. Always the first event: one delay after `connect` at the listener, two at the dialler.
    Up {
        /// The end.
        end: LinkId,
    },
    /// Bytes arrived. They occupy the window until they are [`consumed`](Network::consumed).
    Delivered {
        /// The end.
        end: LinkId,
        /// The bytes that the other end sent.
        bytes: Bytes,
    },
    /// The window has room again at an end whose `send` did not accept everything.
    Writable {
        /// The end.
        end: LinkId,
    },
    /// The other end has closed, and everything it sent was delivered.
    Ended {
        /// The end.
        end: LinkId,
    },
    /// The link is dead. No further events occur at this end.
    Down {
        /// The end.
        end: LinkId,
        /// The cause.
        cause: DownCause,
    },
}

/// The cause of a link's death.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DownCause {
    /// The other end reset the link.
    Reset,
    /// The network failed: [`Network::kill_link`].
    Lost,
}

/// Error: the link is dead, or this end has closed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the link is closed")]
pub struct LinkClosed;

/// A simulated network.
#[derive(Debug)]
pub struct Network {
    now: Time,
    seed: u64,
    hosts: u32,
    next_link: u64,
    /// Links, by half the id of their ends.
    links: BTreeMap<u64, SimLink>,
    /// For each limited host: the bytes per second that all its links share for sending, and when its line is free.
    uplinks: BTreeMap<HostId, (u64, Time)>,
    queue: BinaryHeap<Reverse<(Time, u64, Due)>>,
    next_sequence: u64,
}

#[derive(Debug)]
struct SimLink {
    dialler: HostId,
    listener: HostId,
    /// Bytes that may still be delivered before the link dies.
    budget: Option<Budget>,
    /// The direction from the dialler's end, and the one from the listener's.
    directions: [Direction; 2],
}

/// Number of bytes that a link may still deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Budget {
    /// Both directions together.
    Summed(u64),
    /// Each direction: from the dialler's end, and from the listener's.
    EachWay([u64; 2]),
}

impl Budget {
    /// Bytes left for the direction that starts at this side.
    fn left(self, side: usize) -> u64 {
        match self {
            Self::Summed(left) => left,
            Self::EachWay(left) => left[side],
        }
    }

    fn take(&mut self, side: usize, bytes: u64) {
        let left = match self {
            Self::Summed(left) => left,
            Self::EachWay(left) => &mut left[side],
        };
        *left = left.saturating_sub(bytes);
    }

    fn is_spent(self) -> bool {
        self.left(0) == 0 || self.left(1) == 0
    }
}

/// A scheduled event. The order of variants is irrelevant: sequence numbers are unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Up(LinkId),
    /// The oldest item in flight to this end arrives.
    Arrival(LinkId),
    /// The sender at this end learns that this number of bytes was consumed.
    Credit(LinkId, usize),
    Death(u64),
}

/// The number of the link that an end belongs to.
fn link_of(end: LinkId) -> u64 {
    end.0 / 2
}

/// The index of the direction that starts at an end.
fn side_of(end: LinkId) -> usize {
    usize::from(!end.0.is_multiple_of(2))
}

/// The opposite end of the link.
fn across(end: LinkId) -> LinkId {
    LinkId(end.0 ^ 1)
}

impl Network {
    /// An empty network at time zero.
    pub fn new(seed: u64) -> Self {
        Self {
            now: Time::ZERO,
            seed,
            hosts: 0,
            next_link: 0,
            links: BTreeMap::new(),
            uplinks: BTreeMap::new(),
            queue: BinaryHeap::new(),
            next_sequence: 0,
        }
    }

    /// The current virtual time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Adds a host.
    pub fn add_host(&mut self) -> HostId {
        let host = HostId(self.hosts);
        self.hosts += 1;
        host
    }

    /// Connects two hosts, which may be the same, by a link. Bytes may be sent at once; nothing arrives before
    /// [`NetworkEvent::Up`].
    pub fn connect(&mut self, dialler: HostId, listener: HostId, profile: LinkProfile) -> Ends {
        let number = self.next_link;
        self.next_link += 1;
        let ends = Ends {
            dialler: LinkId(2 * number),
            listener: LinkId(2 * number + 1),
        };
        let at_listener = self.now + profile.delay;
        let at_dialler = at_listener + profile.delay;
        let link = SimLink {
            dialler,
            listener,
            budget: None,
            directions: [
                Direction::new(profile, self.seed, ends.dialler.0, at_listener),
                Direction::new(profile, self.seed, ends.listener.0, at_dialler),
            ],
        };
        self.links.insert(number, link);
        self.schedule(at_listener, Due::Up(ends.listener));
        self.schedule(at_dialler, Due::Up(ends.dialler));
        ends
    }

    /// Limits everything a host sends from now on, over all its links together, to this number of bytes per second.
    pub fn limit_uplink(&mut self, host: HostId, bytes: u64) {
        self.uplinks.insert(host, (bytes.max(1), self.now));
    }

    /// The profile of a link; `None` if the link is gone.
    pub fn profile(&self, end: LinkId) -> Option<LinkProfile> {
        let link = self.links.get(&link_of(end))?;
        Some(*link.directions[side_of(end)].profile())
    }

    /// The host of this end and the host of the opposite end; `None` if the link is gone.
    pub fn hosts(&self, end: LinkId) -> Option<(HostId, HostId)> {
        let link = self.links.get(&link_of(end))?;
        Some(if side_of(end) == 0 {
            (link.dialler, link.listener)
        } else {
            (link.listener, link.dialler)
        })
    }

    /// The ends of every existing link.
    pub fn links(&self) -> impl Iterator<Item = Ends> + '_ {
        self.links.keys().map(|number| Ends {
            dialler: LinkId(2 * number),
            listener: LinkId(2 * number + 1),
        })
    }

    /// Sends as many of these bytes as the window allows and returns how many were accepted. If not all, a
    /// [`NetworkEvent::Writable`] follows.
    pub fn send(&mut self, from: LinkId, bytes: &Bytes) -> Result<usize, LinkClosed> {
        let now = self.now;
        let host = self.hosts(from).map(|(host, _)| host);
        let mut uplink = host.and_then(|host| self.uplinks.get(&host).copied());
        let direction = self.direction(from).ok_or(LinkClosed)?;
        let (taken, arrivals) = direction
            .send(now, bytes, uplink.as_mut())
            .ok_or(LinkClosed)?;
        if let (Some(host), Some(uplink)) = (host, uplink) {
            self.uplinks.insert(host, uplink);
        }
        for at in arrivals {
            self.schedule(at, Due::Arrival(across(from)));
        }
        Ok(taken)
    }

    /// Bytes that this end may send now; 0 if it can't send any more.
    pub fn room(&self, from: LinkId) -> usize {
        let link = self.links.get(&link_of(from));
        link.map_or(0, |link| link.directions[side_of(from)].room())
    }

    /// Frees this number of delivered bytes in the window. The sender learns of it one delay later.
    pub fn consumed(&mut self, at: LinkId, bytes: usize) {
        let now = self.now;
        let sender = across(at);
        if let Some(direction) = self.direction(sender)
            && bytes > 0
        {
            let when = now + direction.profile().delay;
            self.schedule(when, Due::Credit(sender, bytes));
        }
    }

    /// Ends the direction from this end. The other direction continues; once both have ended, the link is gone.
    pub fn close(&mut self, end: LinkId) {
        self.finish(end, Direction::close);
    }

    /// Resets the link at this end, which gets no further events. Bytes already sent still arrive; then the other end
    /// is [`Down`](NetworkEvent::Down).
    pub fn reset(&mut self, end: LinkId) {
        self.finish(end, Direction::reset);
        if let Some(incoming) = self.direction(across(end)) {
            incoming.deafen();
        }
    }

    fn finish(&mut self, end: LinkId, how: fn(&mut Direction, Time) -> Option<Time>) {
        let now = self.now;
        if let Some(at) = self
            .direction(end)
            .and_then(|direction| how(direction, now))
        {
            self.schedule(at, Due::Arrival(across(end)));
        }
    }

    /// Kills a link: bytes in flight at that moment are lost, and both ends are [`Down`](NetworkEvent::Down) at once.
    /// Either end identifies the link.
    pub fn kill_link(&mut self, end: LinkId, death: Death) {
        let Some(link) = self.links.get_mut(&link_of(end)) else {
            return;
        };
        match death {
            Death::AfterBytes(budget) if budget > 0 => link.budget = Some(Budget::Summed(budget)),
            Death::AfterBytesEachWay(budget) if budget > 0 => {
                link.budget = Some(Budget::EachWay([budget; 2]));
            }
            Death::AfterBytes(_) | Death::AfterBytesEachWay(_) => {
                self.schedule(self.now, Due::Death(link_of(end)))
            }
            Death::At(at) => self.schedule(at.max(self.now), Due::Death(link_of(end))),
        }
    }

    /// Delays everything that would arrive at this end before `until` to that time.
    pub fn stall(&mut self, end: LinkId, until: Time) {
        if let Some(direction) = self.direction(across(end)) {
            direction.stall(until);
        }
    }

    /// When the next event is due; `None` if nothing is scheduled.
    pub fn next_event_at(&self) -> Option<Time> {
        self.queue.peek().map(|Reverse((at, _, _))| *at)
    }

    /// Advances to `until` and returns the events on the way, in order. A time in the past counts as now.
    pub fn advance_to(&mut self, until: Time) -> Vec<NetworkEvent> {
        let mut events = Vec::new();
        while let Some((_, event)) = self.step(until) {
            events.push(event);
        }
        self.now = self.now.max(until);
        events
    }

    /// Advances to the next event if it is due by `until`, and no further.
    pub fn step(&mut self, until: Time) -> Option<(Time, NetworkEvent)> {
        loop {
            let Reverse((at, _, _)) = self.queue.peek()?;
            if *at > until {
                return None;
            }
            let Reverse((at, _, due)) = self.queue.pop()?;
            self.now = self.now.max(at);
            if let Some(event) = self.perform(due) {
                return Some((self.now, event));
            }
        }
    }

    fn perform(&mut self, due: Due) -> Option<NetworkEvent> {
        match due {
            Due::Up(end) => self.on_up(end),
            Due::Arrival(end) => self.on_arrival(end),
            Due::Credit(end, bytes) => {
                let wanted = self.direction(end)?.credit(bytes);
                wanted.then_some(NetworkEvent::Writable { end })
            }
            Due::Death(number) => self.on_death(number),
        }
    }

    fn on_up(&mut self, end: LinkId) -> Option<NetworkEvent> {
        let heard = self.direction(across(end))?.is_heard();
        heard.then_some(NetworkEvent::Up { end })
    }

    fn on_arrival(&mut self, end: LinkId) -> Option<NetworkEvent> {
        let number = link_of(end);
        let link = self.links.get_mut(&number)?;
        if link.budget.is_some_and(Budget::is_spent) {
            // The link's death is due at this very moment.
            return None;
        }
        let from = side_of(across(end));
        let left = link.budget.map(|budget| budget.left(from));
        let direction = &mut link.directions[from];
        let heard = direction.is_heard();
        let event = match direction.arrive(self.now, left) {
            Arrival::Nothing => return None,
            Arrival::Later(at) => {
                self.schedule(at, Due::Arrival(end));
                return None;
            }
            Arrival::Bytes(bytes) => {
                self.count(number, from, bytes.len());
                NetworkEvent::Delivered { end, bytes }
            }
            Arrival::End => {
                if link.directions.iter().all(Direction::is_over) {
                    self.links.remove(&number);
                }
                NetworkEvent::Ended { end }
            }
            Arrival::Reset => {
                self.links.remove(&number);
                let cause = DownCause::Reset;
                NetworkEvent::Down { end, cause }
            }
        };
        heard.then_some(event)
    }

    /// Counts delivered bytes, and schedules the link's death if its budget is spent.
    fn count(&mut self, number: u64, from: usize, bytes: usize) {
        let budget = self
            .links
            .get_mut(&number)
            .and_then(|link| link.budget.as_mut());
        if let Some(budget) = budget {
            budget.take(from, u64::try_from(bytes).unwrap_or(u64::MAX));
            if budget.is_spent() {
                self.schedule(self.now, Due::Death(number));
            }
        }
    }

    /// Notifies one end, and schedules a second call for the other.
    fn on_death(&mut self, number: u64) -> Option<NetworkEvent> {
        let link = self.links.get_mut(&number)?;
        let ends = [LinkId(2 * number), LinkId(2 * number + 1)];
        for direction in &mut link.directions {
            direction.die();
        }
        // Events of an end belong to the direction that starts at the opposite end.
        for (end, incoming) in [(ends[0], 1), (ends[1], 0)] {
            if link.directions[incoming].is_heard() {
                link.directions[incoming].deafen();
                self.schedule(self.now, Due::Death(number));
                let cause = DownCause::Lost;
                return Some(NetworkEvent::Down { end, cause });
            }
        }
        self.links.remove(&number);
        None
    }

    fn direction(&mut self, from: LinkId) -> Option<&mut Direction> {
        let link = self.links.get_mut(&link_of(from))?;
        Some(&mut link.directions[side_of(from)])
    }

    fn schedule(&mut self, at: Time, due: Due) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.queue.push(Reverse((at, sequence, due)));
    }
}
