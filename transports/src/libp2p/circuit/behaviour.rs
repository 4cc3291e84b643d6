//! Requests reservations and circuits on the connections to relays, and accepts the circuits that relays offer

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::channel::mpsc;
use futures::{FutureExt, StreamExt};
use handover_core::dial::relay_of;
use libp2p::core::transport::{ListenerId, PortUse};
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, DialFailure, FromSwarm, NetworkBehaviour, NotifyHandler,
    Stream, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use tokio::time::{Instant, Sleep};

use super::address::circuit;
use super::exchange::{Offer, Promise};
use super::handler::{self, Connect, Handler, TheirOffer, TheirPromise, Told};
use super::messages::{CircuitLimit, Status};
use super::reservation::{Held, Reservation, lasts};
use super::told::{Limits, Opening};
use super::{Dial, Error, MAX_OFFERED, MAX_WAITING, News, Order};
use crate::libp2p::dials::{is_quic, split};

/// The outcome of a reservation request.
#[derive(Debug)]
pub enum Event {
    /// A relay granted or renewed a reservation.
    Reserved {
        /// The relay.
        relay: PeerId,
    },
    /// A relay refused a reservation or its renewal, and none is held any more.
    Refused {
        /// The relay.
        relay: PeerId,
        /// The reason it gave.
        status: Status,
    },
}

/// The client of all relays.
pub struct Behaviour {
    local: PeerId,
    from_transport: mpsc::Receiver<Order>,
    to_transport: mpsc::Sender<News>,
    /// Messages that do not fit into the channel to the transport yet: incoming circuits, at most [`MAX_WAITING`], and
    /// changes of this side's own listeners.
    news: VecDeque<News>,
    /// Direct connections to every peer: each may turn out to be a relay.
    standing: BTreeMap<PeerId, Vec<Standing>>,
    reservations: BTreeMap<PeerId, Reservation>,
    /// Circuits that wait for a connection to their relay.
    waiting: Vec<Waiting>,
    limits: Limits,
    actions: VecDeque<ToSwarm<Event, THandlerInEvent<Self>>>,
    /// Time of the next renewal of a reservation.
    timer: Pin<Box<Sleep>>,
}

/// A direct connection.
#[derive(Debug)]
struct Standing {
    id: ConnectionId,
    /// The remote address if this side dialled it, in which case others can dial it too.
    way: Option<Multiaddr>,
    quic: bool,
}

/// A circuit that waits for a connection to its relay.
#[derive(Debug)]
struct Waiting {
    circuit: Dial,
    /// The swarm's dial for that connection.
    attempt: ConnectionId,
}

impl Behaviour {
    pub(super) fn new(
        local: PeerId,
        from_transport: mpsc::Receiver<Order>,
        to_transport: mpsc::Sender<News>,
    ) -> Self {
        Self {
            local,
            from_transport,
            to_transport,
            news: VecDeque::new(),
            standing: BTreeMap::new(),
            reservations: BTreeMap::new(),
            waiting: Vec::new(),
            limits: Limits::default(),
            actions: VecDeque::new(),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        }
    }

    /// Returns the limit that the relay set for the circuit under this connection. `None`: no limit.
    pub fn limit_of(&self, connection: ConnectionId) -> Option<CircuitLimit> {
        self.limits.of(connection)
    }

    /// Returns the limit of each circuit through this peer's reservation at this relay. `None`: no limit, or no
    /// reservation.
    pub fn promised_by(&self, relay: PeerId) -> Option<CircuitLimit> {
        self.reservations.get(&relay)?.held.as_ref()?.limit
    }

    fn on_order(&mut self, order: Order) {
        match order {
            Order::Listen {
                listener,
                relay,
                way,
            } => self.listen(listener, relay, way),
            Order::Unlisten(listener) => self.unlisten(listener),
            Order::Dial(circuit) => self.dial(circuit),
        }
    }

    fn listen(&mut self, listener: ListenerId, relay: PeerId, way: Multiaddr) {
        let before = self.reservations.remove(&relay);
        self.reservations
            .insert(relay, Reservation::new(listener, way));
        if let Some(before) = before {
            self.forget(relay, &before);
            self.news
                .push_back(News::Closed(before.listener, Error::Replaced));
        }
        self.ask(relay);
    }

    fn unlisten(&mut self, listener: ListenerId) {
        let mut all = self.reservations.iter();
        let found = all.find(|(_, reservation)| reservation.listener == listener);
        if let Some(relay) = found.map(|(relay, _)| *relay)
            && let Some(reservation) = self.reservations.remove(&relay)
        {
            self.forget(relay, &reservation);
            self.keep(relay, None);
        }
    }

