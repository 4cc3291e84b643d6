//! Links, from the dial to the last byte.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use handover_core::engine::{Allowance, DialId, Input, LinkId, PathKind, Segment};
use handover_core::frame::Frame;
use handover_core::message::Message;
use handover_core::time::Time;
use handover_core::{Multiaddr, PeerId};
use handover_transports::memory::{HostId, LinkProfile, Pieces};

use super::reach::{Barrier, relay_peer};
use super::run::Task;
use super::{Place, World};
use crate::ledger::{Fault, happened, promise};
use crate::wire::Wire;

/// Time after which a dial to an unreachable address fails.
const NO_ANSWER: Duration = Duration::from_millis(500);
/// Time that a closed link has to write its remaining data.
const LINGER: Duration = Duration::from_secs(10);
/// Minimum interval between two activity reports of a link.
const ACTIVITY_EVERY: Duration = Duration::from_secs(1);

/// The peer id of a relay.
fn relay_of(number: usize) -> PeerId {
    relay_peer(u8::try_from(number).expect("a world has few relays"))
}

/// The address of a relay.
fn address_of_relay(number: usize) -> Multiaddr {
    let address = format!("/ip4/10.255.0.{}/tcp/4001", number + 1);
    address.parse().expect("an address")
}

/// Properties of the connection to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The kind of path, as both ends see it.
    pub path: PathKind,
    /// Delay, bandwidth and window of the link.
    pub profile: LinkProfile,
    /// Time that a dial takes in addition to two delays.
    pub setup: Duration,
    /// True if dials to this address are answered.
    pub open: bool,
    /// The relay it passes through, if any.
    pub relay: Option<usize>,
}

impl Route {
    /// A local network with 0.2 ms delay.
    pub fn lan() -> Self {
        let pieces = Pieces::Random { max: 32 << 10 };
        Self::new(
            PathKind::Lan,
            LinkProfile {
                pieces,
                // A few groups, so that unread data is noticed soon.
                window: 64 << 10,
                ..LinkProfile::LAN
            },
        )
    }

    /// A direct connection over the internet with 50 ms delay.
    pub fn wan() -> Self {
        Self::new(PathKind::Direct, LinkProfile::WAN)
    }

    /// Any path and profile.
    pub fn new(path: PathKind, profile: LinkProfile) -> Self {
        Self {
            path,
            profile,
            setup: Duration::ZERO,
            open: true,
            relay: None,
        }
    }

    /// Sets the bandwidth in bytes per second.
    #[must_use]
    pub fn with_bandwidth(mut self, bytes: u64) -> Self {
        self.profile.bandwidth = Some(bytes);
        self
    }

    /// Routes through this relay of the world.
    #[must_use]
    pub fn through(mut self, relay: usize) -> Self {
        self.relay = Some(relay);
        self
    }

    /// Sets the additional time that a dial takes.
    #[must_use]
    pub fn with_setup(mut self, setup: Duration) -> Self {
        self.setup = setup;
        self
    }
}

/// One end of an established link.
pub(crate) struct End {
    pub(crate) place: HostId,
    pub(crate) wire: Wire,
    /// Segments that a host has requested over it, by request number.
    pub(super) asked: BTreeMap<u64, Vec<Segment>>,
    /// True if one more unkeyed frame may be read.
    awaiting: bool,
    /// Closed, but still writing remaining data.
    pub(super) closing: bool,
    /// Received an invalid frame. Nothing more is read.
    broken: bool,
    active: Time,
    /// The host at the other end.
    pub(super) across: HostId,
    pub(super) path: PathKind,
    pub(super) relay: Option<usize>,
    /// The limits that the relay states for the circuit.
    pub(super) allowance: Allowance,
    /// Time of the last bytes sent or received.
    pub(super) touched: Time,
    /// Number of received answers that are detectable lies.
    pub(super) lies: u32,
}

/// One end of a link that is being established.
pub(crate) struct Coming {
    pub(crate) place: HostId,
    dial: Option<DialId>,
    peer: PeerId,
    across: HostId,
    route: Route,
    /// The limits that the relay states for the circuit.
    allowance: Allowance,
}

impl Coming {
    /// The remote address of the link.
    fn remote(&self) -> Multiaddr {
        match self.route.relay {
            Some(relay) => address_of_relay(relay),
            None => World::address(self.across),
        }
    }
}

