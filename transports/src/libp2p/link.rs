//! The protocol that a link's stream is negotiated with: `/handover/link/1`.
//!
//! This behaviour opens a stream on a *named* connection and says of each stream which connection it came by and
//! from where. (libp2p-stream picks any connection of the peer and hides which.) A connection stays open for as long
//! as a stream on it lives.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, IoSlice, IoSliceMut};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures::{AsyncRead, AsyncWrite};
use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, NotifyHandler, Stream, StreamProtocol, StreamUpgradeError, SubstreamProtocol,
    THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};

/// What a link's stream is negotiated as.
pub const PROTOCOL: StreamProtocol = StreamProtocol::new("/handover/link/1");

/// Link streams that the other side may have open on one connection; one more is reset.
pub const MAX_INBOUND: usize = 4;

/// What became of streams.
#[derive(Debug)]
pub enum LinkEvent {
    /// A stream stands.
    Up {
        /// Who is at the other end.
        peer: PeerId,
        /// The connection it runs over.
        connection: ConnectionId,
        /// Where that connection goes to.
        remote: Multiaddr,
        /// This side asked for it, with [`Behaviour::open`].
        ours: bool,
        /// Its bytes.
        stream: LinkStream,
    },
    /// A stream that this side asked for could not be had.
    OpenFailed {
        /// Who is at the other end.
        peer: PeerId,
        /// The connection it was to run over.
        connection: ConnectionId,
        /// Why.
        error: OpenError,
    },
}

/// Why a stream could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The peer knows no such protocol.
    #[error("the other side does not speak handover")]
    NotSpoken,
    /// The peer did not answer.
    #[error("the other side did not answer in time")]
    Timeout,
    /// The connection failed.
    #[error("the connection was lost: {0}")]
    Lost(String),
}

/// Opens and accepts link streams.
#[derive(Debug, Default)]
pub struct Behaviour {
    /// The swarm takes from it before it lets the next connection speak, so it holds one event of a peer at the most,
    /// besides what was asked for here.
    queue: VecDeque<ToSwarm<LinkEvent, Open>>,
}

impl Behaviour {
    /// Open a stream on this connection. Ends in one [`LinkEvent`], unless the connection closes before.
    pub fn open(&mut self, peer: PeerId, connection: ConnectionId) {
        self.queue.push_back(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler: NotifyHandler::One(connection),
            event: Open,
        });
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = LinkEvent;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(remote.clone()))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        remote: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(remote.clone()))
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        let event = match event {
            FromHandler::Up {
                remote,
                ours,
                stream,
            } => LinkEvent::Up {
                peer,
                connection,
                remote,
                ours,
                stream,
            },
            FromHandler::OpenFailed(error) => LinkEvent::OpenFailed {
                peer,
                connection,
                error,
            },
        };
        self.queue.push_back(ToSwarm::GenerateEvent(event));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.queue.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// The request of the behaviour to its handler: open a stream.
#[derive(Debug, Clone, Copy)]
pub struct Open;

/// What the handler of one connection tells.
#[derive(Debug)]
pub enum FromHandler {
    /// A stream stands.
    Up {
        /// Where the connection goes to.
        remote: Multiaddr,
        /// This side asked for it.
        ours: bool,
        /// Its bytes.
        stream: LinkStream,
    },
    /// A stream that was asked for could not be had.
    OpenFailed(OpenError),
}

/// The link streams of one connection.
#[derive(Debug)]
pub struct Handler {
    remote: Multiaddr,
    /// Streams asked for that the connection has not been told of yet.
    to_open: usize,
    /// At most [`MAX_INBOUND`] streams of the peer, and what was asked for here.
    told: VecDeque<FromHandler>,
    /// Held by each stream of the peer that lives.
    inbound: Arc<()>,
}

impl Handler {
    fn new(remote: Multiaddr) -> Self {
        Self {
            remote,
            to_open: 0,
            told: VecDeque::new(),
            inbound: Arc::new(()),
        }
    }

    fn on_inbound(&mut self, stream: Stream) {
        if Arc::strong_count(&self.inbound) > MAX_INBOUND {
            tracing::debug!("a peer opened too many link streams on one connection");
            return;
        }
        let slot = Some(Arc::clone(&self.inbound));
        self.tell_up(LinkStream::new(stream, slot), false);
    }

    fn tell_up(&mut self, stream: LinkStream, ours: bool) {
        self.told.push_back(FromHandler::Up {
            remote: self.remote.clone(),
            ours,
            stream,
        });
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = FromHandler;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    fn on_behaviour_event(&mut self, Open: Open) {
        self.to_open += 1;
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol, ..
            }) => self.on_inbound(protocol),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol, ..
            }) => self.tell_up(LinkStream::new(protocol, None), true),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => {
                self.told.push_back(FromHandler::OpenFailed(error.into()));
            }
            _ => {}
        }
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Self::ToBehaviour>> {
        if let Some(told) = self.told.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(told));
        }
        if self.to_open > 0 {
            self.to_open -= 1;
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ()),
            });
        }
        Poll::Pending
    }
}

impl From<StreamUpgradeError<Infallible>> for OpenError {
    fn from(error: StreamUpgradeError<Infallible>) -> Self {
        match error {
            StreamUpgradeError::Timeout => Self::Timeout,
            StreamUpgradeError::NegotiationFailed => Self::NotSpoken,
            StreamUpgradeError::Io(error) => Self::Lost(error.to_string()),
            StreamUpgradeError::Apply(never) => match never {},
        }
    }
}

/// The bytes of one link. While it lives, its connection is not idle.
#[derive(Debug)]
pub struct LinkStream {
    stream: Stream,
    fate: Arc<Fate>,
    /// Its place among the streams that the other side may have open.
    _slot: Option<Arc<()>>,
}

impl LinkStream {
    fn new(stream: Stream, slot: Option<Arc<()>>) -> Self {
        Self {
            stream,
            fate: Arc::default(),
            _slot: slot,
        }
    }

    /// To see later what became of the stream, wherever it went.
    pub(crate) fn fate(&self) -> Arc<Fate> {
        Arc::clone(&self.fate)
    }
}

impl Drop for LinkStream {
    fn drop(&mut self) {
        self.fate.dropped.store(true, Ordering::Release);
    }
}

/// What has become of a stream.
#[derive(Debug, Default)]
pub(crate) struct Fate {
    closed: AtomicBool,
    dropped: AtomicBool,
}

impl Fate {
    /// This side has closed its direction: what it wrote is still wanted at the other end.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Nobody holds the stream any more.
    pub(crate) fn is_dropped(&self) -> bool {
        self.dropped.load(Ordering::Acquire)
    }
}

impl AsyncRead for LinkStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }

    fn poll_read_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read_vectored(cx, bufs)
    }
}

impl AsyncWrite for LinkStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.stream).poll_close(cx);
        if let Poll::Ready(Ok(())) = &closed {
            self.fate.closed.store(true, Ordering::Release);
        }
        closed
    }
}