    /// Drops a reservation, wanted or held, and closes its listener.
    fn lose(&mut self, relay: PeerId, error: Error) {
        if let Some(reservation) = self.reservations.remove(&relay) {
            self.forget(relay, &reservation);
            self.keep(relay, None);
            tracing::debug!(%relay, %error, "a relay does not make this peer reachable");
            // Before the listener closes, so that the reason is known by then.
            if let Error::Refused(status) = error {
                let event = Event::Refused { relay, status };
                self.actions.push_back(ToSwarm::GenerateEvent(event));
            }
            self.news
                .push_back(News::Closed(reservation.listener, error));
        }
    }

    /// Stops using a removed reservation: forgets its offered circuits and its external address.
    fn forget(&mut self, relay: PeerId, reservation: &Reservation) {
        self.limits.forget(relay);
        if reservation.held.is_some() {
            let address = self.behind(reservation.way.clone(), relay);
            self.actions
                .push_back(ToSwarm::ExternalAddrExpired(address));
        }
    }

    /// This peer's address behind a relay.
    fn behind(&self, way: Multiaddr, relay: PeerId) -> Multiaddr {
        circuit(way, relay).with(Protocol::P2p(self.local))
    }

    /// Requests a reservation, or dials the relay first if it has no direct connection.
    fn ask(&mut self, relay: PeerId) {
        let Some(reservation) = self.reservations.get_mut(&relay) else {
            return;
        };
        let standing = self.standing.get(&relay).map_or(&[][..], Vec::as_slice);
        let before = reservation.held.as_ref().map(|held| held.on);
        // Prefer TCP to QUIC: some relays open circuits on the connection of the request, and TCP carries more.
        let best = standing
            .iter()
            .min_by_key(|it| (Some(it.id) != before, it.way.is_none(), it.quic, it.id));
        if let Some(best) = best {
            let id = best.id;
            reservation.asked(id);
            self.keep(relay, Some(id));
            self.order(relay, id, handler::Order::Reserve);
        } else {
            let opts = to_relay(relay, reservation.way.clone());
            reservation.dialling = Some(opts.connection_id());
            self.actions.push_back(ToSwarm::Dial { opts });
        }
    }

    /// Keeps this one of the connections to a relay alive even while it is unused, and no other.
    fn keep(&mut self, relay: PeerId, kept: Option<ConnectionId>) {
        let standing = self.standing.get(&relay).map_or(&[][..], Vec::as_slice);
        let ids: Vec<ConnectionId> = standing.iter().map(|standing| standing.id).collect();
        for id in ids {
            self.order(relay, id, handler::Order::Keep(Some(id) == kept));
        }
    }

    fn order(&mut self, peer_id: PeerId, connection: ConnectionId, order: handler::Order) {
        self.actions.push_back(ToSwarm::NotifyHandler {
            peer_id,
            handler: NotifyHandler::One(connection),
            event: order,
        });
    }

    fn on_reserved(
        &mut self,
        relay: PeerId,
        connection: ConnectionId,
        came: Result<TheirPromise, Error>,
    ) {
        let now = Instant::now();
        let Some(reservation) = self.reservations.get_mut(&relay) else {
            return;
        };
        if reservation.asking != Some(connection) {
            return;
        }
        match came {
            Ok(TheirPromise(promise)) => self.on_promise(relay, connection, &promise, now),
            Err(error) if reservation.denied(connection, now) => {
                tracing::debug!(%relay, %error, "a reservation is not renewed yet");
            }
            Err(error) => self.lose(relay, error),
        }
        self.set_timer();
    }

    fn on_promise(
        &mut self,
        relay: PeerId,
        connection: ConnectionId,
        promise: &Promise,
        now: Instant,
    ) {
        let local = self.local;
        let Some(reservation) = self.reservations.get_mut(&relay) else {
            return;
        };
        let mut ways = promise.reservation.ways(relay);
        if ways.is_empty() {
            // The relay names no public address of its own. In a private network the dialled one does as well.
            ways.push(reservation.way.clone());
        }
        let behind = |way: Multiaddr| circuit(way, relay).with(Protocol::P2p(local));
        let addresses: Vec<Multiaddr> = ways.into_iter().map(behind).collect();
        let since_1970 = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let lasts = lasts(promise.reservation.expire, since_1970);
        if reservation.held.is_none() {
            let external = behind(reservation.way.clone());
            self.actions
                .push_back(ToSwarm::ExternalAddrConfirmed(external));
        }
        let limit = promise.limit;
        let held = Held::new(connection, lasts, addresses.clone(), limit, now);
        let before = reservation.promised(held);
        let listener = reservation.listener;
        let new = addresses.iter().filter(|it| !before.contains(it)).cloned();
        let news = new.map(|address| News::Address(listener, address));
        self.news.extend(news);
        let gone = before.into_iter().filter(|it| !addresses.contains(it));
        let news = gone.map(|address| News::AddressGone(listener, address));
        self.news.extend(news);
        self.actions
            .push_back(ToSwarm::GenerateEvent(Event::Reserved { relay }));
    }