/// New links that die after a number of bytes.
pub(crate) struct Doom {
    bytes: u64,
    links: usize,
}

impl World {
    /// Adds an address to a host, or changes the route of an existing one. Established links keep theirs.
    pub fn listen(&mut self, id: HostId, address: Multiaddr, route: Route) {
        self.routes.insert(address, (id, route));
        self.announce(id);
    }

    /// Removes a host's address. The host is told, so its tickets change.
    pub fn unlisten(&mut self, id: HostId, address: &Multiaddr) {
        self.routes.remove(address);
        self.announce(id);
    }

    /// Sets whether dials to a host's addresses are answered. The host is not told.
    pub fn open_routes(&mut self, id: HostId, open: bool) {
        let routes = self.routes.values_mut();
        for (_, route) in routes.filter(|(host, _)| *host == id) {
            route.open = open;
        }
    }

    pub(super) fn announce(&mut self, id: HostId) {
        let own = self.routes.iter().filter(|(_, (host, _))| *host == id);
        let addresses = own.map(|(address, _)| address.clone()).collect();
        if matches!(self.places[id.0 as usize], Place::Host(_)) {
            self.feed(id, Input::Listening { addresses });
            self.tell_neighbours();
        }
    }

    /// Established links of a host or scripted peer, oldest first.
    pub fn links_of(&self, id: HostId) -> Vec<LinkId> {
        let ends = self.ends.iter();
        let own = ends.filter(|(_, end)| end.place == id && !end.closing);
        own.map(|(link, _)| *link).collect()
    }

    pub(super) fn ends_of(&self, id: HostId) -> Vec<LinkId> {
        let own = self.ends.iter().filter(|(_, end)| end.place == id);
        own.map(|(link, _)| *link).collect()
    }

    /// Kills a link now.
    pub fn kill_link(&mut self, link: LinkId) {
        self.killed.insert(link.0 / 2);
        self.network.kill(link);
    }

    /// Kills all links of a host now.
    pub fn kill_links(&mut self, id: HostId) {
        for link in self.ends_of(id) {
            self.kill_link(link);
        }
    }

    /// Makes the next `links` links die after this many bytes were delivered over each, both directions summed.
    pub fn kill_links_after_bytes(&mut self, bytes: u64, links: usize) {
        self.doom = Some(Doom { bytes, links });
    }

    /// Silences a link: nothing more arrives in either direction, and neither end is told.
    pub fn silence(&mut self, link: LinkId) {
        for end in [link, LinkId(link.0 ^ 1)] {
            self.network.stall(end, Time::NEVER);
        }
    }

    /// Stalls a link: nothing arrives in either direction for this time, then everything does.
    pub fn stall(&mut self, link: LinkId, time: Duration) {
        let until = self.now() + time;
        for end in [link, LinkId(link.0 ^ 1)] {
            self.network.stall(end, until);
        }
    }

    /// A dial by an engine. The first address that reaches the expected peer wins. If there is none, the first that
    /// answers does; the engine must check the peer's identity itself.
    pub(super) fn dial(
        &mut self,
        host: HostId,
        dial: DialId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
    ) {
        if addresses.is_empty() {
            return self.dial_back(host, dial, peer);
        }
        let routes = addresses
            .iter()
            .filter_map(|address| self.routes.get(address));
        let there: Vec<_> = routes
            .filter(|(to, route)| self.lets_in(host, *to, route))
            .copied()
            .collect();
        let is_right = |to: HostId| peer.is_none_or(|peer| peer == self.peer(to));
        let right = there.iter().find(|(to, _)| is_right(*to));
        let Some((to, route)) = right.or(there.first()).copied() else {
            return self.no_answer(host, dial);
        };
        let task = Task::Connect {
            host,
            life: self.host(host).life,
            dial,
            to,
            route,
        };
        self.schedule(route.setup, task);
    }

    fn no_answer(&mut self, host: HostId, dial: DialId) {
        let life = self.host(host).life;
        self.schedule(NO_ANSWER, Task::DialFailed { host, life, dial });
    }

