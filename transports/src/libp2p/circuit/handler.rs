//! The circuit relay streams on one connection to a possible relay

use std::collections::VecDeque;
use std::convert::Infallible;
use std::task::{Context, Poll};

use futures::channel::oneshot;
use futures_bounded::{Delay, FuturesSet, FuturesTupleSet};
use libp2p::PeerId;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionHandler, ConnectionHandlerEvent, Stream, StreamProtocol, StreamUpgradeError,
    SubstreamProtocol,
};

use super::exchange::{self, Offer, Promise};
use super::messages::{CircuitLimit, Status};
use super::{ANSWER_TIMEOUT, CONNECT_TIMEOUT, Error, HOP, STOP};

/// Maximum number of incoming streams per connection on which an offer is awaited. Any further stream is reset.
pub(super) const MAX_OFFERS: usize = 16;

/// Maximum number of circuits being refused per connection. Any further circuit is reset without an answer.
const MAX_REFUSALS: usize = 8;

/// Maximum number of circuit requests under way per connection. Any further request fails.
const MAX_CONNECTS: usize = 32;

/// Maximum number of reservation requests per connection: the current one, and one that was given up but has not ended.
const MAX_RESERVES: usize = 2;

/// Receives the requested circuit.
type Answer = oneshot::Sender<Result<Stream, Error>>;

/// An order from the behaviour.
#[derive(Debug)]
pub enum Order {
    /// Request a reservation.
    Reserve,
    /// Request a circuit.
    Connect(Connect),
    /// Refuse this circuit.
    Refuse(Stream, Status),
    /// Keep this connection alive for a reservation, or stop doing so.
    Keep(bool),
}

/// A circuit to be requested.
#[derive(Debug)]
pub struct Connect {
    pub(super) to: PeerId,
    pub(super) answer: Answer,
}

/// An event for the behaviour.
#[derive(Debug)]
pub enum Told {
    /// The outcome of a reservation request.
    Reserved(Result<TheirPromise, Error>),
    /// A requested circuit is open.
    Connected {
        /// The request.
        connect: Connect,
        /// The circuit.
        stream: Stream,
        /// The circuit's limit.
        limit: Option<CircuitLimit>,
    },
    /// The other side offers a circuit.
    Offered(TheirOffer),
}

/// See [`Promise`].
#[derive(Debug)]
pub struct TheirPromise(pub(super) Promise);

/// See [`Offer`].
#[derive(Debug)]
pub struct TheirOffer(pub(super) Offer<Stream>);

/// The purpose of an outgoing stream.
#[derive(Debug)]
pub enum Purpose {
    /// Request a reservation.
    Reserve,
    /// Request a circuit.
    Connect(Connect),
}

/// The circuit relay streams of one connection.
pub struct Handler {
    /// Streams to open that were not yet requested from the connection.
    to_open: VecDeque<Purpose>,
    told: VecDeque<Told>,
    reserves: FuturesSet<Result<Promise, Error>>,
    connects: FuturesTupleSet<Result<(Stream, Option<CircuitLimit>), Error>, Connect>,
    offers: FuturesSet<Result<Offer<Stream>, Error>>,
    refusals: FuturesSet<Result<(), Error>>,
    keeps: bool,
}

impl Handler {
    pub(super) fn new() -> Self {
        let in_time = || Delay::futures_timer(ANSWER_TIMEOUT);
        Self {
            to_open: VecDeque::new(),
            told: VecDeque::new(),
            reserves: FuturesSet::new(in_time, MAX_RESERVES),
            connects: FuturesTupleSet::new(|| Delay::futures_timer(CONNECT_TIMEOUT), MAX_CONNECTS),
            offers: FuturesSet::new(in_time, MAX_OFFERS),
            refusals: FuturesSet::new(in_time, MAX_REFUSALS),
            keeps: false,
        }
    }

