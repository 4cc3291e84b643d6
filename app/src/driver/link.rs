//! The two tasks of a link: the reader turns bytes into opened frames, the writer turns messages into sealed frames.
//!
//! Both keep the order of the frames' sequence numbers, and open and seal large frames on worker threads. The reader
//! holds only a few frames; when the engine is busy the reader stops reading, which in the end makes the peer stop
//! sending.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::io::{ReadHalf, WriteHalf};
use futures::{AsyncReadExt, AsyncWriteExt};
use handover_core::aead::AeadError;
use handover_core::engine::{Input, LinkId};
use handover_core::frame::{self, Draft, Frame, FrameError, LinkKeys, ReceiveKey, SendKey};
use handover_core::limits::MAX_PLAIN_FRAME;
use handover_core::message::Message;
use handover_transports::Stream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Note;
use super::opening::InOrder;
use crate::buffers::{Buffer, Buffers};

/// Capacity of the channel of orders to a link's writer. The engine's limits keep bulk data far below this; a peer that
/// lets this many small replies pile up no longer reads.
const ORDERS: usize = 4096;
/// Timeout for flushing a link's pending data once it is closed.
const FLUSH: Duration = Duration::from_secs(2);
/// Bytes allocated for a frame before its bytes arrive: a frame that is only announced costs no more.
const AHEAD: usize = 8 * 1024;
/// Interval at which the engine is told that a frame is still arriving.
const ACTIVITY: Duration = Duration::from_secs(1);

type Reading = ReadHalf<Box<dyn Stream>>;
type Writing = WriteHalf<Box<dyn Stream>>;

/// An order to a link's tasks.
pub(super) enum Order {
    /// Send one unsealed frame.
    SendPlain(Bytes),
    /// Read one unsealed frame.
    AwaitPlain,
    /// Seal and open all frames from here on. The number is the maximum size of a received frame in bytes.
    Keys(LinkKeys, u32),
    /// Seal and send.
    Send {
        seq: u64,
        message: Message,
        payload: Bytes,
    },
    /// Send what is queued, then close.
    Close,
}

/// An order to the reader.
enum ReadOrder {
    Plain,
    Keys(ReceiveKey, u32),
    /// Read and discard everything that arrives.
    Discard,
}

/// The tasks of a link. Dropping this aborts both.
pub(super) struct LinkTask {
    orders: mpsc::Sender<Order>,
    reads: mpsc::Sender<ReadOrder>,
    /// Reason the transport gave for the end of the link, if any.
    reason: Arc<Mutex<Option<String>>>,
    reader: tokio::task::AbortHandle,
    writer: tokio::task::AbortHandle,
}

impl LinkTask {
    pub(super) fn spawn(
        link: LinkId,
        stream: Box<dyn Stream>,
        notes: mpsc::Sender<Note>,
        buffers: Arc<Buffers>,
    ) -> Self {
        let (reading, writing) = stream.split();
        let (orders, orders_in) = mpsc::channel(ORDERS);
        // A read order is given once before the keys and once with them.
        let (reads, reads_in) = mpsc::channel(8);
        let reason = Arc::new(Mutex::new(None));
        let (read_all, all_read) = oneshot::channel();
        let reader = Reader {
            link,
            stream: reading,
            notes: notes.clone(),
            reason: Arc::clone(&reason),
            buffers: Arc::clone(&buffers),
        };
        let writer = Writer {
            link,
            stream: writing,
            all_read,
            notes,
            buffers,
        };
        Self {
            orders,
            reads,
            reason,
            reader: tokio::spawn(reader.run(reads_in, read_all)).abort_handle(),
            writer: tokio::spawn(writer.run(orders_in)).abort_handle(),
        }
    }