    /// Handles a circuit offered by a relay. It is accepted on any direct connection to a relay at which this peer
    /// wants a reservation.
    fn on_offer(&mut self, relay: PeerId, connection: ConnectionId, offer: Offer<Stream>) {
        let Offer {
            stream,
            from,
            limit,
        } = offer;
        let mut standing = self.standing.get(&relay).into_iter().flatten();
        // A connection over a circuit is not among them.
        let standing = standing.find(|standing| standing.id == connection);
        let (Some(reservation), Some(standing)) = (self.reservations.get(&relay), standing) else {
            let refusal = handler::Order::Refuse(stream, Status::NoReservation);
            return self.order(relay, connection, refusal);
        };
        if self.news.len() >= MAX_WAITING || self.limits.offered_by(relay) >= MAX_OFFERED {
            let refusal = handler::Order::Refuse(stream, Status::ResourceLimitExceeded);
            return self.order(relay, connection, refusal);
        }
        let way = standing.way.as_ref().unwrap_or(&reservation.way);
        let at = circuit(way.clone(), relay);
        let opening = Opening {
            relay,
            peer: from,
            dialled: false,
        };
        self.limits.told(opening, limit);
        self.news.push_back(News::Incoming {
            listener: reservation.listener,
            stream: Box::new(stream),
            at,
            from,
        });
    }

    /// Requests a circuit, or dials the relay first if it has no direct connection.
    fn dial(&mut self, circuit: Dial) {
        let (relay, quic) = (circuit.relay, is_quic(&circuit.way));
        let standing = self.standing.get(&relay).into_iter().flatten();
        let best = standing.min_by_key(|it| (it.quic != quic, it.id));
        if let Some(id) = best.map(|best| best.id) {
            return self.connect(id, circuit);
        }
        self.waiting
            .retain(|waiting| !waiting.circuit.answer.is_canceled());
        if self.waiting.len() >= MAX_WAITING {
            circuit.answer.send(Err(Error::Busy)).ok();
            return;
        }
        let mut waiting = self.waiting.iter();
        let same = waiting.find(|it| it.circuit.relay == relay && it.circuit.way == circuit.way);
        let attempt = same.map(|waiting| waiting.attempt);
        let attempt = attempt.unwrap_or_else(|| {
            let opts = to_relay(relay, circuit.way.clone());
            let attempt = opts.connection_id();
            self.actions.push_back(ToSwarm::Dial { opts });
            attempt
        });
        self.waiting.push(Waiting { circuit, attempt });
    }

    fn connect(&mut self, connection: ConnectionId, circuit: Dial) {
        let connect = Connect {
            to: circuit.to,
            answer: circuit.answer,
        };
        self.order(circuit.relay, connection, handler::Order::Connect(connect));
    }

    fn on_connected(
        &mut self,
        relay: PeerId,
        connect: Connect,
        stream: Stream,
        limit: Option<CircuitLimit>,
    ) {
        let opening = Opening {
            relay,
            peer: connect.to,
            dialled: true,
        };
        // The dial may have been given up.
        if connect.answer.send(Ok(stream)).is_ok() {
            self.limits.told(opening, limit);
        }
    }

    fn on_established(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        let remote = endpoint.get_remote_address();
        if endpoint.is_relayed() {
            if let Some(opening) = opening(peer, endpoint) {
                self.limits.established(id, opening);
            }
            return;
        }
        let standing = Standing {
            id,
            way: endpoint.is_dialer().then(|| split(remote).0),
            quic: is_quic(remote),
        };
        self.standing.entry(peer).or_default().push(standing);
        for waiting in self
            .waiting
            .extract_if(.., |it| it.circuit.relay == peer)
            .collect::<Vec<_>>()
        {
            self.connect(id, waiting.circuit);
        }
        let reservation = self.reservations.get(&peer);
        if reservation.is_some_and(|it| it.dialling.is_some()) {
            self.ask(peer);
        }
    }

