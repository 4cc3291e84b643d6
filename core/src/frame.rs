//! Frames.
use crate::merkle::Hash;
use crate::message::Message;
use bytes::Bytes;
/// An opened frame.
#[derive(Debug)]
pub struct Frame {
    /// What it says.
    pub message: Message,
    /// What it carries.
    pub payload: Bytes,
    /// One group-subtree hash per [`crate::message::Served::Bytes`] item, in order.
    pub hashes: Vec<Hash>,
}
/// Keys.
#[derive(Debug, Clone)]
pub struct LinkKeys;
