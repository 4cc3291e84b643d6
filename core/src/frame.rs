//! Frames: how messages and bulk bytes are encoded on a link's byte stream.
//!
//! ```text
//! frame            = length of the body, u32 big-endian || body
//! body, unsealed   = CBOR: HandshakeRequest, ShortCodeRequest, Proof or HandshakeReply     up to MAX_PLAIN_FRAME bytes
//! body, sealed     = AES-256-GCM(text) || tag of 16 bytes             up to MAX_SEALED_FRAME bytes
//! text             = length of the header, u32 big-endian || header || payload
//! header           = the CBOR of a Message                            up to MAX_HEADER bytes
//! payload          = raw bytes, cut as the message says               up to MAX_PAYLOAD bytes
//! ```
//!
//! Each direction of a link has its own key, and its sealed frames are numbered from 0. The number is the nonce and is
//! not sent. So if frames are dropped, repeated or reordered, the next one fails to open, and that ends the link.
//!
//! [`seal`] and [`open`] do the bulk work of a link. They are pure functions that a driver runs on its worker threads.
//! They know nothing of requests or of which bytes are correct: [`crate::engine`] decides that from the hashes that
//! [`open`] computes.

#![warn(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used
)]

use std::fmt;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};

use crate::aead::{AeadError, AeadKey, KEY};
use crate::limits::{GROUP, MAX_HEADER, MAX_PAYLOAD, MAX_PLAIN_FRAME, MAX_SEALED_FRAME, TAG};
use crate::merkle::RangeHash;
use crate::message::{self, DecodeError, Message, Served};

/// Length of the length field of a body or a header, in bytes.
const LENGTH: usize = 4;

/// The keys of one link, one for each direction. Clones share the keys.
#[derive(Debug, Clone)]
pub struct LinkKeys {
    /// Seals outgoing frames.
    pub send: SendKey,
    /// Opens incoming frames.
    pub receive: ReceiveKey,
}

impl LinkKeys {
    /// Creates a link's keys from their bytes. `send` here is `receive` at the other end.
    pub fn new(send: [u8; KEY], receive: [u8; KEY]) -> Self {
        Self {
            send: SendKey(Arc::new(AeadKey::new(send))),
            receive: ReceiveKey(Arc::new(AeadKey::new(receive))),
        }
    }
}

/// Seals the frames of one direction of a link.
#[derive(Clone)]
pub struct SendKey(Arc<AeadKey>);

/// Opens the frames of one direction of a link.
#[derive(Clone)]
pub struct ReceiveKey(Arc<AeadKey>);

impl fmt::Debug for SendKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendKey(..)")
    }
}

impl fmt::Debug for ReceiveKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReceiveKey(..)")
    }
}

/// An opened frame.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Its message.
    pub message: Message,
    /// Its payload. In a [`Message::Data`], the bytes of its segments in order, without gaps.
    pub payload: Bytes,
    /// For a [`Message::Data`], the hashes of each [`Served::Bytes`] and [`Served::End`] of the payload, in order. A
    /// segment without bytes is hashed as one empty leaf. Empty for all other messages.
    pub hashes: Vec<RangeHash>,
}

/// Why bytes are not a valid frame: the peer that sent them, or somebody in between, violated the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is zero or over the limit.
    #[error("a frame of {len} bytes, where {max} are allowed")]
    Length {
        /// The length.
        len: u32,
        /// The limit.
        max: u32,
    },
    /// The frame was not sealed by the other end with this sequence number.
    #[error(transparent)]
    Aead(#[from] AeadError),
    /// The frame is shorter than the header that it declares.
    #[error("a frame that ends in its header")]
    Cut,
    /// The header is not a message.
    #[error(transparent)]
    Message(#[from] DecodeError),
    /// The payload has another length than the message says, or is over the limit.
    #[error("a payload of {len} bytes that does not fit its message")]
    Payload {
        /// Length of the payload, in bytes.
        len: usize,
    },
}

/// Encodes a whole unsealed frame with this body, including the length prefix.
///
/// # Panics
/// If the body is empty or over [`MAX_PLAIN_FRAME`], which never happens for our own handshake messages.
pub fn plain(body: &[u8]) -> Bytes {
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
    assert!(
        (1..=MAX_PLAIN_FRAME).contains(&len),
        "an unsealed frame of {len} bytes"
    );
    [&len.to_be_bytes(), body].concat().into()
}

/// Encodes a whole sealed frame, including the length prefix. `seq` is 0 for the first one of a link and then counts up.
///
/// Fails only if the key is exhausted: the link then needs a new handshake.
///
/// # Panics
/// If the payload is over [`MAX_PAYLOAD`] or the message over [`MAX_HEADER`] bytes, which ours never are.
pub fn seal(
    key: &SendKey,
    seq: u64,
    message: &Message,
    payload: &[u8],
) -> Result<Bytes, AeadError> {
    let draft = Draft::new(message, payload);
    let mut frame = vec![0; draft.len()];
    draft.seal(key, seq, &mut frame)?;
    Ok(frame.into())
}

/// Returns the length of a sealed frame including its length prefix, in bytes.
pub(crate) fn sealed_len(message: &Message, payload: &[u8]) -> u64 {
    const AROUND: u64 = 2 * LENGTH as u64 + TAG as u64;
    AROUND
        .saturating_add(message::encoded_len(message))
        .saturating_add(payload.len() as u64)
}

/// Returns the length of an unsealed frame including its length prefix, in bytes.
pub(crate) fn plain_len(body: usize) -> u64 {
    LENGTH.saturating_add(body) as u64
}

/// A frame before it is sealed, for drivers that seal into buffers of their own.
#[derive(Debug)]
pub struct Draft<'a> {
    header: Vec<u8>,
    payload: &'a [u8],
}