    /// Finds the peer among the linked hosts, and the route of the best existing connection to it.
    fn stands_to(&self, host: HostId, peer: Option<PeerId>) -> Option<(HostId, Route)> {
        let own = |(_, end): &(&LinkId, &End)| {
            end.place == host && Some(self.peer(end.across)) == peer && !end.closing
        };
        let (link, end) = self
            .ends
            .iter()
            .filter(own)
            .min_by_key(|(_, end)| end.path)?;
        let profile = self.network.profile(*link)?;
        let mut route = Route::new(end.path, profile);
        route.relay = end.relay;
        Some((end.across, route))
    }

    /// Dials over a connection that the other side has opened.
    fn dial_back(&mut self, host: HostId, dial: DialId, peer: Option<PeerId>) {
        let mut paths = self.paths.iter();
        let made = paths.find(|((to, from), _)| *to == host && peer == Some(self.peer(*from)));
        let made = made.map(|((_, from), (route, by))| (*from, *route, *by));
        let stands =
            |from: HostId| self.is_up(from) && !self.reach.is_apart(host, from, self.now());
        let Some((to, route, by)) = made.filter(|(from, ..)| stands(*from)) else {
            return match self.stands_to(host, peer) {
                Some((to, route)) => self.connect(host, Some(dial), to, route),
                None => self.no_answer(host, dial),
            };
        };
        happened(by);
        self.connect(host, Some(dial), to, route);
    }

    /// Opens a connection from a host to a peer that asked for it.
    pub(super) fn call_back(&mut self, host: HostId, peer: PeerId, addresses: &[Multiaddr]) {
        let most = self.host(host).limits.addresses;
        promise!(
            Bounded,
            addresses.len() <= most,
            "called back at {} addresses",
            addresses.len()
        );
        let routes = addresses
            .iter()
            .filter_map(|address| self.routes.get(address));
        let there =
            routes.filter(|(to, route)| self.peer(*to) == peer && self.lets_in(host, *to, route));
        if let Some((to, route)) = there.copied().next() {
            let took = route.setup + 2 * route.profile.delay;
            self.schedule(
                took,
                Task::Path {
                    host: to,
                    to: host,
                    route,
                    by: Fault::CalledBack,
                },
            );
        }
    }

    /// Schedules a hole punch to a host that was reached over a relay, if the NATs allow one.
    fn punch(&mut self, host: HostId, to: HostId) {
        let Some(after) = self.punching.get(&to).copied() else {
            return;
        };
        let mut ways = self.routes.values();
        let way = ways.find(|(there, route)| *there == to && route.path == PathKind::Direct);
        if let Some((_, route)) = way.copied()
            && self.reach.may_punch(host, to)
        {
            let by = Fault::Punched;
            self.schedule(
                after,
                Task::Path {
                    host,
                    to,
                    route,
                    by,
                },
            );
        }
    }

    /// Tells a host that another one has opened a connection to it.
    pub(super) fn path(&mut self, host: HostId, to: HostId, route: Route, by: Fault) {
        self.paths.insert((host, to), (route, by));
        let (peer, path) = (self.peer(to), route.path);
        if matches!(self.places[host.0 as usize], Place::Host(_)) {
            self.feed(host, Input::Path { peer, path });
        }
    }

    /// Returns true if a dial succeeds. Counts the fault that blocks it.
    fn lets_in(&self, from: HostId, to: HostId, route: &Route) -> bool {
        let barrier = self.reach.barrier(from, to, route, self.now());
        if let Some(Barrier::Fault(fault)) = barrier {
            happened(fault);
        }
        let full = self.is_full_of(from, route);
        if full && barrier.is_none() {
            happened(Fault::RelayRefuses);
        }
        route.open && self.is_up(to) && barrier.is_none() && !full
    }

    pub(super) fn is_up(&self, id: HostId) -> bool {
        match &self.places[id.0 as usize] {
            Place::Host(host) => host.is_up() && host.asleep_until <= self.now(),
            Place::Puppet(_) => true,
        }
    }

    /// The route to a host for dials without a named address.
    pub(crate) fn route_to(&self, id: HostId) -> Route {
        let mut routes = self.routes.values();
        let own = routes.find(|(host, _)| *host == id);
        own.map(|(_, route)| *route).expect("a place with a route")
    }

