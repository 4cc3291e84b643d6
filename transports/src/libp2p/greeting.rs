//! The first bytes received on an outgoing connection. Every libp2p node begins with the name of multistream-select. A
//! web server or a captive portal does not, and the negotiation would take its bytes for a length and wait for more.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{AsyncRead, AsyncWrite};

use super::reason::Reason;

/// The length of `/multistream/1.0.0` and a line feed.
const FIRST: u8 = 19;

/// A connection whose first bytes are checked.
#[derive(Debug)]
pub(crate) struct Greeted<S> {
    inner: S,
    /// No bytes have arrived yet.
    waits: bool,
}

impl<S> Greeted<S> {
    /// `dialled`: by this side. On incoming connections, the negotiation itself refuses wrong bytes.
    pub(crate) fn new(inner: S, dialled: bool) -> Self {
        let waits = dialled;
        Self { inner, waits }
    }

    fn check(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(first) = bytes.first() else {
            return Ok(());
        };
        self.waits = false;
        if *first == FIRST {
            return Ok(());
        }
        let http = b"HTTP".starts_with(bytes) || bytes.starts_with(b"HTTP");
        let reason = if http { Reason::Http } else { Reason::Foreign };
        Err(io::Error::new(io::ErrorKind::InvalidData, reason))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Greeted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        if self.waits {
            self.check(&buf[..read])?;
        }
        Poll::Ready(Ok(read))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Greeted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures::AsyncReadExt;
    use futures::executor::block_on;
    use futures::io::Cursor;

    use super::*;

    /// Reads everything, if the other side sends this.
    fn read(said: &[u8], dialled: bool) -> Result<usize, Reason> {
        let mut greeted = Greeted::new(Cursor::new(said.to_vec()), dialled);
        let mut all = Vec::new();
        let read = block_on(greeted.read_to_end(&mut all));
        read.map_err(|error| Reason::of(&error))
    }

    #[test]
    fn what_is_not_libp2p_is_told_by_its_first_bytes() {
        let node = b"\x13/multistream/1.0.0\n\x13and so on";
        assert_eq!(read(node, true), Ok(node.len()));
        assert_eq!(read(b"HTTP/1.1 302 Found\r\n\r\n", true), Err(Reason::Http));
        assert_eq!(
            read(b"\x15\x03\x01\x00\x02\x02\x16", true),
            Err(Reason::Foreign)
        );
        assert_eq!(read(b"", true), Ok(0), "the negotiation calls that closed");
        assert_eq!(read(b"HTTP", false), Ok(4), "nobody was dialled");
    }
}
