//! Length-prefixed protobuf messages on a stream, as used by relays, DHT nodes and nodes that dial back

use std::io;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use prost::Message;

/// Default maximum length of a message, in bytes.
pub const MAX_MESSAGE: usize = 4096;

/// Why a message could not be read.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The stream failed, or ended in the middle of the message.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The length prefix exceeds the maximum.
    #[error("the message is too long")]
    TooLong,
    /// It can't be decoded.
    #[error("the message can't be read")]
    Malformed,
}

impl From<WireError> for io::Error {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Io(error) => error,
            WireError::TooLong | WireError::Malformed => {
                Self::new(io::ErrorKind::InvalidData, error)
            }
        }
    }
}

/// Reads one message of at most [`MAX_MESSAGE`] bytes, and not a byte more: what follows may belong to another
/// protocol.
pub async fn read<M: Message + Default>(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<M, WireError> {
    let bytes = read_bytes(stream, MAX_MESSAGE).await?;
    M::decode(bytes.as_slice()).map_err(|_| WireError::Malformed)
}

/// Reads the bytes of one message of at most `most` bytes. The other side may announce a length and send nothing, so
/// memory is allocated only for what arrives.
pub(crate) async fn read_bytes(
    stream: &mut (impl AsyncRead + Unpin),
    most: usize,
) -> Result<Vec<u8>, WireError> {
    let length = read_length(stream, most).await?;
    let mut bytes = Vec::new();
    let wanted = u64::try_from(length).unwrap_or(u64::MAX);
    stream.take(wanted).read_to_end(&mut bytes).await?;
    if bytes.len() < length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(bytes)
}

/// Reads the length, a varint: seven bits per byte, lowest first, with the highest bit set in all bytes but the last.
async fn read_length(
    stream: &mut (impl AsyncRead + Unpin),
    most: usize,
) -> Result<usize, WireError> {
    let mut length = 0;
    // At most as many bytes as `most` takes. A longer prefix is never valid.
    let shifts = (0..).step_by(7);
    for shift in shifts.take_while(|shift| most.checked_shr(*shift).is_some_and(|rest| rest > 0)) {
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        if length > most {
            break;
        }
        if byte[0] & 0x80 == 0 {
            return Ok(length);
        }
    }
    Err(WireError::TooLong)
}

/// Writes one message.
pub async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &impl Message,
) -> io::Result<()> {
    stream
        .write_all(&message.encode_length_delimited_to_vec())
        .await?;
    stream.flush().await
}
