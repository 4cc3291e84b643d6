//! Tickets.
use crate::secret::{ShareCodeLabel, ShareSecret};
use crate::{Multiaddr, PeerId};
/// A ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The sharer.
    pub peer: PeerId,
    /// Where it may be reached.
    pub addresses: Vec<Multiaddr>,
    /// The share's secret.
    pub secret: ShareSecret,
    /// The share's public label.
    pub share_code: ShareCodeLabel,
}