impl<'a> Draft<'a> {
    /// Creates the draft of a frame with this message and payload.
    ///
    /// # Panics
    /// If the payload is over [`MAX_PAYLOAD`] or the message over [`MAX_HEADER`] bytes, which ours never are.
    pub fn new(message: &Message, payload: &'a [u8]) -> Self {
        assert!(
            payload.len() <= MAX_PAYLOAD as usize,
            "a payload of {} bytes",
            payload.len()
        );
        let header = message::encode(message);
        Self { header, payload }
    }

    /// Returns the length of the sealed frame including its length prefix, in bytes.
    // A frame is never empty.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        LENGTH
            .saturating_add(self.text_len())
            .saturating_add(TAG as usize)
    }

    /// Returns the length of the plaintext: header length, header and payload.
    fn text_len(&self) -> usize {
        LENGTH
            .saturating_add(self.header.len())
            .saturating_add(self.payload.len())
    }

    /// Seals it into `frame`, which is [`len`](Self::len) bytes long. The payload is copied once and sealed in place.
    ///
    /// # Panics
    /// If `frame` has another length.
    pub fn seal(&self, key: &SendKey, seq: u64, frame: &mut [u8]) -> Result<(), AeadError> {
        assert_eq!(frame.len(), self.len(), "a frame goes into its own length");
        let (prefix, body) = frame.split_at_mut(LENGTH);
        prefix.copy_from_slice(&length(body.len()));
        let (text, tag) = body.split_at_mut(self.text_len());
        let (prefix, rest) = text.split_at_mut(LENGTH);
        prefix.copy_from_slice(&length(self.header.len()));
        let (header, payload) = rest.split_at_mut(self.header.len());
        header.copy_from_slice(&self.header);
        payload.copy_from_slice(self.payload);
        tag.copy_from_slice(&key.0.seal_in_place(seq, text)?);
        Ok(())
    }
}

/// Opens a sealed frame's body (without its length prefix), decodes the header and hashes the payload.
///
/// `body` is decrypted in place and the payload is a slice of it, so the payload keeps `body` alive. For bulk data,
/// `body` should be an allocation for this frame alone (see [`read_len`]).
pub fn open<B>(key: &ReceiveKey, seq: u64, mut body: B) -> Result<Frame, FrameError>
where
    B: AsRef<[u8]> + AsMut<[u8]> + Send + 'static,
{
    let len = u32::try_from(body.as_ref().len()).unwrap_or(u32::MAX);
    check_length(len, MAX_SEALED_FRAME)?;
    let plain = key.0.open_in_place(seq, body.as_mut())?;
    let text = body.as_ref().get(..plain).ok_or(FrameError::Cut)?;
    let header = header_of(text)?;
    let start = LENGTH.saturating_add(header.len());
    let message: Message = message::decode(header)?;
    let payload = Bytes::from_owner(body).slice(start..plain);
    let hashes = check_payload(&message, &payload)?;
    Ok(Frame {
        message,
        payload,
        hashes,
    })
}

/// Decodes a frame's length, for a driver that reads the body itself into its final place. `max` is
/// [`MAX_PLAIN_FRAME`] or [`MAX_SEALED_FRAME`].
pub fn read_len(prefix: [u8; 4], max: u32) -> Result<usize, FrameError> {
    let len = u32::from_be_bytes(prefix);
    check_length(len, max)?;
    usize::try_from(len).map_err(|_| FrameError::Length { len, max })
}

