//! The bytes of a link in memory.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::{AsyncRead, AsyncWrite};
use handover_core::engine::LinkId;

use super::switchboard::Shared;

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
        self.shared.with(|state| state.poll_read(self.end, cx, buf))
    }
}

impl AsyncWrite for MemoryStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.shared
            .with(|state| state.poll_write(self.end, cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.with(|state| state.close_stream(self.end));
        Poll::Ready(Ok(()))
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        self.shared.with(|state| state.drop_stream(self.end));
    }
}