    /// Queues an order. Returns false if the link does not keep up.
    pub(super) fn tell(&self, order: Order) -> bool {
        let told_reader = match &order {
            Order::AwaitPlain => return self.reads.try_send(ReadOrder::Plain).is_ok(),
            Order::Keys(keys, largest) => {
                let order = ReadOrder::Keys(keys.receive.clone(), *largest);
                self.reads.try_send(order).is_ok()
            }
            // A reader that has its keys reads on without orders.
            Order::Close => {
                let _ = self.reads.try_send(ReadOrder::Discard);
                true
            }
            _ => true,
        };
        told_reader && self.orders.try_send(order).is_ok()
    }

    /// Stores the reason why the link is ending.
    pub(super) fn explain(&self, reason: String) {
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }
}

impl Drop for LinkTask {
    fn drop(&mut self) {
        self.reader.abort();
        self.writer.abort();
    }
}

struct Reader {
    link: LinkId,
    stream: Reading,
    notes: mpsc::Sender<Note>,
    reason: Arc<Mutex<Option<String>>>,
    buffers: Arc<Buffers>,
}

/// Reason why a reader ends.
enum End {
    /// The stream ended or failed.
    Stream(io::Error),
    /// The peer sent an invalid frame.
    Frame(FrameError),
    /// The receiving end is gone: nobody needs the data any more.
    Unwanted,
}

impl From<FrameError> for End {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Stream(error)
    }
}

impl Reader {
    /// `_read_all` is dropped when reading ends, which signals the writer.
    async fn run(mut self, orders: mpsc::Receiver<ReadOrder>, _read_all: oneshot::Sender<()>) {
        let end = match self.read(orders).await {
            Ok(()) | Err(End::Unwanted) => return,
            Err(End::Frame(error)) => Input::BadFrame {
                link: self.link,
                reason: error.to_string(),
            },
            Err(End::Stream(error)) => Input::LinkDown {
                link: self.link,
                reason: self.explain(&error),
            },
        };
        let _ = self.notes.send(Note::Input(end)).await;
    }

    fn explain(&self, error: &io::Error) -> String {
        let told = self
            .reason
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        told.unwrap_or_else(|| match error.kind() {
            io::ErrorKind::UnexpectedEof => "the other side closed the connection".to_string(),
            _ => error.to_string(),
        })
    }

    async fn read(&mut self, mut orders: mpsc::Receiver<ReadOrder>) -> Result<(), End> {
        loop {
            match orders.recv().await.ok_or(End::Unwanted)? {
                ReadOrder::Plain => {
                    let bytes = read_body(&mut self.stream, MAX_PLAIN_FRAME, &self.buffers, None)
                        .await?
                        .freeze();
                    let link = self.link;
                    self.tell(Input::Plain { link, bytes }).await?;
                }
                ReadOrder::Keys(key, largest) => return self.read_sealed(&key, largest).await,
                ReadOrder::Discard => return self.discard().await,
            }
        }
    }

    async fn discard(&mut self) -> Result<(), End> {
        let mut nothing = [0; 1024];
        while self.stream.read(&mut nothing).await? > 0 {}
        Ok(())
    }

    /// Reads and opens frames until the stream ends. Reads ahead while earlier frames are being opened.
    async fn read_sealed(&mut self, key: &ReceiveKey, largest: u32) -> Result<(), End> {
        let mut seq = 0;
        let mut opening = InOrder::<Result<Frame, FrameError>>::new();
        let beat = Beat {
            link: self.link,
            notes: self.notes.clone(),
        };
        let mut reading = Box::pin(read_body(
            &mut self.stream,
            largest,
            &self.buffers,
            Some(&beat),
        ));
        loop {
            tokio::select! {
                biased;
                frame = opening.next() => {
                    let input = Input::Frame { link: self.link, frame: frame? };
                    self.notes.send(Note::Input(input)).await.map_err(|_| End::Unwanted)?;
                }
                body = &mut reading, if !opening.is_full() => {
                    let body = match body {
                        Ok(body) => body,
                        Err(end) => {
                            drop(reading);
                            return self.drain(opening, end).await;
                        }
                    };
                    let key = key.clone();
                    opening.push(body.as_ref().len(), move || frame::open(&key, seq, body));
                    seq += 1;
                    drop(reading);
                    reading = Box::pin(read_body(&mut self.stream, largest, &self.buffers, Some(&beat)));
                }
            }
        }
    }