/// Splits a byte stream into the bodies of frames. The stream may arrive in pieces of any size.
///
/// The decoder holds the bytes that were fed and not yet taken. It preallocates nothing for a declared length. A body
/// shares its allocation with the bytes fed around it.
#[derive(Debug)]
pub struct Decoder {
    fed: BytesMut,
    max: u32,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// Creates a decoder for unsealed frames, with which every link begins.
    pub fn new() -> Self {
        Self {
            fed: BytesMut::new(),
            max: MAX_PLAIN_FRAME,
        }
    }

    /// Sets the limit for frames not yet taken: [`MAX_SEALED_FRAME`] once the link is keyed.
    pub fn set_limit(&mut self, max: u32) {
        self.max = max;
    }

    /// Appends the next bytes of the stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.fed.extend_from_slice(bytes);
    }

    /// Returns the next frame's body once it is complete. A length over the limit is an error as soon as it is read, and
    /// on every later call, because what follows it cannot be parsed.
    #[expect(
        clippy::should_implement_trait,
        reason = "it fails, and goes on after it had nothing"
    )]
    pub fn next(&mut self) -> Result<Option<BytesMut>, FrameError> {
        let Some(prefix) = self.fed.first_chunk() else {
            return Ok(None);
        };
        let len = read_len(*prefix, self.max)?;
        if self.fed.len().saturating_sub(LENGTH) < len {
            return Ok(None);
        }
        self.fed.advance(LENGTH);
        Ok(Some(self.fed.split_to(len)))
    }
}

fn check_length(len: u32, max: u32) -> Result<(), FrameError> {
    if (1..=max).contains(&len) {
        Ok(())
    } else {
        Err(FrameError::Length { len, max })
    }
}

/// Encodes a length that is known to be within the limits.
fn length(bytes: usize) -> [u8; LENGTH] {
    u32::try_from(bytes)
        .expect("a frame is far below 4 GiB")
        .to_be_bytes()
}

fn header_of(text: &[u8]) -> Result<&[u8], FrameError> {
    let (prefix, rest) = text.split_first_chunk().ok_or(FrameError::Cut)?;
    let len = u32::from_be_bytes(*prefix);
    check_length(len, MAX_HEADER)?;
    let len = usize::try_from(len).map_err(|_| FrameError::Cut)?;
    rest.get(..len).ok_or(FrameError::Cut)
}

/// Checks that the payload has the length that the message says, and hashes its content.
fn check_payload(message: &Message, payload: &[u8]) -> Result<Vec<RangeHash>, FrameError> {
    let wrong = FrameError::Payload { len: payload.len() };
    if payload.len() > MAX_PAYLOAD as usize {
        return Err(wrong);
    }
    match message {
        Message::Data { segments, .. } => hash_segments(segments, payload).ok_or(wrong),
        Message::Manifest { .. } | Message::Chunks { .. } => Ok(Vec::new()),
        _ if payload.is_empty() => Ok(Vec::new()),
        _ => Err(wrong),
    }
}

/// `None` if the segments' lengths do not match the payload. All lengths are checked before any byte is hashed.
fn hash_segments(segments: &[Served], payload: &[u8]) -> Option<Vec<RangeHash>> {
    let mut pieces = Vec::new();
    let mut rest = payload;
    for len in segments.iter().filter_map(served_len) {
        if len > GROUP {
            return None;
        }
        let (piece, behind) = rest.split_at_checked(usize::try_from(len).ok()?)?;
        pieces.push(piece);
        rest = behind;
    }
    rest.is_empty()
        .then(|| pieces.into_iter().map(RangeHash::of).collect())
}

fn served_len(served: &Served) -> Option<u32> {
    match served {
        Served::Bytes { len, .. } | Served::End { len, .. } => Some(*len),
        Served::Failed(_) | Served::Forgotten | Served::Missing => None,
    }
}

