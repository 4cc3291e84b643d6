//! Streams over one connection: Yamux, with bounds that suit file transfer.
//!
//! libp2p-yamux can set neither the bound of the receive window (1 GiB per connection by default, all of which an
//! unread link could fill) nor the size of the frames that bulk data is split into. The wire protocol is the same.

use std::collections::VecDeque;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::UpgradeInfo;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade};
use yamux::{Connection, ConnectionError, Mode};

/// Maximum number of open streams on one connection.
const MAX_STREAMS: usize = 64;

/// Maximum number of unread bytes that all streams of one connection may hold. Yamux gives each stream 256 KiB at once
/// and widens the window of one that is read fast towards twice the bandwidth-delay product: 25 MB/s at 300 ms need 15
/// MB.
const RECEIVE_WINDOW: usize = 24 << 20;

/// Payload of one frame, in bytes. Each frame has a header that TLS seals as a record of its own.
const FRAME: usize = 64 << 10;

/// Maximum number of streams opened by the peer that the swarm has not yet taken. Any further stream is reset.
const MAX_UNTAKEN: usize = 16;

/// The upgrade that multiplexes a secured connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Yamux;

impl Yamux {
    fn config() -> yamux::Config {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(MAX_STREAMS);
        config.set_max_connection_receive_window(Some(RECEIVE_WINDOW));
        config.set_split_send_size(FRAME);
        config
    }
}

impl UpgradeInfo for Yamux {
    type Info = &'static str;
    type InfoIter = std::iter::Once<Self::Info>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once("/yamux/1.0.0")
    }
}

impl<C> InboundConnectionUpgrade<C> for Yamux
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<io::Result<Muxer<C>>>;

    fn upgrade_inbound(self, io: C, _: Self::Info) -> Self::Future {
        ready(Ok(Muxer::new(io, Mode::Server)))
    }
}

impl<C> OutboundConnectionUpgrade<C> for Yamux
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<io::Result<Muxer<C>>>;

    fn upgrade_outbound(self, io: C, _: Self::Info) -> Self::Future {
        ready(Ok(Muxer::new(io, Mode::Client)))
    }
}

/// A Yamux connection as the swarm drives it.
pub(crate) struct Muxer<C> {
    connection: Connection<C>,
    /// Streams opened by the peer while the swarm was only driving the connection.
    untaken: VecDeque<yamux::Stream>,
    /// The task that waits for `untaken`.
    taker: Option<Waker>,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Muxer<C> {
    fn new(io: C, mode: Mode) -> Self {
        Self {
            connection: Connection::new(io, Yamux::config(), mode),
            untaken: VecDeque::new(),
            taker: None,
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<yamux::Stream>> {
        self.connection
            .poll_next_inbound(cx)
            .map(|next| next.unwrap_or(Err(ConnectionError::Closed)))
            .map_err(into_io)
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Muxer<C> {
    type Substream = yamux::Stream;
    type Error = io::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<yamux::Stream>> {
        if let Some(stream) = self.untaken.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        let next = self.poll_next(cx);
        if next.is_pending() {
            self.taker = Some(cx.waker().clone());
        }
        next
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<yamux::Stream>> {
        self.connection.poll_new_outbound(cx).map_err(into_io)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.poll_close(cx).map_err(into_io)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        match self.poll_next(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(stream)) => {
                if self.untaken.len() < MAX_UNTAKEN {
                    self.untaken.push_back(stream);
                    if let Some(taker) = self.taker.take() {
                        taker.wake();
                    }
                }
                // There may be more; yield to other tasks first.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

fn into_io(error: ConnectionError) -> io::Error {
    match error {
        ConnectionError::Io(error) => error,
        error => io::Error::other(error),
    }
}