    /// Reports the frames that were read before the stream ended, then returns `end`.
    async fn drain(
        &self,
        mut opening: InOrder<Result<Frame, FrameError>>,
        end: End,
    ) -> Result<(), End> {
        while !opening.is_empty() {
            let frame = opening.next().await?;
            let link = self.link;
            self.tell(Input::Frame { link, frame }).await?;
        }
        Err(end)
    }

    async fn tell(&self, input: Input) -> Result<(), End> {
        self.notes
            .send(Note::Input(input))
            .await
            .map_err(|_| End::Unwanted)
    }
}

/// Tells the engine from time to time that a frame is still arriving.
struct Beat {
    link: LinkId,
    notes: mpsc::Sender<Note>,
}

impl Beat {
    fn tell(&self) {
        // A full queue is activity enough for the engine.
        let _ = self
            .notes
            .try_send(Note::Input(Input::Activity { link: self.link }));
    }
}

/// Reads the body of one frame. Memory is allocated as bytes arrive, not as announced.
async fn read_body(
    stream: &mut Reading,
    max: u32,
    buffers: &Arc<Buffers>,
    beat: Option<&Beat>,
) -> Result<Buffer, End> {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).await?;
    let len = frame::read_len(prefix, max)?;
    let mut body = buffers.take(len.min(AHEAD));
    let mut filled = 0;
    let mut told = Instant::now();
    loop {
        let room = body.as_mut();
        while filled < room.len() {
            let read = stream.read(&mut room[filled..]).await?;
            if read == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            filled += read;
            if let Some(beat) = beat
                && told.elapsed() >= ACTIVITY
            {
                told = Instant::now();
                beat.tell();
            }
        }
        if filled == len {
            return Ok(body);
        }
        // Enough has arrived to trust the announced length.
        let mut whole = buffers.take(len);
        whole.as_mut()[..filled].copy_from_slice(body.as_ref());
        body = whole;
    }
}

struct Writer {
    link: LinkId,
    stream: Writing,
    /// Resolves when the reader ends.
    all_read: oneshot::Receiver<()>,
    notes: mpsc::Sender<Note>,
    buffers: Arc<Buffers>,
}

/// A frame ready to be written, with its sequence number if it is sealed.
type Sealed = (Option<u64>, Result<Bytes, AeadError>);

impl Writer {
    async fn run(mut self, orders: mpsc::Receiver<Order>) {
        match self.write(orders).await {
            Ok(()) => {
                let _ = self.notes.send(Note::Closed(self.link)).await;
            }
            Err(error) => {
                // The reader usually sees the same failure and knows more; but a link may die in one direction only.
                let input = Input::LinkDown {
                    link: self.link,
                    reason: error.to_string(),
                };
                tokio::time::sleep(Duration::from_millis(500)).await;
                let _ = self.notes.send(Note::Input(input)).await;
            }
        }
    }

    /// Seals and writes the ordered frames, in order, until it is told to close.
    async fn write(&mut self, mut orders: mpsc::Receiver<Order>) -> io::Result<()> {
        let mut key: Option<SendKey> = None;
        let mut sealing = InOrder::<Sealed>::new();
        let mut dirty = false;
        loop {
            tokio::select! {
                biased;
                sealed = sealing.next() => {
                    self.write_frame(sealed).await?;
                    dirty = true;
                }
                order = orders.recv(), if !sealing.is_full() => match order {
                    Some(Order::Close) => return self.close(sealing).await,
                    // The link was dropped: nothing more is to be sent.
                    None => return Ok(()),
                    Some(order) => seal(order, &mut key, &mut sealing, &self.buffers),
                },
                flushed = self.stream.flush(), if dirty && sealing.is_empty() => {
                    flushed?;
                    dirty = false;
                }
            }
        }
    }