    pub(crate) fn connect(&mut self, from: HostId, dial: Option<DialId>, to: HostId, route: Route) {
        let ends = self.network.connect(from, to, route.profile);
        if let Some(doom) = &mut self.doom
            && doom.links > 0
        {
            doom.links -= 1;
            self.network.kill_after_bytes(ends.dialler, doom.bytes);
        }
        let mut allowance = Allowance::default();
        if let Some(relay) = route.relay {
            self.limit_circuit(ends.dialler, relay);
            allowance = self.reach.relays[relay].allowance();
        }
        self.reach.sends(from, to, self.network.now());
        let coming = |place, across, dial, peer| Coming {
            place,
            dial,
            peer,
            across,
            route,
            allowance,
        };
        let dialler = coming(from, to, dial, self.peer(to));
        let listener = coming(to, from, None, self.peer(from));
        self.coming.insert(ends.dialler, dialler);
        self.coming.insert(ends.listener, listener);
    }

    pub(super) fn on_up(&mut self, link: LinkId) {
        let Some(coming) = self.coming.remove(&link) else {
            return;
        };
        let place = coming.place;
        let end = End {
            place,
            wire: Wire::new(link),
            asked: BTreeMap::new(),
            awaiting: false,
            closing: false,
            broken: false,
            active: Time::ZERO,
            across: coming.across,
            path: coming.route.path,
            relay: coming.route.relay,
            allowance: coming.allowance,
            touched: self.now(),
            lies: 0,
        };
        self.ends.insert(link, end);
        note_profile(&coming.route);
        if let Place::Puppet(puppet) = &mut self.places[place.0 as usize] {
            let listens = link.0 % 2 == 1;
            puppet.on_up(link, coming.peer, listens);
            if !listens {
                self.attacker_is_up(place, link);
            }
            return;
        }
        if coming.dial.is_some() && coming.route.path == PathKind::Relayed {
            self.punch(place, coming.across);
        }
        self.feed(
            place,
            Input::LinkUp {
                link,
                peer: coming.peer,
                path: coming.route.path,
                remote: coming.remote(),
                dial: coming.dial,
                relay: coming.route.relay.map(relay_of),
                allowance: coming.allowance,
            },
        );
    }

    pub(super) fn on_down(&mut self, link: LinkId, reason: &str) {
        self.note_lost_circuit(link);
        let reason = reason.to_owned();
        if let Some(Coming {
            place,
            dial: Some(dial),
            ..
        }) = self.coming.remove(&link)
        {
            return self.feed(place, Input::DialFailed { dial, reason });
        }
        let Some(end) = self.ends.remove(&link) else {
            return;
        };
        self.note_loss(link, end.place);
        match &mut self.places[end.place.0 as usize] {
            Place::Puppet(puppet) => puppet.on_down(link),
            Place::Host(_) if end.closing => {}
            Place::Host(host) => {
                host.untold.insert(link);
                self.feed(end.place, Input::LinkDown { link, reason });
            }
        }
    }

    pub(super) fn on_bytes(&mut self, link: LinkId, bytes: Bytes) {
        let Some(end) = self.ends.get_mut(&link) else {
            return;
        };
        end.wire.hold(bytes);
        end.touched = self.network.now();
        let place = end.place;
        if let Place::Host(host) = &self.places[place.0 as usize]
            && host.asleep_until > self.network.now()
        {
            return;
        }
        if let Place::Puppet(puppet) = &self.places[place.0 as usize] {
            if puppet.reads {
                self.puppet_reads(link);
            }
            return;
        }
        let frames = self.drain(link);
        let now = self.now();
        if let Some(end) = self.ends.get_mut(&link)
            && frames == 0
            && now.since(end.active) >= ACTIVITY_EVERY
        {
            end.active = now;
            self.host_mut(place)
                .inputs
                .push_back(Input::Activity { link });
        }
        self.settle(place);
    }

    /// Passes complete frames to a host, as far as it may read. Returns their number.
    pub(super) fn drain(&mut self, link: LinkId) -> usize {
        let mut frames = 0;
        while let Some(end) = self.ends.get_mut(&link) {
            if end.closing || end.broken || !(end.wire.is_keyed() || end.awaiting) {
                break;
            }
            end.wire.read(&mut self.network);
            let place = end.place;
            let input = match end.wire.next_body() {
                Ok(None) => break,
                Ok(Some(body)) if end.wire.is_keyed() => match end.wire.open(body) {
                    Ok(frame) => {
                        if let Some(weight) = self.lies.remove(&(link, end.wire.opened())) {
                            end.lies = end.lies.saturating_add(weight);
                        }
                        Input::Frame { link, frame }
                    }
                    Err(reason) => Input::BadFrame { link, reason },
                },
                Ok(Some(body)) => {
                    end.awaiting = false;
                    let bytes = body.freeze();
                    Input::Plain { link, bytes }
                }
                Err(reason) => Input::BadFrame { link, reason },
            };
            end.broken = matches!(input, Input::BadFrame { .. });
            frames += 1;
            self.host_mut(place).inputs.push_back(input);
        }
        frames
    }

