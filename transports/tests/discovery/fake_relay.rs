//! A relay whose answers are scripted by the test. It opens circuits on whichever connection it is told to.

use std::collections::{HashMap, VecDeque};
use std::task::{Context, Poll};

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use handover_core::{Multiaddr, PeerId};
use handover_transports::libp2p::circuit::messages::{
    HopKind, HopMessage, Limit, Peer as Named, Reservation, Status, StopKind, StopMessage,
};
use handover_transports::libp2p::circuit::{HOP, STOP};
use handover_transports::libp2p::delimited;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, NotifyHandler, Stream, StreamProtocol, SubstreamProtocol, Swarm, SwarmEvent,
    THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{SwarmBuilder, identify, noise, tcp, yamux};
use tokio::sync::{mpsc, watch};

/// The connection on which a circuit is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Picks {
    /// The connection that the reservation was made on, as in rust-libp2p.
    Reserved,
    /// Another connection, as in go-libp2p about half of the time.
    Other,
}

/// How the relay answers a reservation request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answers {
    Well,
    /// With an undefined status.
    Nonsense,
    /// With a message longer than the limit.
    AtLength,
    /// With a truncated message.
    Shortly,
    /// Never.
    Never,
}

/// What the relay has observed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Number of reservation requests, including renewals, and the connection of the last one.
    pub(crate) reserved: usize,
    pub(crate) on: Option<ConnectionId>,
    /// Open connections.
    pub(crate) connections: HashMap<PeerId, Vec<ConnectionId>>,
    /// Answers to the circuits that it offered.
    pub(crate) answers: Vec<Option<Status>>,
}

enum Order {
    Offer(PeerId, PeerId),
    Close(ConnectionId),
}

/// A running relay.
pub(crate) struct FakeRelay {
    pub(crate) id: PeerId,
    addresses: Vec<Multiaddr>,
    orders: mpsc::UnboundedSender<Order>,
    seen: watch::Receiver<Seen>,
}

impl FakeRelay {
    /// Starts a relay on TCP and QUIC.
    pub(crate) async fn start(picks: Picks, answers: Answers) -> Self {
        let mut swarm = swarm();
        for at in ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"] {
            swarm.listen_on(at.parse().unwrap()).unwrap();
        }
        let mut addresses = Vec::new();
        while addresses.len() < 2 {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                addresses.push(address);
            }
        }
        let id = *swarm.local_peer_id();
        let (orders, to_do) = mpsc::unbounded_channel();
        let (tell, seen) = watch::channel(Seen::default());
        let run = Run {
            swarm,
            picks,
            answers,
            tell,
            seen: Seen::default(),
            open: HashMap::new(),
            opened: 0,
        };
        tokio::spawn(run.run(to_do));
        Self {
            id,
            addresses,
            orders,
            seen,
        }
    }

    /// Its addresses with its peer id.
    pub(crate) fn at(&self) -> Vec<Multiaddr> {
        let named = |address: &Multiaddr| address.clone().with(Protocol::P2p(self.id));
        self.addresses.iter().map(named).collect()
    }

    pub(crate) async fn until(&mut self, wish: impl Fn(&Seen) -> bool) -> Seen {
        let met = self.seen.wait_for(|seen| wish(seen));
        let met = tokio::time::timeout(std::time::Duration::from_secs(40), met).await;
        let seen = met.map(|seen| seen.expect("it runs").clone());
        seen.unwrap_or_else(|late| panic!("{late}: it stays {:?}", *self.seen.borrow()))
    }

    /// Offers a circuit that no peer has requested.
    pub(crate) fn offer(&self, to: PeerId, from: PeerId) {
        self.orders.send(Order::Offer(to, from)).unwrap();
    }

    pub(crate) fn close(&self, connection: ConnectionId) {
        self.orders.send(Order::Close(connection)).unwrap();
    }
}

#[derive(NetworkBehaviour)]
struct Node {
    identify: identify::Behaviour,
    streams: Streams,
}

fn swarm() -> Swarm<Node> {
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )
        .unwrap()
        .with_quic()
        .with_behaviour(|key| Node {
            identify: identify::Behaviour::new(identify::Config::new(
                "/other/1".into(),
                key.public(),
            )),
            streams: Streams::default(),
        })
        .unwrap()
        .with_swarm_config(|config| {
            config.with_idle_connection_timeout(std::time::Duration::from_mins(1))
        })
        .build()
}

