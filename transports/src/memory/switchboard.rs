//! A [`Network`] on tokio's clock, and the peers that are plugged into it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use handover_core::engine::{DialId, LinkId, PathKind};
use handover_core::time::Time;
use handover_core::{Multiaddr, PeerId};
use libp2p::multiaddr::Protocol;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::network::{DownCause, HostId, Network, NetworkEvent};
use super::profile::{Death, LinkProfile};
use super::MemoryTransport;
use crate::{DIAL_TIMEOUT, MAX_DIALS, TransportEvent, next_link_id};

/// Notices that a peer has not taken; while there are so many, nobody can dial it.
const MAX_NOTICES: usize = 256;

/// How two peers reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// What links between them are like.
    pub profile: LinkProfile,
    /// What they call the path. It has no influence on the link.
    pub path: PathKind,
}

impl Default for Route {
    fn default() -> Self {
        Self {
            profile: LinkProfile::INSTANT,
            path: PathKind::Loopback,
        }
    }
}

/// Connects [`MemoryTransport`]s through a simulated [`Network`].
///
/// Time is tokio's, so it can be paused; tokio's timers, and with them all delays, are exact to a millisecond.
#[derive(Clone)]
pub struct Switchboard {
    shared: Arc<Shared>,
}

impl Switchboard {
    /// A switchboard whose links are like `route` unless told otherwise. To be called in a tokio runtime with time.
    pub fn new(seed: u64, route: Route) -> Self {
        let changed = Arc::new(Notify::new());
        let shared = Arc::new(Shared {
            origin: Instant::now(),
            changed: Arc::clone(&changed),
            state: Mutex::new(State {
                network: Network::new(seed),
                route,
                routes: BTreeMap::new(),
                stations: BTreeMap::new(),
                next_port: 1,
                ends: BTreeMap::new(),
                wakers: Vec::new(),
                clock_wakes_at: Time::NEVER,
                stopped: false,
            }),
        });
        tokio::spawn(run_clock(Arc::downgrade(&shared), changed));
        Self { shared }
    }

    /// A transport for this peer. Several may carry one identity.
    pub fn join(&self, peer: PeerId) -> MemoryTransport {
        let port = self.shared.with(|state| state.join(peer));
        MemoryTransport {
            shared: Arc::clone(&self.shared),
            peer,
            port,
        }
    }

    /// From now on links between these two are like this.
    pub fn set_route(&self, a: PeerId, b: PeerId, route: Route) {
        self.shared.with(|state| {
            state.routes.insert(pair(a, b), route);
        });
    }

    /// Let every link between these two die now.
    pub fn kill_links(&self, a: PeerId, b: PeerId) {
        self.shared.with(|state| {
            let now = state.network.now();
            state.each_link(a, b, |network, end| network.kill_link(end, Death::At(now)));
        });
    }

    /// Let every link between these two die when it has delivered so many more bytes, both directions summed.
    pub fn kill_links_after(&self, a: PeerId, b: PeerId, bytes: u64) {
        self.shared.with(|state| {
            state.each_link(a, b, |network, end| {
                network.kill_link(end, Death::AfterBytes(bytes));
            });
        });
    }

    /// Let nothing arrive on any link between these two for so long.
    pub fn stall_links(&self, a: PeerId, b: PeerId, how_long: Duration) {
        self.shared.with(|state| {
            let until = state.network.now() + how_long;
            state.each_link(a, b, |network, end| network.stall(end, until));
        });
    }
}

/// Two peers in the order in which routes are kept.
fn pair(a: PeerId, b: PeerId) -> (PeerId, PeerId) {
    if a <= b { (a, b) } else { (b, a) }
}

/// What all parts of a switchboard hold.
pub(super) struct Shared {
    state: Mutex<State>,
    origin: Instant,
    /// Something is due earlier than the clock thinks, or the switchboard is gone.
    changed: Arc<Notify>,
}

impl Shared {
    /// Brings the network up to the present, does something, lets what is due at once happen, and wakes whom it concerns.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Time::ZERO + self.origin.elapsed();
        state.pump(now);
        let result = act(&mut state);
        state.pump(now);
        let wakers = std::mem::take(&mut state.wakers);
        let next = state.network.next_event_at().unwrap_or(Time::NEVER);
        let earlier = next < state.clock_wakes_at;
        drop(state);
        if earlier {
            self.changed.notify_one();
        }
        wakers.into_iter().for_each(Waker::wake);
        result
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.changed.notify_one();
    }
}

/// Wakes the network when something is due, for as long as anybody holds the switchboard.
async fn run_clock(shared: Weak<Shared>, changed: Arc<Notify>) {
    let _guard = ClockGuard(shared.clone());
    loop {
        let Some(strong) = shared.upgrade() else {
            return;
        };
        let next = strong.with(|state| {
            let next = state.network.next_event_at().unwrap_or(Time::NEVER);
            state.clock_wakes_at = next;
            next
        });
        let origin = strong.origin;
        drop(strong);
        let wake_up = async {
            match origin.checked_add(next.since(Time::ZERO)) {
                Some(at) if next < Time::NEVER => tokio::time::sleep_until(at).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wake_up => {}
            () = changed.notified() => {}
        }
    }
}

/// Without its clock a switchboard would hang in silence: everything on it fails instead.
struct ClockGuard(Weak<Shared>);

impl Drop for ClockGuard {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.with(State::stop);
        }
    }
}