    async fn write_frame(&mut self, (seq, sealed): Sealed) -> io::Result<()> {
        let bytes = sealed.map_err(io::Error::other)?;
        self.stream.write_all(&bytes).await?;
        if let Some(seq) = seq {
            let link = self.link;
            let _ = self
                .notes
                .send(Note::Input(Input::Sent { link, seq }))
                .await;
        }
        Ok(())
    }

    async fn close(&mut self, mut sealing: InOrder<Sealed>) -> io::Result<()> {
        let finish = async {
            while !sealing.is_empty() {
                let sealed = sealing.next().await;
                self.write_frame(sealed).await?;
            }
            self.stream.flush().await?;
            self.stream.close().await?;
            // Closing a socket that holds unread bytes resets it, and a reset overtakes data just sent. So read on
            // until the peer closes its side too.
            let _ = (&mut self.all_read).await;
            io::Result::Ok(())
        };
        // After a timeout the link is closed all the same; a peer that does not read gets no goodbye.
        let _ = tokio::time::timeout(FLUSH, finish).await;
        Ok(())
    }
}

fn seal(
    order: Order,
    key: &mut Option<SendKey>,
    sealing: &mut InOrder<Sealed>,
    buffers: &Arc<Buffers>,
) {
    match order {
        Order::SendPlain(body) => sealing.push(0, move || (None, Ok(frame::plain(&body)))),
        Order::Keys(keys, _) => *key = Some(keys.send),
        Order::Send {
            seq,
            message,
            payload,
        } => {
            if let Some(key) = key.clone() {
                let buffers = Arc::clone(buffers);
                sealing.push(payload.len(), move || {
                    let draft = Draft::new(&message, &payload);
                    let mut frame = buffers.take(draft.len());
                    let sealed = draft.seal(&key, seq, frame.as_mut());
                    (Some(seq), sealed.map(|()| frame.freeze()))
                });
            }
        }
        Order::AwaitPlain | Order::Close => {}
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use handover_core::limits::{GROUP, MAX_SEALED_FRAME};
    use script::Script;

    use super::*;

    /// A stream that has some bytes to read and then stays pending.
    mod script {
        use std::io;
        use std::pin::Pin;
        use std::task::{Context, Poll};

        use futures::{AsyncRead, AsyncWrite};

        pub(super) struct Script(pub(super) Vec<u8>);

        impl AsyncRead for Script {
            fn poll_read(
                mut self: Pin<&mut Self>,
                _: &mut Context<'_>,
                buf: &mut [u8],
            ) -> Poll<io::Result<usize>> {
                let count = buf.len().min(self.0.len());
                if count == 0 {
                    return Poll::Pending;
                }
                buf[..count].copy_from_slice(&self.0[..count]);
                self.0.drain(..count);
                Poll::Ready(Ok(count))
            }
        }

        impl AsyncWrite for Script {
            fn poll_write(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                Poll::Ready(Ok(buf.len()))
            }

            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }

            fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Row 13. A buffer of the pool holds a reference to it, so the reference count shows whether one is taken.
    #[test]
    fn a_frame_that_is_only_announced_takes_no_buffer() {
        let buffers = Arc::new(Buffers::default());
        let announced = GROUP.to_be_bytes();
        for (come, taken) in [(0, false), (AHEAD - 1, false), (AHEAD, true)] {
            let mut bytes = announced.to_vec();
            bytes.resize(announced.len() + come, 7);
            let stream: Box<dyn Stream> = Box::new(Script(bytes));
            let (mut reading, _writing) = stream.split();
            let mut read = Box::pin(read_body(&mut reading, MAX_SEALED_FRAME, &buffers, None));
            assert!(
                (&mut read).now_or_never().is_none(),
                "the frame is not whole"
            );
            assert_eq!(Arc::strong_count(&buffers) > 1, taken, "{come} bytes came");
        }
    }
}