    /// Awaits the offer on a stream that a relay has opened.
    fn on_offered(&mut self, stream: Stream) {
        if self.offers.try_push(exchange::hear(stream)).is_err() {
            tracing::debug!("a relay offers too many circuits at once");
        }
    }

    fn on_opened(&mut self, purpose: Purpose, stream: Stream) {
        match purpose {
            Purpose::Reserve => {
                let asked = self.reserves.try_push(exchange::reserve(stream));
                if asked.is_err() {
                    self.told.push_back(Told::Reserved(Err(Error::Busy)));
                }
            }
            Purpose::Connect(connect) => {
                let to = connect.to;
                let asked = self
                    .connects
                    .try_push(exchange::connect(stream, to), connect);
                if let Err((_, connect)) = asked {
                    connect.answer.send(Err(Error::Busy)).ok();
                }
            }
        }
    }

    fn on_not_opened(&mut self, purpose: Purpose, error: Error) {
        match purpose {
            Purpose::Reserve => self.told.push_back(Told::Reserved(Err(error))),
            Purpose::Connect(connect) => drop(connect.answer.send(Err(error))),
        }
    }

    /// Polls the exchanges and returns the next event.
    fn poll_told(&mut self, cx: &mut Context<'_>) -> Poll<Told> {
        if let Some(told) = self.told.pop_front() {
            return Poll::Ready(told);
        }
        if let Poll::Ready(came) = self.reserves.poll_unpin(cx) {
            let came = came.unwrap_or(Err(Error::Timeout));
            return Poll::Ready(Told::Reserved(came.map(TheirPromise)));
        }
        while let Poll::Ready((came, connect)) = self.connects.poll_unpin(cx) {
            match came.unwrap_or(Err(Error::Timeout)) {
                Ok((stream, limit)) => {
                    return Poll::Ready(Told::Connected {
                        connect,
                        stream,
                        limit,
                    });
                }
                Err(error) => drop(connect.answer.send(Err(error))),
            }
        }
        while let Poll::Ready(came) = self.offers.poll_unpin(cx) {
            match came.unwrap_or(Err(Error::Timeout)) {
                Ok(offer) => return Poll::Ready(Told::Offered(TheirOffer(offer))),
                Err(error) => tracing::debug!(%error, "a stream of a relay is of no use"),
            }
        }
        while self.refusals.poll_unpin(cx).is_ready() {}
        Poll::Pending
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Order;
    type ToBehaviour = Told;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Purpose;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(STOP), ())
    }

    fn connection_keep_alive(&self) -> bool {
        self.keeps
    }

    fn on_behaviour_event(&mut self, order: Order) {
        match order {
            Order::Reserve => self.to_open.push_back(Purpose::Reserve),
            Order::Connect(connect) => self.to_open.push_back(Purpose::Connect(connect)),
            Order::Refuse(stream, status) => {
                let refusal = exchange::refuse(stream, status);
                if self.refusals.try_push(refusal).is_err() {
                    tracing::debug!("a relay offers more circuits than can be refused");
                }
            }
            Order::Keep(keeps) => self.keeps = keeps,
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol, (), Purpose>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol, ..
            }) => self.on_offered(protocol),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol,
                info,
            }) => self.on_opened(info, protocol),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, info }) => {
                self.on_not_opened(info, error.into());
            }
            _ => {}
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Purpose, Told>> {
        if let Some(purpose) = self.to_open.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(ReadyUpgrade::new(HOP), purpose),
            });
        }
        self.poll_told(cx)
            .map(ConnectionHandlerEvent::NotifyBehaviour)
    }
}

impl From<StreamUpgradeError<Infallible>> for Error {
    fn from(error: StreamUpgradeError<Infallible>) -> Self {
        match error {
            StreamUpgradeError::Timeout => Self::Timeout,
            StreamUpgradeError::NegotiationFailed => Self::NotSpoken,
            StreamUpgradeError::Io(error) => error.into(),
            StreamUpgradeError::Apply(never) => match never {},
        }
    }
}
