//! Transports: the ways to reach a peer.
//!
//! A [`Transport`] turns "reach this peer at these addresses" into [`Link`]s: ordered, reliable byte streams in both
//! directions to a peer whose identity the transport's own encryption has proved. It knows neither the protocol spoken
//! over a link nor whether the peer is authorized.
//!
//! - [`libp2p`]: TCP and QUIC on real networks.
//! - [`memory`]: a simulated network in virtual time, and a transport over it.
//! - [`identity`]: the key pair that identifies a peer, stored in a file.

pub mod identity;
pub mod libp2p;
pub mod memory;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{AsyncRead, AsyncWrite};
use handover_core::engine::{Allowance, AnnounceReport, DialId, LinkId, LookUpId, PathKind};
use handover_core::secret::MeetingPoint;
use handover_core::{Multiaddr, PeerId};

/// Timeout for a dial, from the call to the negotiated stream.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of addresses tried for one dial; any further addresses are ignored.
pub const MAX_DIAL_ADDRESSES: usize = 32;

/// Maximum number of concurrent dials. A dial beyond this fails at once.
pub const MAX_DIALS: usize = 256;

/// The bytes of a link: ordered, reliable, in both directions.
///
/// Closing the stream closes only the sending direction: the other side reads an end of file and may go on writing.
/// Dropping it without closing abandons both directions at once. The other side may read that as an end of file too, so
/// a protocol that must distinguish the two sends a closing message of its own. Dropping the stream after closing it
/// loses nothing that was written.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A stream to an authenticated peer.
pub struct Link {
    /// Unique in this process, across all transports.
    pub id: LinkId,
    /// The peer at the other end, as authenticated by the transport's encryption.
    pub peer: PeerId,
    /// The kind of path that the link takes.
    pub path: PathKind,
    /// Address of the other end as seen from this side, without the peer id.
    pub remote: Multiaddr,
    /// The dial that this link answers; `None` if the other side dialled.
    pub dial: Option<DialId>,
    /// The relay that carries the link, if any.
    pub relay: Option<PeerId>,
    /// What the relay says the link may carry, minus what the transport needs for itself.
    pub allowance: Allowance,
    /// The link's byte stream.
    pub stream: Box<dyn Stream>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("id", &self.id)
            .field("peer", &self.peer)
            .field("path", &self.path)
            .field("dial", &self.dial)
            .finish_non_exhaustive()
    }
}

/// Events of a transport.
#[derive(Debug)]
pub enum TransportEvent {
    /// This peer can be reached at these addresses: the complete current list, without `/p2p`.
    Listening(Vec<Multiaddr>),
    /// This peer is on the local network, at these addresses: the complete list known now.
    Nearby {
        /// The neighbour.
        peer: PeerId,
        /// Its addresses, without `/p2p`.
        addresses: Vec<Multiaddr>,
    },
    /// The peer is no longer on the local network.
    NearbyGone {
        /// The former neighbour.
        peer: PeerId,
    },
    /// An announcement has finished.
    Announced {
        /// The rendezvous point announced at.
        point: MeetingPoint,
        /// How the nodes of the DHT answered.
        report: AnnounceReport,
    },
    /// A lookup found an announced peer. The same peer may be reported again, with other addresses or by another node.
    Found {
        /// The lookup.
        lookup: LookUpId,
        /// The announced peer.
        peer: PeerId,
        /// Its announced addresses, without `/p2p`. May be empty.
        addresses: Vec<Multiaddr>,
        /// The node that returned the record.
        by: PeerId,
    },
    /// A lookup has ended.
    LookedUp {
        /// The lookup.
        lookup: LookUpId,
        /// True if any node of the DHT answered.
        reached: bool,
    },
    /// A connection to a linked peer was established on a better path than that of its links, without a link having
    /// been requested. A dial of this peer without addresses would use it.
    Path {
        /// The peer.
        peer: PeerId,
        /// The kind of path that the connection takes.
        path: PathKind,
    },
    /// A link was established.
    LinkUp(Link),
    /// The connection under a link is gone. The link's stream also ends, with an error or an end of file; which of the
    /// two is seen first is undefined. Not sent if the link's stream was dropped before.
    LinkDown {
        /// The link.
        link: LinkId,
        /// The reason, as text for the user.
        reason: String,
    },
    /// A dial failed.
    DialFailed {
        /// The dial.
        dial: DialId,
        /// The reason, as text for the user.
        reason: String,
    },
}

/// Establishes links.
///
/// The owner must poll it: without polling, dials and listeners make no progress, while established links still carry
/// bytes. Dropping it without [`shutdown`](Transport::shutdown) ends its links once their streams are dropped too.
pub trait Transport: Send {
    /// The peer id of this side.
    fn local_peer(&self) -> PeerId;

    /// Dials a peer at these addresses, all at once. If `peer` is `None`, any peer that answers is accepted. Answered
    /// exactly once, within [`DIAL_TIMEOUT`], by [`TransportEvent::LinkUp`] or [`TransportEvent::DialFailed`]. Without
    /// addresses, the link uses the best existing connection to the peer.
    fn dial(&mut self, dial: DialId, peer: Option<PeerId>, addresses: Vec<Multiaddr>);

    /// Announces this peer at a rendezvous point, with its current addresses, and reports the result once. Call it
    /// again to announce again: records on the nodes of the DHT expire.
    fn announce(&mut self, point: MeetingPoint);

    /// Stops announcing this peer at a rendezvous point. Records already on nodes of the DHT expire by themselves.
    fn withdraw(&mut self, point: MeetingPoint);

    /// Looks up the peers at a rendezvous point. Answered by any number of [`TransportEvent::Found`] and one
    /// [`TransportEvent::LookedUp`].
    fn look_up(&mut self, lookup: LookUpId, point: MeetingPoint);

    /// Cancels a lookup: no further events are sent for it. An unknown lookup is ignored.
    fn end_look_up(&mut self, lookup: LookUpId);

    /// Connects to this peer at any of these addresses without opening a link: the other side opens it. Only success is
    /// reported, as [`TransportEvent::Path`].
    fn reach(&mut self, peer: PeerId, addresses: Vec<Multiaddr>);

    /// Makes this peer reachable through this relay too. The address must end in `/p2p/` and the relay's peer id;
    /// otherwise it is ignored.
    fn use_relay(&mut self, address: Multiaddr);

    /// Closes the connection under a link unless another link uses it. Close the link's stream first, and await that:
    /// everything written to it is then still delivered, even if [`shutdown`](Transport::shutdown) follows. An unknown
    /// link is ignored.
    fn close(&mut self, link: LinkId);

    /// Returns the next event, or `None` once [`shutdown`](Transport::shutdown) has finished.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<TransportEvent>>;

    /// Stops listening and closes everything. Continues in [`poll_event`](Transport::poll_event), which finally returns
    /// `None`.
    fn shutdown(&mut self);
}

/// Returns the next event. Cancel-safe.
pub async fn next_event<T: Transport + ?Sized>(transport: &mut T) -> Option<TransportEvent> {
    std::future::poll_fn(|cx| transport.poll_event(cx)).await
}

/// Returns a link id that is unique in this process.
pub(crate) fn next_link_id() -> LinkId {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    LinkId(NEXT.fetch_add(1, Ordering::Relaxed))
}