    /// Records a message before a host's engine processes it.
    pub(super) fn note_message(&mut self, place: HostId, link: LinkId, frame: &Frame) {
        let Message::Data { id, .. } = &frame.message else {
            return;
        };
        let bytes = frame.payload.len() as u64;
        if let Some(end) = self.ends.get_mut(&link) {
            end.asked.remove(id);
            *self.uploaded.entry(end.across).or_default() += bytes;
        }
        *self.received.entry(place).or_default() += bytes;
        if let Some(session) = self.greeted.get(&link) {
            *self.fetched.entry((place, *session)).or_default() += bytes;
        }
    }

    /// Counts a link that a download lost while requests were outstanding.
    fn note_loss(&mut self, link: LinkId, place: HostId) {
        if let Some(session) = self.greeted.get(&link) {
            *self.losses.entry((place, *session)).or_default() += 1;
        }
    }

    /// Lets a host read one more unkeyed frame.
    pub(super) fn await_plain(&mut self, link: LinkId) {
        if let Some(end) = self.ends.get_mut(&link) {
            end.awaiting = true;
            self.drain(link);
        }
    }

    /// Sets the keys of a host's link.
    pub(super) fn key(&mut self, link: LinkId, keys: handover_core::frame::LinkKeys, largest: u32) {
        let end = self
            .ends
            .get_mut(&link)
            .expect("keys for a link that is up");
        end.wire.key(keys, largest, &mut self.nonces);
        self.drain(link);
    }

    /// Writes queued frames, and tells the host which ones have been written.
    pub(crate) fn flush(&mut self, link: LinkId) {
        let Some(end) = self.ends.get_mut(&link) else {
            return;
        };
        let (place, closing) = (end.place, end.closing);
        self.outgoing(link);
        let Some(end) = self.ends.get_mut(&link) else {
            return;
        };
        let gone = end.wire.flush(&mut self.network);
        if closing && end.wire.is_flushed() {
            return self.give_up(link);
        }
        if let Place::Host(host) = &mut self.places[place.0 as usize]
            && !closing
        {
            let sent = gone.into_iter().map(|seq| Input::Sent { link, seq });
            host.inputs.extend(sent);
            self.settle(place);
        }
    }

    /// Closes a link. Data queued before is still sent.
    pub(crate) fn close(&mut self, link: LinkId) {
        let Some(end) = self.ends.get_mut(&link) else {
            return;
        };
        assert!(!end.closing, "link {link} is closed twice");
        end.closing = true;
        let place = end.place;
        if !end.asked.is_empty() {
            self.note_loss(link, place);
        }
        let Some(end) = self.ends.get_mut(&link) else {
            return;
        };
        if end.wire.is_flushed() {
            self.give_up(link);
        } else {
            self.schedule(LINGER, Task::Linger(link));
        }
    }

    pub(crate) fn give_up(&mut self, link: LinkId) {
        if self.ends.remove(&link).is_some() {
            self.network.reset(link);
        }
    }

    /// The end of a link that is not closing.
    pub(super) fn open_end(&mut self, link: LinkId) -> &mut End {
        let end = self.ends.get_mut(&link).filter(|end| !end.closing);
        end.unwrap_or_else(|| panic!("something is sent on link {link}, which is gone"))
    }
}

/// Counts the delay and bandwidth of a link.
fn note_profile(route: &Route) {
    let LinkProfile {
        delay, bandwidth, ..
    } = route.profile;
    if delay >= Duration::from_millis(200) {
        happened(Fault::Satellite);
    } else if delay > Duration::ZERO {
        happened(Fault::Delay);
    }
    if bandwidth.is_some_and(|bandwidth| bandwidth < 64_000) {
        happened(Fault::Narrow);
    }
}
