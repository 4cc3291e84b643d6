//! What the client and the server say: JSON, one datagram or one line each.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// No message is longer than this, in bytes.
pub(super) const LONGEST: usize = 512;

/// One of the server's four doors: which of its addresses, and which of its ports. `true` is the other one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Door {
    pub(super) other_address: bool,
    pub(super) other_port: bool,
}

/// "Where do you see me? And have others tell it too."
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Ask {
    /// Comes back in what is told.
    pub(super) id: u64,
    /// The doors that are to tell it besides. Over TCP, the address counts and the port is any.
    pub(super) from: Vec<Door>,
    /// Whom those doors are to tell it; who asks if `None`.
    pub(super) to: Option<SocketAddr>,
}

/// "You are seen here."
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Tell {
    /// What the question had.
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

/// A message as a line.
pub(super) fn line(message: &impl Serialize) -> Vec<u8> {
    // Neither of the two messages has anything that JSON has not.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

/// The message in a datagram or a line, if it is one.
pub(super) fn message<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

pub(super) fn write(mut stream: impl Write, message: &impl Serialize) -> io::Result<()> {
    stream.write_all(&line(message))
}

/// The next line of a stream, which has to be a message.
pub(super) fn read<T: DeserializeOwned>(stream: impl Read) -> io::Result<T> {
    let mut line = Vec::new();
    BufReader::new(stream.take(LONGEST as u64)).read_until(b'\n', &mut line)?;
    message(&line).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
