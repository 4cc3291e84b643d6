//! Tests of the client without a network: the requests it makes of the swarm, and its reaction to events

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use libp2p::core::transport::{DialOpts, ListenerId, PortUse, Transport as _, TransportEvent};
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::{ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, ToSwarm};
use libp2p::{Multiaddr, PeerId};

use super::exchange::Promise;
use super::handler::{self, TheirPromise, Told};
use super::messages::Reservation;
use super::{Behaviour, Error, Event, Status, Transport};

const TCP: &str = "/ip4/192.0.2.1/tcp/1";
const QUIC: &str = "/ip4/192.0.2.1/udp/1/quic-v1";

struct Client {
    transport: Transport,
    behaviour: Behaviour,
    relay: PeerId,
}

impl Client {
    fn new() -> Self {
        let (transport, behaviour) = super::new(PeerId::random());
        let relay = PeerId::random();
        Self {
            transport,
            behaviour,
            relay,
        }
    }

    /// A client that waits for an answer on its first connection.
    fn asking() -> Self {
        let mut this = Self::new();
        this.connected(1, TCP);
        this.listen();
        assert_eq!(this.asked(), [id(1)]);
        this
    }

    fn circuit(&self, way: &str) -> Multiaddr {
        format!("{way}/p2p/{}/p2p-circuit", self.relay)
            .parse()
            .unwrap()
    }

    fn listen(&mut self) -> ListenerId {
        let listener = ListenerId::next();
        let at = self.circuit(TCP);
        self.transport.listen_on(listener, at).unwrap();
        self.told();
        listener
    }

    /// The events that the transport emits to the swarm.
    fn told(&mut self) -> Vec<TransportEvent<(), Error>> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut told = Vec::new();
        while let Poll::Ready(event) = Pin::new(&mut self.transport).poll(&mut cx) {
            told.push(event.map_upgrade(|_| ()));
        }
        told
    }

    fn actions(&mut self) -> Vec<ToSwarm<Event, handler::Order>> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut actions = Vec::new();
        while let Poll::Ready(action) = self.behaviour.poll(&mut cx) {
            actions.push(action);
        }
        actions
    }

    /// The connections on which it requests a reservation.
    fn asked(&mut self) -> Vec<ConnectionId> {
        let asks = |action| match action {
            ToSwarm::NotifyHandler {
                handler: NotifyHandler::One(id),
                event: handler::Order::Reserve,
                ..
            } => Some(id),
            _ => None,
        };
        self.actions().into_iter().filter_map(asks).collect()
    }

    fn connected(&mut self, number: usize, way: &str) {
        let endpoint = endpoint(way);
        let event = ConnectionEstablished {
            peer_id: self.relay,
            connection_id: id(number),
            endpoint: &endpoint,
            failed_addresses: &[],
            other_established: 0,
        };
        self.behaviour
            .on_swarm_event(FromSwarm::ConnectionEstablished(event));
    }

    fn closed(&mut self, number: usize, way: &str) {
        let endpoint = endpoint(way);
        let event = ConnectionClosed {
            peer_id: self.relay,
            connection_id: id(number),
            endpoint: &endpoint,
            cause: None,
            remaining_established: 0,
        };
        self.behaviour
            .on_swarm_event(FromSwarm::ConnectionClosed(event));
    }

    fn answered(&mut self, number: usize, answer: Result<Reservation, Error>) {
        let promise = |reservation| {
            TheirPromise(Promise {
                reservation,
                limit: None,
            })
        };
        let told = Told::Reserved(answer.map(promise));
        self.behaviour
            .on_connection_handler_event(self.relay, id(number), told);
    }

    fn is_held(&mut self) -> bool {
        let reserved =
            |action: &_| matches!(action, ToSwarm::GenerateEvent(Event::Reserved { .. }));
        self.actions().iter().any(reserved)
    }
}

fn id(number: usize) -> ConnectionId {
    ConnectionId::new_unchecked(number)
}

fn endpoint(way: &str) -> ConnectedPoint {
    ConnectedPoint::Dialer {
        address: way.parse().unwrap(),
        role_override: Endpoint::Dialer,
        port_use: PortUse::Reuse,
    }
}

