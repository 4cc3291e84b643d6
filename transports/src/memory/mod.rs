//! Links without a real network.
//!
//! - [`Network`]: hosts and links in virtual time, deterministic from a seed. A simulator drives it step by step.
//! - [`Switchboard`]: runs a network on tokio's clock (which may be paused) and hands out [`MemoryTransport`]s, which
//!   are ordinary [`Transport`]s: whole programs can connect in memory.

mod clock;
mod direction;
mod exchange;
mod network;
mod profile;
mod stream;
mod switchboard;

use std::sync::Arc;
use std::task::{Context, Poll};

use handover_core::dial::relay_of;
use handover_core::engine::{Allowance, DialId, LinkId, LookUpId};
use handover_core::secret::MeetingPoint;
use handover_core::{Multiaddr, PeerId};

pub use self::network::{DownCause, Ends, HostId, LinkClosed, Network, NetworkEvent};
pub use self::profile::{Death, LinkProfile, Pieces};
pub use self::stream::MemoryStream;
pub use self::switchboard::{Route, Switchboard};

use self::clock::Shared;
use self::exchange::Notice;
use crate::{Link, Transport, TransportEvent};

/// The transport of one peer at a [`Switchboard`]. It listens at `/memory/<port>`; a dial without addresses finds the
/// peer by its peer id. Announcements are visible to all peers at the switchboard.
pub struct MemoryTransport {
    shared: Arc<Shared>,
    peer: PeerId,
    port: u64,
}

impl MemoryTransport {
    /// The port number that it listens at.
    pub fn port(&self) -> u64 {
        self.port
    }
}

impl Transport for MemoryTransport {
    fn local_peer(&self) -> PeerId {
        self.peer
    }

    fn dial(&mut self, dial: DialId, peer: Option<PeerId>, addresses: Vec<Multiaddr>) {
        self.shared
            .with(|exchange| exchange.dial(self.port, dial, peer, &addresses));
    }

    fn announce(&mut self, point: MeetingPoint) {
        self.shared
            .with(|exchange| exchange.announce(self.port, point));
    }

    fn withdraw(&mut self, point: MeetingPoint) {
        self.shared
            .with(|exchange| exchange.withdraw(self.port, point));
    }

    fn look_up(&mut self, lookup: LookUpId, point: MeetingPoint) {
        self.shared
            .with(|exchange| exchange.look_up(self.port, lookup, point));
    }

    /// Does nothing: a lookup is answered at once.
    fn end_look_up(&mut self, _: LookUpId) {}

    /// Does nothing: every peer can dial every other one, so no peer needs to be dialled back.
    fn reach(&mut self, _: PeerId, _: Vec<Multiaddr>) {}

    /// Does nothing: there are no relays.
    fn use_relay(&mut self, _: Multiaddr) {}

    fn close(&mut self, link: LinkId) {
        self.shared.with(|exchange| exchange.close(self.port, link));
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<TransportEvent>> {
        let notice = self
            .shared
            .with(|exchange| exchange.poll_notice(self.port, cx));
        notice.map(|notice| {
            notice.map(|notice| match notice {
                Notice::Event(event) => *event,
                Notice::Up(up) => TransportEvent::LinkUp(Link {
                    id: up.id,
                    peer: up.peer,
                    path: up.path,
                    relay: relay_of(&up.remote),
                    remote: up.remote,
                    dial: up.dial,
                    allowance: Allowance::default(),
                    stream: Box::new(MemoryStream::new(Arc::clone(&self.shared), up.end)),
                }),
            })
        })
    }

    fn shutdown(&mut self) {
        self.shared.with(|exchange| exchange.shut(self.port));
    }
}

impl Drop for MemoryTransport {
    fn drop(&mut self) {
        self.shared.with(|exchange| exchange.leave(self.port));
    }
}
