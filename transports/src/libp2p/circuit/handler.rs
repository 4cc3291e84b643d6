//! The protocol's streams on one connection to what may be a relay.

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

/// Circuits that the other side may be about to offer on one connection; one more is reset.
pub(super) const MAX_OFFERS: usize = 16;

/// Circuits that are being refused on one connection; one more is reset without a word.
const MAX_REFUSALS: usize = 8;

/// Circuits that this side may be asking for on one connection; one more fails.
const MAX_CONNECTS: usize = 32;

/// Questions about a reservation: there is one at a time, and one that was given up may still be on its way.
const MAX_RESERVES: usize = 2;

/// Where a circuit goes to that was asked for.
type Answer = oneshot::Sender<Result<Stream, Error>>;

/// From the behaviour.
#[derive(Debug)]
pub enum Order {
    /// Ask for a reservation.
    Reserve,
    /// Ask for a circuit.
    Connect(Connect),
    /// Don't take this circuit.
    Refuse(Stream, Status),
    /// A reservation depends on this connection, or none does any more.
    Keep(bool),
}

/// A circuit to be asked for.
#[derive(Debug)]
pub struct Connect {
    pub(super) to: PeerId,
    pub(super) answer: Answer,
}

/// To the behaviour.
#[derive(Debug)]
pub enum Told {
    /// What came of asking for a reservation.
    Reserved(Result<TheirPromise, Error>),
    /// A circuit that was asked for stands.
    Connected {
        /// How it was asked for.
        connect: Connect,
        /// The circuit.
        stream: Stream,
        /// What it may carry.
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

/// What a stream is for that this side opens.
#[derive(Debug)]
pub enum Purpose {
    /// A reservation.
    Reserve,
    /// A circuit.
    Connect(Connect),
}

/// The streams of one connection.
pub struct Handler {
    /// Streams asked for that the connection has not been told of yet.
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

    /// A relay has opened a stream on which it will say for whom a circuit is.
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

    /// What has come of the conversations.
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