#[tokio::test(start_paused = true)]
async fn a_reservation_is_renewed_before_it_ends() {
    let mut client = Client::asking();
    client.answered(1, Ok(Reservation::default()));
    assert!(client.is_held());
    for _ in 0..3 {
        tokio::time::advance(Duration::from_mins(29)).await;
        assert!(client.asked().is_empty());
        tokio::time::advance(Duration::from_mins(2)).await;
        assert_eq!(client.asked(), [id(1)]);
        client.answered(1, Ok(Reservation::default()));
        assert!(client.is_held());
    }
    assert!(
        client
            .told()
            .iter()
            .all(|event| { matches!(event, TransportEvent::NewAddress { .. }) })
    );
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_is_full_when_it_is_asked_to_renew_is_asked_again() {
    let mut client = Client::asking();
    client.answered(1, Ok(Reservation::default()));
    assert!(client.is_held());
    tokio::time::advance(Duration::from_mins(31)).await;
    assert_eq!(client.asked(), [id(1)]);
    let full = || Err(Error::Refused(Status::ResourceLimitExceeded));
    client.answered(1, full());
    client.told();
    tokio::time::advance(Duration::from_mins(20)).await;
    assert_eq!(client.asked(), [id(1)], "what was promised stands");
    tokio::time::advance(Duration::from_mins(20)).await;
    client.answered(1, full());
    client.actions();
    let lost = |event: &_| matches!(event, TransportEvent::ListenerClosed { .. });
    assert!(client.told().iter().any(lost), "until it ends");
}

#[tokio::test]
async fn an_answer_to_a_listener_that_is_gone_is_no_harm() {
    let mut client = Client::asking();
    let listener = client.listen();
    assert_eq!(client.asked(), [id(1)]);
    assert!(client.transport.remove_listener(listener));
    let closed = |event: &_| matches!(event, TransportEvent::ListenerClosed { reason: Ok(()), .. });
    assert!(client.told().iter().any(closed));
    client.actions();
    client.answered(1, Ok(Reservation::default()));
    assert!(!client.is_held());
    assert!(client.told().is_empty());
}

#[tokio::test]
async fn tcp_is_asked_first_and_what_is_left_next() {
    let mut client = Client::new();
    client.connected(1, QUIC);
    client.connected(2, TCP);
    client.listen();
    assert_eq!(client.asked(), [id(2)]);
    client.closed(2, TCP);
    assert_eq!(client.asked(), [id(1)], "before the answer");
    client.answered(1, Ok(Reservation::default()));
    assert!(client.is_held());
    client.connected(3, TCP);
    assert!(client.asked().is_empty());
    client.closed(1, QUIC);
    assert_eq!(client.asked(), [id(3)], "after it");
    client.closed(3, TCP);
    client.actions();
    let lost = |event: &_| matches!(event, TransportEvent::ListenerClosed { .. });
    assert!(client.told().iter().any(lost));
}

#[tokio::test]
async fn circuits_through_one_relay_wait_for_one_connection() {
    let mut client = Client::new();
    let opts = DialOpts {
        role: Endpoint::Dialer,
        port_use: PortUse::Reuse,
    };
    let mut dials = Vec::new();
    for _ in 0..3 {
        let to = format!("{}/p2p/{}", client.circuit(TCP), PeerId::random());
        let dial = client.transport.dial(to.parse().unwrap(), opts).unwrap();
        let mut dial = Box::pin(dial);
        assert!(futures::poll!(dial.as_mut()).is_pending());
        dials.push(dial);
    }
    let attempts = client.actions();
    assert!(
        matches!(attempts[..], [ToSwarm::Dial { .. }]),
        "{attempts:?}"
    );
    client.connected(1, TCP);
    let asked = client.actions();
    assert_eq!(asked.len(), 3);
    for action in &asked {
        let ToSwarm::NotifyHandler { event, .. } = action else {
            panic!("{action:?}");
        };
        assert!(matches!(event, handler::Order::Connect(_)), "{event:?}");
    }
    // As when the connection is lost: nobody will answer the requests.
    drop(asked);
    for dial in dials {
        assert!(matches!(dial.await, Err(Error::NotReached)));
    }
}

#[tokio::test]
async fn no_more_circuits_wait_for_a_relay_than_there_may() {
    let mut client = Client::new();
    let opts = DialOpts {
        role: Endpoint::Dialer,
        port_use: PortUse::Reuse,
    };
    let mut dials = Vec::new();
    let mut busy = 0;
    for _ in 0..super::MAX_WAITING + 9 {
        let to = format!("{}/p2p/{}", client.circuit(TCP), PeerId::random());
        let dial = client.transport.dial(to.parse().unwrap(), opts).unwrap();
        let mut dial = Box::pin(dial);
        assert!(futures::poll!(dial.as_mut()).is_pending());
        client.actions();
        if let Poll::Ready(Err(Error::Busy)) = futures::poll!(dial.as_mut()) {
            busy += 1;
        }
        dials.push(dial);
    }
    assert_eq!(busy, 9);
}