struct Run {
    swarm: Swarm<Node>,
    picks: Picks,
    answers: Answers,
    tell: watch::Sender<Seen>,
    seen: Seen,
    /// Circuits being opened: the requesting peer, and its stream if it exists.
    open: HashMap<u64, (PeerId, Option<Stream>)>,
    opened: u64,
}

/// A request of a peer: its connection, its stream and the message.
type Request = (PeerId, ConnectionId, Stream, HopMessage);

/// Results of tasks.
enum Found {
    Asked(Box<Request>),
    Answered(Option<Status>),
}

impl Run {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let (tell, mut found) = mpsc::unbounded_channel();
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event, &tell),
                found = found.recv() => match found {
                    Some(Found::Asked(request)) => {
                        let (peer, on, stream, asked) = *request;
                        self.on_asked(peer, on, stream, &asked);
                    }
                    Some(Found::Answered(answer)) => self.seen.answers.push(answer),
                    None => return,
                },
                order = orders.recv() => match order {
                    Some(Order::Offer(to, from)) => self.open(to, from, None),
                    Some(Order::Close(connection)) => {
                        self.swarm.close_connection(connection);
                    }
                    None => return,
                },
            }
            self.tell.send(self.seen.clone()).ok();
        }
    }

    fn on_event(&mut self, event: SwarmEvent<NodeEvent>, tell: &mpsc::UnboundedSender<Found>) {
        let connections = &mut self.seen.connections;
        match event {
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                ..
            } => connections.entry(peer_id).or_default().push(connection_id),
            SwarmEvent::ConnectionClosed {
                peer_id,
                connection_id,
                ..
            } => {
                let of_peer = connections.entry(peer_id).or_default();
                of_peer.retain(|id| *id != connection_id);
            }
            SwarmEvent::Behaviour(NodeEvent::Streams(event)) => self.on_stream(event, tell),
            _ => {}
        }
    }

    fn on_stream(&mut self, event: StreamEvent, tell: &mpsc::UnboundedSender<Found>) {
        let (peer, connection, stream, stop) = event;
        let tell = tell.clone();
        let Some(mut stream) = stream else {
            return self.seen.answers.push(None);
        };
        let Some(stop) = stop else {
            tokio::spawn(async move {
                if let Ok(asked) = delimited::read(&mut stream).await {
                    tell.send(Found::Asked(Box::new((peer, connection, stream, asked))))
                        .ok();
                }
            });
            return;
        };
        let Some((from, theirs)) = self.open.remove(&stop) else {
            return;
        };
        tokio::spawn(async move {
            let answer = offer(&mut stream, from).await;
            tell.send(Found::Answered(answer)).ok();
            match theirs {
                Some(theirs) => splice(stream, theirs, answer).await,
                // No peer is at the other end. Keep the stream open, because the other side may be waiting for that.
                None => futures::future::pending().await,
            }
        });
    }

    fn on_asked(&mut self, peer: PeerId, on: ConnectionId, stream: Stream, asked: &HopMessage) {
        if asked.kind == Some(HopKind::Reserve.into()) {
            self.seen.reserved += 1;
            self.seen.on = Some(on);
            let addresses = self.swarm.listeners().cloned().collect();
            tokio::spawn(answer(stream, self.answers, addresses));
        } else if let Some(to) = asked.peer.as_ref().and_then(Named::identity) {
            self.open(to, peer, Some(stream));
        }
    }

    fn open(&mut self, to: PeerId, from: PeerId, theirs: Option<Stream>) {
        let of_peer = self.seen.connections.get(&to).into_iter().flatten();
        let wanted =
            |id: &&ConnectionId| (self.seen.on == Some(**id)) == (self.picks == Picks::Reserved);
        let found = of_peer.clone().find(wanted).or(of_peer.clone().next());
        let Some(connection) = found.copied() else {
            return;
        };
        self.opened += 1;
        self.open.insert(self.opened, (from, theirs));
        let streams = &mut self.swarm.behaviour_mut().streams;
        streams.queue.push_back(ToSwarm::NotifyHandler {
            peer_id: to,
            handler: NotifyHandler::One(connection),
            event: self.opened,
        });
    }
}