pub(super) struct State {
    network: Network,
    route: Route,
    routes: BTreeMap<(PeerId, PeerId), Route>,
    /// By port.
    stations: BTreeMap<u64, Station>,
    next_port: u64,
    /// By the network's id of the end.
    ends: BTreeMap<LinkId, End>,
    /// To be woken when the lock is open again.
    wakers: Vec<Waker>,
    clock_wakes_at: Time,
    stopped: bool,
}

/// A transport that is plugged in.
struct Station {
    peer: PeerId,
    host: HostId,
    notices: VecDeque<Notice>,
    waker: Option<Waker>,
    shut: bool,
}

/// What a transport is told.
pub(super) enum Notice {
    Event(TransportEvent),
    Up(Box<Up>),
}

/// A link that stands, but for its stream.
pub(super) struct Up {
    pub(super) id: LinkId,
    pub(super) peer: PeerId,
    pub(super) path: PathKind,
    pub(super) remote: Multiaddr,
    pub(super) dial: Option<DialId>,
    pub(super) end: LinkId,
}

/// One end of a link.
struct End {
    /// The station that it is at.
    port: u64,
    remote_port: u64,
    remote_peer: PeerId,
    path: PathKind,
    dial: Option<DialId>,
    /// What the transport calls it, from when it is up.
    id: Option<LinkId>,
    received: VecDeque<Bytes>,
    ended: bool,
    dead: bool,
    closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl State {
    fn join(&mut self, peer: PeerId) -> u64 {
        let port = self.next_port;
        self.next_port += 1;
        let listening = vec![Multiaddr::from(Protocol::Memory(port))];
        let station = Station {
            peer,
            host: self.network.add_host(),
            notices: VecDeque::from([Notice::Event(TransportEvent::Listening(listening))]),
            waker: None,
            shut: self.stopped,
        };
        self.stations.insert(port, station);
        port
    }

    pub(super) fn leave(&mut self, port: u64) {
        self.shut(port);
        let station = self.stations.remove(&port);
        for notice in station.into_iter().flat_map(|station| station.notices) {
            // Nobody has its stream, so nobody would drop it.
            if let Notice::Up(up) = notice {
                self.ends.remove(&up.end);
            }
        }
    }

    /// Nothing comes to this station any more, and its links end.
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

    fn stop(&mut self) {
        self.stopped = true;
        let ports: Vec<u64> = self.stations.keys().copied().collect();
        for port in ports {
            self.shut(port);
        }
    }

    pub(super) fn poll_notice(
        &mut self,
        port: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Notice>> {
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
        let (Some(own), Some(other)) = (self.stations.get(&port), self.stations.get(&target)) else {
            return Err("connection refused");
        };
        let own_dials = self.ends.values().filter(|end| end.port == port && end.id.is_none());
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
        let route = self.routes.get(&pair(own.peer, other.peer)).unwrap_or(&self.route);
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

    /// The port of whom a dial means.
    fn resolve(
        &self,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
    ) -> Result<u64, &'static str> {
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

    fn each_link(&mut self, a: PeerId, b: PeerId, act: impl Fn(&mut Network, LinkId)) {
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

    pub(super) fn poll_read(
        &mut self,
        end: LinkId,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let Some(state) = self.ends.get_mut(&end) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let mut filled = 0;
        while let Some(front) = state.received.front_mut()
            && filled < buf.len()
        {
            let n = front.len().min(buf.len() - filled);
            front.copy_to_slice(&mut buf[filled..filled + n]);
            filled += n;
            if front.is_empty() {
                state.received.pop_front();
            }
        }
        if filled > 0 || buf.is_empty() {
            self.network.consumed(end, filled);
            return Poll::Ready(Ok(filled));
        }
        if state.ended {
            return Poll::Ready(Ok(0));
        }
        if state.dead {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn poll_write(
        &mut self,
        end: LinkId,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let broken = || Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        let Some(state) = self.ends.get_mut(&end) else {
            return broken();
        };
        if state.dead || state.closed {
            return broken();
        }
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        // Asking for a byte more than there is room makes the network tell when there is.
        let wanted = buf.len().min(self.network.room(end).max(1));
        match self.network.send(end, &Bytes::copy_from_slice(&buf[..wanted])) {
            Err(_) => broken(),
            Ok(0) => {
                state.writer = Some(cx.waker().clone());
                Poll::Pending
            }
            Ok(taken) => Poll::Ready(Ok(taken)),
        }
    }

    pub(super) fn close_stream(&mut self, end: LinkId) {
        if let Some(state) = self.ends.get_mut(&end)
            && !state.closed
        {
            state.closed = true;
            self.network.close(end);
        }
    }

    pub(super) fn drop_stream(&mut self, end: LinkId) {
        if self.ends.remove(&end).is_some() {
            self.network.reset(end);
        }
    }

    /// Lets happen what is due.
    fn pump(&mut self, now: Time) {
        while let Some((_, event)) = self.network.step(now) {
            self.on_network_event(event);
        }
        // Even if nothing happened, what is sent next is sent now.
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

    /// An end is dead. If it was never up, its dial has failed.
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
            station.notices.push_back(Notice::Event(event));
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
