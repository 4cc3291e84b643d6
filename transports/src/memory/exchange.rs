//! The peers at a switchboard and the links between them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use handover_core::engine::{AnnounceReport, DialId, LinkId, LookUpId, PathKind};
use handover_core::secret::MeetingPoint;
use handover_core::time::Time;
use handover_core::{Multiaddr, PeerId};
use libp2p::multiaddr::Protocol;

use super::Route;
use super::network::{DownCause, HostId, Network, NetworkEvent};
use crate::{DIAL_TIMEOUT, MAX_DIALS, TransportEvent, next_link_id};

/// Maximum number of notices that a peer has not yet polled. At this limit, dials to it fail.
const MAX_NOTICES: usize = 256;

/// Orders two peers as a key for routes.
fn pair(a: PeerId, b: PeerId) -> (PeerId, PeerId) {
    if a <= b { (a, b) } else { (b, a) }
}

/// Peers, the links between them, and the network that carries the links.
pub(super) struct Exchange {
    pub(super) network: Network,
    route: Route,
    routes: BTreeMap<(PeerId, PeerId), Route>,
    /// Stations by port.
    stations: BTreeMap<u64, Station>,
    next_port: u64,
    /// Ports announced at each rendezvous point.
    places: BTreeMap<MeetingPoint, BTreeSet<u64>>,
    /// Ends of links, by their id in the network.
    pub(super) ends: BTreeMap<LinkId, End>,
    /// Tasks to wake once the lock is released.
    wakers: Vec<Waker>,
    /// When the clock wakes next; set by the clock itself.
    pub(super) clock_wakes_at: Time,
    stopped: bool,
}

/// A transport that has joined.
struct Station {
    peer: PeerId,
    host: HostId,
    notices: VecDeque<Notice>,
    waker: Option<Waker>,
    shut: bool,
}

/// A message for a transport.
pub(super) enum Notice {
    Event(Box<TransportEvent>),
    Up(Box<Up>),
}

/// A new link, without its stream.
pub(super) struct Up {
    pub(super) id: LinkId,
    pub(super) peer: PeerId,
    pub(super) path: PathKind,
    pub(super) remote: Multiaddr,
    pub(super) dial: Option<DialId>,
    pub(super) end: LinkId,
}

/// One end of a link.
pub(super) struct End {
    /// The port of the station at this end.
    port: u64,
    remote_port: u64,
    remote_peer: PeerId,
    path: PathKind,
    dial: Option<DialId>,
    /// The transport's id for the link; set once the link is up.
    id: Option<LinkId>,
    pub(super) received: VecDeque<Bytes>,
    pub(super) ended: bool,
    pub(super) dead: bool,
    pub(super) closed: bool,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

impl Exchange {
    pub(super) fn new(seed: u64, route: Route) -> Self {
        Self {
            network: Network::new(seed),
            route,
            routes: BTreeMap::new(),
            stations: BTreeMap::new(),
            next_port: 1,
            places: BTreeMap::new(),
            ends: BTreeMap::new(),
            wakers: Vec::new(),
            clock_wakes_at: Time::NEVER,
            stopped: false,
        }
    }

    /// When the next event is due.
    pub(super) fn next_event_at(&self) -> Time {
        self.network.next_event_at().unwrap_or(Time::NEVER)
    }

    /// Takes the tasks to wake once the lock is released.
    pub(super) fn take_wakers(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.wakers)
    }

    pub(super) fn set_route(&mut self, a: PeerId, b: PeerId, route: Route) {
        self.routes.insert(pair(a, b), route);
    }

    pub(super) fn join(&mut self, peer: PeerId) -> u64 {
        let port = self.next_port;
        self.next_port += 1;
        let listening = vec![Multiaddr::from(Protocol::Memory(port))];
        let station = Station {
            peer,
            host: self.network.add_host(),
            notices: VecDeque::from([Notice::Event(Box::new(TransportEvent::Listening(
                listening,
            )))]),
            waker: None,
            shut: self.stopped,
        };
        self.stations.insert(port, station);
        port
    }

    pub(super) fn leave(&mut self, port: u64) {
        self.shut(port);
        for announced in self.places.values_mut() {
            announced.remove(&port);
        }
        let station = self.stations.remove(&port);
        for notice in station.into_iter().flat_map(|station| station.notices) {
            // The stream was never handed out, so dropping it can't remove the end.
            if let Notice::Up(up) = notice {
                self.ends.remove(&up.end);
            }
        }
    }

