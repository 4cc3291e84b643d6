//! The protocol that a link's stream is negotiated with: `/handover/link/1`.
//!
//! This behaviour opens a stream on a *given* connection and reports the connection and remote address of each stream.
//! (libp2p-stream picks any connection of the peer and hides which.) A connection stays open while it has a live
//! stream.

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

/// Protocol name of a link's stream.
pub const PROTOCOL: StreamProtocol = StreamProtocol::new("/handover/link/1");

/// Maximum number of link streams that the other side may have open on one connection. Any further stream is reset.
pub const MAX_INBOUND: usize = 4;

/// Events of link streams.
#[derive(Debug)]
pub enum LinkEvent {
    /// A stream was opened.
    Up {
        /// The peer at the other end.
        peer: PeerId,
        /// The connection that carries the stream.
        connection: ConnectionId,
        /// Remote address of that connection.
        remote: Multiaddr,
        /// True if this side opened it, with [`Behaviour::open`].
        ours: bool,
        /// The stream.
        stream: LinkStream,
    },
    /// A stream requested by this side could not be opened.
    OpenFailed {
        /// The peer at the other end.
        peer: PeerId,
        /// The connection that the stream was requested on.
        connection: ConnectionId,
        /// The reason.
        error: OpenError,
    },
}

/// Why a stream could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The peer does not support the protocol.
    #[error("the other side does not speak handover")]
    NotSpoken,
    /// The peer did not answer in time.
    #[error("the other side did not answer in time")]
    Timeout,
    /// The connection failed.
    #[error("the connection was lost: {0}")]
    Lost(String),
}

/// Opens and accepts link streams.
#[derive(Debug, Default)]
pub struct Behaviour {
    /// Besides requests made by this side, holds at most one event: the swarm takes it before the next connection can
    /// report another.
    queue: VecDeque<ToSwarm<LinkEvent, Open>>,
}

impl Behaviour {
    /// Opens a stream on this connection. Results in one [`LinkEvent`], unless the connection closes first.
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

/// Request to the handler: open a stream.
#[derive(Debug, Clone, Copy)]
pub struct Open;

/// Events of the handler of one connection.
#[derive(Debug)]
pub enum FromHandler {
    /// A stream was opened.
    Up {
        /// Remote address of the connection.
        remote: Multiaddr,
        /// True if this side opened it.
        ours: bool,
        /// The stream.
        stream: LinkStream,
    },
    /// A requested stream could not be opened.
    OpenFailed(OpenError),
}

/// The link streams of one connection.
#[derive(Debug)]
pub struct Handler {
    remote: Multiaddr,
    /// Number of requested streams not yet passed to the connection.
    to_open: usize,
    /// Events not yet taken: at most [`MAX_INBOUND`] streams of the peer, plus the results of this side's requests.
    told: VecDeque<FromHandler>,
    /// Cloned by each live stream that the peer opened: its reference count counts them.
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

/// The byte stream of one link. While it exists, its connection is not idle.
#[derive(Debug)]
pub struct LinkStream {
    stream: Stream,
    fate: Arc<Fate>,
    /// Counts the stream against [`MAX_INBOUND`].
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

    /// Returns a handle that shows the stream's state wherever the stream has been moved.
    pub(crate) fn fate(&self) -> Arc<Fate> {
        Arc::clone(&self.fate)
    }
}

impl Drop for LinkStream {
    fn drop(&mut self) {
        self.fate.dropped.store(true, Ordering::Release);
    }
}

/// State of a stream.
#[derive(Debug, Default)]
pub(crate) struct Fate {
    closed: AtomicBool,
    dropped: AtomicBool,
}

impl Fate {
    /// True if this side has closed its direction. What it wrote must still reach the other end.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// True if the stream has been dropped.
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
