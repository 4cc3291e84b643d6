//! The messages between client and server: JSON, one datagram or one line each.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Maximum length of a message, in bytes.
pub(super) const LONGEST: usize = 512;

/// One of the server's four endpoints: which of its addresses, and which of its ports. `true` is the second one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Door {
    pub(super) other_address: bool,
    pub(super) other_port: bool,
}

/// A question: which source address does the server see? Other endpoints can be asked to answer as well.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Ask {
    /// Repeated in every answer.
    pub(super) id: u64,
    /// Further endpoints that shall answer. Over TCP only the address counts; the port is arbitrary.
    pub(super) from: Vec<Door>,
    /// Where those endpoints send their answers. `None` means to the client.
    pub(super) to: Option<SocketAddr>,
}

/// An answer: the source address of the question.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Tell {
    /// The `id` of the question.
    pub(super) id: u64,
    /// Where the question came from.
    pub(super) seen: SocketAddr,
}

impl Ask {
    pub(super) fn new(from: &[Door], to: Option<SocketAddr>) -> Self {
        Self {
            id: RandomState::new().hash_one(0),
            from: from.to_vec(),
            to,
        }
    }
}

/// Encodes a message as a line.
pub(super) fn line(message: &impl Serialize) -> Vec<u8> {
    // Both message types can always be encoded as JSON.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Decodes a datagram or a line. `None` if it is not a message.
pub(super) fn message<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

pub(super) fn write(mut stream: impl Write, message: &impl Serialize) -> io::Result<()> {
    stream.write_all(&line(message))
}

/// Reads the next line of a stream, which must be a message.
pub(super) fn read<T: DeserializeOwned>(stream: impl Read) -> io::Result<T> {
    let mut line = Vec::new();
    BufReader::new(stream.take(LONGEST as u64)).read_until(b'\n', &mut line)?;
    message(&line).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
