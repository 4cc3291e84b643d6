//! The network of `handover-transports`, wrapped in the types of this crate's core.
//!
//! That crate depends on the shipped core, this one on a copy of it with small leaves: same names, different types.

use bytes::Bytes;
use handover_core::engine::LinkId;
use handover_core::time::Time;
use handover_transports::memory::{self, Death, DownCause, HostId, LinkProfile};
use shipped_core::engine::LinkId as TheirId;
use shipped_core::time::Time as TheirTime;

/// Hosts and links in virtual time.
pub(crate) struct Network(memory::Network);

/// An event at one end of a link.
pub(crate) enum NetworkEvent {
    Up { end: LinkId },
    Delivered { end: LinkId, bytes: Bytes },
    Writable { end: LinkId },
    Ended { end: LinkId },
    Down { end: LinkId, cause: DownCause },
}

/// The two ends of a link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) dialler: LinkId,
    pub(crate) listener: LinkId,
}

/// The link accepts no more data.
pub(crate) struct Closed;

impl Network {
    pub(crate) fn new(seed: u64) -> Self {
        Self(memory::Network::new(seed))
    }

    pub(crate) fn now(&self) -> Time {
        time(self.0.now())
    }

    pub(crate) fn add_host(&mut self) -> HostId {
        self.0.add_host()
    }

    pub(crate) fn connect(&mut self, from: HostId, to: HostId, profile: LinkProfile) -> Ends {
        let ends = self.0.connect(from, to, profile);
        Ends {
            dialler: id(ends.dialler),
            listener: id(ends.listener),
        }
    }

    /// Limits the total rate at which a host sends over all its links, in bytes per second.
    pub(crate) fn limit_uplink(&mut self, host: HostId, bytes: u64) {
        self.0.limit_uplink(host, bytes);
    }

    /// The profile of a link, or `None` if it is down.
    pub(crate) fn profile(&self, end: LinkId) -> Option<LinkProfile> {
        self.0.profile(their_id(end))
    }

    /// The hosts at this end and at the other end, or `None` if the link is down.
    pub(crate) fn hosts(&self, end: LinkId) -> Option<(HostId, HostId)> {
        self.0.hosts(their_id(end))
    }

    /// Sends bytes. Returns how many were accepted.
    pub(crate) fn send(&mut self, from: LinkId, bytes: &Bytes) -> Result<usize, Closed> {
        self.0.send(their_id(from), bytes).map_err(|_| Closed)
    }

    pub(crate) fn consumed(&mut self, at: LinkId, bytes: usize) {
        self.0.consumed(their_id(at), bytes);
    }

    pub(crate) fn reset(&mut self, end: LinkId) {
        self.0.reset(their_id(end));
    }

    /// Kills a link now.
    pub(crate) fn kill(&mut self, end: LinkId) {
        self.0.kill_link(their_id(end), Death::At(self.0.now()));
    }

    /// Kills a link after this many bytes were delivered over it, both directions summed.
    pub(crate) fn kill_after_bytes(&mut self, end: LinkId, bytes: u64) {
        self.0.kill_link(their_id(end), Death::AfterBytes(bytes));
    }

    /// Kills a link after this many bytes were delivered in either direction.
    pub(crate) fn kill_after_bytes_each_way(&mut self, end: LinkId, bytes: u64) {
        self.0
            .kill_link(their_id(end), Death::AfterBytesEachWay(bytes));
    }

    pub(crate) fn stall(&mut self, end: LinkId, until: Time) {
        self.0.stall(their_id(end), their_time(until));
    }

    pub(crate) fn next_event_at(&self) -> Option<Time> {
        self.0.next_event_at().map(time)
    }

    /// Advances the clock to `until`. There must be no event before that.
    pub(crate) fn advance_to(&mut self, until: Time) {
        self.0.advance_to(their_time(until));
    }

    pub(crate) fn step(&mut self, until: Time) -> Option<NetworkEvent> {
        let (_, event) = self.0.step(their_time(until))?;
        Some(match event {
            memory::NetworkEvent::Up { end } => NetworkEvent::Up { end: id(end) },
            memory::NetworkEvent::Delivered { end, bytes } => NetworkEvent::Delivered {
                end: id(end),
                bytes,
            },
            memory::NetworkEvent::Writable { end } => NetworkEvent::Writable { end: id(end) },
            memory::NetworkEvent::Ended { end } => NetworkEvent::Ended { end: id(end) },
            memory::NetworkEvent::Down { end, cause } => NetworkEvent::Down {
                end: id(end),
                cause,
            },
        })
    }
}

fn id(end: TheirId) -> LinkId {
    LinkId(end.0)
}

fn their_id(end: LinkId) -> TheirId {
    TheirId(end.0)
}

fn time(at: TheirTime) -> Time {
    Time::from_nanos(at.as_nanos())
}

fn their_time(at: Time) -> TheirTime {
    TheirTime::from_nanos(at.as_nanos())
}
