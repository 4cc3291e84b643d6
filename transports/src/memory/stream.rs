//! The byte stream of a link in memory.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use futures::{AsyncRead, AsyncWrite};
use handover_core::engine::LinkId;

use super::clock::Shared;
use super::exchange::Exchange;

/// One end of a link at a [`Switchboard`](super::Switchboard).
pub struct MemoryStream {
    shared: Arc<Shared>,
    end: LinkId,
}

impl MemoryStream {
    pub(super) fn new(shared: Arc<Shared>, end: LinkId) -> Self {
        Self { shared, end }
    }
}

impl fmt::Debug for MemoryStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStream").finish_non_exhaustive()
    }
}

impl AsyncRead for MemoryStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.shared
            .with(|exchange| exchange.poll_read(self.end, cx, buf))
    }
}

impl AsyncWrite for MemoryStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.shared
            .with(|exchange| exchange.poll_write(self.end, cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.with(|exchange| exchange.close_stream(self.end));
        Poll::Ready(Ok(()))
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        self.shared.with(|exchange| exchange.drop_stream(self.end));
    }
}

/// Operations of streams on their ends.
impl Exchange {
    fn poll_read(
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

    fn poll_write(
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
        // Offering at least one byte makes the network report when the window has room again.
        let wanted = buf.len().min(self.network.room(end).max(1));
        match self
            .network
            .send(end, &Bytes::copy_from_slice(&buf[..wanted]))
        {
            Err(_) => broken(),
            Ok(0) => {
                state.writer = Some(cx.waker().clone());
                Poll::Pending
            }
            Ok(taken) => Poll::Ready(Ok(taken)),
        }
    }

    fn close_stream(&mut self, end: LinkId) {
        if let Some(state) = self.ends.get_mut(&end)
            && !state.closed
        {
            state.closed = true;
            self.network.close(end);
        }
    }

    fn drop_stream(&mut self, end: LinkId) {
        if self.ends.remove(&end).is_some() {
            self.network.reset(end);
        }
    }
}