#[cfg(test)]
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used
)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::*;
    use crate::merkle::hash_group;
    use crate::message::Failure;

    fn ends() -> (LinkKeys, LinkKeys) {
        (
            LinkKeys::new([1; KEY], [2; KEY]),
            LinkKeys::new([2; KEY], [1; KEY]),
        )
    }

    fn body(frame: &[u8]) -> BytesMut {
        let (prefix, body) = frame.split_first_chunk().unwrap();
        assert_eq!(read_len(*prefix, MAX_SEALED_FRAME).unwrap(), body.len());
        BytesMut::from(body)
    }

    fn data(segments: Vec<Served>) -> Message {
        Message::Data {
            id: 9,
            segments: segments.into(),
            roots: None,
        }
    }

    fn bytes(len: u32) -> Served {
        Served::Bytes { len, proof: None }
    }

    /// Seals a frame correctly and opens it at the other end.
    fn round(message: &Message, payload: &[u8]) -> Result<Frame, FrameError> {
        let (here, there) = ends();
        open(
            &there.receive,
            5,
            body(&seal(&here.send, 5, message, payload).unwrap()),
        )
    }

    /// Opens a frame with any plaintext, as a peer with the key can make it.
    fn forge(text: &[u8]) -> Result<Frame, FrameError> {
        let (here, there) = ends();
        let mut sealed = text.to_vec();
        let tag = here.send.0.seal_in_place(0, &mut sealed).unwrap();
        sealed.extend(tag);
        open(&there.receive, 0, BytesMut::from(&sealed[..]))
    }

    #[test]
    fn vectors() {
        let (here, _) = ends();
        let ping = seal(&here.send, 0, &Message::Ping { nonce: 1 }, b"").unwrap();
        insta::assert_snapshot!(HEXLOWER.encode(&ping), @"00000022bf3598d2d45f73d6fd1e33201f4baf22d0c73abb72c9053f68154fe24d4662d362c1");
        let data = seal(&here.send, 1, &data(vec![bytes(5)]), b"hello").unwrap();
        insta::assert_snapshot!(HEXLOWER.encode(&data), @"0000003cbbda90a47d5a1d437d52731b5c42a00f67451caa77e86d50a26bd8d5f92864c136b886fdb5f6124e6e59c47e8cfe95058dc08c9686eb6f3fa9155dd2");
        insta::assert_snapshot!(HEXLOWER.encode(&plain(b"knock")), @"000000056b6e6f636b");
    }

    #[test]
    fn a_frame_comes_out_as_it_went_in() {
        let payload: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        let message = data(vec![
            bytes(70_000),
            Served::Failed(Failure::Gone),
            Served::End {
                len: 30_000,
                size: 130_000,
            },
            Served::End { len: 0, size: 0 },
            Served::Forgotten,
        ]);
        let frame = round(&message, &payload).unwrap();
        assert_eq!(frame.message, message);
        assert_eq!(frame.payload, payload);
        let pieces = [&payload[..70_000], &payload[70_000..], &[]];
        assert_eq!(frame.hashes, pieces.map(RangeHash::of));
        assert_eq!(frame.hashes[0].node(), hash_group(pieces[0]));
    }

    #[test]
    fn the_largest_frame_fits_and_a_larger_one_does_not() {
        let payload = vec![1; GROUP as usize];
        assert!(round(&data(vec![bytes(GROUP)]), &payload).is_ok());
        let (_, there) = ends();
        let over = BytesMut::zeroed(MAX_SEALED_FRAME as usize + 1);
        assert!(matches!(
            open(&there.receive, 0, over),
            Err(FrameError::Length { .. })
        ));
        // A short header leaves room in the frame for a payload over the limit.
        let header = message::encode(&Message::Manifest {
            offset: 0,
            total: 1,
        });
        let text = |payload| [&length(header.len())[..], &header, &vec![0; payload]].concat();
        assert!(forge(&text(MAX_PAYLOAD as usize)).is_ok());
        let len = MAX_PAYLOAD as usize + 1;
        assert_eq!(forge(&text(len)).unwrap_err(), FrameError::Payload { len });
    }

    #[test]
    fn a_payload_that_is_not_what_the_message_says_is_refused() {
        let refused = |message, payload: &[u8]| {
            let error = round(&message, payload).unwrap_err();
            assert_eq!(error, FrameError::Payload { len: payload.len() });
        };
        refused(data(vec![bytes(5)]), b"four");
        refused(data(vec![bytes(5)]), b"sixsix");
        refused(data(vec![]), b"x");
        refused(data(vec![Served::Forgotten]), b"x");
        refused(data(vec![bytes(u32::MAX), bytes(u32::MAX)]), b"x");
        refused(data(vec![bytes(u32::MAX), bytes(2)]), b"x");
        refused(data(vec![bytes(GROUP + 1)]), &vec![0; GROUP as usize]);
        refused(data(vec![Served::End { len: 3, size: 3 }]), b"no");
        refused(Message::Ping { nonce: 0 }, b"x");
        refused(Message::Withdrawn, b"x");
        assert!(
            round(
                &Message::Manifest {
                    offset: 0,
                    total: 9
                },
                b"any"
            )
            .is_ok()
        );
    }

    #[test]
    fn a_header_that_is_not_whole_is_refused() {
        for text in [&b""[..], b"\0\0\0", b"\0\0\0\x09x"] {
            assert_eq!(forge(text).unwrap_err(), FrameError::Cut);
        }
        for length in [0, MAX_HEADER + 1, u32::MAX] {
            let error = forge(&length.to_be_bytes()).unwrap_err();
            assert_eq!(
                error,
                FrameError::Length {
                    len: length,
                    max: MAX_HEADER
                }
            );
        }
        assert!(matches!(
            forge(b"\0\0\0\x01\xff"),
            Err(FrameError::Message(_))
        ));
    }

    #[test]
    fn frames_open_only_in_their_order_and_direction() {
        let (here, there) = ends();
        let frame = seal(&here.send, 3, &Message::Withdrawn, b"").unwrap();
        let forged = Err(FrameError::Aead(AeadError::Forged));
        for (key, seq) in [(&there.receive, 2), (&there.receive, 4), (&here.receive, 3)] {
            assert_eq!(
                open(key, seq, body(&frame)).map(|frame| frame.message),
                forged
            );
        }
        assert!(open(&there.receive, 3, body(&frame)).is_ok());
    }

    #[test]
    fn the_payload_is_not_copied() {
        let (here, there) = ends();
        let body = body(&seal(&here.send, 0, &data(vec![bytes(5)]), b"hello").unwrap());
        let within = body.as_ptr_range();
        let frame = open(&there.receive, 0, body).unwrap();
        assert!(within.contains(&frame.payload.as_ptr()));
    }

    #[test]
    fn keys_are_not_printed() {
        let keys = LinkKeys::new([0xAB; KEY], [0xCD; KEY]);
        insta::assert_snapshot!(format!("{keys:?}"), @"LinkKeys { send: SendKey(..), receive: ReceiveKey(..) }");
    }

    #[test]
    fn a_length_over_the_limit_is_an_error_before_anything_follows_it() {
        let mut decoder = Decoder::new();
        decoder.feed(&(MAX_PLAIN_FRAME + 1).to_be_bytes()[..3]);
        assert_eq!(decoder.next(), Ok(None));
        decoder.feed(&(MAX_PLAIN_FRAME + 1).to_be_bytes()[3..]);
        let error = FrameError::Length {
            len: MAX_PLAIN_FRAME + 1,
            max: MAX_PLAIN_FRAME,
        };
        assert_eq!(decoder.next(), Err(error.clone()));
        decoder.feed(b"more");
        assert_eq!(decoder.next(), Err(error));
        decoder.set_limit(MAX_SEALED_FRAME);
        assert_eq!(decoder.next(), Ok(None));
    }

    #[test]
    fn a_frame_without_a_body_is_an_error() {
        let mut decoder = Decoder::new();
        decoder.feed(&[0; 4]);
        assert!(decoder.next().is_err());
    }

    #[test]
    fn a_decoder_sets_nothing_aside_for_a_promise() {
        let mut decoder = Decoder::new();
        decoder.set_limit(MAX_SEALED_FRAME);
        decoder.feed(&MAX_SEALED_FRAME.to_be_bytes());
        for _ in 0..64 {
            assert_eq!(decoder.next(), Ok(None));
            assert!(decoder.fed.capacity() <= 2 * decoder.fed.len() + 64);
            decoder.feed(&[0; 100]);
        }
    }

    proptest! {
        #[test]
        fn a_stream_in_any_pieces_gives_the_same_frames(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..8),
            cuts in prop::collection::vec(1..200_usize, 1..30),
        ) {
            let stream: Vec<u8> = frames.iter().flat_map(|frame| plain(frame)).collect();
            let mut decoder = Decoder::new();
            let mut seen = Vec::new();
            let mut rest = &stream[..];
            for cut in cuts.iter().cycle() {
                let (piece, behind) = rest.split_at(rest.len().min(*cut));
                rest = behind;
                decoder.feed(piece);
                while let Some(frame) = decoder.next().unwrap() {
                    seen.push(frame.to_vec());
                }
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(seen, frames);
        }

        #[test]
        fn no_text_of_a_peer_panics(text: Vec<u8>, header in 0..64_u32) {
            let _ = forge(&text);
            let _ = forge(&[&header.to_be_bytes()[..], &text].concat());
            let (_, there) = ends();
            let _ = open(&there.receive, 0, BytesMut::from(&text[..]));
        }

        #[test]
        fn a_changed_frame_does_not_open(at: prop::sample::Index, bit in 0..8) {
            let (here, there) = ends();
            let mut body = body(&seal(&here.send, 0, &data(vec![bytes(5)]), b"hello").unwrap());
            *at.get_mut(&mut body) ^= 1_u8 << bit;
            prop_assert!(open(&there.receive, 0, body).is_err());
        }
    }
}
