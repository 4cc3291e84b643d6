//! Ways to reach a peer.
//!
//! A [`Transport`] turns "reach this peer at these addresses" into [`Link`]s: ordered, reliable streams of bytes in both
//! directions, to a peer whose identity the transport's own encryption has proved. What is said over a link, and
//! whether the peer may have anything, is none of its business.
//!
//! - [`libp2p`]: TCP and QUIC on real networks.
//! - [`memory`]: a simulated network in virtual time, and a transport over it.
//! - [`identity`]: the key pair that a peer is known by, in a file.

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

/// How long a dial may take before it has failed, from the call to the negotiated stream.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Addresses tried for one dial; what goes beyond them is left out.
pub const MAX_DIAL_ADDRESSES: usize = 32;

/// Dials under way at once; one more fails right away.
pub const MAX_DIALS: usize = 256;

/// A link's bytes: ordered, reliable, in both directions.
///
/// Closing it closes the own direction: the other side reads an end of file and may go on writing. Dropping it without
/// closing gives up both directions at once; the other side may read that as an end of file, so a protocol that must
/// tell them apart says goodbye itself. Dropping it after closing loses nothing that was written.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A stream to a peer that has been proved to be itself.
pub struct Link {
    /// Unique in this process, whichever transport it came from.
    pub id: LinkId,
    /// Whom the transport's encryption proved at the other end.
    pub peer: PeerId,
    /// How the link gets there.
    pub path: PathKind,
    /// The other end's address as this side sees it, without the peer's identity.
    pub remote: Multiaddr,
    /// The dial that this link answers; `None` if the other side dialled.
    pub dial: Option<DialId>,
    /// The relay that carries it, if one does.
    pub relay: Option<PeerId>,
    /// What that relay lets the link carry, by its own word: what the transport needs for itself is taken off.
    pub allowance: Allowance,
    /// Its bytes.
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

/// What a transport tells.
#[derive(Debug)]
pub enum TransportEvent {
    /// This peer can be reached here: the whole list as it is now, without `/p2p`.
    Listening(Vec<Multiaddr>),
    /// This peer is on the local network, at these addresses: all that are known of it now.
    Nearby {
        /// Who.
        peer: PeerId,
        /// Where, without `/p2p`.
        addresses: Vec<Multiaddr>,
    },
    /// It is not there any more.
    NearbyGone {
        /// Who.
        peer: PeerId,
    },
    /// An announcement has gone round.
    Announced {
        /// Where.
        point: MeetingPoint,
        /// What the nodes of the DHT made of it.
        report: AnnounceReport,
    },
    /// Somebody announced themselves where a look-up looks. The same peer may be told again, with other
    /// addresses or by another node.
    Found {
        /// Which look-up.
        lookup: LookUpId,
        /// Who.
        peer: PeerId,
        /// Where they are said to be, without their `/p2p`. May be empty.
        addresses: Vec<Multiaddr>,
        /// The node that has named them.
        by: PeerId,
    },
    /// A look-up has ended; `reached` says whether any node of the DHT has answered it.
    LookedUp {
        /// Which look-up.
        lookup: LookUpId,
        /// Whether there was anybody to ask.
        reached: bool,
    },
    /// A connection to this peer stands that no link was asked for: a dial of it without addresses would run over this.
    Path {
        /// Who.
        peer: PeerId,
        /// How that gets there.
        path: PathKind,
    },
    /// A link stands.
    LinkUp(Link),
    /// What carried a link is gone. Its stream tells too, by an error or an end of file; which of the two is seen first
    /// is not defined. Does not follow if the link's stream was dropped before.
    LinkDown {
        /// Which link.
        link: LinkId,
        /// Why, for people.
        reason: String,
    },
    /// A dial came to nothing.
    DialFailed {
        /// Which dial.
        dial: DialId,
        /// Why, for people.
        reason: String,
    },
}

/// Something that makes links.
///
/// Whoever owns it polls it: a transport that is not polled makes no progress with dials and listening, while links
/// that stand carry bytes regardless. Dropping it without [`shutdown`](Transport::shutdown) ends its links when their
/// streams are dropped too.
pub trait Transport: Send {
    /// Who this side is.
    fn local_peer(&self) -> PeerId;

    /// Reach a peer at any of these addresses, which are tried at once. Without `peer`, whoever answers is it. Is answered
    /// exactly once, within [`DIAL_TIMEOUT`]: by [`TransportEvent::LinkUp`] or [`TransportEvent::DialFailed`]. Without
    /// addresses, the link runs over the best connection to the peer that stands.
    fn dial(&mut self, dial: DialId, peer: Option<PeerId>, addresses: Vec<Multiaddr>);

    /// Be found at this meeting point by who looks there, and tell once how that went. Again, to announce again: what
    /// nodes of the DHT know of it wears off, and has the addresses of the moment.
    fn announce(&mut self, point: MeetingPoint);

    /// Don't be found there any more. What nodes of the DHT know already wears off.
    fn withdraw(&mut self, point: MeetingPoint);

    /// Look who is at a meeting point. Is answered by any number of [`TransportEvent::Found`] and one
    /// [`TransportEvent::LookedUp`].
    fn look_up(&mut self, lookup: LookUpId, point: MeetingPoint);

    /// Nobody waits for this look-up any more; nothing more is told of it. An unknown one is ignored.
    fn end_look_up(&mut self, lookup: LookUpId);

    /// Make a connection to this peer at any of these addresses, without a link: the other side will open that. What
    /// comes of it is only told as [`TransportEvent::Path`].
    fn reach(&mut self, peer: PeerId, addresses: Vec<Multiaddr>);

    /// Be reachable through this relay too; its address ends in `/p2p/` and its identity. One without that is ignored.
    fn use_relay(&mut self, address: Multiaddr);

    /// Give up what carries a link, if no other link uses it. Close the link's stream before (and await that): what was
    /// written to it then still arrives, as it does if [`shutdown`](Transport::shutdown) follows. An unknown link is
    /// ignored.
    fn close(&mut self, link: LinkId);

    /// The next event. `None` after [`shutdown`](Transport::shutdown) is through.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<TransportEvent>>;

    /// Stop listening and close everything. Goes on in [`poll_event`](Transport::poll_event), which ends with `None`.
    fn shutdown(&mut self);
}

/// The next event as a future; dropping it loses nothing.
pub async fn next_event<T: Transport + ?Sized>(transport: &mut T) -> Option<TransportEvent> {
    std::future::poll_fn(|cx| transport.poll_event(cx)).await
}

/// A link id that nobody in this process has had.
pub(crate) fn next_link_id() -> LinkId {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    LinkId(NEXT.fetch_add(1, Ordering::Relaxed))
}