/// Answers a reservation request.
async fn answer(mut stream: Stream, how: Answers, addresses: Vec<Multiaddr>) {
    let expire = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
        + 3600;
    let mut message = HopMessage {
        kind: Some(HopKind::Status.into()),
        status: Some(Status::Ok.into()),
        reservation: Some(Reservation {
            expire: Some(expire),
            addrs: addresses.iter().map(Multiaddr::to_vec).collect(),
            voucher: None,
        }),
        limit: Some(LIMIT),
        ..HopMessage::default()
    };
    match how {
        Answers::Well => {}
        Answers::Nonsense => message.status = Some(-7),
        Answers::AtLength => {
            let voucher = Some(vec![0; 5000]);
            message.reservation.as_mut().unwrap().voucher = voucher;
        }
        Answers::Shortly => {
            stream.write_all(&[200, 1, 8]).await.ok();
            stream.close().await.ok();
            return;
        }
        Answers::Never => {
            stream.read_exact(&mut [0]).await.ok();
            return std::future::pending().await;
        }
    }
    delimited::write(&mut stream, &message).await.ok();
    stream.close().await.ok();
}

/// The limit of each circuit.
const LIMIT: Limit = Limit {
    duration: Some(120),
    data: Some(1 << 17),
};

/// Offers a circuit and returns the answer.
async fn offer(stream: &mut Stream, from: PeerId) -> Option<Status> {
    let message = StopMessage {
        kind: Some(StopKind::Connect.into()),
        peer: Some(Named::of(from)),
        limit: Some(LIMIT),
        ..StopMessage::default()
    };
    delimited::write(stream, &message).await.ok()?;
    let answer: StopMessage = delimited::read(stream).await.ok()?;
    Status::try_from(answer.status?).ok()
}

/// Answers the peer that requested the circuit, and forwards bytes between both ends.
async fn splice(one: Stream, mut other: Stream, answer: Option<Status>) {
    let taken = answer == Some(Status::Ok);
    let status = if taken {
        Status::Ok
    } else {
        Status::ConnectionFailed
    };
    let message = HopMessage {
        kind: Some(HopKind::Status.into()),
        status: Some(status.into()),
        limit: Some(LIMIT),
        ..HopMessage::default()
    };
    delimited::write(&mut other, &message).await.ok();
    if !taken {
        other.close().await.ok();
        return;
    }
    let ((one_reads, mut one_writes), (other_reads, mut other_writes)) =
        (one.split(), other.split());
    let there = futures::io::copy(one_reads, &mut other_writes);
    let back = futures::io::copy(other_reads, &mut one_writes);
    futures::future::select(Box::pin(there), Box::pin(back)).await;
}

/// Streams of both protocols. Those opened by this side are numbered.
#[derive(Default)]
struct Streams {
    queue: VecDeque<ToSwarm<StreamEvent, u64>>,
}

/// The peer, the connection, the stream if it could be opened, and its number if this side opened it.
type StreamEvent = (PeerId, ConnectionId, Option<Stream>, Option<u64>);

impl NetworkBehaviour for Streams {
    type ConnectionHandler = Handler;
    type ToSwarm = StreamEvent;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        (stream, number): THandlerOutEvent<Self>,
    ) {
        let event = (peer, connection, stream, number);
        self.queue.push_back(ToSwarm::GenerateEvent(event));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<StreamEvent, THandlerInEvent<Self>>> {
        self.queue.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

#[derive(Default)]
struct Handler {
    to_open: VecDeque<u64>,
    opened: VecDeque<(Option<Stream>, Option<u64>)>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = u64;
    type ToBehaviour = (Option<Stream>, Option<u64>);
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = u64;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(HOP), ())
    }

    fn on_behaviour_event(&mut self, number: u64) {
        self.to_open.push_back(number);
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol, (), u64>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol, ..
            }) => self.opened.push_back((Some(protocol), None)),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol,
                info,
            }) => self.opened.push_back((Some(protocol), Some(info))),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, .. }) => {
                self.opened.push_back((None, Some(info)));
            }
            _ => {}
        }
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, u64, Self::ToBehaviour>> {
        if let Some(opened) = self.opened.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(opened));
        }
        if let Some(number) = self.to_open.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(ReadyUpgrade::new(STOP), number),
            });
        }
        Poll::Pending
    }
}