    /// Closes a station to new dials and ends its links.
    pub(super) fn shut(&mut self, port: u64) {
        match self.stations.get_mut(&port) {
            Some(station) if !station.shut => station.shut = true,
            _ => return,
        }
        let own = self.ends.iter().filter(|(_, end)| end.port == port);
        let own: Vec<LinkId> = own.map(|(end, _)| *end).collect();
        for end in own {
            self.network.reset(end);
            self.lose(end, "this side is closing");
        }
        self.notify(port);
    }

    /// Shuts down all stations.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
        let ports: Vec<u64> = self.stations.keys().copied().collect();
        for port in ports {
            self.shut(port);
        }
    }

    pub(super) fn poll_notice(&mut self, port: u64, cx: &mut Context<'_>) -> Poll<Option<Notice>> {
        let Some(station) = self.stations.get_mut(&port) else {
            return Poll::Ready(None);
        };
        if let Some(notice) = station.notices.pop_front() {
            return Poll::Ready(Some(notice));
        }
        if station.shut {
            return Poll::Ready(None);
        }
        station.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn announce(&mut self, port: u64, point: MeetingPoint) {
        self.places.entry(point).or_default().insert(port);
        let report = AnnounceReport {
            addresses: 1,
            nodes: 1,
            found_at: 1,
        };
        self.tell(port, TransportEvent::Announced { point, report });
    }

    pub(super) fn withdraw(&mut self, port: u64, point: MeetingPoint) {
        if let Some(announced) = self.places.get_mut(&point) {
            announced.remove(&port);
        }
    }

    pub(super) fn look_up(&mut self, port: u64, lookup: LookUpId, point: MeetingPoint) {
        let announced = self.places.get(&point).into_iter().flatten();
        let found: Vec<_> = announced
            .filter_map(|at| Some((self.stations.get(at)?.peer, *at)))
            .map(|(peer, at)| TransportEvent::Found {
                lookup,
                peer,
                addresses: vec![Multiaddr::from(Protocol::Memory(at))],
                by: peer,
            })
            .collect();
        let reached = true;
        let done = TransportEvent::LookedUp { lookup, reached };
        for event in found.into_iter().chain([done]) {
            self.tell(port, event);
        }
    }

    pub(super) fn dial(
        &mut self,
        port: u64,
        dial: DialId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
    ) {
        if let Err(reason) = self.try_dial(port, dial, peer, addresses) {
            let reason = reason.into();
            self.tell(port, TransportEvent::DialFailed { dial, reason });
        }
    }

    fn try_dial(
        &mut self,
        port: u64,
        dial: DialId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
    ) -> Result<(), &'static str> {
        let target = self.resolve(peer, addresses)?;
        let (Some(own), Some(other)) = (self.stations.get(&port), self.stations.get(&target))
        else {
            return Err("connection refused");
        };
        let own_dials = self
            .ends
            .values()
            .filter(|end| end.port == port && end.id.is_none());
        if own.shut {
            return Err("this side is closing");
        }
        if other.shut {
            return Err("connection refused");
        }
        if port == target {
            return Err("the address is this peer's own");
        }
        if own_dials.count() >= MAX_DIALS || other.notices.len() >= MAX_NOTICES {
            return Err("there are too many connections");
        }
        let route = self
            .routes
            .get(&pair(own.peer, other.peer))
            .unwrap_or(&self.route);
        if route.profile.delay * 2 > DIAL_TIMEOUT {
            return Err("timed out");
        }
        let (own_peer, other_peer, path) = (own.peer, other.peer, route.path);
        let ends = self.network.connect(own.host, other.host, route.profile);
        let dialler = End::new(port, target, other_peer, path, Some(dial));
        self.ends.insert(ends.dialler, dialler);
        let listener = End::new(target, port, own_peer, path, None);
        self.ends.insert(ends.listener, listener);
        Ok(())
    }

    /// Returns the port that a dial refers to.
    fn resolve(&self, peer: Option<PeerId>, addresses: &[Multiaddr]) -> Result<u64, &'static str> {
        if addresses.is_empty() {
            let mut known = self.stations.iter();
            let found = known.find(|(_, station)| Some(station.peer) == peer && !station.shut);
            return found.map(|(port, _)| *port).ok_or("no address is known");
        }
        let mut reason = "the address is not supported";
        for address in addresses {
            let Some(Protocol::Memory(port)) = address.iter().next() else {
                continue;
            };
            match self.stations.get(&port) {
                Some(station) if peer.is_none_or(|peer| peer == station.peer) => return Ok(port),
                Some(_) => reason = "another peer answered",
                None => reason = "connection refused",
            }
        }
        Err(reason)
    }

    pub(super) fn close(&mut self, port: u64, link: LinkId) {
        let mut ends = self.ends.iter_mut();
        let found = ends.find(|(_, end)| end.port == port && end.id == Some(link));
        if let Some((end, state)) = found {
            state.dead = true;
            state.wake_into(&mut self.wakers);
            let end = *end;
            self.network.reset(end);
        }
    }

    /// Calls `act` for the links between two peers, once for each end.
    pub(super) fn each_link(&mut self, a: PeerId, b: PeerId, act: impl Fn(&mut Network, LinkId)) {
        let stations = &self.stations;
        let between = self.ends.iter().filter(|(_, end)| {
            let own = stations.get(&end.port).map(|station| station.peer);
            own.is_some_and(|own| pair(own, end.remote_peer) == pair(a, b))
        });
        let between: Vec<LinkId> = between.map(|(end, _)| *end).collect();
        for end in between {
            act(&mut self.network, end);
        }
    }

    /// Processes everything that is due.
    pub(super) fn pump(&mut self, now: Time) {
        while let Some((_, event)) = self.network.step(now) {
            self.on_network_event(event);
        }
        // Advance even without events, so that bytes sent next are sent at `now`.
        self.network.advance_to(now);
    }

    fn on_network_event(&mut self, event: NetworkEvent) {
        match event {
            NetworkEvent::Up { end } => self.on_up(end),
            NetworkEvent::Delivered { end, bytes } => {
                if let Some(state) = self.ends.get_mut(&end) {
                    state.received.push_back(bytes);
                    self.wakers.extend(state.reader.take());
                } else {
                    self.network.consumed(end, bytes.len());
                }
            }
            NetworkEvent::Writable { end } => {
                if let Some(state) = self.ends.get_mut(&end) {
                    self.wakers.extend(state.writer.take());
                }
            }
            NetworkEvent::Ended { end } => {
                if let Some(state) = self.ends.get_mut(&end) {
                    state.ended = true;
                    self.wakers.extend(state.reader.take());
                }
            }
            NetworkEvent::Down { end, cause } => {
                let reason = match cause {
                    DownCause::Reset => "the connection was closed",
                    DownCause::Lost => "the connection was lost",
                };
                self.lose(end, reason);
            }
        }
    }

    fn on_up(&mut self, end: LinkId) {
        let Some(state) = self.ends.get_mut(&end) else {
            return;
        };
        let id = next_link_id();
        state.id = Some(id);
        let up = Up {
            id,
            peer: state.remote_peer,
            path: state.path,
            remote: Multiaddr::from(Protocol::Memory(state.remote_port)),
            dial: state.dial,
            end,
        };
        let port = state.port;
        if let Some(station) = self.stations.get_mut(&port) {
            station.notices.push_back(Notice::Up(Box::new(up)));
        }
        self.notify(port);
    }

    /// Handles the death of an end. If the link was never up there, its dial has failed.
    fn lose(&mut self, end: LinkId, reason: &str) {
        let Some(state) = self.ends.get_mut(&end) else {
            return;
        };
        if std::mem::replace(&mut state.dead, true) {
            return;
        }
        state.wake_into(&mut self.wakers);
        let (port, dial, reason) = (state.port, state.dial, reason.to_owned());
        match (state.id, dial) {
            (Some(link), _) => self.tell(port, TransportEvent::LinkDown { link, reason }),
            (None, dial) => {
                self.ends.remove(&end);
                if let Some(dial) = dial {
                    self.tell(port, TransportEvent::DialFailed { dial, reason });
                }
            }
        }
    }

    fn tell(&mut self, port: u64, event: TransportEvent) {
        if let Some(station) = self.stations.get_mut(&port) {
            station.notices.push_back(Notice::Event(Box::new(event)));
        }
        self.notify(port);
    }

    fn notify(&mut self, port: u64) {
        if let Some(station) = self.stations.get_mut(&port) {
            self.wakers.extend(station.waker.take());
        }
    }
}

impl End {
    fn new(
        port: u64,
        remote_port: u64,
        remote_peer: PeerId,
        path: PathKind,
        dial: Option<DialId>,
    ) -> Self {
        Self {
            port,
            remote_port,
            remote_peer,
            path,
            dial,
            id: None,
            received: VecDeque::new(),
            ended: false,
            dead: false,
            closed: false,
            reader: None,
            writer: None,
        }
    }

    fn wake_into(&mut self, wakers: &mut Vec<Waker>) {
        wakers.extend(self.reader.take());
        wakers.extend(self.writer.take());
    }
}