    fn on_closed(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        if endpoint.is_relayed() {
            return self.limits.closed(id);
        }
        let mut stands = false;
        if let Some(standing) = self.standing.get_mut(&peer) {
            standing.retain(|standing| standing.id != id);
            stands = !standing.is_empty();
            if !stands {
                self.standing.remove(&peer);
            }
        }
        let reservation = self.reservations.get(&peer);
        if reservation.is_some_and(|it| it.is_on(id)) {
            if stands {
                self.ask(peer);
            } else {
                self.lose(peer, Error::NotReached);
            }
            self.set_timer();
        }
    }

    fn on_dial_failure(&mut self, attempt: ConnectionId) {
        for waiting in self.waiting.extract_if(.., |it| it.attempt == attempt) {
            waiting.circuit.answer.send(Err(Error::NotReached)).ok();
        }
        let mut all = self.reservations.iter();
        let lost = all.find(|(_, it)| it.dialling == Some(attempt));
        if let Some(relay) = lost.map(|(relay, _)| *relay) {
            self.lose(relay, Error::NotReached);
        }
    }

    fn next_renewal(&self) -> Option<Instant> {
        self.reservations
            .values()
            .filter_map(Reservation::renews_at)
            .min()
    }

    fn set_timer(&mut self) {
        if let Some(next) = self.next_renewal()
            && self.timer.deadline() != next
        {
            self.timer.as_mut().reset(next);
        }
    }

    /// Renews one reservation that is due and returns true, or registers the timer and returns false.
    fn renew(&mut self, cx: &mut Context<'_>) -> bool {
        while self.next_renewal().is_some() && self.timer.poll_unpin(cx).is_ready() {
            let now = Instant::now();
            let mut due = self.reservations.iter();
            let due = due.find(|(_, it)| it.renews_at().is_some_and(|at| at <= now));
            let due = due.map(|(relay, _)| *relay);
            if let Some(relay) = due {
                self.ask(relay);
            }
            self.set_timer();
            if due.is_some() {
                return true;
            }
        }
        false
    }

    fn send_news(&mut self, cx: &mut Context<'_>) {
        while !self.news.is_empty() {
            match self.to_transport.poll_ready(cx) {
                Poll::Ready(Ok(())) => {
                    if let Some(news) = self.news.pop_front() {
                        // The channel was just found to have room. A closed channel means that the transport is gone.
                        self.to_transport.start_send(news).ok();
                    }
                }
                // The transport is gone, and the swarm with it.
                Poll::Ready(Err(_)) => self.news.clear(),
                Poll::Pending => return,
            }
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new())
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            }) => self.on_established(peer_id, connection_id, endpoint),
            FromSwarm::ConnectionClosed(ConnectionClosed {
                peer_id,
                connection_id,
                endpoint,
                ..
            }) => self.on_closed(peer_id, connection_id, endpoint),
            FromSwarm::DialFailure(DialFailure { connection_id, .. }) => {
                self.on_dial_failure(connection_id);
            }
            FromSwarm::ListenFailure(failure) => {
                if let Some(circuit) = offered(failure.local_addr, failure.send_back_addr) {
                    self.limits.failed(circuit);
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        told: THandlerOutEvent<Self>,
    ) {
        match told {
            Told::Reserved(came) => self.on_reserved(peer, connection, came),
            Told::Connected {
                connect,
                stream,
                limit,
            } => self.on_connected(peer, connect, stream, limit),
            Told::Offered(TheirOffer(offer)) => self.on_offer(peer, connection, offer),
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Poll::Ready(action);
            }
            self.send_news(cx);
            if let Poll::Ready(Some(order)) = self.from_transport.poll_next_unpin(cx) {
                self.on_order(order);
            } else if !self.renew(cx) {
                return Poll::Pending;
            }
        }
    }
}

/// The swarm's dial to a relay.
fn to_relay(relay: PeerId, way: Multiaddr) -> DialOpts {
    DialOpts::peer_id(relay)
        .condition(PeerCondition::Always)
        .addresses(vec![way])
        .extend_addresses_through_behaviour()
        .build()
}

/// The circuit under a relayed connection.
fn opening(peer: PeerId, endpoint: &ConnectedPoint) -> Option<Opening> {
    match endpoint {
        ConnectedPoint::Dialer { address, .. } => Some(Opening {
            relay: relay_of(address)?,
            peer,
            dialled: true,
        }),
        ConnectedPoint::Listener {
            local_addr,
            send_back_addr,
        } => offered(local_addr, send_back_addr),
    }
}

/// The incoming circuit with these addresses. Its peer is what the relay claims.
fn offered(local: &Multiaddr, from: &Multiaddr) -> Option<Opening> {
    Some(Opening {
        relay: relay_of(local)?,
        peer: split(from).1?,
        dialled: false,
    })
}
