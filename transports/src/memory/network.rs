//! A network in virtual time: hosts, links between them, and what the links do to bytes.
//!
//! Nothing happens by itself. A driver [`send`](Network::send)s, asks [when the next thing happens](Network::next_event_at)
//! and [`advance`](Network::advance_to)s to any moment up to it or past it; what happened on the way comes back in
//! order. The same seed and the same calls give the same events, to the byte: the queue is ordered by time and then
//! by sequence, and every direction of every link draws from a stream of randomness of its own, so that a draw on one
//! leaves all others as they were.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use bytes::Bytes;
use handover_core::engine::LinkId;
use handover_core::time::Time;

use super::direction::{Arrival, Direction};
use super::profile::{Death, LinkProfile};

/// A place on the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub u32);

/// One end of a link; each end has an id of its own, unique in the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ends {
    /// The end of whoever connected.
    pub dialler: LinkId,
    /// The other one.
    pub listener: LinkId,
}

/// What happened at one end of a link.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NetworkEvent {
    /// The link stands. Comes first, one delay after `connect` at the listener and two at the dialler.
    Up {
        /// At which end.
        end: LinkId,
    },
    /// Bytes came in. They take room in the window until they are [`consumed`](Network::consumed).
    Delivered {
        /// At which end.
        end: LinkId,
        /// What the other end sent.
        bytes: Bytes,
    },
    /// There is room again at an end whose `send` did not take everything.
    Writable {
        /// At which end.
        end: LinkId,
    },
    /// The other end has closed and all it sent was delivered.
    Ended {
        /// At which end.
        end: LinkId,
    },
    /// The link is dead. Nothing comes from this end any more.
    Down {
        /// At which end.
        end: LinkId,
        /// Of what.
        cause: DownCause,
    },
}

/// What a link died of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DownCause {
    /// The other end gave it up.
    Reset,
    /// The network failed: [`Network::kill_link`].
    Lost,
}

/// The link is dead, or this end has closed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the link is closed")]
pub struct LinkClosed;

/// The whole network.
#[derive(Debug)]
pub struct Network {
    now: Time,
    seed: u64,
    hosts: u32,
    next_link: u64,
    /// Links by half the id of their ends.
    links: BTreeMap<u64, SimLink>,
    /// Bytes a second that all links of a host send together, and when its line is free for the next one.
    uplinks: BTreeMap<HostId, (u64, Time)>,
    queue: BinaryHeap<Reverse<(Time, u64, Due)>>,
    next_sequence: u64,
}

#[derive(Debug)]
struct SimLink {
    dialler: HostId,
    listener: HostId,
    /// Bytes that may still be delivered before it dies.
    budget: Option<Budget>,
    /// From the dialler's end, and from the listener's.
    directions: [Direction; 2],
}

/// What a link may still deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Budget {
    /// In both directions together.
    Summed(u64),
    /// In each: from the dialler's end, and from the listener's.
    EachWay([u64; 2]),
}

impl Budget {
    /// What may still come in the direction that leaves from this side.
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

/// Something that will happen. The order of variants plays no part: sequence numbers are unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Up(LinkId),
    /// The oldest item on its way to this end arrives.
    Arrival(LinkId),
    /// The sender at this end learns that so many bytes were consumed.
    Credit(LinkId, usize),
    Death(u64),
}

/// The link that an end belongs to.
fn link_of(end: LinkId) -> u64 {
    end.0 / 2
}

/// Which direction leaves from an end.
fn side_of(end: LinkId) -> usize {
    usize::from(!end.0.is_multiple_of(2))
}

/// The end across.
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

    /// The time that has been advanced to.
    pub fn now(&self) -> Time {
        self.now
    }

    /// One more host.
    pub fn add_host(&mut self) -> HostId {
        let host = HostId(self.hosts);
        self.hosts += 1;
        host
    }

    /// A link between two hosts, which may be the same. Bytes may be sent at once; nothing arrives before
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

    /// All that a host sends from now on shares so many bytes a second, over whatever links.
    pub fn limit_uplink(&mut self, host: HostId, bytes: u64) {
        self.uplinks.insert(host, (bytes.max(1), self.now));
    }

    /// What a link is like, while it stands.
    pub fn profile(&self, end: LinkId) -> Option<LinkProfile> {
        let link = self.links.get(&link_of(end))?;
        Some(*link.directions[side_of(end)].profile())
    }

    /// The hosts of an end: its own, and the one across. `None` when the link is gone.
    pub fn hosts(&self, end: LinkId) -> Option<(HostId, HostId)> {
        let link = self.links.get(&link_of(end))?;
        Some(if side_of(end) == 0 {
            (link.dialler, link.listener)
        } else {
            (link.listener, link.dialler)
        })
    }

    /// Every link that is not gone, by the ends of it.
    pub fn links(&self) -> impl Iterator<Item = Ends> + '_ {
        self.links.keys().map(|number| Ends {
            dialler: LinkId(2 * number),
            listener: LinkId(2 * number + 1),
        })
    }

    /// Send as many of these bytes as the window has room for: how many were taken. If not all, a
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

    /// Room in the window of what this end sends, in bytes; 0 if it can't send any more.
    pub fn room(&self, from: LinkId) -> usize {
        let link = self.links.get(&link_of(from));
        link.map_or(0, |link| link.directions[side_of(from)].room())
    }

    /// So many of the bytes delivered at this end need no buffer any more. The sender learns of it a delay later.
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

    /// End what this end sends. The other direction goes on; when both have ended, the link is gone.
    pub fn close(&mut self, end: LinkId) {
        self.finish(end, Direction::close);
    }

    /// Give the link up at this end: nothing more is heard here. What was sent still arrives, then the other end is
    /// [`Down`](NetworkEvent::Down).
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

    /// Let a link die: what is on its way then is lost, and both ends are [`Down`](NetworkEvent::Down) at once.
    /// Either end names it.
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

    /// Let nothing arrive at this end before `until`; it all comes then.
    pub fn stall(&mut self, end: LinkId, until: Time) {
        if let Some(direction) = self.direction(across(end)) {
            direction.stall(until);
        }
    }

    /// When something happens next. `None` if nothing will unless somebody does something.
    pub fn next_event_at(&self) -> Option<Time> {
        self.queue.peek().map(|Reverse((at, _, _))| *at)
    }

    /// Go on to `until`; what happened on the way, in order. A moment in the past is now.
    pub fn advance_to(&mut self, until: Time) -> Vec<NetworkEvent> {
        let mut events = Vec::new();
        while let Some((_, event)) = self.step(until) {
            events.push(event);
        }
        self.now = self.now.max(until);
        events
    }

    /// Go on to the next event, if it happens by `until`, and no further.
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
            // Its death is due in this very moment.
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

    /// So many bytes were delivered: has the link died of it?
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

    /// Tells one end now and leaves the other to a second turn.
    fn on_death(&mut self, number: u64) -> Option<NetworkEvent> {
        let link = self.links.get_mut(&number)?;
        let ends = [LinkId(2 * number), LinkId(2 * number + 1)];
        for direction in &mut link.directions {
            direction.die();
        }
        // An end hears by the direction that leaves from the other one.
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
