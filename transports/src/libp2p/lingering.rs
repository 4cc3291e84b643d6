//! Graceful close of a TCP connection. If a socket is closed with unread bytes in it, the kernel sends a reset and
//! discards unsent data: a last message, such as a refusal, would be lost whenever the other side happened to send
//! something at that moment. So this side first stops writing and then reads until the other side has closed too.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::{AsyncRead, AsyncWrite};
use tokio::time::Sleep;

/// Timeout for the other side's close. It can't delay this side by continuing to send.
const PATIENCE: Duration = Duration::from_millis(500);

/// Number of bytes read and discarded at once.
const DISCARDED: usize = 4096;

/// A socket that is closed only once both sides have stopped writing.
#[derive(Debug)]
pub(crate) struct Lingering<S> {
    inner: S,
    close: Close,
}

/// Progress of the close.
#[derive(Debug)]
enum Close {
    /// Close was not requested, or written bytes are still on their way into the kernel.
    Open,
    /// This side has stopped writing; the other side has until this deadline to do the same.
    HalfClosed(Pin<Box<Sleep>>),
    Closed,
}

impl<S> Lingering<S> {
    pub(crate) fn new(inner: S) -> Self {
        let close = Close::Open;
        Self { inner, close }
    }
}

impl<S: AsyncRead + Unpin> Lingering<S> {
    /// Reads until the other side closes. An error ends this too: the connection is gone.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut bytes = [0; DISCARDED];
        loop {
            let read = ready!(Pin::new(&mut self.inner).poll_read(cx, &mut bytes));
            if matches!(read, Ok(0) | Err(_)) {
                return Poll::Ready(());
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
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
        loop {
            match &mut self.close {
                Close::Open => {
                    ready!(Pin::new(&mut self.inner).poll_close(cx))?;
                    self.close = Close::HalfClosed(Box::pin(tokio::time::sleep(PATIENCE)));
                }
                Close::HalfClosed(deadline) => {
                    if deadline.as_mut().poll(cx).is_pending() {
                        ready!(self.poll_discard(cx));
                    }
                    self.close = Close::Closed;
                }
                Close::Closed => return Poll::Ready(Ok(())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{AsyncReadExt, AsyncWriteExt};
    use libp2p::tcp::tokio::TcpStream;
    use socket2::SockRef;
    use tokio::net::TcpListener;

    use super::*;

    /// Two connected sockets. The send buffer of the first takes everything the tests write without blocking.
    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ours = tokio::net::TcpStream::connect(address).await.unwrap();
        SockRef::from(&ours).set_send_buffer_size(4 << 20).unwrap();
        let (theirs, _) = listener.accept().await.unwrap();
        (TcpStream(ours), TcpStream(theirs))
    }

    #[tokio::test]
    async fn what_was_written_arrives_whatever_the_other_side_says_meanwhile() {
        let (ours, mut theirs) = pair().await;
        let mut ours = Lingering::new(ours);
        let bytes = vec![7; 1 << 20];
        ours.write_all(&bytes).await.unwrap();
        theirs.write_all(b"this is never read").await.unwrap();
        let closing = async move { ours.close().await.map(|()| drop(ours)) };
        let reading = async move {
            // Without lingering, the other side would have closed by now.
            tokio::time::sleep(PATIENCE / 5).await;
            let mut got = Vec::new();
            theirs.read_to_end(&mut got).await.map(|_| got)
        };
        let (closed, got) = futures::join!(closing, reading);
        closed.unwrap();
        assert!(got.unwrap() == bytes);
    }

    #[tokio::test]
    async fn nobody_holds_a_close_up_by_talking_on_or_by_silence() {
        let (ours, theirs) = pair().await;
        let mut ours = Lingering::new(ours);
        let (mut reader, mut writer) = theirs.split();
        let talk = async move {
            while writer.write_all(&[0; 1 << 10]).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        let talks = tokio::spawn(talk);
        ours.close().await.unwrap();
        drop(ours);
        talks.await.unwrap();
        assert_eq!(reader.read(&mut [0; 8]).await.unwrap_or(0), 0);

        let (ours, silent) = pair().await;
        Lingering::new(ours).close().await.unwrap();
        drop(silent);
    }
}
